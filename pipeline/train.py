"""Training: labelled videos in, a finished run folder out. The loop is meant to be read in one sitting."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from fact.blocks import FACT, FACT_CLIP
from fact.errors import MatchError
from fact.graphs import GraphedGradients, can_be_recorded
from fact.loss import MatchCriterion, SegmentTarget
from pipeline import progress
from pipeline.augment import augmented
from pipeline.batch import Batch
from pipeline.device import choose_device, deterministic_algorithms
from pipeline.errors import TrainingError
from pipeline.fine_tune import start_from
from pipeline.model import TrainedModel, save_model
from pipeline.optim import make_average, make_optimizer, make_schedules
from pipeline.outcome import VideoOutcome
from pipeline.parallel import Team, join_team
from pipeline.run_files import read_curves
from pipeline.sampler import epoch_steps, seed_of, steps_per_epoch
from pipeline.settings import EvaluateSettings, RunSettings
from pipeline.train_facts import write_facts
from pipeline.train_plan import Plan, plan_run
from pipeline.training_data import Loading, StoredSamples, TrainingData, survey_channels
from pipeline.training_state import TrainingState, load_checkpoint, save_checkpoint
from pipeline.unseen_bias import settle_unseen_bias
from pipeline.validation import (
    DECIDING_SCORE,
    FIGURES,
    ValidationVideo,
    is_better,
    prepare_validation,
    validate,
)
from storage.atomic import artefact_lock
from storage.errors import MissingArtefactError
from storage.folders import is_finished, start_folder
from storage.places import Place
from storage.runs import find_run
from storage.store import Store

log = logging.getLogger(__name__)

SMALL_BATCH_STEPS = 256
"""Batches of fewer feature steps train with one thread on a CPU; docs/performance.md has the measurements."""

CHECKPOINTS = 20
"""Checkpoints over all epochs where the settings do not say how often."""

VALIDATION_CURVES = tuple(f"validation {name}" for name in FIGURES)
"""Names of the validation figures in the curves."""


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


def train(settings: RunSettings) -> TrainOutcome:
    """Train the model that ``settings`` describe, unless the store already has that very run.

    A run that was killed goes on from its last checkpoint, to the same weights as without the kill.

    Raises:
        DatasetError: No training video can be used; the message names the first reason.
        TrainingError: The loss is not finite, or tokens cannot be matched; the message names the videos.
    """
    store = Store(settings.store, must_exist=True)
    settings, chosen = settle_unseen_bias(settings, store=store, run_of=lambda fold: train(fold).run)
    plan, survey = plan_run(settings, store=store)
    key = plan.key()
    folder = store.run_folder(key)
    with (
        join_team(choose_device(settings.extraction.device)) as team,
        artefact_lock(folder) if team.first else nullcontext(),
    ):
        # One process holds the lock for all of them; nobody looks before it does.
        team.wait()
        trained = not is_finished(folder)
        team.wait()
        if trained:
            _train_into(folder, plan, settings=settings, store=store, team=team)
        if team.first:
            store.checkpoint_path(key).unlink(missing_ok=True)
        team.wait()
    return TrainOutcome(
        run=key,
        trained=trained,
        epochs=len(read_curves(folder)),
        outcomes=survey.outcomes,
        notes=(
            *(source.note for source in survey.sources if source.note),
            *plan.notes,
            *chosen,
            *plan.description.notices,
        ),
    )


def find_trained(settings: EvaluateSettings) -> str:
    """Key of the finished run that ``settings`` name, or that these very settings train.

    Raises:
        MissingArtefactError: There is no such run, or it is not finished.
    """
    store = Store(settings.store, must_exist=True)
    if settings.run:
        return find_run(store, settings.run)
    settings, _ = settle_unseen_bias(settings, store=store, run_of=find_trained)
    key = plan_run(settings, store=store)[0].key()
    if not is_finished(store.run_folder(key)):
        raise MissingArtefactError(
            "These options were never trained with. Run `factseg train` with the same ones."
        )
    return key


def _train_into(folder: Place, plan: Plan, *, settings: RunSettings, store: Store, team: Team) -> None:
    started = time.perf_counter()
    _announce(plan, recipe=settings.training.recipe)
    description, how = plan.description, plan.how
    rate, width = description.sample_rate, description.width
    channels = survey_channels(
        plan.sources,
        sample_rate=rate,
        pool=how.pool,
        standardize=how.standardize_over if how.standardize else None,
        width=width,
        store=store,
    )
    standardisation = channels.standardisation
    stored = StoredSamples(
        plan.sources, sample_rate=rate, pool=how.pool, standardisation=standardisation, store=store
    )
    loading = Loading(preload=how.preload, workers=how.workers, device=team.device)
    data = TrainingData(stored, lengths=channels.lengths, width=description.input_width, loading=loading)
    held_out = prepare_validation(
        plan.validation if team.first else (),
        sample_rate=rate,
        pool=how.pool,
        standardisation=standardisation,
        store=store,
    )
    gpus = [team.device] if team.device.type == "cuda" else []
    with torch.random.fork_rng(gpus), deterministic_algorithms(how.deterministic):
        torch.manual_seed(seed_of(plan.seed, "weights"))
        vectors = None if plan.texts is None else torch.from_numpy(plan.texts.vectors)
        network = description.build(vectors)
        if plan.initial is not None:
            start_from(network, plan.initial, class_names=description.class_names)
        network.to(team.device)
        checkpoint = store.checkpoint_path(folder.name)
        with _threads_for(data, batch_size=description.config.training.batch_size, device=team.device):
            state = _Training(
                network, data, plan=plan, held_out=held_out, checkpoint=checkpoint, team=team
            ).run()
    if not team.first:
        return
    start_folder(folder)
    save_model(
        folder, TrainedModel(description=description, network=network, standardisation=standardisation)
    )
    write_facts(folder, state, plan=plan, settings=settings, seconds=time.perf_counter() - started, team=team)


def _announce(plan: Plan, *, recipe: str) -> None:
    config = plan.description.config
    log.info(
        "training %s by recipe %s on %d videos, %d held out: %d tokens, %d epochs, batches of %d, learning rate %g",
        plan.description.kind,
        recipe,
        len(plan.sources),
        len(plan.validation),
        config.model.num_tokens,
        config.training.epochs,
        config.training.batch_size,
        config.training.lr,
    )
    for notice in plan.description.notices:
        log.warning("%s", notice)


@contextmanager
def _threads_for(data: TrainingData, *, batch_size: int, device: torch.device) -> Iterator[None]:
    """One thread while small batches train on a CPU: handing such work out takes longer than doing it."""
    mean_steps = sum(data.lengths) / len(data.lengths)
    before = torch.get_num_threads()
    if device.type == "cpu" and mean_steps * batch_size < SMALL_BATCH_STEPS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Training:
    """The loop: epochs of steps, each a few batches whose gradients are summed; checkpoints between steps."""

    def __init__(
        self,
        network: FACT | FACT_CLIP,
        data: TrainingData,
        *,
        plan: Plan,
        held_out: Sequence[ValidationVideo],
        checkpoint: Place,
        team: Team,
    ) -> None:
        config = plan.description.config
        self._training = config.training
        self._team = team
        self._plan = plan
        self._data = data
        self._held_out = held_out
        self._checkpoint = checkpoint
        self._steps_per_epoch = steps_per_epoch(
            len(data.lengths), batch_size=self._training.batch_size, accumulate=plan.how.accumulate
        )
        team.check_batch_size(self._training.batch_size)
        self._criterion = MatchCriterion(
            config,
            n_classes=len(plan.description.class_names),
            bg_class=list(plan.description.background),
            mean_segments=plan.mean_segments,
        ).to(team.device)
        self._network = network
        self._graphed = None
        if self._records():
            half = torch.bfloat16 if plan.how.precision == "bfloat16" else None
            self._graphed = GraphedGradients(network, self._criterion, autocast=half)
        optimizer = make_optimizer(network.parameters(), self._training, name=plan.how.optimizer)
        self._state = TrainingState(
            network=network,
            optimizer=optimizer,
            schedules=make_schedules(
                optimizer,
                self._training,
                name=plan.how.schedule,
                warmup_epochs=plan.how.warmup_epochs,
                steps_per_epoch=self._steps_per_epoch,
            ),
            average=make_average(network, decay=plan.how.ema),
        )

    def _records(self) -> bool:
        """Whether steps run by CUDA graphs."""
        how, team = self._plan.how, self._team
        if how.graphs is not None:
            return how.graphs
        return (
            team.device.type == "cuda"
            and team.size == 1
            and not how.deterministic
            and can_be_recorded(self._network)
        )

    def run(self) -> TrainingState:
        """Train to the end and leave the network with the weights to keep: the best validated, else the last."""
        state, position = self._state, self._state.position
        if self._checkpoint.is_file():
            load_checkpoint(self._checkpoint, state)
            position = state.position
            log.info("going on after epoch %d and %d steps more", position.epoch, position.step)
        while position.epoch < self._training.epochs and not self._is_stopped():
            self._network.train()
            self._epoch()
        kept = state.best_weights or state.evaluated.state_dict()
        self._network.load_state_dict(kept)
        return state

    def _epoch(self) -> None:
        """From where the position stands to the end of its epoch."""
        position, how = self._state.position, self._plan.how
        epoch = position.epoch + 1
        steps = epoch_steps(
            self._data.lengths,
            batch_size=self._training.batch_size,
            accumulate=how.accumulate,
            seed=self._plan.seed,
            epoch=epoch,
        )[position.step :]
        shares = [[self._team.share(batch) for batch in step] for step in steps]
        batches = self._data.batches([share for step in shares for share in step])
        for step, shared in zip(steps, shares, strict=True):
            torch.manual_seed(seed_of(self._plan.seed, "step", epoch, position.step, self._team.rank))
            position.loss += self._step(
                [next(batches) for share in shared if share],
                videos=[video for batch in step for video in batch],
            )
            position.step += 1
            if how.checkpoint_steps and position.step % how.checkpoint_steps == 0:
                self._save()
        self._finish_epoch()

    def _step(self, batches: Sequence[Batch], *, videos: Sequence[int]) -> float:
        """One step of the optimiser over these batches; the loss of all processes, summed over videos."""
        state = self._state
        state.optimizer.zero_grad(set_to_none=True)
        loss, reason = 0.0, ""
        for batch in batches:
            count = len(batch.video_ids)
            try:
                # The mean over the videos of a step, however they are parted into batches and processes.
                loss += self._add_gradients(batch, scale=count / len(videos)) * count
            except MatchError as error:
                # Outputs that are not finite show in the matching, before there is a loss.
                loss, reason = float("nan"), str(error)
                break
        loss = self._team.total(loss)
        if not np.isfinite(loss):
            self._give_up(
                videos, reason or f"the loss became {loss}. Lower --learning-rate, and look at these videos."
            )
        self._team.sum_gradients(self._network.parameters())
        if self._training.max_grad_norm:
            nn.utils.clip_grad_norm_(self._network.parameters(), self._training.max_grad_norm)
        state.position.learning_rate = state.optimizer.param_groups[0]["lr"]
        state.optimizer.step()
        for schedule in state.schedules:
            schedule.step()
        if state.average is not None:
            state.average.update_parameters(self._network)
        return loss

    def _add_gradients(self, batch: Batch, *, scale: float) -> float:
        """Mean loss of one batch, whose gradient times ``scale`` is added to the parameters'."""
        how = self._plan.how
        batch = augmented(batch, channel_jitter=how.channel_jitter, time_stretch=how.time_stretch)
        target = SegmentTarget.from_labels(
            batch.labels_BT, batch.valid_BT, num_classes=self._network.num_classes
        )
        if self._graphed is not None:
            return float(self._graphed(batch.features_BTD, batch.valid_BT, target, scale=scale))
        half = how.precision == "bfloat16"
        with torch.autocast(self._team.device.type, dtype=torch.bfloat16, enabled=half):
            output = self._network(batch.features_BTD, valid=batch.valid_BT)
            total: Tensor = self._criterion(output, target).total
        (total * scale).backward()  # type: ignore[no-untyped-call]
        return float(total.detach())

    def _give_up(self, videos: Sequence[int], reason: str) -> None:
        names = ", ".join(self._plan.sources[index].video.id for index in videos)
        kept = f" The weights before it are kept in {self._checkpoint}." if self._checkpoint.is_file() else ""
        raise TrainingError(f"{names}: {reason}{kept}")

    def _finish_epoch(self) -> None:
        """Figures, validation, checkpoint."""
        position, how = self._state.position, self._plan.how
        loss = position.loss / len(self._data.lengths)
        position.epoch, position.step, position.loss = position.epoch + 1, 0, 0.0
        row: dict[str, float | None] = {
            "epoch": position.epoch,
            "loss": loss,
            "learning_rate": position.learning_rate,
        }
        note = f"loss {loss:.3f}"
        if self._plan.validation:
            due = position.epoch % how.validate_every == 0 or position.epoch == self._training.epochs
            row |= self._validate() if due else dict.fromkeys(VALIDATION_CURVES)
            note += f", validation {DECIDING_SCORE} {position.best.get(DECIDING_SCORE, 0.0):.1f} at best"
        position.curves.append(row)
        every = how.checkpoint_epochs or max(1, self._training.epochs // CHECKPOINTS)
        if position.epoch % every == 0:
            self._save()
        progress.report("train", done=position.epoch, total=self._training.epochs, unit="epochs", note=note)

    def _validate(self) -> dict[str, float | None]:
        """Score the held-out videos, and keep the weights where they are the best so far."""
        state, position, described = self._state, self._state.position, self._plan.description
        scores: dict[str, float] = {}
        if self._team.first:
            network = cast("FACT | FACT_CLIP", state.evaluated)
            scores = validate(
                network, self._held_out, classes=described.classes, background=described.background
            )
        scores = self._team.from_first(scores)
        position.without_gain += 1
        if is_better(scores, position.best):
            position.best, position.best_epoch, position.without_gain = scores, position.epoch, 0
            state.keep_best()
        return {f"validation {name}": value for name, value in scores.items()}

    def _is_stopped(self) -> bool:
        patience = self._plan.how.patience
        return patience is not None and self._state.position.without_gain >= patience

    def _save(self) -> None:
        if self._team.first:
            save_checkpoint(self._checkpoint, self._state)
