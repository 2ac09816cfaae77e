"""RAFT of torchvision: optical flow of many pairs of pictures at once."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.optical_flow import raft_large

from pipeline.checkpoints import fill_strictly, read_state_dict
from pipeline.preprocess import centre_crop, resized_size, upload
from pipeline.weights import ResolvedWeights

UPDATES = 20
"""Refinements of a field, as the published extractor has it."""

_MULTIPLE = 8  # RAFT works on an eighth of the resolution


class RaftEncoder:
    """RAFT on a device."""

    def __init__(self, model: nn.Module, *, device: torch.device, updates: int = UPDATES) -> None:
        self._model = model
        self._device = device
        self._updates = updates

    @torch.inference_mode()
    def fields(self, frames: NDArray[np.uint8]) -> Tensor:
        """(n, 224, 224, 2) displacements, in pixels of the 256-resized picture, of (n + 1, H, W, 3) neighbours."""
        images_NCHW = upload(frames, device=self._device).permute(0, 3, 1, 2).float()
        small_NCHW = functional.interpolate(
            images_NCHW, size=resized_size(*images_NCHW.shape[2:]), mode="bilinear", align_corners=False
        )
        padded_NCHW = _pad(small_NCHW / 127.5 - 1)
        flow_NCHW = self._model(padded_NCHW[:-1], padded_NCHW[1:], num_flow_updates=self._updates)[-1]
        rows, columns = small_NCHW.shape[2:]
        return centre_crop(flow_NCHW[:, :, :rows, :columns].permute(0, 2, 3, 1))


def _pad(images_NCHW: Tensor) -> Tensor:
    """Images whose sides are multiples of 8, the last row and column repeated."""
    bottom, right = (-size % _MULTIPLE for size in images_NCHW.shape[2:])
    return functional.pad(images_NCHW, (0, right, 0, bottom), mode="replicate")


def load_raft(weights: ResolvedWeights, *, device: torch.device) -> RaftEncoder:
    """Build RAFT with resolved weights.

    Raises:
        WeightsError: The checkpoint cannot be read or does not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(weights.seed)
        model = raft_large(weights=None, progress=False)
    if weights.path is not None:
        load_raft_checkpoint(model, weights.path)
    return RaftEncoder(model.eval().requires_grad_(requires_grad=False).to(device), device=device)


def load_raft_checkpoint(model: nn.Module, path: Path) -> None:
    """Fill RAFT from a state dict of torchvision's ``raft_large``.

    Raises:
        WeightsError: The file is missing, is no checkpoint, or does not fit; the message lists what does not.
    """
    state = {name.removeprefix("module."): tensor for name, tensor in read_state_dict(path).items()}
    fill_strictly(model, state, path=path, what="torchvision's raft_large")
