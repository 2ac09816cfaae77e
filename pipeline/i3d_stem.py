"""The stem of Inception-I3D for neighbouring windows: what several of them would compute is computed once.

A place of the stem's first convolution sees 7 frames. Where all of them lie inside the window, windows that share the
frames share the place. Where the window's end cuts some off, separate windows see zeros there; leaving out the taps
that meet zeros gives the same sum, and it depends on the frames alone, not on the window. So every place is the value
of one of a few convolutions over the video, each computed once. The second convolution over time goes the same way.
The answer is that of separate windows, but for the order in which the terms of a sum are added.
"""

# Axes: B windows, C channels, T frames, P places, H rows, W columns.

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.i3d import InceptionI3D, max_pool_same, same_padding, strided_convolution

_KERNEL = 7
_STEP = 2  # frames between neighbouring places of a window
_POOL = ((1, 3, 3), (1, 2, 2))


@dataclass(frozen=True, slots=True)
class Places:
    """Places of the stem in a window of ``window_frames``.

    >>> places = Places(21)
    >>> places.count, places.first_inner, places.last_inner
    (11, 2, 8)
    """

    window_frames: int

    @property
    def count(self) -> int:
        """Places in all."""
        return -(-self.window_frames // _STEP)

    @property
    def first_inner(self) -> int:
        """First place that sees no zeros before the window."""
        return -(-self._padding // _STEP)

    @property
    def last_inner(self) -> int:
        """Last place that sees no zeros after the window."""
        return (self.window_frames + self._padding - _KERNEL) // _STEP

    @property
    def _padding(self) -> int:
        return same_padding(self.window_frames, kernel=_KERNEL, stride=_STEP)[0]

    def first_frame(self, place: int) -> int:
        """First frame of the window that a place sees, were there no end; negative before the window."""
        return place * _STEP - self._padding

    def taps(self, place: int) -> slice:
        """Taps of the kernel that meet frames of the window."""
        start = self.first_frame(place)
        return slice(max(0, -start), min(_KERNEL, self.window_frames - start))


def can_share(*, stride: int, window_frames: int) -> bool:
    """Whether windows overlap so far that sharing their places pays."""
    places = Places(window_frames)
    shared = places.last_inner - places.first_inner
    return shared >= 2 and stride <= shared * _STEP // 2


def shared_stem(model: InceptionI3D, video_BCTHW: Tensor, *, stride: int, window_frames: int) -> Tensor:
    """(B, 192, P, 28, 28): the stem's output for windows that start every ``stride`` frames.

    Args:
        model: As ``for_inference`` makes it.
        video_BCTHW: (1, C, T, 224, 224), from the first frame of the first window to the last of the last.
        stride: Frames between the starts of windows.
        window_frames: Frames of each.
    """
    places = Places(window_frames)
    first, last = places.first_inner, places.last_inner
    windows = (video_BCTHW.shape[2] - window_frames) // stride + 1
    # Inner places of all windows lie on a grid of frames, of every second one where all windows start on even frames.
    grid = 2 - stride % 2

    conv = model.Conv3d_1a_7x7.conv3d

    def convolved(place: int, *, step: int, number: int) -> Tensor:
        taps = places.taps(place)
        start = max(0, places.first_frame(place))
        stop = start + (number - 1) * step + taps.stop - taps.start
        seen_BCTHW = video_BCTHW[:, :, start:stop]
        return _second(model, strided_convolution(conv, seen_BCTHW, taps=taps, step=step))

    number = ((windows - 1) * stride + (last - first) * _STEP) // grid + 1
    inner_CTHW = convolved(first, step=grid, number=number)[0]
    outer = {
        place: convolved(place, step=stride, number=windows)[0]
        for place in range(places.count)
        if not first <= place <= last
    }
    starts_B = torch.arange(windows, device=video_BCTHW.device) * (stride // grid)

    def in_windows(values_CTHW: Tensor, begin: int, end: int) -> Tensor:
        """(B, C, P, H, W): places of each window; they lie ``_STEP / grid`` apart on the grid."""
        offsets_P = torch.arange(begin, end, device=starts_B.device) * (_STEP // grid)
        return values_CTHW.permute(1, 2, 3, 0)[starts_B[:, None] + offsets_P].permute(0, 4, 1, 2, 3)

    def stacked(some: range) -> list[Tensor]:
        return [outer[place].transpose(0, 1)[:, :, None] for place in some]

    head = torch.cat([*stacked(range(first)), in_windows(inner_CTHW, 0, 2)], dim=2)
    tail = torch.cat(
        [in_windows(inner_CTHW, last - first - 1, last - first + 1), *stacked(range(last + 1, places.count))],
        dim=2,
    )
    middle_CTHW = _third(model, inner_CTHW[None], dilation=_STEP // grid)[0]
    parts = (
        _third(model, functional.pad(head, (0, 0, 0, 0, 1, 0))),
        in_windows(middle_CTHW, 0, last - first - 1),
        _third(model, functional.pad(tail, (0, 0, 0, 0, 0, 1))),
    )
    return torch.cat(parts, dim=2)


def _second(model: InceptionI3D, first_BCTHW: Tensor) -> Tensor:
    pooled_BCTHW = max_pool_same(first_BCTHW, kernel=_POOL[0], stride=_POOL[1])
    output_BCTHW: Tensor = model.Conv3d_2b_1x1(functional.relu_(pooled_BCTHW))
    return output_BCTHW


def _third(model: InceptionI3D, second_BCTHW: Tensor, *, dilation: int = 1) -> Tensor:
    """The third convolution without padding in time, and the pool after it."""
    conv = model.Conv3d_2c_3x3.conv3d
    output_BCTHW = functional.conv3d(
        second_BCTHW, conv.weight, conv.bias, padding=(0, 1, 1), dilation=(dilation, 1, 1)
    )
    return functional.relu_(max_pool_same(output_BCTHW, kernel=_POOL[0], stride=_POOL[1]))
