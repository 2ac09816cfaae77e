"""The model input: which profiles, in which order, made by which weights.

A key needs the digest of the weights, never the weights: a video whose features are stored is segmented on a
machine that has no extractor weights at all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.catalogue import Video
from pipeline.errors import DatasetError, WeightsError
from pipeline.extract import feature_identity
from pipeline.imported import ImportedProfile, parse_imported
from pipeline.licences import UNKNOWN
from pipeline.model import FeatureInput
from pipeline.profiles import Profile, parse_profile
from pipeline.settings import ExtractionSettings, RunSettings
from pipeline.weights import (
    ResolvedWeights,
    WeightsChoice,
    WeightsPolicy,
    combined_digest,
    combined_licence,
    find_here,
    resolve_weights,
)
from storage.datasets import StoredDataset, read_dataset
from storage.keys import digest_of
from storage.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelInput:
    """One profile and the weights behind it."""

    profile: Profile | ImportedProfile
    weights_digest: str
    """Empty for imported features: nobody knows what made them."""
    random_weights: bool
    licence: str = UNKNOWN
    """Of the weights; names of several networks' are joined."""

    @property
    def described(self) -> FeatureInput:
        """The input as it is stored with a model."""
        return FeatureInput(
            spec=self.profile.spec,
            width=self.profile.width,
            weights_digest=self.weights_digest,
            random_weights=self.random_weights,
            licence=self.licence,
        )


def feature_key(item: ModelInput, video: Video) -> str:
    """Name of the features of a video under one input.

    Raises:
        DatasetError: The features are imported; no video has any of that kind.
    """
    if isinstance(item.profile, ImportedProfile):
        raise DatasetError(
            f"{video.path}: the model was trained on {item.profile.spec} features, which cannot be made from a "
            "video. Import features of this video, or train on features that `factseg extract` makes."
        )
    return digest_of(
        feature_identity(
            item.profile,
            weights_digest=item.weights_digest,
            video_hash=video.video_hash,
            decoder=video.facts.reading,
        )
    )


def resolve_extraction(
    settings: ExtractionSettings, *, store: Store, text_model: str = "", with_features: bool = True
) -> dict[str, ResolvedWeights]:
    """Weights of every network that the profiles, and the texts if asked for, need; nothing is built.

    Args:
        settings: Profiles and where weights come from.
        store: Remembers digests of files.
        text_model: CLIP model of the texts, if any.
        with_features: False where features are imported, so that only the texts need weights.

    Raises:
        WeightsError: Real weights cannot be had; the message says which file to put where.
    """
    profiles = settings.profiles if with_features else ()
    networks = [network for profile in profiles for network in profile.networks]
    if text_model:
        networks.append(clip_network(text_model))
    return resolve_weights(networks, _choice(settings), digest=store.digests.digest)


def _choice(settings: ExtractionSettings) -> WeightsChoice:
    return WeightsChoice(
        policy=settings.weights,
        i3d_rgb=settings.i3d_rgb,
        i3d_flow=settings.i3d_flow,
        raft=settings.raft,
        clip_pretrained=settings.clip_pretrained,
    )


def weights_not_here(networks: Iterable[str], settings: ExtractionSettings, *, store: Store) -> str:
    """Why weights of some networks cannot be named without a download; empty where they can.

    Raises:
        WeightsError: A file that settings or the environment name is not there.
    """
    if settings.weights is not WeightsPolicy.PRETRAINED:
        return ""
    choice = _choice(settings)
    found = {name: find_here(name, choice, digest=store.digests.digest) for name in dict.fromkeys(networks)}
    absent = [name for name, weights in found.items() if weights is None]
    return f"weights of {', '.join(absent)} are not on this machine" if absent else ""


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
            licence=combined_licence(weights[name] for name in profile.networks),
        )
        for profile in settings.profiles
    )


def inputs_of_run(settings: RunSettings, *, store: Store) -> tuple[ModelInput, ...]:
    """The model input of a run: that of its imported data set, else what its settings ask for.

    Raises:
        MissingArtefactError: No such data set was imported.
        DatasetError: It has labels only, and no videos were given.
        WeightsError: Real weights cannot be had.
    """
    if settings.dataset.has_features:
        return imported_inputs(read_dataset(store, settings.dataset.imported))
    return inputs_of_settings(settings.extraction, store=store)


def imported_inputs(dataset: StoredDataset) -> tuple[ModelInput, ...]:
    """The model input that an imported data set brings.

    Raises:
        DatasetError: It has labels only.
    """
    if not dataset.width:
        raise DatasetError(
            f"The imported data set {dataset.name!r} has labels and no features. "
            "Give its videos with --videos, or import features with `factseg import mstcn`."
        )
    profile = ImportedProfile(width=dataset.width)
    return (ModelInput(profile=profile, weights_digest="", random_weights=False),)


def inputs_of_model(inputs: Sequence[FeatureInput]) -> tuple[ModelInput, ...]:
    """The input that a trained model was made for; needs no weights."""
    return tuple(
        ModelInput(
            profile=parse_imported(item.spec) or parse_profile(item.spec),
            weights_digest=item.weights_digest,
            random_weights=item.random_weights,
            licence=item.licence,
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
        if wanted.profile.spec != here.profile.spec:
            raise WeightsError(
                f"The model was trained on {wanted.profile.spec} features; here are {here.profile.spec} features. "
                "Give features of the same kind, or train again."
            )
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
