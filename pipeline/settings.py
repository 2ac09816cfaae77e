"""One validated object for everything a run can be told; unknown keys are errors that name the nearest."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pipeline.cluster import RayCluster
from pipeline.decode_rules import DEFAULT_TIMEOUT_SECONDS, DecodeRules, OnCorrupt
from pipeline.errors import SettingsError, VideoError
from pipeline.profile_files import read_profiles
from pipeline.profiles import BUILT_IN, Profile, parse_profile
from pipeline.remote_videos import DEFAULT_CACHE_GIB, as_address, path_in
from pipeline.settings_base import StrictSettings
from pipeline.settings_training import TrainingSettings
from pipeline.weights import WeightsPolicy
from storage.errors import StoreError
from storage.places import is_url, place_of

DEFAULT_STORE = Path("factseg-store")
"""Where artefacts go unless ``--store`` or ``FACTSEG_STORE`` says otherwise."""


def _path_or_url(value: object) -> object:
    """Text with ``://`` stays text, once it names a place; everything else is a path."""
    if not isinstance(value, str):
        return value
    try:
        place_of(value)
    except StoreError as error:
        raise ValueError(str(error)) from error
    return value if is_url(value) else Path(value)


StoreAddress = Annotated[Path | str, BeforeValidator(_path_or_url)]
"""A local folder, or a URL such as ``s3://bucket/factseg``."""


def _video_source(value: object) -> object:
    try:
        return as_address(value) if isinstance(value, str) else value
    except VideoError as error:
        raise ValueError(str(error)) from error


VideoSource = Annotated[Path | str, BeforeValidator(_video_source)]
"""A local file or folder, or the URL of one."""

DEFAULT_FEATURES = ("i3d-rgb:stride=8", "clip:stride=4")
"""I3D first, which makes it the time base, then CLIP; modest enough for a machine without a GPU."""

SENTENCE_TRANSFORMERS = "sentence-transformers:"
"""Before the folder of such a text model."""

PACKAGED_TEXT_MODEL = "all-MiniLM-L6-v2"
"""The sentence-transformers model that the extra `texts` brings along."""

DEFAULT_PROMPT = "a video of a person who will {label}"
"""Prompt template; ``{label}`` is the class name, its underscores shown as blanks."""


class DatasetSettings(StrictSettings):
    """Where the videos, labels and splits of a data set lie (MS-TCN layout), or the name it was imported under."""

    imported: str = Field(default="", pattern=r"^(\w([\w .-]{0,98}\w)?)?$")
    """Name of a data set that `factseg import` took in; then no folder is needed."""
    videos: VideoSource | None = None
    """Folder of video files, or its URL; a video's id is its file name without the ending."""
    video_cache_gib: float = Field(default=DEFAULT_CACHE_GIB, gt=0, allow_inf_nan=False)
    """GiB of this machine's disk that videos fetched from URLs may take together."""
    labels: Path | None = None
    """Folder of `<video id>.txt` with one class name per video frame."""
    mapping: Path | None = None
    """File of lines `<id> <class name>`."""
    splits: Path | None = None
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
        if self.name or self.imported:
            return self.name or self.imported
        source = self.video_source
        folder = source.resolve() if isinstance(source, Path) else path_in(source)
        found = folder.parent.name if folder.name.lower() in {"videos", "video"} else folder.name
        return re.sub(r"[^\w .-]", "_", found)[:100].strip(" .-") or "dataset"

    @property
    def class_source(self) -> str:
        """Where the classes are named, for messages."""
        return f"the imported data set {self.imported!r}" if self.imported else str(self.mapping)

    @property
    def has_features(self) -> bool:
        """Whether the imported data set brings its features, so that no video is looked at."""
        return bool(self.imported) and self.videos is None

    @property
    def video_source(self) -> Path | str:
        """Where the videos lie; a URL ends with a stroke.

        Raises:
            SettingsError: It was not given; validated settings of a data set in folders have it.
        """
        if self.videos is None:
            raise SettingsError("dataset.videos was not given. Give --videos.")
        return self.videos if isinstance(self.videos, Path) else self.videos.rstrip("/") + "/"

    def place(self, what: Literal["labels", "mapping", "splits"]) -> Path:
        """One of the three places beside that of the videos.

        Raises:
            SettingsError: It was not given; validated settings of a data set in folders have all.
        """
        found: Path | None = getattr(self, what)
        if found is None:
            raise SettingsError(f"dataset.{what} was not given. Give --{what}.")
        return found

    @model_validator(mode="after")
    def _is_in_folders_or_imported(self) -> "DatasetSettings":
        if self.imported:
            given = [name for name in ("labels", "mapping") if getattr(self, name) is not None]
            if given:
                raise ValueError(
                    f"the imported data set {self.imported!r} has its own {given[0]}; leave --{given[0]} out"
                )
            return self
        places = ("videos", "labels", "mapping", "splits")
        missing = [f"dataset.{name}" for name in places if getattr(self, name) is None]
        if missing:
            raise ValueError(f"give {', '.join(missing)}, or with --dataset the name of an imported data set")
        return self

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

    profiles_file: Path | None = None
    """TOML file with profiles of one's own; what they are is written out in `features` when they are read."""
    features: tuple[str, ...] = DEFAULT_FEATURES
    """Profiles in order; the first is the time base. `name[:key=value...]`."""
    weights: WeightsPolicy = WeightsPolicy.PRETRAINED
    """`pretrained` insists on real weights, `random` asks for seeded random ones, `cached` never downloads."""
    i3d_rgb: Path | None = None
    """Weights of the RGB stream of I3D; else looked for in the cache."""
    i3d_flow: Path | None = None
    """Weights of the optical-flow stream of I3D; else looked for in the cache."""
    raft: Path | None = None
    """Weights of torchvision's `raft_large`, for optical flow by RAFT; else looked for in the cache."""
    clip_pretrained: str = "openai"
    """Pretrained tag that open_clip knows for the CLIP model, or a folder with `open_clip_config.json`."""
    device: str = "auto"
    """`auto` takes a GPU where there is one; else what torch knows: `cpu`, `cuda:0`. `cuda:0,cuda:1` spreads videos."""
    workers: int | None = Field(default=None, ge=1, le=64)
    """Videos that each device works on at once; by default one on a CPU, and on a GPU what keeps it busy."""
    flow_cache: float = Field(default=0, ge=0, allow_inf_nan=False)
    """GiB of optical flow kept in the cache folder for other windows and strides; 0 keeps none."""
    batch_videos: int | None = Field(default=None, ge=1)
    """Videos handled by one task; by default 8, or four for each that is worked on at once."""
    runner: Literal["local", "ray"] = "local"
    """`ray` spreads the batches of videos over the machines of a Ray cluster."""
    ray_address: str = Field(default="", max_length=255)
    """`HOST:6379` of its head; else what `RAY_ADDRESS` says, a cluster that runs here, or one made for the run."""
    ray_cpus: float = Field(default=1, gt=0, allow_inf_nan=False)
    """CPUs of one machine that a batch takes."""
    ray_gpus: float = Field(default=0, ge=0, allow_inf_nan=False)
    """GPUs of one machine that a batch takes; 0.5 lets two batches share one."""
    decode_timeout_seconds: float = Field(default=DEFAULT_TIMEOUT_SECONDS, gt=0, allow_inf_nan=False)
    """A decoder that gets no step further for so many seconds is stopped, and its video fails."""
    on_corrupt: OnCorrupt = "fail"
    """`keep-decodable` takes the frames before the first damage of a video, `fail` takes none."""

    @property
    def cluster(self) -> RayCluster | None:
        """The cluster that batches go to, and what each takes; None where they stay here."""
        if self.runner == "local":
            return None
        return RayCluster(address=self.ray_address, cpus=self.ray_cpus, gpus=self.ray_gpus)

    @property
    def decode_rules(self) -> DecodeRules:
        """What decoding may cost, and what becomes of damaged videos."""
        return DecodeRules(timeout_seconds=self.decode_timeout_seconds, on_corrupt=self.on_corrupt)

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """The feature profiles, in order."""
        return tuple(parse_profile(spec) for spec in self.features)

    @field_validator("features")
    @classmethod
    def _features_are_profiles(cls, features: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if not features:
            raise ValueError("at least one feature profile is needed, e.g. `i3d-rgb`")
        path = info.data.get("profiles_file")
        known = BUILT_IN if path is None else read_profiles(path)
        specs = tuple(parse_profile(spec, known=known).spec for spec in features)
        if len(set(specs)) < len(specs):
            raise ValueError(f"a feature profile is listed twice in {', '.join(specs)}; remove one")
        return specs


class TextSettings(StrictSettings):
    """How class names become text embeddings."""

    model: str = "ViT-B-32"
    """CLIP model of open_clip whose text tower is used; `all-MiniLM-L6-v2`, which the extra `texts` brings; or
    `sentence-transformers:FOLDER`. The latter two are never downloaded."""
    prompt: tuple[str, ...] = ()
    """Templates; `{label}` stands for the class name, its description or its code in words. Of several, the unit
    vectors are averaged. By default one for names, and the description or code as it is."""
    descriptions: Path | None = None
    """File of lines `class<TAB>description`, taken instead of the class names."""
    codes: Literal["", "havid"] = ""
    """`havid` reads class names as HA-ViD action codes; a description goes before."""

    @property
    def templates(self) -> tuple[str, ...]:
        """The templates that were given, else the usual one."""
        in_words = self.descriptions is not None or self.codes
        return self.prompt or (("{label}",) if in_words else (DEFAULT_PROMPT,))

    @field_validator("prompt", mode="before")
    @classmethod
    def _one_prompt_is_a_list_of_one(cls, prompt: object) -> object:
        return (prompt,) if isinstance(prompt, str) else prompt

    @field_validator("prompt")
    @classmethod
    def _prompts_have_a_place(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        for prompt in prompts:
            around = prompt.partition("{label}")
            if not around[1] or re.search(r"[{}]", around[0] + around[2]):
                raise ValueError(
                    "write `{label}` exactly once where the class name goes, and no other braces"
                )
        if len(set(prompts)) < len(prompts):
            raise ValueError("a prompt is given twice; its vector would count twice")
        return prompts


class ExtractSettings(StrictSettings):
    """Which videos become features."""

    store: StoreAddress = DEFAULT_STORE
    """Folder of all artefacts, or its URL."""
    videos: tuple[VideoSource, ...] = Field(min_length=1)
    """Video files, folders whose files are taken, and URLs of videos or, with a stroke at the end, of folders."""
    video_cache_gib: float = Field(default=DEFAULT_CACHE_GIB, gt=0, allow_inf_nan=False)
    """GiB of this machine's disk that videos fetched from URLs may take together."""
    recursive: bool = False
    """Take the files of deeper folders too."""
    extraction: ExtractionSettings = ExtractionSettings()
    limit: int | None = Field(default=None, ge=1)
    """Look at no more than the first so many files."""
    dry_run: bool = False
    """Say what would be made and make nothing; videos are probed."""
    table: Path | None = None
    """Folder for the final table, `extract.parquet` and `extract.json`; by default `tables` in the store."""
    show_predictions: bool = False
    """Report the Kinetics classes that I3D sees in each video."""
    class_names: Path | None = None
    """File of the 400 class names, one a line; else looked for beside the weights."""


class EmbedSettings(StrictSettings):
    """Which class names become text embeddings."""

    store: StoreAddress = DEFAULT_STORE
    """Folder of all artefacts, or its URL."""
    mapping: Path | None = None
    """File of lines `<id> <class name>`."""
    imported: str = ""
    """Name of an imported data set, instead of a mapping."""
    text: TextSettings = TextSettings()
    extraction: ExtractionSettings = ExtractionSettings()

    @model_validator(mode="after")
    def _classes_come_from_one_place(self) -> "EmbedSettings":
        if (self.mapping is None) == (not self.imported):
            raise ValueError("give either --mapping or, with --dataset, the name of an imported data set")
        return self


class RunSettings(StrictSettings):
    """Everything the full pipeline can be told."""

    store: StoreAddress = DEFAULT_STORE
    """Folder of all artefacts, or its URL."""
    dataset: DatasetSettings
    extraction: ExtractionSettings = ExtractionSettings()
    text: TextSettings = TextSettings()
    training: TrainingSettings = TrainingSettings()

    @model_validator(mode="after")
    def _features_come_from_one_place(self) -> "RunSettings":
        if self.dataset.has_features and self.extraction.features != DEFAULT_FEATURES:
            raise ValueError(
                f"the imported data set {self.dataset.imported!r} has its features; leave --features out, or give "
                "--videos to make others"
            )
        return self


class EvaluateSettings(RunSettings):
    """Everything the full pipeline can be told, and which run to score."""

    run: str = Field(default="", pattern=r"^[0-9a-f]{0,64}$")
    """Key of a run, or its first digits; by default the run that these very settings train."""
    promote: bool = True
    """Whether the run becomes champion where its scores are the best; else it is only registered."""
    videos_beside: str = ""
    """Where the report's page finds the video files, for its player: a folder relative to it, or an address."""


class StatusSettings(StrictSettings):
    """What the state of every video is judged by."""

    store: StoreAddress = DEFAULT_STORE
    """Folder of all artefacts, or its URL."""
    dataset: DatasetSettings | None = None
    """The data set whose labels, texts and evaluation count."""
    extraction: ExtractionSettings = ExtractionSettings()
    text: TextSettings = TextSettings()
    training: TrainingSettings = TrainingSettings()


class SegmentSettings(StrictSettings):
    """Which new videos are segmented, and how."""

    videos: tuple[VideoSource, ...] = Field(min_length=1)
    """Video files, folders whose files are taken, and URLs of videos or, with a stroke at the end, of folders."""
    video_cache_gib: float = Field(default=DEFAULT_CACHE_GIB, gt=0, allow_inf_nan=False)
    """GiB of this machine's disk that videos fetched from URLs may take together."""
    recursive: bool = False
    """Take the files of deeper folders too."""
    out: Path | None = None
    """Folder for JSON, CSV, WebVTT and a page of each video; segments stay in the store alone unless given."""

    store: StoreAddress = DEFAULT_STORE
    """Folder of all artefacts, or its URL."""
    model: str = ""
    """Name in the registry; may be left out where the store knows one model only."""
    run: str = Field(default="", pattern=r"^[0-9a-f]{0,64}$")
    """Key of a run, or its first digits, instead of the champion."""
    labels: tuple[str, ...] = ()
    """Labels to choose from instead of the classes of training, by their texts; the model must be a FACT_CLIP."""
    text_model: str = ""
    """Sentence-transformers model that embeds `labels`, named as in training, where the texts came from one."""
    i3d_rgb: Path | None = None
    """Weights of the RGB stream of I3D, where they are not in the cache."""
    i3d_flow: Path | None = None
    """Weights of the optical-flow stream of I3D, where they are not in the cache."""
    clip_pretrained: str = "openai"
    """Pretrained tag that open_clip knows for the CLIP model, or a folder with `open_clip_config.json`."""
    device: str = "auto"
    """`auto` takes a GPU where there is one; else what torch knows: `cpu`, `cuda:0`."""
    on_corrupt: OnCorrupt = "fail"
    """`keep-decodable` segments the frames before the first damage of a video; `fail` takes a damaged video only as
    it was extracted before."""
    batch_videos: int = Field(default=8, ge=1)
    """Videos handled by one task."""
