"""Which Kinetics classes I3D sees in a video: the classifier's head on features that are stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.catalogue import open_video
from pipeline.decode_rules import DecodeRules
from pipeline.errors import PipelineError, SettingsError
from pipeline.extract import feature_files, missing_features
from pipeline.extract_batch import shared_extractors
from pipeline.extractors import Extractor
from pipeline.i3d import NUM_CLASSES
from pipeline.profiles import I3D_STREAM_WIDTH
from pipeline.settings import ExtractionSettings
from pipeline.weights import ResolvedWeights, weights_folder
from storage.errors import StorageError
from storage.features import read_features
from storage.places import Address, Place
from storage.store import Store

CLASS_NAME_FILES = ("label_map.txt", "kinetics_400_labels.txt")
"""Names under which a list of the classes lies beside a checkpoint, or in the folder of cached weights."""

_TOP = 5
_CHUNK_STEPS = 8192  # of features held at once


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenClass:
    """A class of Kinetics and how sure the classifier is."""

    name: str
    probability: float
    """Softmax over the 400 classes of the streams' summed logits, averaged over the video."""
    logit: float


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoPrediction:
    """What a profile sees in a video."""

    video: str
    path: str
    profile: str
    classes: tuple[SeenClass, ...]
    """The likeliest first."""
    random_weights: bool
    """True where the weights are seeded random numbers, and the classes mean nothing."""


def read_class_names(path: Path) -> tuple[str, ...]:
    """The 400 class names of a file, one a line, in the order of the classifier.

    Raises:
        SettingsError: The file cannot be read or has another number of names.
    """
    try:
        names = tuple(
            line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()
        )
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: class names cannot be read ({error}). Give a text file.") from error
    if len(names) != NUM_CLASSES:
        raise SettingsError(
            f"{path}: holds {len(names)} class names; the classifier has {NUM_CLASSES}. Give one name a line."
        )
    return names


def class_names_of(weights: ResolvedWeights, *, given: Path | None) -> tuple[str, ...]:
    """Class names from the file given, else from beside the weights, else numbers.

    Raises:
        SettingsError: A file of names cannot be used.
    """
    folders = [weights_folder()] if weights.path is None else [weights.path.parent, weights_folder()]
    near = (folder / name for folder in folders for name in CLASS_NAME_FILES)
    path = given or next((path for path in near if path.is_file()), None)
    if path is None:
        return tuple(f"class {index}" for index in range(NUM_CLASSES))
    return read_class_names(path)


def predict_classes(
    paths: Sequence[Path], *, extraction: ExtractionSettings, store: Address, class_names: Path | None = None
) -> list[VideoPrediction]:
    """The likeliest Kinetics classes of videos, by every profile of I3D; a video without features is left out.

    The head is linear, so that stored features say what a forward would have said, up to their rounding.

    Raises:
        SettingsError: The class names cannot be used.
        WeightsError: Weights cannot be had.
    """
    extractors = [one for one in shared_extractors(extraction, store)[0] if one.profile.kind == "i3d"]
    seen = partial(
        _predict,
        extractors=extractors,
        store=Store(store),
        rules=extraction.decode_rules,
        class_names=class_names,
    )
    return [prediction for path in paths for prediction in seen(path)]


def _predict(
    path: Path,
    *,
    extractors: Sequence[Extractor],
    store: Store,
    rules: DecodeRules,
    class_names: Path | None,
) -> list[VideoPrediction]:
    try:
        video = open_video(path, store=store, rules=rules)
        if missing_features(video.facts, video.video_hash, extractors, store=store):
            return []
        files = feature_files(video.facts, video.video_hash, extractors, store=store)
        return [
            VideoPrediction(
                video=video.id,
                path=str(path),
                profile=extractor.profile.spec,
                classes=top_classes(extractor, mean_features(file), class_names=class_names),
                random_weights=extractor.random_weights,
            )
            for extractor, file in zip(extractors, files, strict=True)
        ]
    except SettingsError:
        raise
    except (PipelineError, StorageError):
        # Extraction has said already what is wrong with this video.
        return []


def mean_features(path: Place) -> NDArray[np.float64]:
    """(D,) mean over the steps of a feature file, without holding them all."""
    total: NDArray[np.float64] | float = 0.0
    count = 0
    # By steps: a video of a variable rate may show one picture for longer than any chunk of time.
    while len(chunk := read_features(path, start_step=count, stop_step=count + _CHUNK_STEPS).feature):
        total += chunk.sum(axis=0, dtype=np.float64)
        count += len(chunk)
    return np.asarray(total) / count


def top_classes(
    extractor: Extractor, features: NDArray[np.float64], *, class_names: Path | None
) -> tuple[SeenClass, ...]:
    """The likeliest classes of mean features (D,); the logits of two streams are summed."""
    profile, networks = extractor.profile, extractor.networks
    logits = torch.zeros(NUM_CLASSES, dtype=torch.float64)
    for index, name in enumerate(profile.networks[: len(profile.streams)]):
        part = features[index * I3D_STREAM_WIDTH : (index + 1) * I3D_STREAM_WIDTH]
        encoder = networks.i3d(name, precision=profile.precision)
        logits += encoder.classify(torch.from_numpy(part.astype(np.float32))).double().cpu()
    names = class_names_of(networks.weights(profile.networks[0]), given=class_names)
    probabilities = logits.softmax(dim=0)
    best = logits.argsort(descending=True)[:_TOP].tolist()
    return tuple(
        SeenClass(name=names[index], probability=float(probabilities[index]), logit=float(logits[index]))
        for index in best
    )
