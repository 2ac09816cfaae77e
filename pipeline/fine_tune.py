"""Weights to start from: a run of the store, a folder with a model, or a published checkpoint.

The last channels of FACT's features carry its classes (FACT.md section 3). Where the classes are others, those
channels are made anew wherever a tensor writes or reads them, and everything else is loaded.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fact.blocks import FACT, FACT_CLIP
from fact.checkpoints import from_published
from pipeline.checkpoints import read_state_dict
from pipeline.errors import SettingsError, WeightsError
from pipeline.model import WEIGHTS_FILE, ModelDescription, network_state, read_description
from storage.places import Place, local_copy
from storage.runs import find_run
from storage.store import Store

log = logging.getLogger(__name__)

_CHECKPOINTS = {".safetensors", ".pt", ".pth", ".net"}

_WRITES = ("frame_branch.conv_out", "action_branch.out_linear", "seg_combine")
"""Layers whose last outputs are class channels."""

_READS = (
    "X_K.weight",
    "X_V.weight",
    "Y_Q.weight",
    "sf_merge.0.weight",
    "weight_ih_l0",
    "weight_ih_l0_reverse",
    "multihead_attn.k_proj_weight",
    "multihead_attn.v_proj_weight",
)
"""Tensors whose last inputs are class channels."""

_READS_FIRST_HALF = "Y_W.weight"
"""Of its inputs the first half are features; their last channels are class channels."""

_PROJECTIONS = ("frame_projection.projection.0.weight", "token_projection.projection.0.weight")
"""Read the features before the class channels: wider or narrower where there are more or fewer classes."""

_PER_CLASS = ("text_embeddings", "action_embed.weight")
"""Tensors with a row per class: always those of the classes at hand."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InitialWeights:
    """Where a training starts from."""

    source: str
    """As the settings name it."""
    digest: str
    """Of the weights: part of the new run's key."""
    file: Place
    description: ModelDescription | None
    """What the model was; None for a published checkpoint, which does not say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """What became of each tensor."""

    loaded: tuple[str, ...]
    anew: tuple[str, ...]
    """Tensors, or their class channels, that were made anew."""


def find_initial(source: str, *, store: Store) -> InitialWeights:
    """The weights that ``--init`` names.

    Raises:
        MissingArtefactError: There is no such run.
        SettingsError: The file is no checkpoint.
    """
    path = Path(source)
    if path.is_file():
        if path.suffix.lower() not in _CHECKPOINTS:
            raise SettingsError(
                f"--init {source} is no checkpoint: its name must end in {', '.join(sorted(_CHECKPOINTS))}. "
                "Give such a file, a folder with a model, or the key of a run."
            )
        return InitialWeights(source=source, digest=store.digests.digest(path), file=path, description=None)
    folder: Place = path if path.is_dir() else store.run_folder(find_run(store, source))
    file = folder / WEIGHTS_FILE
    digest = store.digests.digest(file) if isinstance(file, Path) else folder.name
    return InitialWeights(source=source, digest=digest, file=file, description=read_description(folder))


def check_initial(initial: InitialWeights, description: ModelDescription) -> None:
    """Refuse weights that were trained on other features.

    Raises:
        SettingsError: The profiles or their widths differ; the message names both.
    """
    if initial.description is None:
        return
    theirs, ours = (
        [f"{item.spec} ({item.width} wide)" for item in model.inputs] + _sides(model)
        for model in (initial.description, description)
    )
    if theirs != ours:
        raise SettingsError(
            f"--init {initial.source} was trained on features {', '.join(theirs)}; here are {', '.join(ours)}. "
            "Give a checkpoint of the same features, or the features it was trained on."
        )


def _sides(model: ModelDescription) -> list[str]:
    return ["standardised both ways, side by side"] if model.standardized_over == "both" else []


@torch.no_grad()
def start_from(network: FACT | FACT_CLIP, initial: InitialWeights, *, class_names: Sequence[str]) -> Started:
    """Load into a fresh network whatever does not belong to other classes.

    Raises:
        WeightsError: The file cannot be read, or a tensor has another shape; the message names both shapes.
    """
    state = from_published(_read(initial), network)
    known = None if initial.description is None else initial.description.class_names
    same = known == tuple(class_names)
    renewed = 0 if same else max(network.num_classes, len(known or ())) + 1
    problems: list[str] = []
    loaded: list[str] = []
    anew: list[str] = []
    for name, new in network.state_dict().items():
        old = state.get(name)
        if name in _PER_CLASS or old is None:
            anew.append(name)
        elif name in _PROJECTIONS and renewed and len(old) == len(new):
            kept = min(new.shape[1], old.shape[1])
            new[:, :kept] = old[:, :kept]
            anew.append(f"{name} (channels from {kept})")
        elif old.shape != new.shape:
            problems.append(f"{name}: {tuple(old.shape)} there, {tuple(new.shape)} here")
        else:
            classes = _class_mask(name, new, renewed)
            new.copy_(torch.where(classes, new, old.to(new)))
            (anew if classes.any() else loaded).append(f"{name} (class channels)" if classes.any() else name)
    if problems or not loaded:
        raise WeightsError(
            f"--init {initial.source} does not fit this {type(network).__name__}; use the recipe and the features "
            "of the checkpoint.\n" + ("\n".join(problems) or "no tensor has a name that is known here")
        )
    log.info("from %s: %d tensors loaded: %s", initial.source, len(loaded), ", ".join(loaded))
    log.info("made anew: %s", ", ".join(anew) or "none")
    return Started(loaded=tuple(loaded), anew=tuple(anew))


def _class_mask(name: str, tensor: Tensor, renewed: int) -> Tensor:
    """Where a tensor writes or reads the last ``renewed`` channels of features."""
    mask = torch.zeros_like(tensor, dtype=torch.bool)
    if not renewed:
        return mask
    if name.rpartition(".")[0].endswith(_WRITES):
        mask[-renewed:] = True
    elif name.endswith(_READS):
        mask[:, -renewed:] = True
    elif name.endswith(_READS_FIRST_HALF):
        middle = tensor.shape[1] // 2
        mask[:, middle - renewed : middle] = True
    return mask


def _read(initial: InitialWeights) -> dict[str, Tensor]:
    with local_copy(initial.file) as path:
        return network_state(read_state_dict(path))
