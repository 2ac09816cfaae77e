"""A data set as papers report it: every split trained and scored, mean and standard deviation over splits.

Every run is addressed by what made it, so a benchmark that is started again does only what is missing.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from pipeline import progress
from pipeline.errors import DatasetError, SettingsError
from pipeline.evaluate import evaluate_run
from pipeline.evaluate_files import CONVENTIONS
from pipeline.metrics_splits import Spread, mean_over_splits
from pipeline.settings import DatasetSettings, RunSettings
from pipeline.train import train
from storage.datasets import read_dataset
from storage.folders import read_manifest
from storage.store import Store

ALL_SPLITS = "all"


class BenchmarkSettings(RunSettings):
    """What is trained, on which splits, from which seeds, and on which videos it is scored."""

    splits: tuple[str, ...] = Field(default=(ALL_SPLITS,), min_length=1)
    """Names of splits, or `all`."""
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Each split is trained once from each seed."""
    score: Literal["test", "validation"] = "test"
    """`validation` scores the videos that `validation_groups` holds out, and never opens a test video."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkRow:
    """One run of a benchmark."""

    split: str
    seed: int
    run: str
    trained: bool
    """False where the run was there already."""
    seconds: float
    """Time its training took, whenever that was."""
    scores: dict[str, float]
    """Percent by name, by the first convention."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """Every run and what they come to."""

    rows: tuple[BenchmarkRow, ...]
    by_split: Mapping[str, Mapping[str, float]]
    """Mean over seeds of each split."""
    over_splits: Mapping[str, Spread]
    """Mean and standard deviation of the splits' means."""
    over_seeds: Mapping[str, Spread]
    """Mean and standard deviation of each seed's mean over splits."""

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return dataclasses.asdict(self)


def benchmark(settings: BenchmarkSettings) -> Benchmark:
    """Train and score every split from every seed; what the store has is taken from there.

    Raises:
        DatasetError: A split is not there, or one of its videos cannot be used: means over other videos mean nothing.
        SettingsError: Validation is to be scored and no video is held out.
    """
    if settings.score == "validation" and not settings.training.validation_groups:
        raise SettingsError(
            "--score validation scores videos that are held out of training, but none are. "
            "Name their groups with --validation-groups."
        )
    jobs = [(split, seed) for split in chosen_splits(settings) for seed in settings.seeds]
    rows = []
    for done, (split, seed) in enumerate(jobs):
        progress.report("benchmark", done=done, total=len(jobs), unit="runs", note=f"{split}, seed {seed}")
        rows.append(_row(settings, split=split, seed=seed))
    progress.report("benchmark", done=len(jobs), total=len(jobs), unit="runs")
    return _summary(rows)


def _row(settings: BenchmarkSettings, *, split: str, seed: int) -> BenchmarkRow:
    one = one_run(settings, split=split, seed=seed)
    outcome = train(one)
    failed = [video for video in outcome.outcomes if video.status == "failed"]
    if failed:
        raise DatasetError(
            f"Split {split}: {len(failed)} of {len(outcome.outcomes)} training videos cannot be used; the first: "
            f"{failed[0].reason}"
        )
    facts = read_manifest(Store(one.store).run_folder(outcome.run))
    if settings.score == "validation":
        scores = dict(facts["validation"]["scores"])
    else:
        scores = _test_scores(one, run=outcome.run)
    return BenchmarkRow(
        split=split,
        seed=seed,
        run=outcome.run,
        trained=outcome.trained,
        seconds=facts["seconds"],
        scores=scores,
    )


def one_run(settings: BenchmarkSettings, *, split: str, seed: int) -> RunSettings:
    """Settings of one training; each split has a model of its own name, whose test videos stay the same."""
    changes: dict[str, Any] = {"seed": seed}
    if settings.score == "validation":
        # Whether a class is in test videos only is not asked: their labels stay unread.
        changes["allow_unseen"] = True
    title = settings.dataset.title
    return RunSettings(
        store=settings.store,
        dataset=settings.dataset.model_copy(update={"split": split, "name": f"{title} {split}"}),
        extraction=settings.extraction,
        text=settings.text,
        training=settings.training.model_copy(update=changes),
    )


def _test_scores(settings: RunSettings, *, run: str) -> dict[str, float]:
    outcome = evaluate_run(settings, run=run)
    failed = [video for video in outcome.outcomes if video.status == "failed"]
    if failed:
        raise DatasetError(
            f"Split {settings.dataset.split}: {len(failed)} of {len(outcome.outcomes)} test videos cannot be scored; "
            f"the first: {failed[0].reason}"
        )
    return dict(outcome.scores[CONVENTIONS[0]])


def chosen_splits(settings: BenchmarkSettings) -> list[str]:
    """Names of the splits that the settings ask for, numbers in order of size.

    Raises:
        DatasetError: The data set has no such split.
    """
    known = _known_splits(settings.dataset, store=Store(settings.store))
    if settings.splits == (ALL_SPLITS,):
        return known
    unknown = [split for split in settings.splits if split not in known]
    if unknown:
        raise DatasetError(
            f"Data set {settings.dataset.title!r} has no split {unknown[0]!r}; it has {', '.join(known)}. "
            "Give --splits all, or some of them separated by commas."
        )
    return list(settings.splits)


def _known_splits(dataset: DatasetSettings, *, store: Store) -> list[str]:
    """Names of all splits, numbers in order of size."""
    if dataset.imported:
        names = list(read_dataset(store, dataset.imported).splits)
    else:
        bundles = dataset.place("splits").glob("train.*.bundle")
        names = [path.name.removeprefix("train.").removesuffix(".bundle") for path in bundles]
    if not names:
        raise DatasetError(
            f"Data set {dataset.title!r} has no split. Add train.<name>.bundle and test.<name>.bundle."
        )
    return sorted(names, key=lambda name: (len(name), name))


def _summary(rows: Sequence[BenchmarkRow]) -> Benchmark:
    splits = list(dict.fromkeys(row.split for row in rows))
    seeds = list(dict.fromkeys(row.seed for row in rows))
    by_split = {split: _means([row for row in rows if row.split == split]) for split in splits}
    by_seed = [_means([row for row in rows if row.seed == seed]) for seed in seeds]
    return Benchmark(
        rows=tuple(rows),
        by_split=by_split,
        over_splits=mean_over_splits(list(by_split.values())),
        over_seeds=mean_over_splits(by_seed),
    )


def _means(rows: Sequence[BenchmarkRow]) -> dict[str, float]:
    return {name: spread.mean for name, spread in mean_over_splits([row.scores for row in rows]).items()}
