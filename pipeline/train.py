"""Training: labelled videos in, a finished run folder out; ``train_loop`` holds the loop itself."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch

from pipeline.device import check_precision, choose_device, deterministic_algorithms
from pipeline.fine_tune import start_from
from pipeline.model import TrainedModel, save_model
from pipeline.outcome import VideoOutcome
from pipeline.parallel import Team, join_team
from pipeline.run_files import read_curves
from pipeline.sampler import seed_of
from pipeline.settings import EvaluateSettings, RunSettings
from pipeline.train_facts import write_facts
from pipeline.train_loop import TrainingLoop
from pipeline.train_plan import Plan, plan_run
from pipeline.training_data import Loading, StoredSamples, TrainingData, survey_channels
from pipeline.unseen_bias import settle_unseen_bias
from pipeline.validation import prepare_validation
from storage.atomic import artefact_lock
from storage.errors import MissingArtefactError
from storage.folders import is_finished, start_folder
from storage.places import Place
from storage.runs import find_run
from storage.store import Store

log = logging.getLogger(__name__)

SMALL_BATCH_STEPS = 256
"""Batches of fewer feature steps train with one thread on a CPU; docs/performance.md has the measurements."""


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
        DatasetError: No training video can be used, or features are not finite; the message says which and why.
        TrainingError: A loss or gradient is not finite, or tokens cannot be matched; the message names the videos.
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
    check_precision(how.precision, device=team.device)
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
    loading = Loading(preload=how.preload, workers=how.loader_workers, device=team.device)
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
            state = TrainingLoop(
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
