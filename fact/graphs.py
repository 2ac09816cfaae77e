"""Gradients of a training step by CUDA graphs: the plain step's own code, recorded once for each shape.

A step of the published recipes is some thousands of small kernels, which a host starts more slowly than a GPU
runs them; a graph starts all of them at once. It needs fixed shapes, so videos are padded to one of a few
lengths, which changes no answer. A step has three graphs: forward up to the costs of matching, which the host
reads and solves, then losses, then backward, which the host starts while the losses are computed.

Axes: B batch, T padded steps, S padded segments of the labels, M tokens, D feature width.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fact.blocks import FACT
from fact.errors import ConfigError
from fact.heads import ClassHead
from fact.inputs import check_shapes
from fact.loss import MatchCriterion
from fact.recorded import RecordedStep, Shape, StepParts, power_of_two
from fact.target import SegmentTarget

ROOMS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Predicted segments per video that graphs are made for; beyond, as in the first epochs, a step runs plainly."""
KEPT = 96
"""Shapes whose graphs are kept; the one unused for longest makes place."""
_REMEMBERED = 50
"""Steps whose numbers of predicted segments decide how much room the next one gets."""
_LEAST_STEPS, _LENGTHS_PER_OCTAVE, _LEAST_SEGMENTS = 32, 8, 32


def padded_length(num_steps: int) -> int:
    """The next of 8 lengths between two powers of two: beyond 256, at most an eighth is padding.

    >>> padded_length(1100), padded_length(2000), padded_length(5)
    (1152, 2048, 32)
    """
    unit = max(_LEAST_STEPS, power_of_two(num_steps) // 2 // _LENGTHS_PER_OCTAVE)
    return -(-num_steps // unit) * unit


def _room_for(found: int) -> int | None:
    return next((room for room in ROOMS if found <= room), None)


def _shape_of(target: SegmentTarget, room: int) -> Shape:
    steps = padded_length(target.valid.shape[1])
    return Shape(
        batch=len(target.lengths),
        steps=steps,
        full=min(target.lengths) == steps,
        segments=max(_LEAST_SEGMENTS, power_of_two(target.classes.shape[1])),
        room=room,
    )


def can_be_recorded(model: FACT) -> bool:
    """Whether graphs are made for a model: without transcripts, with one softmax over classes."""
    return not model.config.model.transcript and isinstance(model.block_list[0].head, ClassHead)


class GraphedGradients:
    """Adds the gradient of a batch's loss to the parameters', as ``criterion(model(...)).total.backward()`` does.

    What a step computed lies in memory that all graphs share, so only its loss comes back. Gradients are written
    into tensors of this object, which become the parameters' ``grad``; set that to None between steps as usual.
    On a CPU nothing is recorded: the same code runs with the same padding.

    Args:
        model: FACT or FACT_CLIP, on the device where it stays and in training mode; not in transcript mode.
        criterion: on the same device.
        autocast: type to compute in by autocast, or None.

    Raises:
        ConfigError: the model is in transcript mode or of the verb/noun variant.
    """

    def __init__(
        self, model: FACT, criterion: MatchCriterion, *, autocast: torch.dtype | None = None
    ) -> None:
        if not can_be_recorded(model):
            raise ConfigError(
                "Graphs are made for models without transcripts and with one softmax over classes: train this "
                "one without graphs."
            )
        self._parts = StepParts(model, criterion, autocast)
        self._gradients = {name: torch.zeros_like(p) for name, p in self._parts.parameters.items()}
        self._steps: OrderedDict[Shape, RecordedStep] = OrderedDict()
        self._found: deque[int] = deque([64], maxlen=_REMEMBERED)
        device = self._parts.device
        self._record = _CudaRecorder(device) if device.type == "cuda" else _run_as_it_is

    def __call__(
        self, features: Tensor, valid: Tensor | None, target: SegmentTarget, *, scale: float = 1.0
    ) -> Tensor:
        """The loss of a batch, a scalar; its gradient times ``scale`` is added to the parameters'.

        Arguments and errors are those of :meth:`fact.blocks.FACT.forward` and
        :meth:`fact.loss.MatchCriterion.forward`.
        """
        parts = self._parts
        features_BTD, valid_BT = check_shapes(features, valid, input_dim=parts.model.input_dim)
        random_state = _random_state(parts.device)
        room = _room_for(max(self._found)) if valid_BT.shape == target.valid.shape else None
        while room is not None:
            step = self._step(_shape_of(target, room))
            # The same random numbers whether this shape was recorded just now, or there was too little room.
            _set_random_state(parts.device, random_state)
            step.start(features_BTD, valid_BT, target)
            self._own_gradients(step.used)
            report = step.report()
            if report.wrong:
                break
            self._found.append(report.found)
            if report.found <= room:
                return step.finish(parts.assign(report.costs_BMS, target), scale)
            room = _room_for(report.found)
        _set_random_state(parts.device, random_state)
        loss, found = parts.plain_step(features, valid, target, scale)
        self._found.append(found)
        return loss

    def _step(self, shape: Shape) -> RecordedStep:
        """The recorded step of a shape; recorded now where there is none yet."""
        if shape not in self._steps:
            if len(self._steps) == KEPT:
                _wait(self._parts.device)
                self._steps.popitem(last=False)
            self._steps[shape] = RecordedStep(self._parts, shape, self._gradients, self._record)
        self._steps.move_to_end(shape)
        return self._steps[shape]

    def _own_gradients(self, used: Sequence[str]) -> None:
        """Make the tensors that graphs write into the parameters' gradients, with what these hold so far."""
        new = []
        for name in used:
            parameter, mine = self._parts.parameters[name], self._gradients[name]
            if parameter.grad is None:
                new.append(mine)
            elif parameter.grad is not mine:
                mine.copy_(parameter.grad)
            parameter.grad = mine
        if new:
            torch._foreach_zero_(new)


def _run_as_it_is(function: Callable[[], None]) -> Callable[[], None]:
    return function


class _CudaRecorder:
    """Records functions as graphs, which use one memory after the other: run them in the order of recording."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on loading features while this one records.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            function()
        return graph.replay


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _generator(device: torch.device) -> torch.Generator:
    return torch.cuda.default_generators[
        torch.cuda.current_device() if device.index is None else device.index
    ]


def _random_state(device: torch.device) -> Tensor | int:
    """Where the device's random numbers stand; an accelerator is not waited for."""
    return _generator(device).get_offset() if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(device: torch.device, state: Tensor | int) -> None:
    if isinstance(state, int):
        _generator(device).set_offset(state)
    else:
        torch.set_rng_state(state)
