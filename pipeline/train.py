"""Training: labelled videos in, a finished run folder out. The loop is meant to be read in one sitting."""

import dataclasses
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR

from fact.blocks import FACT, FACT_CLIP
from fact.config import TrainingConfig as FactTraining
from fact.errors import MatchError
from fact.loss import MatchCriterion, SegmentTarget
from pipeline import progress
from pipeline.batch import Batch, Sample, shuffled_batches
from pipeline.dataset import LabelledSource, Survey, labels_by_step, load_features, survey_part
from pipeline.device import choose_device
from pipeline.errors import DatasetError, TrainingError
from pipeline.inputs import inputs_of_settings
from pipeline.labels import read_mapping, read_split
from pipeline.model import (
    ModelDescription,
    Standardisation,
    TextInput,
    TrainedModel,
    save_model,
)
from pipeline.outcome import VideoOutcome, failures
from pipeline.provenance import describe_machine, git_revision
from pipeline.recipes import background_ids, resolve_config
from pipeline.settings import EvaluateSettings, RunSettings
from pipeline.texts import ClassTexts, embed_classes
from storage.atomic import artefact_lock, atomic_path, write_json_atomically
from storage.errors import MissingArtefactError
from storage.folders import finish_folder, is_finished, start_folder
from storage.keys import digest_of
from storage.runs import find_run
from storage.store import Store

log = logging.getLogger(__name__)

TRAIN_VERSION = 1
"""Version of the code between features and weights; part of every run's key."""

SMALL_BATCH_STEPS = 256
"""Batches of fewer feature steps train with one thread on a CPU; docs/performance.md has the measurements."""

CURVES_FILE = "curves.parquet"
"""Figures by epoch."""

SETTINGS_FILE = "settings.json"
"""The settings the run was started with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOutcome:
    """What a training ended with."""

    run: str
    """Key of the run in the store."""
    trained: bool
    """False where the run was already there and nothing was trained."""
    epochs: int
    outcomes: tuple[VideoOutcome, ...]
    """What became of each training video."""
    notes: tuple[str, ...]
    """Sentences worth showing: labels that were cut, random weights."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Plan:
    """Everything a run's key is made of."""

    sources: tuple[LabelledSource, ...]
    description: ModelDescription
    texts: ClassTexts | None
    mean_segments: float
    seed: int

    def key(self) -> str:
        """Name of the run. The device is left out: where a run happens is no reason to repeat it."""
        described = dataclasses.asdict(self.description)
        described["config"] = self.description.config.to_mapping()
        return digest_of(
            {
                "version": TRAIN_VERSION,
                "model": described,
                "videos": [
                    [source.video.id, *source.stored.keys, source.label_digest] for source in self.sources
                ],
                "text encoder": self.texts and dataclasses.asdict(self.texts.encoder),
                "seed": self.seed,
            }
        )


def train(settings: RunSettings) -> TrainOutcome:
    """Train the model that ``settings`` describe, unless the store already has that very run.

    Raises:
        DatasetError: No training video can be used; the message names the first reason.
        TrainingError: The loss is not finite, or tokens cannot be matched; the message names the videos.
    """
    store = Store(settings.store)
    plan, survey = _plan(settings, store=store)
    key = plan.key()
    folder = store.run_folder(key)
    with artefact_lock(folder):
        trained = not is_finished(folder)
        if trained:
            _train_into(folder, plan, settings=settings, store=store)
    return TrainOutcome(
        run=key,
        trained=trained,
        epochs=plan.description.config.training.epochs,
        outcomes=survey.outcomes,
        notes=(*(source.note for source in survey.sources if source.note), *plan.description.notices),
    )


def find_trained(settings: EvaluateSettings) -> str:
    """Key of the finished run that ``settings`` name, or that these very settings train.

    Raises:
        MissingArtefactError: There is no such run, or it is not finished.
    """
    store = Store(settings.store)
    if settings.run:
        return find_run(store, settings.run)
    key = _plan(settings, store=store)[0].key()
    if not is_finished(store.run_folder(key)):
        raise MissingArtefactError(
            "These options were never trained with. Run `factseg train` with the same ones."
        )
    return key


def read_curves(folder: Path) -> list[dict[str, float]]:
    """Figures by epoch of a finished run; every row has ``epoch``."""
    rows: list[dict[str, float]] = pq.read_table(folder / CURVES_FILE).to_pylist()
    return rows


def _plan(settings: RunSettings, *, store: Store) -> tuple[_Plan, Survey]:
    """What a run would be made of; reads labels, but neither pictures nor features."""
    dataset = settings.dataset
    classes = read_mapping(dataset.mapping)
    split = read_split(dataset.splits, dataset.split)
    inputs = inputs_of_settings(settings.extraction, store=store)
    survey = survey_part(split.train, dataset=dataset, inputs=inputs, classes=classes, store=store)
    if not survey.sources:
        failed = failures(survey.outcomes)
        raise DatasetError(
            f"None of the {len(failed)} training videos can be used; the first: {failed[0].reason}"
        )
    segments = [source.num_segments for source in survey.sources]
    config = resolve_config(settings.training, max_segments=max(segments))
    texts = None
    if config.use_clip:
        texts = embed_classes(classes.names, text=settings.text, extraction=settings.extraction, store=store)
    description = ModelDescription(
        kind=settings.training.model,
        config=config,
        class_names=classes.names,
        background=background_ids(
            config, recipe_name=settings.training.recipe, dataset=dataset, classes=classes
        ),
        inputs=tuple(item.described for item in inputs),
        text=None if texts is None else _text_input(texts),
    )
    plan = _Plan(
        sources=survey.sources,
        description=description,
        texts=texts,
        mean_segments=float(np.mean(segments)),
        seed=settings.training.seed,
    )
    return plan, survey


def _text_input(texts: ClassTexts) -> TextInput:
    return TextInput(
        model=texts.encoder.model,
        weights_digest=texts.encoder.weights_digest,
        random_weights=texts.random_weights,
        prompts=texts.prompts,
    )


def _train_into(folder: Path, plan: _Plan, *, settings: RunSettings, store: Store) -> None:
    started = time.perf_counter()
    start_folder(folder)
    description = plan.description
    training = description.config.training
    log.info(
        "training %s by recipe %s on %d videos: %d tokens, %d epochs, batches of %d, learning rate %g",
        description.kind,
        settings.training.recipe,
        len(plan.sources),
        description.config.model.num_tokens,
        training.epochs,
        training.batch_size,
        training.lr,
    )
    for notice in description.notices:
        log.warning("%s", notice)
    loaded = [
        load_features(source.stored, sample_rate=description.sample_rate, store=store)
        for source in plan.sources
    ]
    standardisation = Standardisation.of([video.features for video in loaded])
    samples = [
        Sample(
            video_id=source.video.id,
            features_TD=standardisation.apply(video.features),
            labels_T=torch.from_numpy(labels_by_step(source, video)),
        )
        for source, video in zip(plan.sources, loaded, strict=True)
    ]
    device = choose_device(settings.extraction.device)
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        vectors = None if plan.texts is None else torch.from_numpy(plan.texts.vectors)
        network = description.build(vectors).to(device)
        with _threads_for(samples, batch_size=training.batch_size, device=device):
            curves = _fit(network, samples, plan=plan, device=device)
    save_model(
        folder, TrainedModel(description=description, network=network, standardisation=standardisation)
    )
    with atomic_path(folder / CURVES_FILE) as scratch:
        pq.write_table(pa.Table.from_pylist(curves), scratch)
    write_json_atomically(folder / SETTINGS_FILE, settings.model_dump(mode="json"))
    finish_folder(
        folder,
        {
            "kind": "run",
            "version": TRAIN_VERSION,
            "git_revision": git_revision(),
            "machine": describe_machine(device),
            "seed": plan.seed,
            "seconds": round(time.perf_counter() - started, 1),
            "videos": {source.video.id: list(source.stored.keys) for source in plan.sources},
            "labels": {source.video.id: source.label_digest for source in plan.sources},
            "notices": list(description.notices),
        },
    )


@contextmanager
def _threads_for(samples: Sequence[Sample], *, batch_size: int, device: torch.device) -> Iterator[None]:
    """One thread while small batches train on a CPU: handing such work out takes longer than doing it."""
    mean_steps = sum(len(sample.features_TD) for sample in samples) / len(samples)
    before = torch.get_num_threads()
    if device.type == "cpu" and mean_steps * batch_size < SMALL_BATCH_STEPS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fit(
    network: FACT | FACT_CLIP, samples: Sequence[Sample], *, plan: _Plan, device: torch.device
) -> list[dict[str, Any]]:
    """Train ``network`` in place; figures by epoch."""
    config = plan.description.config
    training = config.training
    num_classes = len(plan.description.class_names)
    criterion = MatchCriterion(
        config,
        n_classes=num_classes,
        bg_class=list(plan.description.background),
        mean_segments=plan.mean_segments,
    ).to(device)
    optimizer = _optimizer(network, training)
    scheduler = _scheduler(optimizer, training)
    order = torch.Generator().manual_seed(plan.seed)
    network.train()
    curves = []
    for epoch in range(1, training.epochs + 1):
        epoch_loss = 0.0
        for batch in shuffled_batches(samples, batch_size=training.batch_size, generator=order):
            loss = _step(
                network,
                criterion,
                optimizer,
                batch.to(device),
                num_classes=num_classes,
                max_grad_norm=training.max_grad_norm,
            )
            epoch_loss += loss * len(batch.video_ids) / len(samples)
        curves.append({"epoch": epoch, "loss": epoch_loss, "learning_rate": scheduler.get_last_lr()[0]})
        scheduler.step()
        progress.report(
            "train", done=epoch, total=training.epochs, unit="epochs", note=f"loss {epoch_loss:.3f}"
        )
    return curves


def _step(
    network: nn.Module,
    criterion: MatchCriterion,
    optimizer: Optimizer,
    batch: Batch,
    *,
    num_classes: int,
    max_grad_norm: float,
) -> float:
    """One step of the optimiser; the loss of the batch."""
    optimizer.zero_grad(set_to_none=True)
    target = SegmentTarget.from_labels(batch.labels_BT, batch.valid_BT, num_classes=num_classes)
    output = network(batch.features_BTD, valid=batch.valid_BT)
    try:
        loss = criterion(output, target).total
    except MatchError as error:
        # Outputs that are not finite show in the matching, before there is a loss.
        raise TrainingError(f"{', '.join(batch.video_ids)}: {error}") from error
    value = float(loss.detach())
    if not np.isfinite(value):
        raise TrainingError(
            f"{', '.join(batch.video_ids)}: the loss became {value}. "
            "Lower --learning-rate, and look at the features of these videos."
        )
    loss.backward()
    if max_grad_norm:
        nn.utils.clip_grad_norm_(network.parameters(), max_grad_norm)
    optimizer.step()
    return value


def _optimizer(network: nn.Module, training: FactTraining) -> Optimizer:
    if training.optimizer == "Adam":
        return Adam(network.parameters(), lr=training.lr, weight_decay=training.weight_decay)
    return SGD(
        network.parameters(), lr=training.lr, momentum=training.momentum, weight_decay=training.weight_decay
    )


def _scheduler(optimizer: Optimizer, training: FactTraining) -> LRScheduler:
    """The learning rate times 0.1, once, after epoch ``lr_decay``."""
    milestones = [] if training.lr_decay is None else [training.lr_decay]
    return MultiStepLR(optimizer, milestones=milestones, gamma=0.1)
