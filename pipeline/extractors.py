"""Profiles with their weights: ready to be asked for a key at once, and for a network when first used."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.i3d import InceptionI3D, for_inference, random_init
from pipeline.i3d_weights import load_i3d_checkpoint
from pipeline.profiles import Profile
from pipeline.weights import ResolvedWeights, combined_digest

if TYPE_CHECKING:
    from pipeline.clip import ClipEncoder

_CHANNELS = {"i3d-rgb": 3, "i3d-optical-flow": 2}


class I3DEncoder:
    """One stream of Inception-I3D on a device."""

    def __init__(self, model: InceptionI3D, *, device: torch.device) -> None:
        self._model = model
        self._device = device

    @torch.inference_mode()
    def encode_windows(self, windows: Tensor) -> NDArray[np.float32]:
        """Features (B, 1024), the mean over time, of windows (B, T, 224, 224, C)."""
        # Stacked frames are channels-last already: this is a view, not a copy.
        output = self._model(windows.to(self._device).permute(0, 4, 1, 2, 3))
        features: NDArray[np.float32] = output.features.mean(dim=1).float().cpu().numpy()
        return features


class Networks:
    """Networks by name, each built when first asked for and shared by all profiles that use it."""

    def __init__(self, weights: Mapping[str, ResolvedWeights], *, device: torch.device) -> None:
        self.device = device
        self._weights = weights
        self._i3d: dict[str, I3DEncoder] = {}
        self._clip: dict[str, ClipEncoder] = {}

    def weights(self, network: str) -> ResolvedWeights:
        """What was resolved for a network; builds nothing."""
        return self._weights[network]

    def i3d(self, network: str) -> I3DEncoder:
        """A stream of I3D.

        Raises:
            WeightsError: Its checkpoint cannot be read or does not fit.
        """
        if network not in self._i3d:
            self._i3d[network] = load_i3d(self._weights[network], device=self.device)
        return self._i3d[network]

    def clip(self, network: str) -> "ClipEncoder":
        """A CLIP model.

        Raises:
            WeightsError: Its checkpoint cannot be read or does not fit.
        """
        if network not in self._clip:
            # open_clip takes longer to import than a video with stored features takes to segment.
            from pipeline.clip import load_clip

            self._clip[network] = load_clip(self._weights[network], device=self.device)
        return self._clip[network]


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

    def __iter__(self) -> Iterator[Extractor]:
        return iter(self.extractors)

    def __len__(self) -> int:
        return len(self.extractors)


def load_extractors(
    profiles: Sequence[Profile], weights: Mapping[str, ResolvedWeights], *, device: torch.device
) -> ExtractorSet:
    """Extractors for profiles; no network is built before it is used.

    Args:
        profiles: In order.
        weights: By network, for every network of the profiles: the answer of ``resolve_weights``.
        device: Where the networks run.
    """
    networks = Networks(weights, device=device)
    return ExtractorSet(
        extractors=tuple(Extractor(profile=profile, networks=networks) for profile in profiles)
    )


def load_i3d(weights: ResolvedWeights, *, device: torch.device) -> I3DEncoder:
    """Build a stream of I3D with resolved weights.

    Raises:
        WeightsError: The checkpoint cannot be read or does not fit.
    """
    model = InceptionI3D(in_channels=_CHANNELS[weights.network])
    if weights.path is None:
        random_init(model, seed=weights.seed)
    else:
        load_i3d_checkpoint(model, weights.path)
    return I3DEncoder(for_inference(model, device=device), device=device)
