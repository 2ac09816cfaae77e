"""Published state dicts in and out, strictly (FACT.md section 11).

Our modules carry the published names, so a state dict of either kind is a state dict of the other, but for
two
things: published ones hold position tables, which are computed here, and an attention whose keys are as wide
as its queries has one fused input projection where another has three.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fact.errors import CheckpointError

_TABLES = ("frame_pe.pe", "action_pe.pe")
_FUSED = "in_proj_weight"
_SEPARATE = ("q_proj_weight", "k_proj_weight", "v_proj_weight")


def from_published(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """A published state dict as one of this model.

    Position tables are left out, input projections are joined or cut as the model has them.
    A prefix ``module.`` on every name, which data-parallel training leaves behind, is taken off.
    """
    wrapped = bool(state) and all(name.startswith("module.") for name in state)
    names = {name.removeprefix("module.") if wrapped else name: tensor for name, tensor in state.items()}
    converted = {name: tensor for name, tensor in names.items() if name not in _TABLES}
    for wanted in model.state_dict():
        prefix, _, last = wanted.rpartition(".")
        if wanted in converted or last not in (_FUSED, *_SEPARATE):
            continue
        if last == _FUSED and all(f"{prefix}.{part}" in converted for part in _SEPARATE):
            converted[wanted] = torch.cat([converted.pop(f"{prefix}.{part}") for part in _SEPARATE])
        elif last in _SEPARATE and f"{prefix}.{_FUSED}" in converted:
            parts = converted.pop(f"{prefix}.{_FUSED}").chunk(3)
            converted |= {f"{prefix}.{name}": part for name, part in zip(_SEPARATE, parts, strict=True)}
    return converted


def to_published(model: nn.Module) -> dict[str, Tensor]:
    """The state dict under published names, on the CPU; position tables are left out."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def load_published(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dict, published or our own, or change nothing.

    Raises:
        CheckpointError: a name is missing or unknown, or a shape differs; the message lists every such name.
    """
    converted = from_published(state, model)
    wanted = model.state_dict()
    problems = [f"missing: {name} {tuple(wanted[name].shape)}" for name in wanted if name not in converted]
    for name, tensor in converted.items():
        if name not in wanted:
            problems.append(f"unexpected: {name} {tuple(tensor.shape)}")
        elif tensor.shape != wanted[name].shape:
            found, asked = tuple(tensor.shape), tuple(wanted[name].shape)
            problems.append(f"shape: {name} is {found}, the model has {asked}")
    if problems:
        raise CheckpointError(
            f"The checkpoint does not fit this {type(model).__name__}; build it with the configuration, "
            "feature width and classes of the checkpoint.\n" + "\n".join(problems)
        )
    model.load_state_dict(converted, strict=True)
