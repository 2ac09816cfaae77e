"""The command that trains and scores every split of a data set."""

from pathlib import Path
from typing import Any

from flows.cli_app import app
from flows.cli_options import (
    DEFAULT_STORE,
    FileOption,
    JsonOption,
    StoreOption,
    TrainingOptions,
    nested_settings,
)
from flows.cli_output import print_benchmark, print_json, progress_bars

_NO_FILE = FileOption()
_NO_TRAINING = TrainingOptions()


@app.command
def benchmark(
    dataset: str = "",
    /,
    *,
    splits: str = "all",
    seeds: str = "0",
    score: str = "test",
    training: TrainingOptions = _NO_TRAINING,
    device: str | None = None,
    file: FileOption = _NO_FILE,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> int:
    """Train and score every split of a data set: mean and standard deviation, as papers report them.

    Runs that the store has are not trained again, so a benchmark that was stopped goes on.

    Example: factseg benchmark jigsaws --splits all --seeds 0,1,2 --recipe benchmarks/jigsaws.yaml

    Args:
        dataset: Name of a data set that 'factseg import' took in; or leave it out and describe one with --settings.
        splits: Names separated by commas, or 'all'.
        seeds: Whole numbers separated by commas; each split is trained once from each.
        score: 'test', or 'validation': the videos held out by --validation-groups, and no test video is opened.
        device: 'auto' (unless given), 'cpu', 'cuda:0', ...
        store: Folder of all artefacts, or its URL.
        json: Print JSON on standard output.
    """
    from pipeline.benchmark_dataset import BenchmarkSettings
    from pipeline.benchmark_dataset import benchmark as run_benchmark
    from pipeline.settings_reading import build_settings

    values = nested_settings(
        file, store=store, splits=_parts(splits), seeds=_parts(seeds), score=score, training=training
    )
    for section, given in (("dataset", {"imported": _imported(dataset)}), ("extraction", {"device": device})):
        named = {key: value for key, value in given.items() if value}
        if named:
            values[section] = {**_mapping(values.get(section)), **named}
    settings = build_settings(BenchmarkSettings, values, source="settings")
    with progress_bars():
        made = run_benchmark(settings)
    if json:
        print_json(made.to_dict())
    else:
        print_benchmark(made, score=score)
    return 0


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _mapping(section: Any) -> dict[str, Any]:  # noqa: ANN401  (what a settings file holds)
    return dict(section) if isinstance(section, dict) else {}


def _imported(name: str) -> str:
    """The name of the data set; a folder must be taken in first."""
    from pipeline.errors import SettingsError

    if "/" in name or Path(name).is_dir():
        raise SettingsError(
            f"{name} is a folder, and a benchmark takes the name of an imported data set. "
            f"Run `factseg import mstcn {name} --name NAME` first, then `factseg benchmark NAME`."
        )
    return name
