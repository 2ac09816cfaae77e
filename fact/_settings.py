"""The settings of FACT and FACT_CLIP as frozen values that check themselves.

Field names are ours; ``metadata["key"]`` is the key of users' YAML files (FACT.md, section 1).
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from fact._mapping import dump
from fact.errors import ConfigError

_NOT_SET: Any = object()


def _key(name: str, default: object, *, null: object = _NOT_SET) -> Any:  # noqa: ANN401 - as dataclasses.field
    """A field with its published key; ``null`` is the number that means None in users' files."""
    metadata = {"key": name} if null is _NOT_SET else {"key": name, "null": null}
    return field(default=default, metadata=metadata)


def _require(condition: bool, message: str) -> None:  # noqa: FBT001 - reads as the sentence it is
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Section ``FACT``: what all blocks share."""

    num_tokens: int = _key("ntoken", 30)
    """Learned action tokens, M; not used in transcript mode."""
    blocks: str = _key("block", "iuUU")
    """One letter per block: ``i`` input, ``u`` update, ``U`` update over segments, ``I`` verb/noun input."""
    transcript: bool = _key("trans", False)  # noqa: FBT003
    """The ordered segment labels are given, in training and at test time."""
    step_position: bool = _key("fpos", True)  # noqa: FBT003
    """Sinusoidal positions of steps."""
    channel_mask_rate: float = _key("cmr", 0.3)
    """Share of input channels dropped over a whole video while training."""
    frame_weight: float = _key("mwt", 0.1)
    """Weight of the frame branch when both branches are merged into one prediction."""

    def __post_init__(self) -> None:
        """Check ranges and the order of blocks."""
        _require(self.num_tokens >= (0 if self.transcript else 1), f"FACT.ntoken is {self.num_tokens}.")
        letters_ok = self.blocks[:1] in ("i", "I") and set(self.blocks[1:]) <= {"u", "U"}
        _require(
            letters_ok and len(self.blocks) >= 2,
            "FACT.block must be an input block (i or I) followed by one or more update blocks (u, U): "
            f"matching and prediction need the attention of the last one. Found {self.blocks!r}.",
        )
        _require(
            0 <= self.channel_mask_rate < 1, f"FACT.cmr must be in [0, 1), found {self.channel_mask_rate}."
        )
        _require(0 <= self.frame_weight <= 1, f"FACT.mwt must be in [0, 1], found {self.frame_weight}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockConfig:
    """Sections ``Bi`` and ``Bu``: one kind of block."""

    hidden_dim: int = _key("hid_dim", 512)
    """Width of step and token features between blocks, H; the last channels carry the classes."""
    dropout: float = 0.5
    """Dropout rate of both branches."""
    action_branch: Literal["sca", "sa", "gru", "gru_om"] = _key("a", "sca")
    """Self and cross attention, self attention, GRU, or GRU with an output layer."""
    token_heads: int = _key("a_nhead", 8)
    """Attention heads."""
    token_feedforward_dim: int = _key("a_ffdim", 2048)
    """Width of the feed-forward layer."""
    token_layers: int = _key("a_layers", 6)
    """Layers of the token branch."""
    token_dim: int = _key("a_dim", 512)
    """Width inside the token branch, A."""
    frame_branch: Literal["m", "m2"] = _key("f", "m")
    """MSTCN or MSTCN++."""
    frame_layers: int = _key("f_layers", 10)
    """Layers of the frame branch; layer i has dilation 2**i."""
    frame_norm: bool = _key("f_ln", True)  # noqa: FBT003
    """Layer norm after each MSTCN layer."""
    frame_dim: int = _key("f_dim", 512)
    """Width inside the frame branch, F."""
    frame_groups: int = _key("f_ngp", 4)
    """Groups of the dilated convolutions."""

    def __post_init__(self) -> None:
        """Check each number alone."""
        for name, number in dump(self).items():
            if isinstance(number, int) and not isinstance(number, bool):
                _require(number >= 1, f"Block setting {name} must be at least 1, found {number}.")
        _require(0 <= self.dropout < 1, f"Block setting dropout must be in [0, 1), found {self.dropout}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentBlockConfig(BlockConfig):
    """Section ``BU``: the update block over segments."""

    segment_layers: int = _key("s_layers", 1)
    """Layers of the GRU over segments."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """Section ``Loss``."""

    class_cost: float = _key("pc", 1.0)
    """Weight of the class probability when tokens are matched to segments."""
    overlap_cost: float = _key("a2fc", 1.0)
    """Weight of the overlap of attention and segment when tokens are matched."""
    match: Literal["o2o", "o2m", "seq"] = "o2o"
    """One to one, one to many, or in the order of the transcript."""
    background_weight: float = _key("bgw", 1.0)
    """Weight of background classes in every term."""
    null_weight: float | None = _key("nullw", None, null=-1)
    """Weight of the null class; None: derived from the mean number of segments of a training video."""
    smooth_weight: float = _key("sw", 0.0)
    """Weight of the smoothing terms; 0 switches them off."""

    def __post_init__(self) -> None:
        """Weights are not negative."""
        for name, number in dump(self).items():
            if isinstance(number, float):
                _require(number >= 0, f"Loss.{name} must not be negative, found {number}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeMaskConfig:
    """Section ``TM``: random spans of steps set to zero while training."""

    use: bool = False
    """Mask at all."""
    max_steps: int = _key("t", 30)
    """A span is shorter than this, in steps."""
    max_fraction: float = _key("p", 0.05)
    """A span is at most this share of the video."""
    spans: int = _key("m", 5)
    """Spans per video."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _require(self.max_steps >= 1, f"TM.t must be at least 1, found {self.max_steps}.")
        _require(0 <= self.max_fraction <= 1, f"TM.p must be in [0, 1], found {self.max_fraction}.")
        _require(self.spans >= 0, f"TM.m must not be negative, found {self.spans}.")


SWITCH_COST = 10.0
"""Default price of a change of class between two steps under fusion ``path``, in nats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipConfig:
    """Section ``CLIP``: alignment of steps to text embeddings."""

    temperature: float = _key("temp", 0.07)
    """Similarities are divided by this."""
    contrastive_weight: float = 0.5
    """Weight of the contrastive loss of steps."""
    token_weight: float = _key("token_contrastive_weight", 0.0)
    """Weight of the contrastive loss of matched tokens; 0: the model has no projection of tokens."""
    fact_weight: float = _key("fact_loss_weight", 0.5)
    """Weight of FACT's own loss."""
    switch_cost: float = SWITCH_COST
    """Price, in nats, of a change of class between two steps when the texts decide; less for coarse steps."""
    unseen_bias: float = 0.0
    """Nats by which a class never seen in training is favoured when the texts decide."""
    projection_dim: int = _key("projection_hidden_dim", 512)
    """Hidden width of the projection."""
    projection_dropout: float = 0.1
    """Dropout rate inside the projection."""
    use_prompt: bool = True
    """Class names are wrapped into a sentence before they are embedded."""
    model_name: str = "ViT-B-32"
    """CLIP model of the text embeddings; the Hugging Face name of ViT-B-32 is read as this one."""
    precompute_text: bool = True
    """Text embeddings are computed once before training."""
    text_embeddings_path: str | None = _key("text_emb_path", None)
    """File with ready text embeddings."""

    def __post_init__(self) -> None:
        """Check ranges and fold the two names of one model into one."""
        _require(self.temperature > 0, f"CLIP.temp must be positive, found {self.temperature}.")
        _require(self.projection_dim >= 1, f"CLIP.projection_hidden_dim is {self.projection_dim}.")
        _require(0 <= self.projection_dropout < 1, f"CLIP.projection_dropout is {self.projection_dropout}.")
        for key, weight in (
            ("switch_cost", self.switch_cost),
            ("contrastive_weight", self.contrastive_weight),
            ("token_contrastive_weight", self.token_weight),
            ("fact_loss_weight", self.fact_weight),
        ):
            _require(weight >= 0, f"CLIP.{key} must not be negative, found {weight}.")
        if self.model_name == "openai/clip-vit-base-patch32":
            object.__setattr__(self, "model_name", "ViT-B-32")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """Top-level keys that say how to train."""

    batch_size: int = 4
    """Videos per step of the optimiser."""
    optimizer: Literal["SGD", "Adam"] = "SGD"
    """Optimiser."""
    epochs: int = _key("epoch", 2)
    """Passes over the training videos."""
    lr: float = 0.1
    """Learning rate."""
    lr_decay: int | None = _key("lr_decay", None, null=-1)
    """After this epoch the learning rate is multiplied by 0.1, once; None: never."""
    momentum: float = 0.009
    """Momentum of SGD."""
    weight_decay: float = 0.0
    """L2 penalty."""
    max_grad_norm: float = _key("clip_grad_norm", 10.0)
    """Gradients are scaled down to this norm; 0 switches it off."""
    sample_rate: int = _key("sr", 1)
    """Every n-th step is used."""
    score_background: bool = _key("eval_bg", False)  # noqa: FBT003
    """Background counts in the scores."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name, number in (
            ("batch_size", self.batch_size),
            ("epoch", self.epochs),
            ("sr", self.sample_rate),
        ):
            _require(number >= 1, f"{name} must be at least 1, found {number}.")
        _require(self.lr > 0, f"lr must be positive, found {self.lr}.")
        decay_ok = self.lr_decay is None or self.lr_decay >= 0
        _require(decay_ok, f"lr_decay must be an epoch or -1 (never), found {self.lr_decay}.")
        for name, rate in (("momentum", self.momentum), ("weight_decay", self.weight_decay)):
            _require(rate >= 0, f"{name} must not be negative, found {rate}.")
        _require(self.max_grad_norm >= 0, f"clip_grad_norm must not be negative, found {self.max_grad_norm}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Top-level keys that say where a data set lies and how."""

    dataset: str = "breakfast"
    """Name of the data set."""
    split: str = "split1"
    """Name of the split."""
    feature_path: str | None = None
    """Folder of features."""
    label_path: str | None = _key("groundTruth_path", None)
    """Folder of label files."""
    split_path: str | None = None
    """Folder of split files."""
    mapping_path: str | None = _key("map_fname", None)
    """File that maps ids to class names."""
    feature_transpose: bool = False
    """Feature files are (D, T)."""
    background_classes: tuple[int, ...] = _key("bg_class", (0,))
    """Ids of background classes; may be empty."""
    mean_segments: float | None = _key("average_transcript_len", None, null=0.0)
    """Mean number of segments of a training video; None: not known yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """All settings of one model and its training."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """Section ``FACT``."""
    input_block: BlockConfig = field(default_factory=BlockConfig)
    """Section ``Bi``."""
    update_block: BlockConfig = field(
        default_factory=lambda: BlockConfig(action_branch="sa", token_layers=1, frame_layers=5)
    )
    """Section ``Bu``."""
    segment_block: SegmentBlockConfig = field(
        default_factory=lambda: SegmentBlockConfig(action_branch="sa", token_layers=1, frame_layers=5)
    )
    """Section ``BU``."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Section ``Loss``."""
    time_mask: TimeMaskConfig = field(default_factory=TimeMaskConfig)
    """Section ``TM``."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    """Section ``CLIP``."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """Top-level training keys."""
    data: DataConfig = field(default_factory=DataConfig)
    """Top-level data keys."""
    use_clip: bool = False
    """The model is FACT_CLIP."""
    holdout_mode: bool = False
    """``holdout_classes`` are left out of training."""
    holdout_classes: tuple[int, ...] = ()
    """Ids of classes never seen in training."""
    ignored: tuple[str, ...] = field(default=(), compare=False, metadata={"key": ""})
    """Keys that were accepted and have no effect, for the caller to log."""

    def __post_init__(self) -> None:
        """Check what two sections must agree on."""
        names = {"i": "Bi", "I": "Bi", "u": "Bu", "U": "BU"}
        for letter in dict.fromkeys(self.model.blocks):
            _check_block(self.block_of(letter), name=names[letter], first=self.input_block)

    def block_of(self, letter: str) -> BlockConfig:
        """Settings of the block that a letter of ``FACT.block`` names."""
        if letter in "iI":
            return self.input_block
        return self.update_block if letter == "u" else self.segment_block

    @property
    def unseen_classes(self) -> tuple[int, ...]:
        """Classes never seen in training: ``holdout_classes`` in hold-out mode, else none."""
        return self.holdout_classes if self.holdout_mode else ()

    def to_mapping(self) -> dict[str, object]:
        """JSON-able nested mapping with the published keys, which ``parse_config`` reads back to equal."""
        return {
            **dump(self),
            **dump(self.training),
            **dump(self.data),
            "FACT": dump(self.model),
            "Bi": dump(self.input_block),
            "Bu": dump(self.update_block),
            "BU": dump(self.segment_block),
            "Loss": dump(self.loss),
            "TM": dump(self.time_mask),
            "CLIP": dump(self.clip),
        }


def _check_block(block: BlockConfig, *, name: str, first: BlockConfig) -> None:
    """What one used block must fulfil, alone and beside the first."""
    b = block
    _require(
        b.hidden_dim == first.hidden_dim,
        f"{name}.hid_dim is {b.hidden_dim} but Bi.hid_dim is {first.hidden_dim}: features pass from block "
        "to block and need one width.",
    )
    _require(
        b.token_dim >= first.token_dim,
        f"{name}.a_dim is {b.token_dim}, narrower than the token position: Bi.a_dim is {first.token_dim}.",
    )
    _require(
        b.frame_dim % b.frame_groups == 0,
        f"{name}.f_dim = {b.frame_dim} is not divisible by {name}.f_ngp = {b.frame_groups}.",
    )
    _require(
        not (b.frame_branch == "m2" and b.frame_norm),
        f"{name}.f is 'm2' (MSTCN++), which has no layer norm: set {name}.f_ln to false.",
    )
    _check_action_branch(b, name=name, is_input=name == "Bi")
    _require(
        name != "BU" or b.hidden_dim % 2 == 0,
        f"{name}.hid_dim must be even for its GRU, found {b.hidden_dim}.",
    )


def _check_action_branch(b: BlockConfig, *, name: str, is_input: bool) -> None:
    if b.action_branch in ("sca", "sa"):
        _require(
            b.token_dim % b.token_heads == 0,
            f"{name}.a_dim = {b.token_dim} is not divisible by {name}.a_nhead = {b.token_heads}.",
        )
    else:
        _require(b.token_dim % 2 == 0, f"{name}.a_dim must be even for a GRU, found {b.token_dim}.")
    _require(
        b.action_branch != "sca" or is_input,
        f"{name}.a is 'sca', which only the input block has; update blocks see the steps through an "
        "attention of their own: use 'sa'.",
    )
    _require(
        b.action_branch != "gru" or b.token_dim == b.hidden_dim,
        f"{name}.a is 'gru', which needs {name}.a_dim = {name}.hid_dim, found {b.token_dim} and "
        f"{b.hidden_dim}; 'gru_om' adds the missing layer.",
    )
