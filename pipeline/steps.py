"""Frames in, feature rows out, as a video streams by: one object per profile, bounded memory."""

# Axes: W frames of a window, H rows, W columns, C channels.

from collections.abc import Callable
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.extractors import Extractor, I3DEncoder
from pipeline.optical_flow import TvL1Stream, optical_flow_input
from pipeline.preprocess import i3d_frames
from pipeline.windows import window_centres, window_frames, window_times

WINDOWS_PER_BATCH = 4
"""Windows of one forward. Four keep two cores busy; more only cost memory."""

Append = Callable[[NDArray[np.float64], NDArray[np.float32]], None]
"""Takes times (n,) and features (n, D) of the next steps."""


class FrameBatch:
    """Decoded frames with the preprocessing that several profiles share, done at most once."""

    def __init__(self, first: int, frames: NDArray[np.uint8], *, device: torch.device) -> None:
        self.first = first
        self.frames = frames
        self._device = device

    @cached_property
    def i3d_rgb(self) -> Tensor:
        """(n, 224, 224, 3) in [-1, 1]."""
        return i3d_frames(self.frames, device=self._device)


class StepStream(Protocol):
    """Turns a video's frames, in order, into the steps of one profile."""

    def push(self, batch: FrameBatch) -> None:
        """Take the next frames and append the steps they complete."""

    def finish(self) -> None:
        """Append the steps that waited for the end of the video."""


def step_stream(extractor: Extractor, *, frame_times: NDArray[np.float64], append: Append) -> StepStream:
    """The stream of steps of a profile over a video whose frames have these time stamps."""
    if extractor.profile.kind == "clip":
        return _ClipSteps(extractor, frame_times=frame_times, append=append)
    return _I3DSteps(extractor, frame_times=frame_times, append=append)


class _ClipSteps:
    """A step per chosen frame."""

    def __init__(self, extractor: Extractor, *, frame_times: NDArray[np.float64], append: Append) -> None:
        self._encoder = extractor.networks.clip(extractor.profile.networks[0])
        self._stride = extractor.profile.stride_frames
        self._times = frame_times
        self._append = append

    def push(self, batch: FrameBatch) -> None:
        chosen = np.arange(-batch.first % self._stride, len(batch.frames), self._stride)
        if len(chosen):
            times = window_times(batch.first + chosen, frame_times=self._times)
            self._append(times, self._encoder.encode_frames(batch.frames[chosen]))

    def finish(self) -> None:
        """Every step was complete with its own frame."""


class _I3DSteps:
    """A step per window; both streams of I3D, where there are two, see the same frame indices."""

    def __init__(self, extractor: Extractor, *, frame_times: NDArray[np.float64], append: Append) -> None:
        profile = extractor.profile
        centres = window_centres(len(frame_times), stride_frames=profile.stride_frames)
        self._windows = window_frames(
            centres, num_frames=len(frame_times), window_frames=profile.window_frames
        )
        self._times = window_times(centres, frame_times=frame_times)
        self._append = append
        self._device = extractor.networks.device
        encoders = [extractor.networks.i3d(name) for name in profile.networks]
        self._inputs = [_StreamInput(encoder) for encoder in encoders]
        self._streams = profile.streams
        self._optical_flow = TvL1Stream() if "optical_flow" in profile.streams else None
        self._done = 0

    def push(self, batch: FrameBatch) -> None:
        for stream, source in zip(self._streams, self._inputs, strict=True):
            if stream == "rgb":
                source.add(batch.i3d_rgb)
            elif self._optical_flow is not None:
                source.add(optical_flow_input(self._optical_flow.push(batch.frames), device=self._device))
        self._encode(at_least=WINDOWS_PER_BATCH)

    def finish(self) -> None:
        for stream, source in zip(self._streams, self._inputs, strict=True):
            if stream == "optical_flow" and self._optical_flow is not None:
                source.add(optical_flow_input(self._optical_flow.finish(), device=self._device))
        self._encode(at_least=1)

    def _encode(self, *, at_least: int) -> None:
        """Append complete windows in batches, as long as ``at_least`` of them are waiting."""
        available = min(source.stop for source in self._inputs)
        complete = int(np.searchsorted(self._windows[:, -1], available))
        while complete - self._done >= at_least:
            rows = slice(self._done, min(self._done + WINDOWS_PER_BATCH, complete))
            features = [source.encode(self._windows[rows]) for source in self._inputs]
            self._append(self._times[rows], np.concatenate(features, axis=1))
            self._done = rows.stop
        if self._done < len(self._windows):
            for source in self._inputs:
                source.forget(before=int(self._windows[self._done, 0]))


class _StreamInput:
    """Frames of one I3D stream that coming windows still need."""

    def __init__(self, encoder: I3DEncoder) -> None:
        self._encoder = encoder
        self._start = 0
        self._frames: list[Tensor] = []

    @property
    def stop(self) -> int:
        """Index after the last frame added."""
        return self._start + len(self._frames)

    def add(self, frames: Tensor) -> None:
        """Append frames (n, 224, 224, C)."""
        self._frames.extend(frames.unbind())

    def encode(self, windows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Features (B, 1024) of windows given as frame indices (B, W)."""
        flat = [self._frames[index - self._start] for index in windows.ravel().tolist()]
        return self._encoder.encode_windows(torch.stack(flat).reshape(*windows.shape, *flat[0].shape))

    def forget(self, *, before: int) -> None:
        """Let go of frames that no coming window sees."""
        surplus = min(before - self._start, len(self._frames))
        del self._frames[:surplus]
        self._start += surplus
