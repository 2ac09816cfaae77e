"""Profiles with their weights: ready to be asked for a key at once, and for a network when first used."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pipeline.device import check_precision
from pipeline.flow_cache import FlowCache
from pipeline.i3d import I3DOutput, InceptionI3D, for_inference, random_init
from pipeline.i3d_dense import encode_shared
from pipeline.i3d_stem import shared_stem
from pipeline.i3d_weights import load_i3d_checkpoint
from pipeline.profiles import Precision, Profile
from pipeline.weights import ResolvedWeights, combined_digest

if TYPE_CHECKING:
    from pipeline.clip import ClipEncoder
    from pipeline.raft import RaftEncoder

_CHANNELS = {"i3d-rgb": 3, "i3d-optical-flow": 2}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_CPU_TRUNK_WINDOWS = 4


class I3DEncoder:
    """One stream of Inception-I3D on a device."""

    def __init__(self, model: InceptionI3D, *, device: torch.device, precision: Precision) -> None:
        self._model = model
        self._device = device
        self._dtype = _DTYPES[precision]

    @torch.inference_mode()
    def encode_windows(self, windows: Tensor) -> Tensor:
        """Features (B, 1024) float32, the mean over time, of windows (B, T, 224, 224, C), on the device."""
        # Stacked frames are channels-last already: this is a view, not a copy.
        output: I3DOutput = self._model(windows.to(self._device, self._dtype).permute(0, 4, 1, 2, 3))
        return output.features.float().mean(dim=1)

    @torch.inference_mode()
    def encode_overlapping(self, frames: Tensor, *, stride: int, window_frames: int) -> Tensor:
        """Features (B, 1024) float32, as ``encode_windows`` gives them, of windows that share frames, on the device.

        Args:
            frames: (n, 224, 224, C) from the first frame of the first window to the last of the last.
            stride: Frames between the starts of neighbouring windows.
            window_frames: Frames of each.
        """
        video = frames.to(self._device, self._dtype).permute(3, 0, 1, 2)[None]
        stem_BCTHW = shared_stem(self._model, video, stride=stride, window_frames=window_frames)
        # Many windows share more of the stem; of the rest they share nothing, and a CPU's caches hold few.
        parts = torch.split(stem_BCTHW, _CPU_TRUNK_WINDOWS) if self._device.type == "cpu" else (stem_BCTHW,)
        return torch.cat([self._model.trunk(part).features.float().mean(dim=1) for part in parts])

    @torch.inference_mode()
    def encode_dense(self, frames: Tensor, *, stride: int, window_frames: int) -> Tensor:
        """Features (B, 1024) float32 of windows that lie densely over frames, on the device.

        Args:
            frames: (n, 224, 224, 3) from ``REACH`` before the first window on to ``REACH`` after the last.
            stride: Frames between the starts of neighbouring windows.
            window_frames: Frames of each.
        """
        video = frames.to(self._device, self._dtype).permute(3, 0, 1, 2)[None]
        output = encode_shared(self._model, video, stride=stride, window_frames=window_frames)
        return output.features.float().mean(dim=1)

    @torch.inference_mode()
    def classify(self, features: Tensor) -> Tensor:
        """Logits (400,) of features (1024,), as the head gives them for a window, or averaged over a video."""
        cell = features.to(self._device, self._dtype).view(1, -1, 1, 1, 1)
        logits: Tensor = self._model.logits(cell)
        return logits.float().flatten()


class Networks:
    """Networks by name, each built when first asked for and shared by all profiles that use it."""

    def __init__(
        self,
        weights: Mapping[str, ResolvedWeights],
        *,
        device: torch.device,
        flow_cache: FlowCache | None = None,
    ) -> None:
        self.device = device
        self.flow_cache = flow_cache
        self._weights = weights
        self._lock = threading.RLock()
        self._i3d: dict[tuple[str, Precision], I3DEncoder] = {}
        self._clip: dict[tuple[str, Precision], ClipEncoder] = {}
        self._raft: RaftEncoder | None = None

    def weights(self, network: str) -> ResolvedWeights:
        """What was resolved for a network; builds nothing."""
        return self._weights[network]

    def i3d(self, network: str, *, precision: Precision = "float32") -> I3DEncoder:
        """A stream of I3D.

        Raises:
            WeightsError: Its checkpoint cannot be read or does not fit.
        """
        with self._lock:
            if (network, precision) not in self._i3d:
                self._i3d[network, precision] = load_i3d(
                    self._weights[network], device=self.device, precision=precision
                )
            return self._i3d[network, precision]

    def clip(self, network: str, *, precision: Precision = "float32") -> "ClipEncoder":
        """A CLIP model.

        Raises:
            WeightsError: Its checkpoint cannot be read or does not fit.
        """
        # open_clip takes longer to import than a video with stored features takes to segment.
        from pipeline.clip import load_clip

        with self._lock:
            if (network, precision) not in self._clip:
                self._clip[network, precision] = load_clip(
                    self._weights[network], device=self.device, precision=precision
                )
            return self._clip[network, precision]

    @property
    def raft(self) -> "RaftEncoder":
        """RAFT, for optical flow.

        Raises:
            WeightsError: Its checkpoint cannot be read or does not fit.
        """
        # torchvision is needed by this method alone.
        from pipeline.raft import load_raft

        with self._lock:
            if self._raft is None:
                self._raft = load_raft(self._weights["raft"], device=self.device)
            return self._raft


@dataclass(frozen=True, kw_only=True, slots=True)
class Extractor:
    """A profile with its networks, not built yet."""

    profile: Profile
    networks: Networks

    @property
    def weights_digest(self) -> str:
        """Digest of all weights that the profile uses."""
        return combined_digest(self.networks.weights(name) for name in self.profile.networks)

    @property
    def random_weights(self) -> bool:
        """Whether any of the weights are random numbers."""
        return any(self.networks.weights(name).random for name in self.profile.networks)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtractorSet:
    """The extractors of a run, in the order of its profiles; they share networks."""

    extractors: tuple[Extractor, ...]

    @property
    def device(self) -> torch.device:
        """Where their networks run."""
        return self.extractors[0].networks.device

    def __iter__(self) -> Iterator[Extractor]:
        return iter(self.extractors)

    def __len__(self) -> int:
        return len(self.extractors)


def load_extractors(
    profiles: Sequence[Profile],
    weights: Mapping[str, ResolvedWeights],
    *,
    device: torch.device,
    flow_cache: FlowCache | None = None,
) -> ExtractorSet:
    """Extractors for profiles; no network is built before it is used.

    Args:
        profiles: In order.
        weights: By network, for every network of the profiles: the answer of ``resolve_weights``.
        device: Where the networks run.
        flow_cache: Where optical flow that was computed before may lie.
    """
    networks = Networks(weights, device=device, flow_cache=flow_cache)
    return ExtractorSet(
        extractors=tuple(Extractor(profile=profile, networks=networks) for profile in profiles)
    )


def load_i3d(
    weights: ResolvedWeights, *, device: torch.device, precision: Precision = "float32"
) -> I3DEncoder:
    """Build a stream of I3D with resolved weights.

    Raises:
        SettingsError: The device cannot compute in this precision.
        WeightsError: The checkpoint cannot be read or does not fit.
    """
    check_precision(precision, device=device)
    model = InceptionI3D(in_channels=_CHANNELS[weights.network])
    if weights.path is None:
        random_init(model, seed=weights.seed)
    else:
        load_i3d_checkpoint(model, weights.path)
    model = for_inference(model, device=device, dtype=_DTYPES[precision])
    return I3DEncoder(model, device=device, precision=precision)
