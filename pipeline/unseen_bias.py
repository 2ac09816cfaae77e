"""How far classes never seen in training are favoured: chosen on seen classes that are held out in turn.

Steps are drawn to the texts of seen classes only, so a model hardly ever prefers another; a bias, in nats, evens that
out (calibrated stacking: Chao et al., "An Empirical Study and Analysis of Generalized Zero-Shot Learning", ECCV
2016). What the classes that are really unseen need cannot be known, but what others needed can: each of some
seen classes is held out of a training of its own, beside some whole videos, and on these videos every bias is scored
with every price of a change of class.

No temperature is tried beside them: the path of labels by similarities over a temperature is that by the similarities
themselves with bias and price both multiplied by it, so the pairs of these two are all there is to choose from.
"""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from fact.blocks import FACT_CLIP
from fact.paths import best_path
from pipeline.alignment import nearest_steps
from pipeline.dataset import LabelledSource, load_features
from pipeline.device import choose_device
from pipeline.errors import SettingsError
from pipeline.metrics import LabelledPrediction, subset_counts
from pipeline.metrics_counts import IOU_PERCENTS
from pipeline.metrics_zero_shot import harmonic_mean
from pipeline.model import TrainedModel, load_model
from pipeline.settings import RunSettings
from pipeline.train_plan import Plan, plan_run
from pipeline.unseen import classes_of
from storage.store import Store

log = logging.getLogger(__name__)

BIASES = tuple(float(bias) for bias in np.arange(0, 12.5, 0.5))
"""What is tried, in nats."""

PRICE_FACTORS = (1.0, 0.5, 2.0, 0.25)
"""Prices of a change of class that are tried, over the recipe's; of equal ones the first is taken."""

Favour = tuple[float, float]
"""A bias and a price, in nats."""

_EVERY_VIDEO = ".+"
"""Groups of one video each, where the settings name no others."""
_HELD_OUT = 5
"""One of so many videos is held out, where the settings do not say how many."""

_SCORED = ("frame accuracy", *(f"f1@{percent}" for percent in IOU_PERCENTS))

Settings = TypeVar("Settings", bound=RunSettings)


def settle_unseen_bias(
    settings: Settings, *, store: Store, run_of: Callable[[Settings], str]
) -> tuple[Settings, tuple[str, ...]]:
    """Settings with bias and price in them, where they ask for these to be chosen, and a sentence that says how.

    Args:
        settings: Those of a training; as they are, and without a sentence, where `unseen_folds` is 0. A `switch_cost`
            that they give is kept, and the bias alone is chosen.
        store: Where everything lies.
        run_of: Trains with settings, or finds what was trained with them; the key of the run.

    Raises:
        SettingsError: Nothing is held out, or no class can be held out in turn.
    """
    folds = settings.training.unseen_folds
    if not folds:
        return settings, ()
    base = _with(settings, unseen_folds=0, **_held_out_videos(settings, store=store))
    plan, _ = plan_run(base, store=store)
    chosen = _classes_in_turn(plan, split=settings.dataset.split)[:folds]
    names = plan.description.class_names
    unseen = plan.description.config.unseen_classes
    price = plan.description.config.clip.switch_cost
    factors = PRICE_FACTORS if settings.training.switch_cost is None else (1.0,)
    tried = tuple((bias, factor * price) for factor in factors for bias in BIASES)
    by_class = []
    for index in chosen:
        held_out = tuple(names[one] for one in (*unseen, index))
        log.info("choosing how far unseen classes are favoured: holding out %s", names[index])
        run = run_of(_with(base, unseen=held_out))
        model = load_model(store.run_folder(run), device=choose_device(settings.extraction.device))
        by_class.append(_scores(model, plan.validation, unseen=index, tried=tried, store=store))
    means = [float(np.mean([scores[favour] for scores in by_class])) for favour in tried]
    bias, price = tried[int(np.argmax(means))]
    listed = ", ".join(repr(names[index]) for index in chosen)
    sentence = (
        f"Unseen classes are favoured by {bias:g} nats and a change of class costs {price:g}, which served {listed} "
        f"best when each was held out in turn (harmonic mean {max(means):.1f}, without a bias {means[0]:.1f})."
    )
    return _with(settings, unseen_folds=0, unseen_bias=bias, switch_cost=price), (sentence,)


def _with(settings: Settings, **changes: object) -> Settings:
    return settings.model_copy(update={"training": settings.training.model_copy(update=changes)})


def _held_out_videos(settings: RunSettings, *, store: Store) -> dict[str, object]:
    """Settings that hold out whole videos: those given, else one video of five."""
    if settings.training.validation_groups:
        return {}
    num_videos = len(plan_run(_with(settings, unseen_folds=0), store=store)[0].used)
    if num_videos == 1:
        raise SettingsError(
            "--unseen-folds scores on videos held out of training, and there is one training video. Label another, or "
            "give --unseen-bias."
        )
    return {
        "validation_groups": _EVERY_VIDEO,
        "validation_count": max(1, num_videos // _HELD_OUT),
        # Weights after the last epoch are kept, as where nothing is held out.
        "validate_every": 10**6,
    }


def _classes_in_turn(plan: Plan, *, split: str) -> list[int]:
    """Classes that can be held out, in an order that depends on their names and the split alone."""
    described = plan.description
    if not described.config.use_clip or not described.config.unseen_classes:
        raise SettingsError(
            "--unseen-folds chooses how far unseen classes are favoured, but none is held out of training, or the "
            "model has no texts to find them by. Use --model fact-clip and name classes with --unseen."
        )
    trained = classes_of(plan.sources) - set(described.background)
    found = sorted(
        trained & classes_of(plan.validation),
        key=lambda index: hashlib.sha256(f"{split}/{described.class_names[index]}".encode()).digest(),
    )
    if len(trained) < 2 or not found:
        raise SettingsError(
            f"--unseen-folds holds out seen classes in turn, but of {len(trained)} that are trained on {len(found)} "
            "are in the videos held out beside them. Hold out fewer classes or other videos, or give --unseen-bias."
        )
    return found


def _scores(
    model: TrainedModel,
    videos: Sequence[LabelledSource],
    *,
    unseen: int,
    tried: Sequence[Favour],
    store: Store,
) -> Mapping[Favour, float]:
    """For each pair the mean, over accuracy and F1, of the harmonic means of seen classes and the unseen one."""
    described = model.description
    predictions: dict[Favour, list[LabelledPrediction]] = defaultdict(list)
    for source in videos:
        loaded = load_features(
            source.stored, sample_rate=described.sample_rate, store=store, pool=described.pool
        )
        # Frames of classes that are really unseen are not looked at.
        times = source.video.facts.frame_times[: len(source.labels)][source.kept]
        owner = nearest_steps(times, loaded.step_times)
        for favour, labels_T in _labels(model, loaded.features, tried=tried).items():
            predictions[favour].append(
                LabelledPrediction(
                    video_id=source.video.id, truth=source.labels[source.kept], predicted=labels_T[owner]
                )
            )
    return {favour: _harmonic(made, model=model, unseen=unseen) for favour, made in predictions.items()}


def _labels(
    model: TrainedModel, features: NDArray[np.float32], *, tried: Sequence[Favour]
) -> dict[Favour, NDArray[np.int64]]:
    """(T,) labels by fusion ``path`` with every pair; for each price the paths of all biases are one batch."""
    network = model.network
    if not isinstance(network, FACT_CLIP):
        raise TypeError("Only a FACT_CLIP is biased towards unseen classes.")
    biases_by_price: dict[float, list[float]] = defaultdict(list)
    for bias, price in tried:
        biases_by_price[price].append(bias)
    texts_CW, found = network.text_embeddings, {}
    with torch.inference_mode():
        output = network(model.standardisation.apply(features)[None].to(texts_CW.device))
        logits_1TC = output.projected @ texts_CW.T / network.config.clip.temperature
        unseen_C = torch.zeros(len(texts_CW), device=texts_CW.device)
        unseen_C[list(network.config.unseen_classes)] = 1
        for price, biases in biases_by_price.items():
            bias_B11 = torch.tensor(biases, device=texts_CW.device)[:, None, None]
            scores_BTC = (logits_1TC + bias_B11 * unseen_C).log_softmax(-1)
            labels_BT = best_path(scores_BTC, output.valid.expand(len(biases), -1), switch_cost=price)
            for bias, labels_T in zip(biases, labels_BT.cpu().numpy(), strict=True):
                found[bias, price] = labels_T
    return found


def _harmonic(videos: Sequence[LabelledPrediction], *, model: TrainedModel, unseen: int) -> float:
    described = model.description
    # The classes that are really unseen are on the side of the seen ones: whatever is called one of them is wrong here.
    seen = set(range(len(described.class_names))) - {unseen}
    sides = [
        subset_counts(
            videos,
            classes=part,
            class_names=described.class_names,
            background=described.background,
            convention="mstcn",
        ).figures()
        for part in (seen, {unseen})
    ]
    means = [harmonic_mean(sides[0][name], sides[1][name]) for name in _SCORED]
    # A class without a segment to find has no F1.
    return float(np.mean(np.nan_to_num(means)))
