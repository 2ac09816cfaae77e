"""The training loop, to be read in one sitting: epochs of steps, validation, checkpoints, and when to give up."""

import logging
import math
from collections.abc import Sequence
from typing import NoReturn, cast

import torch
from torch import Tensor, nn

from fact.blocks import FACT, FACT_CLIP
from fact.errors import FeatureError, MatchError
from fact.graphs import GraphedGradients, can_be_recorded
from fact.loss import MatchCriterion
from pipeline import progress
from pipeline.augment import augmented
from pipeline.batch import Batch, target_of
from pipeline.errors import TrainingError
from pipeline.optim import make_average, make_optimizer, make_schedules
from pipeline.parallel import Team
from pipeline.sampler import epoch_steps, seed_of, steps_per_epoch
from pipeline.train_plan import Plan
from pipeline.training_data import TrainingData
from pipeline.training_state import TrainingState, load_checkpoint, save_checkpoint
from pipeline.validation import DECIDING_SCORE, FIGURES, ValidationVideo, is_better, validate
from storage.places import Place

log = logging.getLogger(__name__)

CHECKPOINTS = 20
"""Checkpoints over all epochs where the settings do not say how often."""

VALIDATION_CURVES = tuple(f"validation {name}" for name in FIGURES)
"""Names of the validation figures in the curves."""


class TrainingLoop:
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
        state, parameters = self._state, list(self._network.parameters())
        state.optimizer.zero_grad(set_to_none=True)
        losses, counts, reason = [], [], ""
        for batch in batches:
            count = len(batch.video_ids)
            try:
                # The mean over the videos of a step, however they are parted into batches and processes.
                losses.append(self._add_gradients(batch, scale=count / len(videos)))
            except (MatchError, FeatureError) as error:
                # Outputs that are not finite show in the matching, before there is a loss.
                reason = _in_videos(batch, error)
                break
            counts.append(count)
        self._team.sum_gradients(parameters)
        # A limit that nothing reaches, where the recipe clips nothing, still measures.
        norm = nn.utils.clip_grad_norm_(parameters, self._training.max_grad_norm or math.inf)
        # Everything the host must know of a step at once: an accelerator is waited for once.
        size, *means = torch.stack([norm, *losses]).tolist()
        ours = sum(mean * count for mean, count in zip(means, counts, strict=True))
        loss = self._team.total(math.nan if reason else ours)
        if not math.isfinite(loss) or not math.isfinite(size):
            # All processes come here, for what they added up is the same to all.
            self._give_up(videos, self._team.first_said(reason) or _what_grew(loss, size))
        state.position.learning_rate = state.optimizer.param_groups[0]["lr"]
        state.optimizer.step()
        for schedule in state.schedules:
            schedule.step()
        if state.average is not None:
            state.average.update_parameters(self._network)
        return loss

    def _add_gradients(self, batch: Batch, *, scale: float) -> Tensor:
        """Mean loss of one batch, a scalar; its gradient times ``scale`` is added to the parameters'."""
        how = self._plan.how
        batch = augmented(batch, channel_jitter=how.channel_jitter, time_stretch=how.time_stretch)
        target = target_of(batch, num_classes=self._network.num_classes)
        if self._graphed is not None:
            return self._graphed(batch.features_BTD, batch.valid_BT, target, scale=scale)
        half = how.precision == "bfloat16"
        with torch.autocast(self._team.device.type, dtype=torch.bfloat16, enabled=half):
            output = self._network(batch.features_BTD, valid=batch.valid_BT)
            total: Tensor = self._criterion(output, target).total
        (total * scale).backward()  # type: ignore[no-untyped-call]
        return total.detach()

    def _give_up(self, videos: Sequence[int], reason: str) -> NoReturn:
        """End before the step is taken. Nothing is saved: any remedy makes another run, which starts anew."""
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


def _in_videos(batch: Batch, error: MatchError | FeatureError) -> str:
    """What is wrong with a batch, with the ids of the videos whose features are."""
    bad = [
        video
        for video, features_TD in zip(batch.video_ids, batch.features_BTD, strict=True)
        if not features_TD.isfinite().all()
    ]
    return f"{error} The features are those of {', '.join(bad)}." if bad else str(error)


def _what_grew(loss: float, gradient: float) -> str:
    found = f"the loss became {loss}" if not math.isfinite(loss) else f"the gradient became {gradient}"
    return f"{found}. Lower --learning-rate, and look at these videos; the same command would come to the same step."
