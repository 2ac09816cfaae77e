"""Checkpoints of networks: read without running code, loaded without leaving anything out."""

import pickle  # for the name of its error only; nothing is unpickled
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.errors import WeightsError

_SHOWN = 5


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by name in a file (``.pt``, ``.pth``, ``.safetensors``).

    Raises:
        WeightsError: The file is missing, or is no state dict of tensors.
    """
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


def fill_strictly(model: nn.Module, state: Mapping[str, Tensor], *, path: Path, what: str) -> None:
    """Load a state dict into a model.

    Every parameter must be there, none may be left over, and every shape must fit; counters of seen batches
    are the one exception, because older checkpoints lack them and inference never reads them.

    Args:
        model: Whose parameters are filled.
        state: Under the model's own names.
        path: Where it is from, for the message.
        what: The network in words, for the message.

    Raises:
        WeightsError: Something does not fit; the message lists it.
    """
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
            f"{path}: does not fit {what}: {'; '.join(faults)}. "
            "Give the checkpoint of this network and stream."
        )
    model.load_state_dict(
        {name: tensor for name, tensor in state.items() if name not in counters}, strict=False
    )


def _list(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{more}"]
