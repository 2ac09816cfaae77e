"""Published Inception-I3D checkpoints: two vocabularies, one strict loader."""

import re
from pathlib import Path

from pipeline.checkpoints import fill_strictly, read_state_dict
from pipeline.i3d import InceptionI3D

_BRANCHES = {
    "branch_0": "b0",
    "branch_1.0": "b1a",
    "branch_1.1": "b1b",
    "branch_2.0": "b2a",
    "branch_2.1": "b2b",
    "branch_3.1": "b3b",
}


def load_i3d_checkpoint(model: InceptionI3D, path: Path) -> None:
    """Fill the model from a checkpoint in either published vocabulary (``.pt``, ``.pth``, ``.safetensors``).

    Raises:
        WeightsError: The file is missing, is no checkpoint, or does not fit; the message lists what does not.
    """
    state = {published_name(name): tensor for name, tensor in read_state_dict(path).items()}
    what = f"Inception-I3D with {model.in_channels} input channels and 400 classes"
    fill_strictly(model, state, path=path, what=what)


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
