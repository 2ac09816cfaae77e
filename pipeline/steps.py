"""Network input in, feature rows out, as a video streams by: one object per profile, bounded memory."""

# Axes: B windows, W pictures of a window, H rows, C channels.

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.device import Download, places_on
from pipeline.extractors import Extractor, I3DEncoder
from pipeline.i3d_dense import REACH
from pipeline.i3d_stem import can_share
from pipeline.probe import VideoFacts
from pipeline.profiles import Profile
from pipeline.sources import InputKey, Inputs, input_keys, sampling_of
from pipeline.windows import NOTHING, window_frames, window_starts, window_times

_WINDOWS_PER_BATCH = {"cpu": 4, "cuda": 32}
"""Windows of one forward. Four keep two cores busy; more only cost memory."""
_SHARING_WINDOWS_PER_BATCH = {"cpu": 16, "cuda": 64}
"""The more windows of one forward, the fewer frames of the shared stem are computed twice."""
_DENSE_WINDOWS_PER_BATCH = {"cpu": 16, "cuda": 64}
"""As above, but nearly all layers are shared."""
_PICTURES_PER_BATCH = {"cpu": 16, "cuda": 256}
"""Pictures of one forward of CLIP."""

Append = Callable[[NDArray[np.float64], NDArray[np.float32]], None]
"""Takes times (n,) and features (n, D) of the next steps."""


class StepStream(Protocol):
    """Turns a video's inputs, in order, into the steps of one profile."""

    @property
    def first_input(self) -> int:
        """The first picture it needs; for CLIP, the first step."""

    def push(self, inputs: Mapping[InputKey, Inputs]) -> None:
        """Take the next inputs and append the steps of full batches."""

    def finish(self) -> None:
        """Append the steps that waited for a full batch."""


def step_stream(extractor: Extractor, *, facts: VideoFacts, append: Append, done: int = 0) -> StepStream:
    """The stream of steps of a profile over a video.

    Args:
        extractor: The profile with its networks.
        facts: What probing found; the video is long enough for a step.
        append: Takes the steps.
        done: Steps that are there already, fewer than all; a multiple of the steps of one forward.
    """
    kind = _ClipSteps if extractor.profile.kind == "clip" else _I3DSteps
    return kind(extractor, facts=facts, append=append, done=done)


def num_steps(profile: Profile, facts: VideoFacts) -> int:
    """Steps that a profile makes of a video; 0 where it is too short for a window."""
    return len(_starts(profile, len(sampling_of(profile, facts).frames)))


def _starts(profile: Profile, num_pictures: int) -> NDArray[np.int64]:
    return window_starts(
        num_pictures,
        window_frames=profile.window_frames,
        stride_frames=profile.stride_frames,
        edge=profile.edge,
        extra_frames=profile.extra_frames,
    )


def _shares(profile: Profile) -> bool:
    """Whether the windows of a profile are computed together, exactly as if they were apart."""
    return not profile.dense and can_share(stride=profile.stride_frames, window_frames=profile.window_frames)


def _windows_per_batch(profile: Profile) -> Mapping[str, int]:
    if profile.dense:
        return _DENSE_WINDOWS_PER_BATCH
    return _SHARING_WINDOWS_PER_BATCH if _shares(profile) else _WINDOWS_PER_BATCH


def _batch_size(sizes: Mapping[str, int], device: torch.device) -> int:
    return sizes.get(device.type, sizes["cuda"])


class _Delayed:
    """Appends each batch when the next one is on its way, so that a GPU never waits for a copy."""

    def __init__(self, append: Append) -> None:
        self._append = append
        self._waiting: tuple[NDArray[np.float64], Download] | None = None

    def __call__(self, times: NDArray[np.float64], features: Tensor) -> None:
        # The copy is queued behind these features and before the next ones: waiting for it leaves the GPU at work.
        waiting, self._waiting = self._waiting, (times, Download(features))
        self._take(waiting)

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, None
        self._take(waiting)

    def _take(self, waiting: "tuple[NDArray[np.float64], Download] | None") -> None:
        if waiting is not None:
            times, features = waiting
            self._append(times, features.rows())


class _ClipSteps:
    """A step per chosen picture."""

    def __init__(self, extractor: Extractor, *, facts: VideoFacts, append: Append, done: int) -> None:
        profile = extractor.profile
        self._encoder = extractor.networks.clip(profile.networks[0], precision=profile.precision)
        self._times = sampling_of(profile, facts).times[:: profile.stride_frames]
        (self._key,) = input_keys(profile)
        self._batch = _batch_size(_PICTURES_PER_BATCH, extractor.networks.device)
        self._append = _Delayed(append)
        self._done = done
        self._waiting: list[Tensor] = []

    @property
    def first_input(self) -> int:
        return self._done

    def push(self, inputs: Mapping[InputKey, Inputs]) -> None:
        given = inputs[self._key]
        surplus = max(0, self._done + len(self._waiting) - given.first)
        self._waiting.extend(given.values[surplus:].unbind())
        while len(self._waiting) >= self._batch:
            self._encode(self._batch)

    def finish(self) -> None:
        if self._waiting:
            self._encode(len(self._waiting))
        self._append.flush()

    def _encode(self, count: int) -> None:
        features = self._encoder.encode_images(torch.stack(self._waiting[:count]))
        self._append(self._times[self._done : self._done + count], features)
        self._done += count
        del self._waiting[:count]


class _I3DSteps:
    """A step per window; both streams of I3D, where there are two, see the same pictures."""

    def __init__(self, extractor: Extractor, *, facts: VideoFacts, append: Append, done: int) -> None:
        self._profile = profile = extractor.profile
        sampling = sampling_of(profile, facts)
        self._num_pictures = len(sampling.frames)
        self._starts = _starts(profile, self._num_pictures)
        self._times = window_times(
            self._starts, window_frames=profile.window_frames, frame_times=sampling.times
        )
        self._batch = _batch_size(_windows_per_batch(profile), extractor.networks.device)
        self._append = _Delayed(append)
        self._keys = input_keys(profile)
        networks = profile.networks[: len(profile.streams)]
        encoders = [extractor.networks.i3d(name, precision=profile.precision) for name in networks]
        self._inputs = [_StreamInput(encoder, profile) for encoder in encoders]
        self._done = done

    @property
    def first_input(self) -> int:
        return self._first_picture(self._done)

    def push(self, inputs: Mapping[InputKey, Inputs]) -> None:
        for key, source in zip(self._keys, self._inputs, strict=True):
            source.add(inputs[key])
        self._encode(at_least=self._batch)

    def finish(self) -> None:
        self._encode(at_least=1)
        self._append.flush()

    def _first_picture(self, step: int) -> int:
        reach = REACH if self._profile.dense else 0
        return max(0, int(self._starts[step]) - reach)

    def _encode(self, *, at_least: int) -> None:
        """Append complete windows in batches, as long as ``at_least`` of them are waiting."""
        available = min(source.stop for source in self._inputs)
        complete = self._complete(available)
        while complete - self._done >= at_least:
            rows = slice(self._done, min(self._done + self._batch, complete))
            features = [source.encode(self._starts[rows], self._num_pictures) for source in self._inputs]
            self._append(self._times[rows], torch.cat(features, dim=1))
            self._done = rows.stop
        if self._done < len(self._starts):
            for source in self._inputs:
                source.forget(before=self._first_picture(self._done))

    def _complete(self, available: int) -> int:
        """Windows all of whose pictures are among the first ``available``."""
        if available >= self._num_pictures:
            return len(self._starts)
        reach = REACH if self._profile.dense else 0
        last = self._starts + (self._profile.window_frames - 1 + reach)
        return int(np.searchsorted(last, available))


class _StreamInput:
    """Pictures of one I3D stream that coming windows still need."""

    def __init__(self, encoder: I3DEncoder, profile: Profile) -> None:
        self._encoder = encoder
        self._profile = profile
        self._start = 0
        self._kept: Tensor | None = None

    @property
    def stop(self) -> int:
        """Index after the last picture added."""
        return self._start + (0 if self._kept is None else len(self._kept))

    def add(self, inputs: Inputs) -> None:
        """Append pictures (n, 224, 224, C)."""
        if not len(inputs.values):
            return
        if self._kept is None:
            self._start, self._kept = inputs.first, inputs.values
        else:
            self._kept = torch.cat([self._kept, inputs.values])

    def encode(self, starts: NDArray[np.int64], num_pictures: int) -> Tensor:
        """Features (B, 1024) of windows that start at these pictures."""
        size = self._profile.window_frames
        if self._profile.dense:
            span = np.arange(starts[0] - REACH, starts[-1] + size + REACH)
            video = self._gather(np.clip(span, 0, num_pictures - 1))
            stride = self._profile.stride_frames
            return self._encoder.encode_dense(video, stride=stride, window_frames=size)
        if _shares(self._profile):
            span = window_frames(
                starts[:1],
                num_frames=num_pictures,
                window_frames=int(starts[-1] - starts[0]) + size,
                edge=self._profile.edge,
            )
            stride = self._profile.stride_frames
            return self._encoder.encode_overlapping(self._gather(span[0]), stride=stride, window_frames=size)
        pictures = window_frames(starts, num_frames=num_pictures, window_frames=size, edge=self._profile.edge)
        windows = self._gather(pictures.ravel())
        return self._encoder.encode_windows(windows.reshape(*pictures.shape, *windows.shape[1:]))

    def forget(self, *, before: int) -> None:
        """Let go of pictures that no coming window sees."""
        if self._kept is not None:
            surplus = min(max(before - self._start, 0), len(self._kept))
            self._kept = self._kept[surplus:]
            self._start += surplus

    def _gather(self, pictures: NDArray[np.int64]) -> Tensor:
        if self._kept is None:
            raise ValueError("No picture was added, so there is no window.")
        places = places_on(self._kept.device, np.maximum(pictures - self._start, 0))
        gathered = self._kept.index_select(0, places)
        if self._profile.edge == "zero":
            gathered.mul_(places_on(self._kept.device, pictures != NOTHING).view(-1, 1, 1, 1))
        return gathered
