"""Options that several commands share, in groups; each group makes a part of the nested settings.

An option that was not given is None and leaves the settings file, or the default, as it is. Nothing heavy is
imported here: the command line must start quickly.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

StoreOption = Annotated[Path, Parameter(name="--store", env_var="FACTSEG_STORE")]
"""Folder of all artefacts."""

JsonOption = Annotated[bool, Parameter(name="--json", negative="")]
"""Print JSON on standard output."""

DirectOption = Annotated[bool, Parameter(name="--direct", negative="")]
"""Call the plain functions instead of the Prefect flows."""

DEFAULT_STORE = Path("factseg-store")


@Parameter(name="*", group="Data set")
@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """Where the data set lies (MS-TCN layout)."""

    videos: Path | None = None
    "Folder of video files; a video's id is its file name without the ending."
    labels: Path | None = None
    "Folder of <video id>.txt with one class name per video frame."
    mapping: Path | None = None
    "File of lines '<id> <class name>'."
    splits: Path | None = None
    "Folder of train.<split>.bundle and test.<split>.bundle."
    split: str | None = None
    "Which split to train and test on; split1 unless given."
    name: str | None = None
    "Name of the data set and of its models in the registry; its folder's unless given."
    background: Annotated[tuple[str, ...] | None, Parameter(negative="")] = None
    "A class that counts as background; may be given several times."


@Parameter(name="*", group="Features")
@dataclass(frozen=True, kw_only=True)
class ExtractionOptions:
    """How pictures become features."""

    features: str | None = None
    """Profiles separated by commas, the first being the time base, each name[:key=value...];
    'i3d-rgb:stride=8,clip:stride=4' unless given."""
    weights: str | None = None
    "'pretrained' (unless given), 'random' (seeded, for trials), or 'cached' (never downloads)."
    i3d_rgb: Path | None = None
    "Weights of the RGB stream of I3D."
    i3d_flow: Path | None = None
    "Weights of the optical-flow stream of I3D."
    clip_pretrained: str | None = None
    "Pretrained tag that open_clip knows, or a folder with open_clip_config.json; 'openai' unless given."
    device: str | None = None
    "'auto' (unless given), 'cpu', 'cuda:0', ..."


@Parameter(name="*", group="Texts")
@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """How class names become text embeddings."""

    prompt: str | None = None
    "Prompt template; {label} stands for the class name."


@Parameter(name="*", group="Training")
@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a model is trained."""

    model: str | None = None
    "'fact-clip' (unless given) or 'fact'."
    recipe: str | None = None
    "'auto' (unless given), a published recipe's name, or a FACT YAML file."
    epochs: int | None = None
    "Passes over the training videos, instead of the recipe's."
    learning_rate: float | None = None
    "Instead of the recipe's."
    batch_size: int | None = None
    "Videos per training step, instead of the recipe's."
    seed: int | None = None
    "Seed of everything random in training; 0 unless given."


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FileOption:
    """A file with settings."""

    settings: Path | None = None
    "TOML or YAML file with the same settings; options win over it."


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PipelineOptions:
    """Everything the full pipeline and its stages after extraction can be told."""

    dataset: DatasetOptions = DatasetOptions()
    extraction: ExtractionOptions = ExtractionOptions()
    text: TextOptions = TextOptions()
    training: TrainingOptions = TrainingOptions()
    file: FileOption = FileOption()

    def nested(self, **values: object) -> dict[str, Any]:
        """The nested settings, with some values beside the groups."""
        return nested_settings(
            self.file,
            dataset=self.dataset,
            extraction=self.extraction,
            text=self.text,
            training=self.training,
            **values,
        )


def nested_settings(file: FileOption, **groups: object) -> dict[str, Any]:
    """The settings of the file, overridden by the options that were given.

    Args:
        file: Which file, if any.
        groups: An option group, or a plain value, by its key in the settings.
    """
    values = _read(file)
    for key, group in groups.items():
        if isinstance(group, (DatasetOptions, ExtractionOptions, TextOptions, TrainingOptions)):
            values[key] = {**_section(values, key), **_given(group)}
        elif group is not None:
            values[key] = group
    return values


def _read(file: FileOption) -> dict[str, Any]:
    if file.settings is None:
        return {}
    from pipeline.settings import read_settings_file

    return read_settings_file(file.settings)


def _section(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    section = values.get(key, {})
    # What is no mapping is left to the validation, which names the key.
    return section if isinstance(section, Mapping) else {key: section}


def _given(group: DatasetOptions | ExtractionOptions | TextOptions | TrainingOptions) -> dict[str, Any]:
    given = {field.name: getattr(group, field.name) for field in fields(group)}
    given = {name: value for name, value in given.items() if value is not None}
    if "features" in given:
        given["features"] = tuple(part.strip() for part in given["features"].split(","))
    return given
