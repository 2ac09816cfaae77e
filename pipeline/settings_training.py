"""What the training of a model can be told."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from pipeline.input_rules import Over, Pool
from pipeline.settings_base import StrictSettings
from pipeline.settings_file import read_settings_file

TRAINING_SECTION = "training"
"""Section of a recipe file with our own settings beside FACT's keys."""


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
    every: int | None = Field(default=None, ge=1)
    """Every this many-th step of the features is used, instead of the recipe's `sr`; labels go by majority."""
    standardize: bool = True
    """Bring every feature channel to mean 0 and deviation 1; stored with the model."""
    standardize_over: Over = "training"
    """Mean and deviation of all `training` steps, or of each `video` alone, which takes out what differs from
    recording to recording. `both`: the one and the other, side by side."""
    pool: Pool = "none"
    """`mean`: a used step is the mean over the steps nearest to it, where `every` or the recipe leaves some out."""
    channel_jitter: float = Field(default=0.0, ge=0, lt=1)
    """While training, every channel of a video is multiplied by a random number around 1 and shifted by one around
    0, both of this deviation: recordings of other people, or of other sensors, in small."""
    time_stretch: float = Field(default=0.0, ge=0, le=1)
    """While training, a video becomes up to this much longer, or as much shorter, at random: 0.2 takes it 1.2 or
    1 / 1.2 times its time at most."""
    optimizer: Literal["adam", "adamw", "sgd"] | None = None
    """Instead of the recipe's."""
    weight_decay: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Instead of the recipe's."""
    schedule: Literal["step", "cosine"] = "step"
    """`step` multiplies the rate by 0.1 once, after the recipe's `lr_decay`; `cosine` lets it fall to zero."""
    warmup_epochs: int = Field(default=0, ge=0)
    """The rate rises to its full size over these."""
    accumulate: int = Field(default=1, ge=1)
    """Batches whose gradients make one step of the optimiser."""
    ema: float | None = Field(default=None, gt=0, lt=1)
    """Score and keep a moving average of the weights with this decay, such as 0.999."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """`bfloat16` computes the network in half precision; weights and their steps stay in float32."""
    deterministic: bool = False
    """Only algorithms that give the same bits every time; an error where there is none."""
    graphs: bool | None = None
    """Run steps as CUDA graphs, many times faster on a GPU; not bit for bit the same every time. Unless given: on a
    GPU that one process trains on, where the model can be recorded and `deterministic` does not forbid it."""
    validation_groups: str = ""
    """Regular expression that finds a video's group in its id, or a file of ids: what to hold out of training."""
    validation_count: int = Field(default=1, ge=1)
    """Groups to hold out."""
    validate_every: int = Field(default=1, ge=1)
    """Epochs between validations."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after this many validations without a better F1@50."""
    init: str = ""
    """Key of a run, folder of a model or checkpoint file whose weights to start from; other classes are made anew."""
    unseen: tuple[str, ...] = ()
    """Classes held out of training: their frames are dropped from training videos, and only texts can find them."""
    unseen_bias: float | None = Field(default=None, allow_inf_nan=False)
    """Nats by which unseen classes are favoured where their texts are compared, instead of the recipe's."""
    switch_cost: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Nats that a change of class costs where texts are compared, instead of the recipe's."""
    unseen_folds: int = Field(default=0, ge=0)
    """Seen classes to hold out in turn, a training each, to choose that bias by, and the cost unless it is given."""
    allow_unseen: bool = False
    """Train `fact` although test videos have classes that no training video has."""
    checkpoint_epochs: int | None = Field(default=None, ge=1)
    """Epochs between checkpoints; by default a twentieth of all."""
    checkpoint_steps: int | None = Field(default=None, ge=1)
    """Also a checkpoint after every this many steps of an epoch."""
    preload: Literal["auto", "device", "memory", "cache", "off"] = "auto"
    """Where training features are kept; `auto` takes the fastest place they fit in. `cache` maps copies on disk."""
    loader_workers: int = Field(default=2, ge=0)
    """Processes that read features where they are not preloaded."""
    seed: int = Field(default=0, ge=0)
    """Seeds weights, order of the videos, dropout and masking."""

    @model_validator(mode="after")
    def _graphs_are_not_deterministic(self) -> "TrainingSettings":
        if self.graphs and self.deterministic:
            raise ValueError("steps by CUDA graphs are not bit for bit the same every time: leave out one")
        return self

    @model_validator(mode="after")
    def _a_bias_is_given_or_chosen(self) -> "TrainingSettings":
        if self.unseen_folds and self.unseen_bias is not None:
            raise ValueError("a bias towards unseen classes is given or chosen by folds: leave out one")
        return self

    @model_validator(mode="before")
    @classmethod
    def _recipe_file_may_say_how(cls, given: Any) -> Any:  # noqa: ANN401  (pydantic's raw input)
        """A recipe file's section `training` holds these settings too; what is given beside it wins."""
        recipe = Path(str(given.get("recipe", ""))) if isinstance(given, dict) else Path()
        if recipe.suffix.lower() not in {".yaml", ".yml"} or not recipe.is_file():
            return given
        section = read_settings_file(recipe).get(TRAINING_SECTION, {})
        if not isinstance(section, dict) or "recipe" in section:
            raise ValueError(
                f"{recipe}: section {TRAINING_SECTION!r} must hold training settings but no recipe"
            )
        return {**section, **given}
