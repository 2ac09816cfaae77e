"""A training step in parts that can be recorded and run again: what :mod:`fact.graphs` keeps for each shape.

Axes: B batch, T padded steps, S padded segments of the labels, M tokens, D feature width.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from fact.blocks import FACT
from fact.inputs import Batch, not_finite
from fact.loss import MatchCriterion
from fact.matching import assign_tokens, describe_match
from fact.outputs import FactOutput
from fact.segments import Segmentation
from fact.target import SegmentTarget

Record = Callable[[Callable[[], None]], Callable[[], None]]
"""Takes what is to be run many times and returns what runs it."""


def power_of_two(number: int) -> int:
    """The next one."""
    return 1 << (number - 1).bit_length()


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """What a recorded step is fixed to."""

    batch: int
    steps: int
    """T."""
    full: bool
    """No video is padded."""
    segments: int
    """S."""
    room: int
    """Predicted segments of a video."""


class StepParts:
    """A plain step in parts."""

    def __init__(self, model: FACT, criterion: MatchCriterion, autocast: torch.dtype | None) -> None:
        self.model = model
        self.criterion = criterion
        self.device = next(model.parameters()).device
        self._autocast = autocast
        self._compute = _Compute(model)
        self._storages: dict[int, Tensor] = {}
        multiplies = (nn.Linear, nn.Conv1d, nn.MultiheadAttention)
        self._matrices = {
            name
            for prefix, module in self._compute.named_modules()
            if isinstance(module, multiplies)
            for name, _ in module.named_parameters(prefix, recurse=False)
        }
        self.parameters: dict[str, Tensor] = {
            name: parameter for name, parameter in self._compute.named_parameters() if parameter.requires_grad
        }

    def features(self, shape: Shape) -> Tensor:
        """Room for the features of a shape, (B, T, D), which shapes of about its size share."""
        sizes = shape.batch, shape.steps, self.model.input_dim
        size = power_of_two(math.prod(sizes))
        if size not in self._storages:
            dtype = next(iter(self.parameters.values())).dtype
            self._storages[size] = torch.zeros(size, dtype=dtype, device=self.device)
        return self._storages[size][: math.prod(sizes)].view(sizes)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Autocast where it is asked for; without its cache, whose casts would outlive a recording."""
        on = self._autocast is not None
        with torch.autocast(self.device.type, self._autocast, enabled=on, cache_enabled=False):
            yield

    def _attending(self) -> AbstractContextManager[None]:
        """Few tokens attend to many steps, which torch's fused float32 kernel of a GPU is the slower way for."""
        if self.device.type == "cuda" and self._autocast is None:
            attention: AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
            return attention
        return nullcontext()

    def cast(self) -> dict[str, Tensor]:
        """The parameters to differentiate by: matrices that autocast would cast one by one are cast together."""
        if self._autocast is None:
            return dict(self.parameters)
        names = [name for name in self.parameters if name in self._matrices]
        full = [self.parameters[name].detach() for name in names]
        half = [torch.empty_like(parameter, dtype=self._autocast) for parameter in full]
        torch._foreach_copy_(half, full)
        return {**self.parameters, **{n: p.requires_grad_() for n, p in zip(names, half, strict=True)}}

    def forward(
        self, parameters: dict[str, Tensor], batch: Batch, target: SegmentTarget, room: int
    ) -> tuple[FactOutput, Tensor]:
        """Output, and the costs of matching, (B, M, S)."""
        with self.computing(), self._attending():
            output: FactOutput = functional_call(self._compute, parameters, (batch, room))
            return output, self.criterion.costs(output, target)

    def assign(self, costs_BMS: NDArray[np.float64], target: SegmentTarget) -> NDArray[np.int64]:
        """Token of each segment, (B, S)."""
        num_videos, num_tokens, _ = costs_BMS.shape
        rule = self.criterion.config.loss.match
        return assign_tokens(costs_BMS, target.transcripts, rule=rule, num_tokens=(num_tokens,) * num_videos)

    def loss(self, output: FactOutput, target: SegmentTarget, tokens_BS: Tensor) -> Tensor:
        """Total loss where these tokens stand for the segments."""
        num_tokens, null = output.token_valid.shape[1], self.criterion.num_classes
        with self.computing():
            match = describe_match(tokens_BS, target.classes, num_tokens=num_tokens, null_class=null)
            return self.criterion.score(output, target, match).total

    def plain_step(
        self, features: Tensor, valid: Tensor | None, target: SegmentTarget, scale: float
    ) -> tuple[Tensor, int]:
        """Loss with its gradient taken, and the most segments that were found in a video."""
        with self.computing():
            output: FactOutput = self.model(features, valid)
            total: Tensor = self.criterion(output, target).total
        (total * scale).backward()  # type: ignore[no-untyped-call]
        return total.detach(), max(max(runs.counts or (0,)) for runs in _segmentations(output))


class _Compute(nn.Module):
    """A model whose call is :meth:`FACT.compute`."""

    def __init__(self, model: FACT) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, room: int) -> FactOutput:
        """See :meth:`FACT.compute`."""
        return self.model.compute(batch, room=room)


def _segmentations(output: FactOutput) -> list[Segmentation]:
    return [block.segmentation for block in output.blocks if block.segmentation is not None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What the host reads of the first half of a step."""

    costs_BMS: NDArray[np.float64]
    found: int
    """The most segments predicted in a video."""
    wrong: bool
    """A feature is not finite, or the mask is not that of the labels."""


class RecordedStep:
    """A step of one shape: tensors that its inputs are copied into, and three recordings that read them."""

    def __init__(
        self, parts: StepParts, shape: Shape, gradients: Mapping[str, Tensor], record: Record
    ) -> None:
        self._parts, self._shape = parts, shape
        self._target = _empty_target(shape, parts.device)
        self._valid_BT = torch.ones_like(self._target.valid)
        self._features_BTD = parts.features(shape).zero_()
        self._tokens_BS = torch.full_like(self._target.classes, -1)
        self._scale = torch.ones((), device=parts.device)
        # Once unrecorded: libraries set themselves up at their first call, and some parameters take no part.
        parameters = parts.cast()
        output, costs_BMS = parts.forward(parameters, self._masked(), self._target, shape.room)
        loss = parts.loss(output, self._target, self._tokens_BS)
        slopes = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        self.used = [name for name, slope in zip(parameters, slopes, strict=True) if slope is not None]
        """Parameters that the loss depends on."""
        self._gradients = {name: gradients[name].view(-1) for name in self.used}
        self._costs_shape = costs_BMS.shape
        self._report = torch.zeros(costs_BMS.numel() + 2, dtype=torch.float64, device=parts.device)
        self._loss = loss.detach().clone()
        del parameters, output, costs_BMS, loss, slopes
        self._halfway = _Halfway()
        self._runs = [record(part) for part in (self._forward, self._losses, self._backward)]

    def start(self, features_BTD: Tensor, valid_BT: Tensor, target: SegmentTarget) -> None:
        """Run the first half on inputs of this shape."""
        mine, given = self._target.segmentation, target.segmentation
        _copy(self._features_BTD, features_BTD)
        _copy(self._valid_BT, valid_BT)
        _copy(self._target.valid, target.valid)
        _copy(self._target.labels, target.labels)
        _copy(self._target.classes, target.classes)
        _copy(mine.index, given.index)
        _copy(mine.length, given.length)
        self._runs[0]()

    def report(self) -> Report:
        """What the first half found. Waits for the device once."""
        numbers = self._report.cpu().numpy()
        return Report(
            costs_BMS=numbers[:-2].reshape(self._costs_shape), found=int(numbers[-2]), wrong=bool(numbers[-1])
        )

    def finish(self, tokens_BS: NDArray[np.int64], scale: float) -> Tensor:
        """The loss when these tokens stand for the segments; its gradient times ``scale`` is added."""
        self._tokens_BS.copy_(torch.from_numpy(tokens_BS), non_blocking=True)
        self._scale.fill_(scale)
        self._runs[1]()
        self._runs[2]()
        return self._loss.clone()

    def _masked(self) -> Batch:
        features_BTD, valid_BT = self._features_BTD, None
        if not self._shape.full:
            valid_BT = self._valid_BT
            features_BTD = features_BTD.masked_fill(~valid_BT[..., None], 0)
        return Batch(
            features_BTD=features_BTD,
            valid_BT=valid_BT,
            lengths=self._target.lengths,
            lengths_B=self._valid_BT.sum(1),
        )

    def _forward(self) -> None:
        parameters = self._parts.cast()
        output, costs_BMS = self._parts.forward(parameters, self._masked(), self._target, self._shape.room)
        self._halfway.parameters, self._halfway.output = parameters, output
        found_B = [runs.found for runs in _segmentations(output)]
        most = torch.cat(found_B).amax() if found_B else self._report.new_zeros(())
        bad_BT = not_finite(self._features_BTD) & self._valid_BT | (self._valid_BT != self._target.valid)
        facts = torch.stack([most.double(), bad_BT.any().double()])
        torch.cat([costs_BMS.double().flatten(), facts], out=self._report)

    def _losses(self) -> None:
        halfway = self._halfway
        loss = self._parts.loss(halfway.take_output(), self._target, self._tokens_BS)
        self._loss.copy_(loss.detach())
        halfway.loss = loss * self._scale

    def _backward(self) -> None:
        loss, parameters = self._halfway.take_loss()
        slopes = torch.autograd.grad(loss, [parameters[name] for name in self.used])
        found = dict(zip(self.used, (slope.reshape(-1) for slope in slopes), strict=True))
        # Flat and type by type, because only tensors of equal strides and types share a kernel.
        for dtype in {slope.dtype for slope in slopes}:
            names = [name for name in self.used if found[name].dtype == dtype]
            mine, given = [self._gradients[name] for name in names], [found[name] for name in names]
            if dtype != mine[0].dtype:
                narrow, given = given, [torch.empty_like(gradient) for gradient in mine]
                torch._foreach_copy_(given, narrow)
            torch._foreach_add_(mine, given)


class _Halfway:
    """What one part of a step leaves for the next while it is recorded; nothing afterwards."""

    parameters: dict[str, Tensor] | None = None
    output: FactOutput | None = None
    loss: Tensor | None = None

    def take_output(self) -> FactOutput:
        """The output, which is then forgotten."""
        output, self.output = self.output, None
        if output is None:
            raise RuntimeError("The losses of a step were asked for before its forward part.")
        return output

    def take_loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and what it is differentiated by, which are then forgotten."""
        loss, parameters = self.loss, self.parameters
        self.loss = self.parameters = None
        if loss is None or parameters is None:
            raise RuntimeError("The gradient of a step was asked for before its losses.")
        return loss, parameters


def _empty_target(shape: Shape, device: torch.device) -> SegmentTarget:
    def ids(*sizes: int) -> Tensor:
        return torch.zeros(sizes, dtype=torch.int64, device=device)

    runs = Segmentation(
        index=ids(shape.batch, shape.steps),
        length=ids(shape.batch, shape.segments),
        found=ids(shape.batch),
        counts=None,
    )
    return SegmentTarget(
        labels=ids(shape.batch, shape.steps),
        valid=torch.ones(shape.batch, shape.steps, dtype=torch.bool, device=device),
        lengths=(shape.steps,) * shape.batch,
        segmentation=runs,
        classes=ids(shape.batch, shape.segments),
        transcripts=(),
    )


def _copy(into: Tensor, values: Tensor) -> None:
    """Copy what is shorter in its second axis; the rest becomes 0."""
    size = values.shape[1]
    into[:, :size].copy_(values)
    if size < into.shape[1]:
        into[:, size:].zero_()
