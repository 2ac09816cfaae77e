"""Options that several commands share, in groups; each group makes a part of the nested settings.

An option that was not given is None and leaves the settings file, or the default, as it is. Nothing heavy is
imported here: the command line must start quickly.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

StoreOption = Annotated[str, Parameter(name="--store", env_var="FACTSEG_STORE")]
"""Folder of all artefacts, or its URL."""

JsonOption = Annotated[bool, Parameter(name="--json", negative="")]
"""Print JSON on standard output."""

RecursiveOption = Annotated[bool, Parameter(name="--recursive", negative="")]
"""Take the files of deeper folders too."""

DirectOption = Annotated[bool, Parameter(name="--direct", negative="")]
"""Call the plain functions instead of the Prefect flows."""

DEFAULT_STORE = "factseg-store"


@Parameter(name="*", group="Data set")
@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """Where the data set lies (MS-TCN layout), or the name it was imported under."""

    imported: Annotated[str | None, Parameter(name="--dataset")] = None
    "Name of a data set that 'factseg import' took in; then no folder is needed."
    videos: str | None = None
    "Folder of video files, or its URL; a video's id is its file name without the ending."
    video_cache_gib: float | None = None
    "GiB of this machine's disk that videos fetched from URLs may take together; 20 unless given."
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

    features: Annotated[str | None, Parameter(name=("--features", "--profile"))] = None
    "Profiles name[:key=value...] by commas, first the time base; 'i3d-rgb:stride=8,clip:stride=4' unless given."
    profiles_file: Annotated[Path | None, Parameter(name="--profiles")] = None
    "TOML file with profiles of your own: a table each, with 'base' and settings."
    weights: str | None = None
    "'pretrained' (unless given), 'random' (seeded, for trials), or 'cached' (never downloads)."
    i3d_rgb: Path | None = None
    "Weights of the RGB stream of I3D."
    i3d_flow: Path | None = None
    "Weights of the optical-flow stream of I3D."
    raft: Path | None = None
    "Weights of torchvision's raft_large, for optical flow by RAFT."
    clip_pretrained: str | None = None
    "Pretrained tag that open_clip knows, or a folder with open_clip_config.json; 'openai' unless given."
    device: str | None = None
    "'auto' (unless given), 'cpu', 'cuda:0', ...; 'cuda:0,cuda:1' spreads the videos over both."
    workers: int | None = None
    "Videos that each device works on at once; unless given 1 on a CPU, and on a GPU what keeps it busy."
    runner: str | None = None
    "'local' (unless given), or 'ray': spread the batches of videos over a Ray cluster; docs/scaling.md."
    ray_address: str | None = None
    "HOST:6379 of the cluster; else what RAY_ADDRESS says, one that runs here, or one made for the run."
    ray_cpus: float | None = None
    "CPUs of one machine that a batch of videos takes; 1 unless given."
    ray_gpus: float | None = None
    "GPUs of one machine that a batch of videos takes; 0 unless given, 0.5 lets two batches share one."
    batch_videos: int | None = None
    "Videos that one task works on; unless given 8, or four for each that is worked on at once."
    flow_cache: float | None = None
    "GiB of optical flow kept in the cache folder for other windows and strides; none unless given."
    decode_timeout_seconds: float | None = None
    "Stop a decoder that gets no step further for so long; 60 unless given."
    on_corrupt: str | None = None
    "'fail' (unless given), or 'keep-decodable': take the frames before the first damage of a video."


@Parameter(name="*", group="Texts")
@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """How class names become text embeddings."""

    model: Annotated[str | None, Parameter(name="--text-model")] = None
    "CLIP model of open_clip ('ViT-B-32' unless given), 'all-MiniLM-L6-v2', or 'sentence-transformers:FOLDER'."
    prompt: Annotated[tuple[str, ...] | None, Parameter(negative="")] = None
    "Prompt template; {label} stands for the class name. May be given several times; then vectors are averaged."
    descriptions: Path | None = None
    "File of lines 'class<TAB>description', taken instead of the class names."
    codes: str | None = None
    "'havid' reads class names as HA-ViD action codes."


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
    every: int | None = None
    "Use every this many-th step of the features, instead of the recipe's."
    standardize: bool | None = None
    "Bring every feature channel to mean 0 and deviation 1 (unless --no-standardize is given)."
    standardize_over: str | None = None
    "Mean and deviation of all 'training' steps (unless given), of each 'video' alone, or 'both' side by side."
    pool: str | None = None
    "'mean': a used step is the mean over the steps nearest to it; 'none' unless given."
    channel_jitter: float | None = None
    "Scale and shift every channel of a video at random while training, both by this deviation, such as 0.1."
    time_stretch: float | None = None
    "Make a video longer or shorter at random while training, by this much at most, such as 0.2."
    optimizer: str | None = None
    "'adam', 'adamw' or 'sgd', instead of the recipe's."
    weight_decay: float | None = None
    "Instead of the recipe's."
    schedule: str | None = None
    "'step' (unless given) or 'cosine'."
    warmup_epochs: int | None = None
    "Epochs over which the learning rate rises to its full size."
    accumulate: int | None = None
    "Batches whose gradients make one step."
    ema: float | None = None
    "Decay of a moving average of the weights, which is then scored and kept."
    precision: str | None = None
    "'float32' (unless given) or 'bfloat16'."
    deterministic: Annotated[bool | None, Parameter(negative="")] = None
    "Only algorithms that give the same bits every time."
    graphs: bool | None = None
    "Run steps as CUDA graphs, many times faster: on a GPU where it can be, unless --no-graphs is given."
    validation_groups: str | None = None
    "Expression that finds a training video's group in its id, or a file of ids: held out, to keep the best weights."
    validation_count: int | None = None
    "Groups to hold out; 1 unless given."
    validate_every: int | None = None
    "Epochs between validations; 1 unless given."
    patience: int | None = None
    "Stop after this many validations without a better F1@50."
    init: str | None = None
    "Run key, model folder or checkpoint whose weights to start from; the channels of other classes are made anew."
    unseen: Annotated[tuple[str, ...] | None, Parameter(negative="")] = None
    "Class to hold out: its frames are dropped, only its text finds it, it is scored apart. May be given several times."
    unseen_bias: float | None = None
    "Nats by which unseen classes are favoured, instead of the recipe's; 0 unless that says otherwise."
    switch_cost: float | None = None
    "Nats that a change of class costs where texts decide, instead of the recipe's; 10 unless that says otherwise."
    unseen_folds: int | None = None
    "Choose bias and cost: hold out this many seen classes in turn, a training each, and see what finds them best."
    allow_unseen: Annotated[bool | None, Parameter(negative="")] = None
    "Train 'fact' although test videos have classes that no training video has."
    checkpoint_epochs: int | None = None
    "Epochs between checkpoints; a twentieth of all unless given."
    checkpoint_steps: int | None = None
    "Also a checkpoint after every this many steps of an epoch."
    preload: str | None = None
    "Where training features are kept: 'auto' (unless given), 'device', 'memory', 'cache' (mapped on disk) or 'off'."
    loader_workers: int | None = None
    "Processes that read features where they are not preloaded; 2 unless given."
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
    from pipeline.settings_file import read_settings_file

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
