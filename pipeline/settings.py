"""One validated object for everything a run can be told; unknown keys are errors that name the nearest."""

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pipeline.errors import SettingsError
from pipeline.profiles import Profile, parse_profile
from pipeline.weights import WeightsPolicy

DEFAULT_STORE = Path("factseg-store")
"""Where artefacts go unless ``--store`` or ``FACTSEG_STORE`` says otherwise."""

DEFAULT_FEATURES = ("i3d-rgb:stride=8", "clip:stride=4")
"""I3D first, which makes it the time base, then CLIP; modest enough for a machine without a GPU."""

DEFAULT_PROMPT = "a video of a person who will {label}"
"""Prompt template; ``{label}`` is the class name, its underscores shown as blanks."""

Settings = TypeVar("Settings", bound="StrictSettings")


class StrictSettings(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class DatasetSettings(StrictSettings):
    """Where the videos, labels and splits of a data set lie (MS-TCN layout)."""

    videos: Path
    """Folder of video files; a video's id is its file name without the ending."""
    labels: Path
    """Folder of `<video id>.txt` with one class name per video frame."""
    mapping: Path
    """File of lines `<id> <class name>`."""
    splits: Path
    """Folder of `train.<split>.bundle` and `test.<split>.bundle`."""
    split: str = Field(default="split1", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """Which split to train and test on."""
    name: str = ""
    """Name of the data set and of its models in the registry; by default that of its folder."""
    background: tuple[str, ...] = ()
    """Classes that count as background in training."""

    @property
    def title(self) -> str:
        """The name, or that of the folder that holds the videos, as far as a registry takes it."""
        if self.name:
            return self.name
        folder = self.videos.resolve()
        found = folder.parent.name if folder.name.lower() in {"videos", "video"} else folder.name
        return re.sub(r"[^\w .-]", "_", found)[:100].strip(" .-") or "dataset"

    @field_validator("name")
    @classmethod
    def _name_is_plain(cls, name: str) -> str:
        if name and not re.fullmatch(r"\w(?:[\w .-]{0,98}\w)?", name):
            raise ValueError(
                f"{name!r} cannot be a name in the registry; use up to 100 letters, digits, '-', '_'"
            )
        return name


class ExtractionSettings(StrictSettings):
    """How pictures become features."""

    features: tuple[str, ...] = DEFAULT_FEATURES
    """Profiles in order; the first is the time base. `name[:key=value...]`."""
    weights: WeightsPolicy = WeightsPolicy.PRETRAINED
    """`pretrained` insists on real weights, `random` asks for seeded random ones, `cached` never downloads."""
    i3d_rgb: Path | None = None
    """Weights of the RGB stream of I3D; else looked for in the cache."""
    i3d_flow: Path | None = None
    """Weights of the optical-flow stream of I3D; else looked for in the cache."""
    clip_pretrained: str = "openai"
    """Pretrained tag that open_clip knows for the CLIP model, or a folder with `open_clip_config.json`."""
    device: str = "auto"
    """`auto` takes a GPU where there is one; else what torch knows: `cpu`, `cuda:0`."""
    batch_videos: int = Field(default=8, ge=1)
    """Videos handled by one task."""

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """The feature profiles, in order."""
        return tuple(parse_profile(spec) for spec in self.features)

    @field_validator("features")
    @classmethod
    def _features_are_profiles(cls, features: tuple[str, ...]) -> tuple[str, ...]:
        if not features:
            raise ValueError("at least one feature profile is needed, e.g. `i3d-rgb`")
        specs = tuple(parse_profile(spec).spec for spec in features)
        if len(set(specs)) < len(specs):
            raise ValueError(f"a feature profile is listed twice in {', '.join(specs)}; remove one")
        return specs


class TextSettings(StrictSettings):
    """How class names become text embeddings."""

    model: str = "ViT-B-32"
    """CLIP model of open_clip whose text tower is used."""
    prompt: str = DEFAULT_PROMPT
    """Template; `{label}` stands for the class name."""

    @field_validator("prompt")
    @classmethod
    def _prompt_has_a_place(cls, prompt: str) -> str:
        around = prompt.partition("{label}")
        if not around[1] or re.search(r"[{}]", around[0] + around[2]):
            raise ValueError("write `{label}` exactly once where the class name goes, and no other braces")
        return prompt


class TrainingSettings(StrictSettings):
    """How a model is trained."""

    model: Literal["fact", "fact-clip"] = "fact-clip"
    """FACT, or FACT_CLIP with its alignment to the texts of the classes."""
    recipe: str = "auto"
    """`auto`, the name of a published recipe, or a FACT YAML file."""
    epochs: int | None = Field(default=None, ge=1)
    """Instead of the recipe's; its learning-rate decay keeps its place in proportion."""
    learning_rate: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Instead of the recipe's."""
    batch_size: int | None = Field(default=None, ge=1)
    """Videos per step, instead of the recipe's."""
    seed: int = Field(default=0, ge=0)
    """Seeds weights, order of the videos, dropout and masking."""


class ExtractSettings(StrictSettings):
    """Which videos become features."""

    store: Path = DEFAULT_STORE
    """Folder of all artefacts."""
    videos: tuple[Path, ...] = Field(min_length=1)
    """Video files, and folders whose files are taken."""
    extraction: ExtractionSettings = ExtractionSettings()


class EmbedSettings(StrictSettings):
    """Which class names become text embeddings."""

    store: Path = DEFAULT_STORE
    """Folder of all artefacts."""
    mapping: Path
    """File of lines `<id> <class name>`."""
    text: TextSettings = TextSettings()
    extraction: ExtractionSettings = ExtractionSettings()


class RunSettings(StrictSettings):
    """Everything the full pipeline can be told."""

    store: Path = DEFAULT_STORE
    """Folder of all artefacts."""
    dataset: DatasetSettings
    extraction: ExtractionSettings = ExtractionSettings()
    text: TextSettings = TextSettings()
    training: TrainingSettings = TrainingSettings()


class EvaluateSettings(RunSettings):
    """Everything the full pipeline can be told, and which run to score."""

    run: str = Field(default="", pattern=r"^[0-9a-f]{0,64}$")
    """Key of a run, or its first digits; by default the run that these very settings train."""


class SegmentSettings(StrictSettings):
    """Which new videos are segmented, and how."""

    videos: tuple[Path, ...] = Field(min_length=1)
    """Video files, and folders whose files are taken."""

    store: Path = DEFAULT_STORE
    """Folder of all artefacts."""
    model: str = ""
    """Name in the registry; may be left out where the store knows one model only."""
    run: str = Field(default="", pattern=r"^[0-9a-f]{0,64}$")
    """Key of a run, or its first digits, instead of the champion."""
    i3d_rgb: Path | None = None
    """Weights of the RGB stream of I3D, where they are not in the cache."""
    i3d_flow: Path | None = None
    """Weights of the optical-flow stream of I3D, where they are not in the cache."""
    clip_pretrained: str = "openai"
    """Pretrained tag that open_clip knows for the CLIP model, or a folder with `open_clip_config.json`."""
    device: str = "auto"
    """`auto` takes a GPU where there is one; else what torch knows: `cpu`, `cuda:0`."""
    batch_videos: int = Field(default=8, ge=1)
    """Videos handled by one task."""


def build_settings(kind: type[Settings], values: Mapping[str, Any], *, source: str) -> Settings:
    """Validated settings of one kind.

    Args:
        kind: ``RunSettings`` or another class above.
        values: Nested mapping.
        source: Where the values come from, for the message.

    Raises:
        SettingsError: A key is unknown or a value does not fit; the message names the key and the nearest one.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = [_explain(kind, problem).removesuffix(".") for problem in error.errors()]
        raise SettingsError(f"{source}: " + "; ".join(problems) + ".") from error


def read_settings_file(path: Path) -> dict[str, Any]:
    """The nested mapping in a TOML or YAML file.

    Raises:
        SettingsError: The file is missing, of another kind, malformed, or holds no mapping.
    """
    suffix = path.suffix.lower()
    if suffix not in {".toml", ".yaml", ".yml"}:
        raise SettingsError(f"{path}: settings are read from a file ending in .toml, .yaml or .yml.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SettingsError(
            f"{path}: the settings cannot be read ({error.strerror}). Check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 text. Save it as UTF-8.") from error
    try:
        values = tomllib.loads(text) if suffix == ".toml" else yaml.safe_load(text)
    except (tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        # PyYAML spreads its message over several indented lines.
        reason = " ".join(str(error).split())
        raise SettingsError(f"{path} is malformed: {reason}. Correct it.") from error
    if not isinstance(values, dict):
        raise SettingsError(
            f"{path} holds no settings. Write `key: value` lines (YAML) or `key = value` (TOML)."
        )
    return values


def _explain(kind: type[BaseModel], problem: Any) -> str:  # noqa: ANN401  (pydantic's ErrorDetails)
    where = ".".join(str(part) for part in problem["loc"]) or "settings"
    if problem["type"] == "extra_forbidden":
        known = _keys_at(kind, problem["loc"][:-1])
        close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
        return f"unknown key {where!r}: {hint}"
    return f"{where}: {str(problem['msg']).removeprefix('Value error, ')}"


def _keys_at(kind: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    for part in location:
        annotation = kind.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        kind = annotation
    return list(kind.model_fields)
