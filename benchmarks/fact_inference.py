"""Time and memory of labelling one long video by the GTEA recipe, as JSON lines.

    python -m benchmarks.fact_inference                      # on a GPU where there is one, else on the CPU
    python -m benchmarks.fact_inference --device cpu --threads 1

An hour at 30 frames/s has 108,000 steps; a quarter of it gives the ratio of times. Features and weights are random.
``settled`` has 64 predicted segments, ``cold`` (with --cold) what random weights predict, tens of thousands.
Needs torch, numpy and scipy.
"""

import argparse
from collections.abc import Callable

import torch

from benchmarks.measure import count_flops, describe, emit, peak_mib, precise, settle, speed, timed
from fact.blocks import FACT
from fact.config import recipe
from fact.predict import Prediction

WIDTH, CLASSES = 2048, 11
LENGTHS = (27_000, 108_000)


def labeller(num_steps: int, device: torch.device, *, settled: bool) -> Callable[[], Prediction]:
    """A function that labels a video of this many steps."""
    torch.manual_seed(0)
    model = FACT(recipe("gtea"), WIDTH, CLASSES).to(device).eval()
    if settled:
        settle(model)
    features = torch.randn(num_steps, WIDTH, device=device)
    return lambda: model.predict(features)


def run(device: torch.device, options: argparse.Namespace, *, settled: bool) -> None:
    """Print a line for each length, and the ratio of the times."""
    timings = []
    for num_steps in LENGTHS:
        label = labeller(num_steps, device, settled=settled)
        with precise(options.precision, device):
            flops = count_flops(label)
            timing = timed(label, device=device, precision=options.precision, repeats=options.repeats)
        timings.append(timing)
        emit(
            benchmark="fact_inference",
            recipe="gtea",
            segments="settled" if settled else "cold",
            steps=num_steps,
            batch=1,
            precision=options.precision,
            **speed(timing, flops),
            peak_mib=peak_mib(device),
            **describe(device),
        )
    emit(
        benchmark="fact_inference",
        segments="settled" if settled else "cold",
        ratio_of_times=round(timings[1].median / timings[0].median, 2),
        ratio_of_cpu_times=round(min(timings[1].cpu_times) / min(timings[0].cpu_times), 2),
        ratio_of_steps=LENGTHS[1] // LENGTHS[0],
    )


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=["fp32", "tf32", "bf16"], default="fp32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, help="threads of a CPU")
    parser.add_argument("--cold", action="store_true", help="the segments of random weights too")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    for settled in (True, False) if options.cold else (True,):
        run(torch.device(options.device), options, settled=settled)


if __name__ == "__main__":
    main()
