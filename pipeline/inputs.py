"""The model input: which profiles, in which order, made by which weights.

A key needs the digest of the weights, never the weights: a video whose features are stored is segmented on a
machine that has no extractor weights at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.catalogue import Video
from pipeline.errors import WeightsError
from pipeline.extract import feature_identity
from pipeline.model import FeatureInput
from pipeline.profiles import Profile, parse_profile
from pipeline.settings import ExtractionSettings
from pipeline.weights import (
    ResolvedWeights,
    WeightsChoice,
    WeightsPolicy,
    combined_digest,
    resolve_weights,
)
from storage.keys import digest_of
from storage.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelInput:
    """One profile and the weights behind it."""

    profile: Profile
    weights_digest: str
    random_weights: bool

    @property
    def described(self) -> FeatureInput:
        """The input as it is stored with a model."""
        return FeatureInput(
            spec=self.profile.spec,
            width=self.profile.width,
            weights_digest=self.weights_digest,
            random_weights=self.random_weights,
        )


def feature_key(item: ModelInput, video: Video) -> str:
    """Name of the features of a video under one input."""
    return digest_of(
        feature_identity(
            item.profile,
            weights_digest=item.weights_digest,
            video_hash=video.video_hash,
            decoder=video.facts.decoder,
        )
    )


def resolve_extraction(
    settings: ExtractionSettings, *, store: Store, text_model: str = ""
) -> dict[str, ResolvedWeights]:
    """Weights of every network that the profiles, and the texts if asked for, need; nothing is built.

    Raises:
        WeightsError: Real weights cannot be had; the message says which file to put where.
    """
    networks = [network for profile in settings.profiles for network in profile.networks]
    if text_model:
        networks.append(clip_network(text_model))
    choice = WeightsChoice(
        policy=settings.weights,
        i3d_rgb=settings.i3d_rgb,
        i3d_flow=settings.i3d_flow,
        clip_pretrained=settings.clip_pretrained,
    )
    return resolve_weights(networks, choice, digest=store.digests.digest)


def clip_network(model: str) -> str:
    """Name of a CLIP model among the networks."""
    return f"clip/{model}"


def inputs_of_settings(settings: ExtractionSettings, *, store: Store) -> tuple[ModelInput, ...]:
    """The model input that settings ask for.

    Raises:
        WeightsError: Real weights cannot be had.
    """
    weights = resolve_extraction(settings, store=store)
    return tuple(
        ModelInput(
            profile=profile,
            weights_digest=combined_digest(weights[name] for name in profile.networks),
            random_weights=any(weights[name].random for name in profile.networks),
        )
        for profile in settings.profiles
    )


def inputs_of_model(inputs: Sequence[FeatureInput]) -> tuple[ModelInput, ...]:
    """The input that a trained model was made for; needs no weights."""
    return tuple(
        ModelInput(
            profile=parse_profile(item.spec),
            weights_digest=item.weights_digest,
            random_weights=item.random_weights,
        )
        for item in inputs
    )


def extraction_for_model(inputs: Sequence[FeatureInput], settings: ExtractionSettings) -> ExtractionSettings:
    """``settings`` with the profiles of a trained model, and random weights where it was trained on such."""
    policy = WeightsPolicy.RANDOM if inputs[0].random_weights else WeightsPolicy.PRETRAINED
    return settings.model_copy(update={"features": tuple(item.spec for item in inputs), "weights": policy})


def check_weights(asked: Sequence[ModelInput], found: Sequence[ModelInput]) -> None:
    """Refuse to extract with other weights than a model was trained on.

    Raises:
        WeightsError: A digest differs; the message names both.
    """
    for wanted, here in zip(asked, found, strict=True):
        if wanted.weights_digest != here.weights_digest:
            kind = (
                "seeded random weights drawn by another version of torch"
                if wanted.random_weights
                else "other weights"
            )
            raise WeightsError(
                f"The model was trained on {wanted.profile.spec} features made by weights "
                f"{wanted.weights_digest[:12]}; here are {kind}: {here.weights_digest[:12]}. "
                "Give the weights it was trained on, or train again."
            )
