"""Work out what features of many hours of video take: decoding, forwards, storage, money.

Prints the two tables of docs/scaling.md. Every input can be given as an option, for example
``python docs/work_out_scaling.py --machine-price 2.5 --fps 25``.
"""

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

_H200 = "measured earlier on an H200 with 16 CPU cores (random weights)"


@dataclass(frozen=True, kw_only=True)
class Input:
    """A number that everything is worked out from."""

    value: float
    unit: str
    source: str


INPUTS = {
    "hours": Input(value=10_000, unit="hours of video", source="the question"),
    "fps": Input(value=30, unit="frames/s of a video", source="assumed"),
    "bitrate": Input(value=5, unit="Mbit/s of a video", source="assumed"),
    "cores": Input(value=16, unit="CPU cores of a machine", source="that of the measurements"),
    "decode": Input(
        value=1_907,
        unit="frames/s decoded and prepared by 16 cores",
        source=f"{_H200}: CLIP of every frame, two videos at once, limited by the CPU",
    ),
    "i3d": Input(
        value=796,
        unit="windows/s of I3D RGB",
        source=f"{_H200}: stride 1, two videos at once",
    ),
    "busy": Input(value=0.96, unit="of the GPU's time in that", source=_H200),
    "clip": Input(
        value=1_907,
        unit="frames/s of CLIP ViT-B/32, or more",
        source="the same measurement: the GPU waited, so it can do more than that",
    ),
    "kept": Input(
        value=0.45, unit="bytes of `compact` for a byte of float32", source="measured, docs/performance.md"
    ),
    "machine_price": Input(value=4.00, unit="$ an hour of such a machine", source="assumed: put in yours"),
    "core_price": Input(value=0.05, unit="$ an hour of one more CPU core", source="assumed: put in yours"),
    "storage_price": Input(value=0.023, unit="$ a GB and month", source="assumed: put in yours"),
    "days": Input(value=7, unit="days that it may take", source="assumed"),
}
"""What the tables are made from, by the name of its option."""

Numbers = dict[str, float]

I3D_WIDTH, CLIP_WIDTH = 1024, 512


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Profiles to extract: one window of I3D and one frame of CLIP every so many frames; 0 for none."""

    features: str
    i3d_stride: int = 0
    clip_stride: int = 0

    def steps(self, width: int) -> float:
        """Steps per frame of the profile that is so wide."""
        stride = {I3D_WIDTH: self.i3d_stride, CLIP_WIDTH: self.clip_stride}[width]
        return 1 / stride if stride else 0.0


PLANS = (
    Plan(features="i3d-rgb", i3d_stride=1),
    Plan(features="i3d-rgb,clip", i3d_stride=1, clip_stride=1),
    Plan(features="i3d-rgb:stride=8,clip:stride=4", i3d_stride=8, clip_stride=4),
    Plan(features="clip", clip_stride=1),
)
"""The third is what `factseg run` takes unless it is told otherwise."""


def work_out(plan: Plan, given: Numbers) -> Numbers:
    """Hours, bytes and money of a plan."""
    frames = given["hours"] * 3600 * given["fps"]
    decode = frames / given["decode"] / 3600 * 16 / given["cores"]
    windows = given["i3d"] / given["busy"]
    seconds = plan.steps(I3D_WIDTH) / windows + plan.steps(CLIP_WIDTH) / given["clip"]
    forward = frames * seconds / 3600
    # Decoding and forwards go on at the same time: the slower one sets the pace.
    machine = max(decode, forward)
    steps_bytes = sum(plan.steps(width) * width for width in (I3D_WIDTH, CLIP_WIDTH)) * 4 * given["kept"]
    stored = frames * steps_bytes / 1e9
    # With enough cores the GPU alone sets the pace; the cores beyond the machine's own are paid extra.
    wanted = math.ceil(given["cores"] * decode / forward)
    extra = max(0, wanted - given["cores"])
    return {
        "decode": decode,
        "forward": forward,
        "machine": machine,
        "cost": machine * given["machine_price"] / given["hours"],
        "cores": wanted,
        "cost_then": forward * (given["machine_price"] + extra * given["core_price"]) / given["hours"],
        "stored": stored,
        "month": stored * given["storage_price"],
        "machines": math.ceil(machine / (24 * given["days"])),
        "videos": given["hours"] * 3600 * given["bitrate"] / 8 / 1000,
        "network": given["hours"] / machine * given["bitrate"],
    }


def _saturated(row: Numbers) -> str:
    # The GPU's hours for CLIP are an upper bound, so where both seem equal the CPU is the slower one.
    return "CPU (decoding)" if row["decode"] > row["forward"] * (1 - 1e-9) else "GPU"


COLUMNS: dict[str, Callable[[Numbers], str]] = {
    "decoding, machine-hours": lambda row: f"{row['decode']:,.0f}",
    "forwards, GPU-hours": lambda row: f"{row['forward']:,.0f}",
    "full first": _saturated,
    "machine-hours": lambda row: f"{row['machine']:,.0f}",
    "machines for the time": lambda row: f"{row['machines']:.0f}",
    "$ per hour of video": lambda row: f"{row['cost']:.3f}",
    "cores that keep the GPU busy": lambda row: f"{row['cores']:.0f}",
    "$ per hour of video with them": lambda row: f"{row['cost_then']:.3f}",
    "features, GB": lambda row: f"{row['stored']:,.0f}",
    "$ a month for them": lambda row: f"{row['month']:,.2f}",
    "videos, GB": lambda row: f"{row['videos']:,.0f}",
    "Mbit/s read by a machine": lambda row: f"{row['network']:,.0f}",
}


def tables(given: Numbers) -> str:
    """Inputs and results as Markdown."""
    lines = ["| input | value | | known from |", "|---|---|---|---|"]
    for name, known in INPUTS.items():
        source = known.source if given[name] == known.value else "given"
        lines.append(f"| `--{name.replace('_', '-')}` | {given[name]:,g} | {known.unit} | {source} |")
    rows = [work_out(plan, given) for plan in PLANS]
    lines += [
        "",
        f"| | {' | '.join(f'`{plan.features}`' for plan in PLANS)} |",
        "|---" * (len(PLANS) + 1) + "|",
    ]
    lines += [f"| {title} | {' | '.join(map(show, rows))} |" for title, show in COLUMNS.items()]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> None:
    """Print the tables for the inputs given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, known in INPUTS.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=_positive,
            default=known.value,
            help=f"{known.unit}; {known.value:g} unless given ({known.source})",
        )
    sys.stdout.write(tables(vars(parser.parse_args(arguments))))


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


if __name__ == "__main__":
    main(sys.argv[1:])
