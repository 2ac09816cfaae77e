"""Decoded frames to network input, once per frame for all profiles of a run that want the same input."""

# Axes: n pictures of a sampled video, N decoded frames, H rows, W columns, C channels.

import os
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.device import places_on
from pipeline.extractors import Extractor, Networks
from pipeline.flow_stream import PAIRS_PER_BATCH, FlowMethod, FlowStream
from pipeline.preprocess import i3d_frames, upload
from pipeline.probe import VideoFacts
from pipeline.profiles import Profile
from pipeline.sampling import sample_frames

if TYPE_CHECKING:
    from pipeline.clip import ClipEncoder
    from pipeline.optical_flow import FieldWorkers


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sampling:
    """Which frames of a video a profile looks at, and when."""

    frames: NDArray[np.int64]
    """(n,) frame shown at each picture; may repeat."""
    times: NDArray[np.float64]
    """(n,) seconds of each picture."""


def sampling_of(profile: Profile, facts: VideoFacts) -> Sampling:
    """The pictures a profile looks at: all frames, or samples at its own rate."""
    if profile.target_fps is None:
        return Sampling(frames=np.arange(facts.num_frames), times=facts.frame_times)
    frames = sample_frames(facts.frame_times, target_fps=profile.target_fps, duration=facts.duration)
    return Sampling(frames=frames, times=np.arange(len(frames)) / profile.target_fps)


@dataclass(frozen=True, kw_only=True, slots=True)
class InputKey:
    """What tells one network input of a video from another."""

    kind: str
    """``rgb``, a method of optical flow, or the name of a CLIP model among the networks."""
    target_fps: float | None
    stride: int = 1
    """Every this many-th picture is taken."""


def input_keys(profile: Profile) -> tuple[InputKey, ...]:
    """The inputs a profile needs, in the order of its features."""
    if profile.kind == "clip":
        network = profile.networks[0]
        return (InputKey(kind=network, target_fps=profile.target_fps, stride=profile.stride_frames),)
    kinds = [profile.optical_flow or "" if stream == "optical_flow" else "rgb" for stream in profile.streams]
    return tuple(InputKey(kind=kind, target_fps=profile.target_fps) for kind in kinds)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Network input of neighbouring pictures."""

    first: int
    """Index of the first of them."""
    values: Tensor
    """(n, 224, 224, C) for I3D, (n, 3, size, size) for CLIP."""


class Uploaded:
    """A batch of decoded frames, on the device when first asked for."""

    def __init__(self, first: int, frames: NDArray[np.uint8], *, device: torch.device) -> None:
        self.first = first
        self.frames = frames
        self._device = device

    @cached_property
    def on_device(self) -> Tensor:
        """(N, H, W, 3) uint8."""
        return upload(self.frames, device=self._device)


class _Cursor:
    """Where in the sampled video a source is."""

    def __init__(self, frames: NDArray[np.int64], *, first: int) -> None:
        self._frames = frames
        self.next = first

    @property
    def first_frame(self) -> int:
        """Frame of the next picture."""
        return int(self._frames[self.next])

    def take(self, batch: Uploaded) -> NDArray[np.int64]:
        """(n,) places in the batch of the next pictures."""
        stop = int(np.searchsorted(self._frames, batch.first + len(batch.frames)))
        chosen = self._frames[self.next : stop] - batch.first
        self.next = max(self.next, stop)
        return chosen


class Source(Protocol):
    """Makes one kind of input from the frames of a video, in order."""

    @property
    def first_frame(self) -> int:
        """The first frame it needs."""

    def push(self, batch: Uploaded) -> Inputs:
        """The inputs that the next frames complete."""

    def finish(self) -> Inputs:
        """The inputs that waited for the end of the video."""


class _ByCursor:
    """Inputs that need no other frame than their own: none waits for the end of the video."""

    def __init__(self, cursor: _Cursor) -> None:
        self._cursor = cursor

    @property
    def first_frame(self) -> int:
        return self._cursor.first_frame

    def finish(self) -> Inputs:
        return Inputs(self._cursor.next, torch.empty(0))


class _Rgb(_ByCursor):
    @torch.inference_mode()
    def push(self, batch: Uploaded) -> Inputs:
        first = self._cursor.next
        chosen = self._cursor.take(batch)
        frames, places = np.unique(chosen, return_inverse=True)
        if len(chosen) == len(batch.frames) == len(frames):
            return Inputs(first, i3d_frames(batch.on_device))
        values = i3d_frames(_pick(batch.on_device, frames))
        return Inputs(first, _pick(values, places))


class _Clip(_ByCursor):
    def __init__(self, cursor: _Cursor, *, encoder: "ClipEncoder") -> None:
        super().__init__(cursor)
        self._encoder = encoder

    @torch.inference_mode()
    def push(self, batch: Uploaded) -> Inputs:
        first = self._cursor.next
        chosen = self._cursor.take(batch)
        if not len(chosen):
            return Inputs(first, torch.empty(0))
        return Inputs(first, self._encoder.preprocess(_pick(batch.on_device, chosen)))


class _Flow:
    def __init__(self, cursor: _Cursor, *, method: FlowMethod, device: torch.device) -> None:
        self._cursor = cursor
        self._stream = FlowStream(method, first=cursor.next)
        self._device = device

    @property
    def first_frame(self) -> int:
        return self._cursor.first_frame

    @torch.inference_mode()
    def push(self, batch: Uploaded) -> Inputs:
        first = self._stream.first
        fields = self._stream.push(batch.frames[self._cursor.take(batch)])
        return Inputs(first, fields.to(self._device))

    @torch.inference_mode()
    def finish(self) -> Inputs:
        return Inputs(self._stream.first, self._stream.finish().to(self._device))


class Sources:
    """All inputs that some profiles need of one video.

    Args:
        wanted: Profiles with their networks, and the first picture that each still needs; for CLIP, the first step.
        facts: What probing found.
        device: Where inputs are made.
    """

    def __init__(
        self, wanted: Iterable[tuple[Extractor, int]], *, facts: VideoFacts, device: torch.device
    ) -> None:
        self._device = device
        self._workers: FieldWorkers | None = None
        firsts: dict[InputKey, tuple[int, Extractor]] = {}
        for extractor, first in wanted:
            for key in input_keys(extractor.profile):
                known = firsts.get(key, (first, extractor))[0]
                firsts[key] = (min(known, first), extractor)
        self._has_tvl1 = any(key.kind == "tvl1" for key in firsts)
        self._sources = {
            key: self._build(key, first, extractor, facts) for key, (first, extractor) in firsts.items()
        }

    @property
    def first_frame(self) -> int:
        """The first frame that any of them needs."""
        return min(source.first_frame for source in self._sources.values())

    def inputs(
        self, batches: Iterable[tuple[NDArray[np.int64], NDArray[np.uint8]]]
    ) -> Generator[tuple[int, dict[InputKey, Inputs]], None, None]:
        """Inputs by key, as (frames done, inputs), for every batch of frames and once more at the end.

        Nothing of a batch is held when the next one is asked for: its memory may be filled anew.
        """
        done = 0
        for indices, frames in batches:
            batch = Uploaded(int(indices[0]), frames, device=self._device)
            done = int(indices[-1]) + 1
            made = {key: source.push(batch) for key, source in self._sources.items()}
            del batch, frames
            yield done, made
        yield done, {key: source.finish() for key, source in self._sources.items()}

    def close(self) -> None:
        """Let the threads that compute optical flow end."""
        if self._workers is not None:
            self._workers.close()

    def _build(self, key: InputKey, first: int, extractor: Extractor, facts: VideoFacts) -> Source:
        networks, profile = extractor.networks, extractor.profile
        frames = sampling_of(profile, facts).frames
        if key.kind == "rgb":
            return _Rgb(_Cursor(frames, first=first))
        if profile.kind == "clip":
            encoder = networks.clip(key.kind, precision=profile.precision)
            return _Clip(_Cursor(frames[:: key.stride], first=first), encoder=encoder)
        start = first // PAIRS_PER_BATCH * PAIRS_PER_BATCH
        method = self._flow_method(key.kind, networks, facts)
        return _Flow(_Cursor(frames, first=start), method=method, device=self._device)

    def _flow_method(self, kind: str, networks: Networks, facts: VideoFacts) -> FlowMethod:
        # OpenCV and torchvision are needed where optical flow is, and nowhere else.
        from pipeline import optical_flow

        if kind == "raft":
            method = optical_flow.raft_method(networks.raft)
            # Another kind of device rounds differently, and one level of 256 is soon another.
            name = f"raft {networks.weights('raft').digest} {networks.device.type}"
        else:
            cores = os.cpu_count() or 1
            if self._workers is None:
                # DIS, on its small pictures, asks for no bound; one for both keeps to that of TV-L1.
                bounded = optical_flow.tvl1_threads(facts.width, facts.height, cores=cores)
                self._workers = optical_flow.FieldWorkers(bounded if self._has_tvl1 else cores)
            methods = {"tvl1": optical_flow.tvl1_method, "dis": optical_flow.dis_method}
            method, name = methods[kind](self._workers), kind
        return method if networks.flow_cache is None else networks.flow_cache.around(method, name=name)


def _pick(values: Tensor, places: NDArray[np.int64]) -> Tensor:
    return values.index_select(0, places_on(values.device, places))
