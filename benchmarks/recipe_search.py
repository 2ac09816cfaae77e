r"""Many recipes on every split of an imported data set, several trainings at once; a JSON line for each as it ends.

    python -m benchmarks.recipe_search jigsaws --tries benchmarks/jigsaws_tries.yaml --out rows.jsonl \
        --groups '_([A-Z])\d+$' --count 2 --processes 32 --devices cuda:0 cuda:1
    python -m benchmarks.recipe_search jigsaws --tries benchmarks/jigsaws_tries.yaml --out rows.jsonl --table

A try is the recipe with some changes, and may start from another try. Without ``--test`` no test video is opened:
the videos that ``--groups`` holds out are scored, by the weights after the last epoch, as a training with nothing
held out keeps them. Lines that ``--out`` has already are not made again, so a search that was stopped goes on. One
thread a training: ``OMP_NUM_THREADS=1``.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.side_by_side import side_by_side
from pipeline.benchmark_dataset import ALL_SPLITS, BenchmarkSettings, chosen_splits, one_run
from pipeline.dataset import dataset_classes, dataset_split, survey_part
from pipeline.device import choose_device
from pipeline.evaluate import check_untrained
from pipeline.inputs import inputs_of_model
from pipeline.metrics import LabelledPrediction, evaluate
from pipeline.model import load_model
from pipeline.predict import predict_frames
from pipeline.run_files import read_curves
from pipeline.settings import RunSettings
from pipeline.settings_file import read_settings_file
from pipeline.train import train
from pipeline.validation import FIGURES, figures
from storage.folders import read_manifest
from storage.keys import digest_of
from storage.store import Store

BASE = "from"
"""Key of a try that names the try it starts from."""

_NEVER = 10**6
"""Epochs between checkpoints: a training of a minute is made again, not gone on with."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training."""

    name: str
    """Of the try."""
    identity: str
    """Digest of everything that decides the scores; the same in every search."""
    settings: RunSettings
    test: bool
    """Score the test videos; else those held out."""

    @property
    def where(self) -> dict[str, Any]:
        """Split and seed."""
        return {"split": self.settings.dataset.split, "seed": self.settings.training.seed}


def merged(recipe: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe with the changes, section by section.

    >>> merged({"lr": 1, "FACT": {"ntoken": 40, "cmr": 0.1}}, {"FACT": {"ntoken": 60}})
    {'lr': 1, 'FACT': {'ntoken': 60, 'cmr': 0.1}}
    """
    made = dict(recipe)
    for key, value in changes.items():
        made[key] = merged(made.get(key, {}), value) if isinstance(value, Mapping) else value
    return made


def recipe_of(name: str, tries: Mapping[str, Mapping[str, Any]], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The whole recipe of a try, and of those it starts from."""
    if name not in tries:
        raise SystemExit(f"No try {name!r}. The file has {', '.join(tries)}.")
    changes = dict(tries[name])
    base = changes.pop(BASE, None)
    return merged(recipe if base is None else recipe_of(base, tries, recipe), changes)


def make_jobs(
    options: argparse.Namespace, recipes: Mapping[str, Mapping[str, Any]], folder: Path
) -> list[Job]:
    """Every try on every split from every seed, in the order of the tries."""
    jobs = []
    held_out: dict[str, Any] = {}
    if not options.test:
        held_out = {"validation_groups": options.groups, "validation_count": options.count}
    for name, recipe in recipes.items():
        file = folder / f"{digest_of(recipe)}.yaml"
        file.write_text(yaml.safe_dump(dict(recipe)), encoding="utf-8")
        settings = BenchmarkSettings.model_validate(
            {
                "store": options.store,
                "dataset": {"imported": options.dataset},
                "splits": options.splits,
                "seeds": options.seeds,
                "score": "test" if options.test else "validation",
                "training": {
                    "recipe": str(file),
                    "validate_every": options.validate_every,
                    "checkpoint_epochs": _NEVER,
                    **held_out,
                },
            }
        )
        for seed in settings.seeds:
            for split in chosen_splits(settings):
                identity = digest_of(
                    {
                        "recipe": recipe,
                        "dataset": options.dataset,
                        "split": split,
                        "seed": seed,
                        "held out": held_out,
                        "test": options.test,
                    }
                )
                one = one_run(settings, split=split, seed=seed)
                jobs.append(Job(name=name, identity=identity, settings=one, test=options.test))
    return jobs


def run(job: Job, device: str) -> dict[str, Any]:
    """Train and score; one line of the result."""
    started = time.perf_counter()
    settings = job.settings.model_copy(
        update={"extraction": job.settings.extraction.model_copy(update={"device": device})}
    )
    outcome = train(settings)
    folder = Store(settings.store).run_folder(outcome.run)
    curves = read_curves(folder)
    validated = [row for row in curves if row.get(f"validation {FIGURES[0]}") is not None]
    by_epoch = {
        int(row["epoch"]): [round(row[f"validation {name}"], 2) for name in FIGURES] for row in validated
    }
    if job.test:
        scores = test_scores(settings, run=outcome.run)
    else:
        scores = dict(zip(FIGURES, by_epoch[len(curves)], strict=True))
    manifest = read_manifest(folder)
    return {
        "try": job.name,
        "score": "test" if job.test else "validation",
        **job.where,
        "scores": {name: round(value, 2) for name, value in scores.items()},
        "by_epoch": by_epoch,
        "loss": round(curves[-1]["loss"], 3),
        "epochs": len(curves),
        "training_seconds": manifest["seconds"],
        "seconds": round(time.perf_counter() - started, 1),
        "machine": manifest["machine"],
        "run": outcome.run,
        "identity": job.identity,
    }


def test_scores(settings: RunSettings, *, run: str) -> dict[str, float]:
    """Scores of a run on the test videos of its split, with neither report nor registry."""
    store = Store(settings.store)
    folder = store.run_folder(run)
    model = load_model(folder, device=choose_device(settings.extraction.device))
    described = model.description
    survey = survey_part(
        dataset_split(settings.dataset, store=store).test,
        dataset=settings.dataset,
        inputs=inputs_of_model(described.inputs),
        classes=dataset_classes(settings.dataset, store=store),
        store=store,
    )
    failed = [outcome for outcome in survey.outcomes if outcome.status == "failed"]
    if failed:
        raise SystemExit(f"{failed[0].video} cannot be scored: {failed[0].reason}")
    check_untrained(survey.sources, trained=read_manifest(folder), run=run)
    predictions = [
        LabelledPrediction(
            video_id=source.video.id,
            truth=source.labels,
            predicted=predict_frames(source.stored, model=model, store=store).labels[: len(source.labels)],
        )
        for source in survey.sources
    ]
    return figures(evaluate(predictions, class_names=described.class_names, background=described.background))


def run_all(jobs: Sequence[Job], *, processes: int, devices: Sequence[str], out: Path) -> None:
    """Run the jobs side by side and append a line for each as it ends."""
    preload = ["pipeline.train", "pipeline.evaluate"]
    done = side_by_side(run, jobs, processes=processes, devices=devices, preload=preload)
    with out.open("a", encoding="utf-8") as file:
        for job, future in done:
            try:
                row = future.result()
            except Exception as error:  # noqa: BLE001  (a try that diverges is a result, and harms no other)
                row = {"try": job.name, **job.where, "identity": job.identity, "failed": str(error)}
            print(json.dumps(row), file=file, flush=True)


def read_rows(out: Path) -> list[dict[str, Any]]:
    """The lines there are."""
    if not out.is_file():
        return []
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def table(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Markdown: the mean of each try over splits, and its deviation over seeds where there are several."""
    lines = [
        "| try | runs | accuracy | Edit | F1@10 | F1@25 | F1@50 | mean of accuracy, Edit, F1@50 |",
        "|---" * 8 + "|",
    ]
    scored = [row for row in rows if "scores" in row]
    for name in names:
        mine = [row for row in scored if row["try"] == name]
        if not mine:
            continue
        by_seed = [
            [row["scores"] for row in mine if row["seed"] == seed] for seed in {row["seed"] for row in mine}
        ]
        cells = [_cell([_mean(part, (figure,)) for part in by_seed]) for figure in FIGURES]
        cells.append(_cell([_mean(part, (FIGURES[0], FIGURES[1], FIGURES[-1])) for part in by_seed]))
        lines.append(f"| {name} | {len(mine)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean(scores: Sequence[Mapping[str, float]], names: Sequence[str]) -> float:
    return statistics.fmean(row[name] for row in scores for name in names)


def _cell(values: Sequence[float]) -> str:
    mean = f"{statistics.fmean(values):.1f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.1f}"


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="name of an imported data set")
    parser.add_argument("--store", default="factseg-store")
    parser.add_argument("--recipe", type=Path, default=Path("benchmarks/jigsaws.yaml"))
    parser.add_argument(
        "--tries", type=Path, help="YAML file of changes by name; without it the recipe alone"
    )
    parser.add_argument("--only", nargs="+", help="names of tries; by default all")
    parser.add_argument("--out", type=Path, required=True, help="file of JSON lines")
    parser.add_argument("--splits", nargs="+", default=[ALL_SPLITS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--groups", default="", help="as --validation-groups of factseg train")
    parser.add_argument("--count", type=int, default=2, help="groups to hold out")
    parser.add_argument(
        "--test", action="store_true", help="train on all training videos and score the test videos"
    )
    parser.add_argument("--validate-every", type=int, default=10, help="epochs; also after the last")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--devices", nargs="+", default=["auto"], help="processes take them in turn")
    parser.add_argument("--table", action="store_true", help="train nothing and print what --out holds")
    options = parser.parse_args()
    if not (options.test or options.table or options.groups):
        parser.error("give --groups, which videos to hold out and score, or --test")
    return options


def main() -> None:
    """Run what the options ask for."""
    options = parse()
    recipe = read_settings_file(options.recipe)
    tries = read_settings_file(options.tries) if options.tries else {options.recipe.stem: {}}
    recipes = {name: recipe_of(name, tries, recipe) for name in options.only or tries}
    if not options.table:
        done = {row["identity"] for row in read_rows(options.out) if "scores" in row}
        with tempfile.TemporaryDirectory() as folder:
            jobs = [job for job in make_jobs(options, recipes, Path(folder)) if job.identity not in done]
            run_all(jobs, processes=options.processes, devices=options.devices, out=options.out)
    print(table(read_rows(options.out), list(recipes)))


if __name__ == "__main__":
    main()
