"""Gestures of JIGSAWS Suturing that no training video shows, in turn, found by their descriptions.

    python -m benchmarks.zero_shot_jigsaws FOLDER --store STORE
    python -m benchmarks.zero_shot_jigsaws FOLDER --store STORE --splits split2 --unseen G2 G6 --epochs 6 --every 30

FOLDER is in the MS-TCN layout, with motion channels as features and `descriptions.tsv` beside the mapping. For each
split, gesture and seed a FACT_CLIP is trained on videos without the frames of the gesture, and every fusion is
scored on whole test videos, beside plain similarity of steps to texts and beside chance: the segments of the default
fusion with a random class each. The default is also scored with other prices of a change of class and with the unseen
gesture favoured by some nats; ``path, chosen`` has for each split and gesture the prices that serve the other gestures
of the other splits best. Runs that the store has are not trained again. Prints a JSON line per split, gesture, seed
and rule, and at the end one per rule with means over these. One thread a training: ``OMP_NUM_THREADS=1``.
"""

import argparse
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.side_by_side import side_by_side
from benchmarks.zero_shot import figures_of, labels_by_rule, path_rule
from fact._settings import SWITCH_COST
from fact.blocks import FACT_CLIP
from pipeline.alignment import nearest_steps
from pipeline.dataset import LabelledSource, dataset_classes, dataset_split, load_features, survey_part
from pipeline.device import choose_device
from pipeline.import_mstcn import MstcnFolder, import_mstcn
from pipeline.inputs import inputs_of_model
from pipeline.metrics import LabelledPrediction, segment_bounds
from pipeline.model import TrainedModel, load_model
from pipeline.settings import (
    PACKAGED_TEXT_MODEL,
    DatasetSettings,
    RunSettings,
    TextSettings,
)
from pipeline.settings_training import TrainingSettings
from pipeline.train import train
from storage.folders import read_manifest
from storage.store import Store

NAME = "jigsaws"
FRAMES_PER_SECOND = 30.0
RECIPE = Path(__file__).with_name("jigsaws.yaml")
PATH = path_rule(SWITCH_COST)
CHOSEN = "path, chosen"
Figures = dict[str, dict[str, float | None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What the default fusion is scored with."""

    switch_costs: Sequence[float]
    """Prices of a change of class, in nats; that of the default among them."""
    unseen_biases: Sequence[float]
    """Nats by which the unseen gesture is favoured; 0 among them."""

    @property
    def pairs(self) -> list[tuple[float, float]]:
        """Every price with every bias."""
        return list(itertools.product(self.switch_costs, self.unseen_biases))


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One training, and what its model is scored with."""

    settings: RunSettings
    rules: Rules

    @property
    def place(self) -> tuple[str, str, int]:
        """Split, held-out gesture, seed."""
        training = self.settings.training
        return self.settings.dataset.split, training.unseen[0], training.seed


def settings_of(given: argparse.Namespace, *, split: str, unseen: str, seed: int) -> RunSettings:
    """One training: the recipe of the data set, with texts, and one gesture held out."""
    return RunSettings(
        store=given.store,
        dataset=DatasetSettings(imported=NAME, split=split),
        text=TextSettings(model=given.text_model, descriptions=given.folder / "descriptions.tsv"),
        training=TrainingSettings(
            model="fact-clip",
            recipe=str(RECIPE),
            epochs=given.epochs,
            every=given.every,
            unseen=(unseen,),
            seed=seed,
        ),
    )


def train_and_score(job: Job, device: str) -> dict[str, Any]:
    """Figures by rule, and what the training took."""
    extraction = job.settings.extraction.model_copy(update={"device": device})
    settings = job.settings.model_copy(update={"extraction": extraction})
    run = train(settings).run
    manifest = read_manifest(Store(settings.store).run_folder(run))
    return {
        "machine": manifest["machine"],
        "seconds": manifest["seconds"],
        "figures": score(settings, run=run, seed=settings.training.seed, rules=job.rules),
    }


def score(settings: RunSettings, *, run: str, seed: int, rules: Rules) -> dict[str, Figures]:
    """Seen, unseen and harmonic figures of every rule on the test videos of the split."""
    store = Store(settings.store)
    model = load_model(store.run_folder(run), device=choose_device(settings.extraction.device))
    classes = dataset_classes(settings.dataset, store=store)
    survey = survey_part(
        dataset_split(settings.dataset, store=store).test,
        dataset=settings.dataset,
        inputs=inputs_of_model(model.description.inputs),
        classes=classes,
        store=store,
    )
    if any(outcome.status == "failed" for outcome in survey.outcomes):
        raise SystemExit(f"{settings.dataset.split}: a test video cannot be used: {survey.outcomes}")
    rng = np.random.default_rng(seed)
    labelled: dict[str, list[LabelledPrediction]] = {}
    for source in survey.sources:
        by_rule = frame_labels(source, model=model, store=store, rules=rules, rng=rng)
        for rule, predicted in by_rule.items():
            made = LabelledPrediction(video_id=source.video.id, truth=source.labels, predicted=predicted)
            labelled.setdefault(rule, []).append(made)
    unseen = model.description.config.unseen_classes
    return {
        rule: figures_of(videos, unseen=unseen, class_names=classes.names)
        for rule, videos in labelled.items()
    }


def frame_labels(
    source: LabelledSource,
    *,
    model: TrainedModel,
    store: Store,
    rules: Rules,
    rng: np.random.Generator,
) -> dict[str, NDArray[np.int64]]:
    """(N,) labels of one video's frames by every rule."""
    if not isinstance(model.network, FACT_CLIP):
        raise TypeError("Only a FACT_CLIP has fusions to compare.")
    described = model.description
    loaded = load_features(source.stored, sample_rate=described.sample_rate, store=store, pool=described.pool)
    features = model.standardisation.apply(loaded.features).numpy()
    steps = labels_by_rule(
        model.network, features, switch_costs=rules.switch_costs, unseen_biases=rules.unseen_biases
    )
    owner = nearest_steps(source.video.facts.frame_times[: len(source.labels)], loaded.step_times)
    found = {rule: labels.cpu().numpy()[owner] for rule, labels in steps.items()}
    lengths = np.diff(segment_bounds(found[PATH]))
    found["chance"] = np.repeat(rng.integers(0, len(described.class_names), len(lengths)), lengths)
    return found


def with_choice(found: Mapping[tuple[str, str, int], dict[str, Figures]], rules: Rules) -> None:
    """Add to each place what the prices give that were chosen on other splits and other gestures."""
    names = [path_rule(cost, bias) for cost, bias in rules.pairs]
    for (split, unseen, _), figures in found.items():
        others = [
            theirs
            for (their_split, their_unseen, _), theirs in found.items()
            if their_split != split and their_unseen != unseen
        ]
        if others:
            best = max(names, key=lambda name: sum(_harmonic(theirs[name]) for theirs in others))
            figures[CHOSEN] = figures[best]


def _harmonic(figures: Figures) -> float:
    return float(np.mean([value or 0.0 for value in figures["harmonic"].values()]))


def means(rows: Sequence[Figures]) -> dict[str, dict[str, Any]]:
    """Means of every figure over the rows that have it, and how many these are."""
    found: dict[str, dict[str, Any]] = {}
    for side, figure in itertools.product(
        ("seen", "unseen", "harmonic"), ("accuracy", "f1@10", "f1@25", "f1@50")
    ):
        values = [value for row in rows if (value := row[side][figure]) is not None]
        found.setdefault(side, {})[figure] = round(float(np.mean(values)), 1) if values else None
        found[side]["rows"] = len(values)
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--text-model", default=PACKAGED_TEXT_MODEL)
    parser.add_argument("--splits", nargs="+", default=[f"split{number}" for number in range(1, 9)])
    parser.add_argument("--unseen", nargs="+", default=None, help="gestures; all in turn unless given")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=None, help="instead of the recipe's")
    parser.add_argument(
        "--every", type=int, default=None, help="every this many-th row, instead of the recipe's"
    )
    parser.add_argument("--switch-costs", type=float, nargs="*", default=[2.0, 5.0])
    parser.add_argument("--unseen-biases", type=float, nargs="*", default=[1.0, 2.0, 3.0, 4.0])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--devices", nargs="+", default=["auto"], help="processes take them in turn")
    given = parser.parse_args()
    made = import_mstcn(
        MstcnFolder.at(given.folder), name=NAME, store=Store(given.store), fps=FRAMES_PER_SECOND
    )
    rules = Rules(
        switch_costs=sorted({SWITCH_COST, *given.switch_costs}),
        unseen_biases=sorted({0.0, *given.unseen_biases}),
    )
    places = itertools.product(given.splits, given.unseen or made.dataset.classes, given.seeds)
    jobs = [
        Job(settings=settings_of(given, split=split, unseen=unseen, seed=seed), rules=rules)
        for split, unseen, seed in places
    ]
    found: dict[tuple[str, str, int], dict[str, Figures]] = {}
    done = side_by_side(
        train_and_score, jobs, processes=given.processes, devices=given.devices, preload=["pipeline.train"]
    )
    for job, future in done:
        result = future.result()
        found[job.place] = result.pop("figures")
        row = dict(zip(("split", "unseen class", "seed"), job.place, strict=True))
        for rule, figures in found[job.place].items():
            line = {**row, "epochs": given.epochs, "every": given.every, **result, "rule": rule, **figures}
            print(json.dumps({"benchmark": "zero_shot_jigsaws", **line}), flush=True)
    with_choice(found, rules)
    by_rule: dict[str, list[Figures]] = {}
    for figures_by_rule in found.values():
        for rule, figures in figures_by_rule.items():
            by_rule.setdefault(rule, []).append(figures)
    for rule, rows in by_rule.items():
        print(json.dumps({"benchmark": "zero_shot_jigsaws", "means": rule, **means(rows)}), flush=True)


if __name__ == "__main__":
    main()
