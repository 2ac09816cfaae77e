"""Time of a training step of the published recipes, as JSON lines.

    python -m benchmarks.fact_training                       # on a GPU where there is one, else on the CPU
    python -m benchmarks.fact_training --device cpu --recipe gtea --threads 2

A step is: gradients to zero, forward, matching and losses, backward, clipping, Adam. Features and labels are random,
weights too. ``settled`` has 64 predicted segments per video, as after the first epochs; ``cold`` what random weights
predict. On a GPU each is run plainly and by graphs (:mod:`fact.graphs`), whose recording is part of the warm-up.
Needs torch, numpy and scipy.
"""

import argparse
import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch

from benchmarks.measure import count_flops, describe, emit, peak_mib, precise, settle, speed, timed
from fact.blocks import FACT
from fact.config import recipe
from fact.graphs import GraphedGradients
from fact.loss import MatchCriterion, SegmentTarget
from fact.precision import Precision, cpu_has_bfloat16

WIDTH = 2048
LABELLED_SEGMENTS = 20


@dataclass(frozen=True, kw_only=True)
class Case:
    """One size of step."""

    recipe: str
    classes: int
    steps: int
    batch: int


CASES = (
    Case(recipe="breakfast", classes=48, steps=2000, batch=4),
    Case(recipe="gtea", classes=11, steps=1100, batch=1),
    Case(recipe="gtea", classes=11, steps=1100, batch=8),
)


def make_step(
    case: Case, device: torch.device, precision: Precision, *, settled: bool, graphs: bool
) -> Callable[[], None]:
    """A function that takes one training step."""
    torch.manual_seed(0)
    config = recipe(case.recipe)
    model = FACT(config, WIDTH, case.classes).to(device)
    if settled:
        settle(model)
    criterion = MatchCriterion(config, case.classes, mean_segments=LABELLED_SEGMENTS).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    features = torch.randn(case.batch, case.steps, WIDTH, device=device)
    labels_T = torch.arange(case.steps, device=device) * LABELLED_SEGMENTS // case.steps % case.classes
    target = SegmentTarget.from_labels(labels_T.expand(case.batch, -1), num_classes=case.classes)

    graphed = None
    if graphs:
        graphed = GraphedGradients(model, criterion, autocast=torch.bfloat16 if precision == "bf16" else None)

    def step() -> None:
        optimizer.zero_grad()
        if graphed is None:
            criterion(model(features), target).total.backward()
        else:
            graphed(features, None, target)
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.training.max_grad_norm)
        optimizer.step()

    return step


def run(case: Case, device: torch.device, precision: Precision, options: argparse.Namespace) -> None:
    """Print a line for the settled and the cold step of one case, plain and by graphs."""
    kinds = itertools.product((True,) if options.settled_only else (True, False), options.graphs)
    for settled, graphs in kinds:
        with precise(precision, device):
            flops = count_flops(make_step(case, device, precision, settled=settled, graphs=False))
            step = make_step(case, device, precision, settled=settled, graphs=graphs)
            for _ in range(options.warmup):
                step()
            timing = timed(step, device=device, precision=precision, repeats=options.repeats)
        emit(
            benchmark="fact_training",
            recipe=case.recipe,
            segments="settled" if settled else "cold",
            steps=case.steps,
            batch=case.batch,
            precision=precision,
            graphs=graphs,
            **speed(timing, flops),
            peak_mib=peak_mib(device),
            **describe(device),
        )


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--precision", choices=["fp32", "tf32", "bf16"], help="default: bf16 and tf32 on a GPU"
    )
    parser.add_argument("--recipe", choices=["breakfast", "gtea"], help="default: both")
    parser.add_argument("--batch", type=int, help="default: 4 for breakfast, 1 and 8 for gtea")
    parser.add_argument("--repeats", type=int, help="default: 20 on a GPU, 5 on a CPU")
    parser.add_argument("--warmup", type=int, help="default: 5 on a GPU, 1 on a CPU")
    parser.add_argument("--threads", type=int, help="threads of a CPU")
    parser.add_argument("--settled-only", action="store_true", help="leave out the over-segmented cold start")
    parser.add_argument(
        "--graphs", choices=["on", "off"], help="only by graphs, or only plainly; default: both on a GPU"
    )
    options = parser.parse_args()
    on_gpu = options.device.startswith("cuda")
    options.repeats = options.repeats or (20 if on_gpu else 5)
    options.warmup = options.warmup or (5 if on_gpu else 1)
    default = (False, True) if on_gpu else (False,)
    options.graphs = (options.graphs == "on",) if options.graphs else default
    return options


def main() -> None:
    """Run what the options ask for."""
    options = parse()
    device = torch.device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    default = ["bf16", "tf32"] if device.type == "cuda" else ["fp32"]
    precisions = [options.precision] if options.precision else default
    if device.type == "cpu" and "bf16" in precisions and not cpu_has_bfloat16():
        warnings.warn("bf16 was asked for on a processor without bfloat16 instructions.", stacklevel=1)
        emit(
            benchmark="fact_training",
            precision="bf16",
            measured=False,
            reason="no bfloat16",
            **describe(device),
        )
        return
    for case in CASES:
        if options.recipe in (None, case.recipe) and options.batch in (None, case.batch):
            for precision in precisions:
                run(case, device, cast("Precision", precision), options)


if __name__ == "__main__":
    main()
