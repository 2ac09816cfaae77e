"""Inception-I3D: windows of video or of optical flow in, 1024 features and 400 Kinetics logits out.

The network of Carreira and Zisserman, "Quo Vadis, Action Recognition?" (2017), figure 3: Inception v1 with
every filter inflated in time. Padding is TensorFlow's "same", computed from the size of each input, and
batch-norm epsilon is 1e-3, so published checkpoints give their published numbers.
"""

# Axes: B windows, C channels, T frames, H rows, W columns, S times after pooling, F features, K classes.

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

NUM_CLASSES = 400
"""Classes of Kinetics-400, of which the head keeps the logits."""

_BATCH_NORM_EPSILON = 1e-3
_BLOCK_CHANNELS = 16
_MIXED = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}
"""Input channels and the widths of b0, b1a, b1b, b2a, b2b, b3b of each Inception block."""


@dataclass(frozen=True, kw_only=True, slots=True)
class I3DOutput:
    """What a forward computes; one row per step in time that survives pooling."""

    features: Tensor
    """(B, S, 1024) after average pooling, before the classifier."""
    logits: Tensor
    """(B, S, 400)"""


def same_padding(size: int, *, kernel: int, stride: int) -> tuple[int, int]:
    """Cells that TensorFlow's "same" rule adds before and after an axis.

    >>> same_padding(224, kernel=7, stride=2), same_padding(21, kernel=7, stride=2)
    ((2, 3), (3, 3))
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def pad_same(input_BCTHW: Tensor, *, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    """Zeros around the three last axes; the input itself where none are needed."""
    sizes = input_BCTHW.shape[2:]
    pads = [same_padding(n, kernel=k, stride=s) for n, k, s in zip(sizes, kernel, stride, strict=True)]
    flat = list(itertools.chain.from_iterable(reversed(pads)))
    return functional.pad(input_BCTHW, flat) if any(flat) else input_BCTHW


def max_pool_same(
    input_BCTHW: Tensor, *, kernel: tuple[int, int, int], stride: tuple[int, int, int]
) -> Tensor:
    """Largest values, padded by the "same" rule; of inputs that are never negative, or not yet rectified."""
    sizes = input_BCTHW.shape[2:]
    # Padding with zeros (published) and with nothing (torch) agree once values are rectified, and what the rule adds
    # at the end a window may lack: no padded copy is made.
    before = [same_padding(n, kernel=k, stride=s)[0] for n, k, s in zip(sizes, kernel, stride, strict=True)]
    # Two pools over two axes each: in channels-last memory both are views, and GPUs pool them twice as fast.
    pictures = functional.max_pool2d(
        input_BCTHW.transpose(1, 2).flatten(0, 1), kernel[1:], stride[1:], padding=before[1:], ceil_mode=True
    )
    pooled_BCTHW = pictures.view(-1, sizes[0], *pictures.shape[1:]).transpose(1, 2)
    if kernel[0] == 1:
        return pooled_BCTHW
    pooled_BCTS = functional.max_pool2d(
        pooled_BCTHW.flatten(3), (kernel[0], 1), (stride[0], 1), padding=(before[0], 0), ceil_mode=True
    )
    return pooled_BCTS.view(*pooled_BCTS.shape[:3], *pooled_BCTHW.shape[3:])


def strided_convolution(
    conv: nn.Conv3d, input_BCTHW: Tensor, *, taps: slice = slice(None), step: int
) -> Tensor:
    """The network's first convolution: every second row and column padded by the "same" rule, time not padded.

    Args:
        conv: Of three or two channels, stride 2 over rows and columns.
        input_BCTHW: (B, C, T, H, W)
        taps: Which of its frames in time count.
        step: Frames between neighbouring places.
    """
    weight = conv.weight[:, :, taps]
    size = input_BCTHW.shape[-1]
    before, after = same_padding(size, kernel=weight.shape[-1], stride=2)
    if not input_BCTHW.is_cuda or input_BCTHW.dtype == torch.float32:
        padded_BCTHW = functional.pad(input_BCTHW, (before, after, before, after))
        weight = weight.contiguous(memory_format=torch.channels_last_3d)
        return functional.conv3d(padded_BCTHW, weight, conv.bias, stride=(step, 2, 2))
    # Tensor cores want many channels: squares of 2 x 2 pixels become channels, filled up to 16.
    after += (size + before + after) % 2
    padded_BCTHW = functional.pad(input_BCTHW, (before, after, before, after))
    blocks_BCTHW = _squares_to_channels(padded_BCTHW)
    blocks_OCTHW = _squares_to_channels(functional.pad(weight, (0, 1, 0, 1)))
    return functional.conv3d(blocks_BCTHW, blocks_OCTHW, conv.bias, stride=(step, 1, 1))


def _squares_to_channels(values_BCTHW: Tensor) -> Tensor:
    """(B, C, T, H, W) to (B, 16, T, H / 2, W / 2): the four pixels of a square, then zeros."""
    batch, channels, frames, rows, columns = values_BCTHW.shape
    squares = values_BCTHW.reshape(batch, channels, frames, rows // 2, 2, columns // 2, 2)
    squares_BTHWC = squares.permute(0, 2, 3, 5, 4, 6, 1).flatten(4)
    return functional.pad(squares_BTHWC, (0, _BLOCK_CHANNELS - squares_BTHWC.shape[-1])).permute(
        0, 4, 1, 2, 3
    )


class Unit(nn.Module):
    """Convolution, batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self._kernel = (kernel,) * 3
        self._stride = (stride,) * 3
        padding = kernel // 2 if stride == 1 else 0
        self.conv3d = nn.Conv3d(in_channels, out_channels, kernel, stride, padding=padding, bias=False)
        self.bn: nn.Module = nn.BatchNorm3d(out_channels, eps=_BATCH_NORM_EPSILON)

    def forward(self, input_BCTHW: Tensor) -> Tensor:
        """(B, C, T, H, W) to (B, C', T', H', W')."""
        if self._stride == (1, 1, 1):
            return functional.relu_(self.bn(self.conv3d(input_BCTHW)))
        padded_BCTHW = pad_same(input_BCTHW, kernel=(self._kernel[0], 1, 1), stride=(self._stride[0], 1, 1))
        return functional.relu_(self.bn(strided_convolution(self.conv3d, padded_BCTHW, step=self._stride[0])))


class Mixed(nn.Module):
    """Inception block: four branches of different reach, joined over channels."""

    def __init__(self, in_channels: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3b = widths
        self.b0 = Unit(in_channels, b0)
        self.b1a = Unit(in_channels, b1a)
        self.b1b = Unit(b1a, b1b, kernel=3)
        self.b2a = Unit(in_channels, b2a)
        self.b2b = Unit(b2a, b2b, kernel=3)
        self.b3b = Unit(in_channels, b3b)

    def forward(self, input_BCTHW: Tensor) -> Tensor:
        """(B, C, T, H, W) to (B, C', T, H, W)."""
        pooled = max_pool_same(input_BCTHW, kernel=(3, 3, 3), stride=(1, 1, 1))
        branches = (
            self.b0(input_BCTHW),
            self.b1b(self.b1a(input_BCTHW)),
            self.b2b(self.b2a(input_BCTHW)),
            self.b3b(pooled),
        )
        return torch.cat(branches, dim=1)


class Head(nn.Module):
    """The classifier: a convolution over single cells, with bias and without batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(1024, NUM_CLASSES, 1)

    def forward(self, input_BCTHW: Tensor) -> Tensor:
        """(B, 1024, S, 1, 1) to (B, 400, S, 1, 1)."""
        logits: Tensor = self.conv3d(input_BCTHW)
        return logits


class InceptionI3D(nn.Module):
    """Inception-I3D over windows of at least 9 frames, 224 x 224.

    Args:
        in_channels: 3 for RGB in [-1, 1], 2 for optical flow in [-1, 1].
    """

    def __init__(self, *, in_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.Conv3d_1a_7x7 = Unit(in_channels, 64, kernel=7, stride=2)
        self.Conv3d_2b_1x1 = Unit(64, 64)
        self.Conv3d_2c_3x3 = Unit(64, 192, kernel=3)
        for name, (width, widths) in _MIXED.items():
            self.add_module(name, Mixed(width, widths))
        self.logits = Head()

    def forward(self, windows_BCTHW: Tensor) -> I3DOutput:
        """Features and logits of windows (B, C, T, 224, 224), in evaluation mode."""
        return self.trunk(self.stem(windows_BCTHW))

    def stem(self, windows_BCTHW: Tensor) -> Tensor:
        """The first three convolutions: (B, C, T, 224, 224) to (B, 192, T', 28, 28), T' = T / 2 rounded up."""
        x = self.Conv3d_1a_7x7(windows_BCTHW)
        x = max_pool_same(x, kernel=(1, 3, 3), stride=(1, 2, 2))
        x = self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x))
        return max_pool_same(x, kernel=(1, 3, 3), stride=(1, 2, 2))

    def trunk(self, stem_BCTHW: Tensor) -> I3DOutput:
        """Everything after the stem: features and logits."""
        x = stem_BCTHW
        for name in _MIXED:
            if name == "Mixed_4b":
                x = max_pool_same(x, kernel=(3, 3, 3), stride=(2, 2, 2))
            if name == "Mixed_5b":
                x = max_pool_same(x, kernel=(2, 2, 2), stride=(2, 2, 2))
            x = self.get_submodule(name)(x)
        # Half precision has no such pool on a CPU.
        pooled_BFS11 = functional.avg_pool3d(x.float(), (2, 7, 7), stride=1)
        logits_BKS11 = self.logits(pooled_BFS11.to(x.dtype))
        return I3DOutput(
            features=pooled_BFS11.flatten(2).transpose(1, 2), logits=logits_BKS11.flatten(2).transpose(1, 2)
        )


def for_inference(
    model: InceptionI3D, *, device: torch.device, dtype: torch.dtype = torch.float32
) -> InceptionI3D:
    """The model in evaluation mode on a device, with batch norm folded into the convolutions.

    Folding and the channels-last layout change results by rounding only; together they take a fifth off the
    time of a window on a CPU.
    """
    model.eval().requires_grad_(requires_grad=False)
    for unit in model.modules():
        if isinstance(unit, Unit) and isinstance(unit.bn, nn.BatchNorm3d):
            unit.conv3d = fuse_conv_bn_eval(unit.conv3d, unit.bn)
            unit.bn = nn.Identity()
    # torch's stubs know the two arguments of `to` only one at a time.
    return model.to(device).to(dtype).to(memory_format=torch.channels_last_3d)


def random_init(model: InceptionI3D, *, seed: int) -> None:
    """Fill the parameters with seeded random numbers that keep the scale of activations (He 2015, eq. 10).

    Batch norm stays at identity. The same seed gives the same numbers whatever was drawn before.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, std=(2 / fan_in) ** 0.5, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
