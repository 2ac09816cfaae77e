"""Published Inception-I3D checkpoints: two vocabularies, one strict loader."""

import pickle  # for the name of its error only; nothing is unpickled
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pipeline.errors import WeightsError
from pipeline.i3d import InceptionI3D

_BRANCHES = {
    "branch_0": "b0",
    "branch_1.0": "b1a",
    "branch_1.1": "b1b",
    "branch_2.0": "b2a",
    "branch_2.1": "b2b",
    "branch_3.1": "b3b",
}
_SHOWN = 5


def load_i3d_checkpoint(model: InceptionI3D, path: Path) -> None:
    """Fill the model from a checkpoint in either published vocabulary (``.pt``, ``.pth``, ``.safetensors``).

    Every parameter must be there, none may be left over, and every shape must fit; counters of seen batches
    are the one exception, because older checkpoints lack them and inference never reads them.

    Raises:
        WeightsError: The file is missing, is no checkpoint, or does not fit; the message lists what does not.
    """
    state = {published_name(name): tensor for name, tensor in _read(path).items()}
    wanted = model.state_dict()
    counters = {name for name in {*state, *wanted} if name.endswith("num_batches_tracked")}
    missing = sorted(wanted.keys() - state.keys() - counters)
    unexpected = sorted(state.keys() - wanted.keys() - counters)
    misshapen = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in sorted(wanted.keys() & state.keys() - counters)
        if state[name].shape != wanted[name].shape
    ]
    if missing or unexpected or misshapen:
        faults = _list("missing", missing) + _list("unexpected", unexpected) + _list("wrong shape", misshapen)
        raise WeightsError(
            f"{path}: does not fit Inception-I3D with {model.in_channels} input channels and 400 classes: "
            f"{'; '.join(faults)}. Give the checkpoint of this network and stream."
        )
    model.load_state_dict(
        {name: tensor for name, tensor in state.items() if name not in counters}, strict=False
    )


def published_name(name: str) -> str:
    """A parameter's name in the first vocabulary, from either.

    >>> published_name("mixed_3b.branch_1.0.batch3d.running_mean")
    'Mixed_3b.b1a.bn.running_mean'
    >>> published_name("conv3d_0c_1x1.conv3d.bias")
    'logits.conv3d.bias'
    >>> published_name("Conv3d_1a_7x7.conv3d.weight")
    'Conv3d_1a_7x7.conv3d.weight'
    """
    name = name.removeprefix("module.").replace(".batch3d.", ".bn.")
    name = re.sub(r"^conv3d_0c_1x1\.", "logits.", name)
    name = re.sub(r"^(conv3d|mixed)_", lambda match: match[0].capitalize(), name)
    return re.sub(
        r"(?<=\.)branch_\d(\.\d)?(?=\.(conv3d|bn)\.)", lambda match: _BRANCHES.get(match[0], match[0]), name
    )


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file. Check the path, or use `--weights random`.")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (
        SafetensorError,
        OSError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        pickle.UnpicklingError,
    ) as error:
        raise WeightsError(
            f"{path}: cannot be read as weights ({type(error).__name__}). "
            "Give a state dict saved by torch or as safetensors; files that run code when loaded are refused."
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(
            f"{path}: holds no state dict but {type(state).__name__}. Give a state dict of tensors."
        )
    return dict(state)


def _list(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{more}"]
