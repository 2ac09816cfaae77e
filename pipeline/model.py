"""A trained model with everything needed to use it: inputs, classes, standardisation, weights."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fact.blocks import FACT, FACT_CLIP
from fact.config import Config, parse_config
from fact.errors import FactError
from pipeline.labels import ClassList
from storage.atomic import atomic_path, write_json_atomically
from storage.errors import CorruptArtefactError, MissingArtefactError

WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "model.json"

MODEL_LAYOUT = "model/1"
"""Version of the two files; a reader refuses any other."""

_NETWORK = "network."
_MEAN = "standardisation.mean"
_SCALE = "standardisation.scale"

_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
"""Below this a float32 loses digits, and in the end becomes the zero that nothing can be divided by."""

_JOIN_RULE = "nearest in time to each step of the first profile"


# Axes: T feature steps, D feature width, C classes, W text width.


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureInput:
    """One profile of the model input."""

    spec: str
    """The profile as text."""
    width: int
    """Values it contributes to a step."""
    weights_digest: str
    """SHA-256 of the extractor's weights."""
    random_weights: bool
    """True where the extractor's weights are seeded random numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextInput:
    """The text embeddings a FACT_CLIP was trained with."""

    model: str
    weights_digest: str
    random_weights: bool
    prompts: tuple[str, ...]
    """The sentence of each class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelDescription:
    """What a model is, without its weights."""

    kind: Literal["fact", "fact-clip"]
    config: Config
    class_names: tuple[str, ...]
    background: tuple[int, ...]
    """Ids of the background classes."""
    inputs: tuple[FeatureInput, ...]
    """The profiles in order; the first is the time base."""
    text: TextInput | None
    """Of FACT_CLIP; None for FACT."""

    @property
    def classes(self) -> ClassList:
        """The classes; a class id is a position."""
        return ClassList(self.class_names)

    @property
    def width(self) -> int:
        """D, the values of a joined step."""
        return sum(item.width for item in self.inputs)

    @property
    def sample_rate(self) -> int:
        """Every this many-th step of the stored features is used."""
        return self.config.training.sample_rate

    @property
    def notices(self) -> tuple[str, ...]:
        """Plain sentences on random weights behind the model."""
        sentences = [
            f"Features {item.spec} come from seeded random weights, not trained ones."
            for item in self.inputs
            if item.random_weights
        ]
        if self.text is not None and self.text.random_weights:
            sentences.append(
                f"Text embeddings of {self.text.model} come from seeded random weights, not trained ones."
            )
        return tuple(sentences)

    def build(self, text_embeddings: Tensor | None) -> FACT | FACT_CLIP:
        """The network with weights drawn from torch's global generator.

        Args:
            text_embeddings: (C, W) for FACT_CLIP, None for FACT.
        """
        if text_embeddings is None:
            return FACT(self.config, input_dim=self.width, n_classes=len(self.class_names))
        return FACT_CLIP(
            self.config,
            input_dim=self.width,
            n_classes=len(self.class_names),
            text_embeddings=text_embeddings,
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Standardisation:
    """Per-channel mean and scale of the training steps; applied to every input of the model."""

    mean_D: Tensor
    scale_D: Tensor

    @classmethod
    def of(cls, features: Sequence[NDArray[np.float32]]) -> "Standardisation":
        """Mean and standard deviation over all steps of all videos; a constant channel keeps scale 1."""
        total = sum(len(rows) for rows in features)
        mean_D = sum(rows.sum(axis=0, dtype=np.float64) for rows in features) / total
        variance_D = sum(((rows - mean_D) ** 2).sum(axis=0) for rows in features) / total
        deviation_D = np.sqrt(variance_D)
        # Rounding leaves a constant channel a deviation of about 1e-7 of its size; dividing by it makes noise.
        # No absolute limit but that of float32: channels of some networks are tiny and carry everything.
        constant_D = deviation_D <= np.maximum(1e-6 * np.abs(mean_D), _SMALLEST_SCALE)
        return cls(
            mean_D=torch.from_numpy(np.asarray(mean_D, dtype=np.float32)),
            scale_D=torch.from_numpy(np.where(constant_D, 1.0, deviation_D).astype(np.float32)),
        )

    def apply(self, features: NDArray[np.float32]) -> Tensor:
        """(T, D) standardised rows."""
        return (torch.from_numpy(features) - self.mean_D) / self.scale_D


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StepPrediction:
    """Prediction for one video, per step."""

    labels_T: NDArray[np.int64]
    confidence_T: NDArray[np.float32]
    """Probability of the label, 0 to 1."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrainedModel:
    """A network ready to predict."""

    description: ModelDescription
    network: FACT | FACT_CLIP
    standardisation: Standardisation

    def predict(self, features: NDArray[np.float32]) -> StepPrediction:
        """Labels and confidence of one video's steps, from its joined features (T, D)."""
        device = next(self.network.parameters()).device
        features_TD = self.standardisation.apply(features).to(device)
        self.network.eval()
        with torch.inference_mode():
            if isinstance(self.network, FACT_CLIP):
                prediction = self.network.eval_with_clip(features_TD[None])
            else:
                prediction = self.network.predict(features_TD[None])
        return StepPrediction(
            labels_T=prediction.labels[0].cpu().numpy(), confidence_T=prediction.confidence[0].cpu().numpy()
        )


def save_model(folder: Path, model: TrainedModel) -> None:
    """Write a model's two files; the description last."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{_NETWORK}{name}": tensor.contiguous().cpu() for name, tensor in model.network.state_dict().items()
    }
    tensors[_MEAN] = model.standardisation.mean_D
    tensors[_SCALE] = model.standardisation.scale_D
    with atomic_path(folder / WEIGHTS_FILE) as scratch:
        save_file(tensors, scratch)
    described = dataclasses.asdict(model.description)
    described["config"] = model.description.config.to_mapping()
    write_json_atomically(
        folder / DESCRIPTION_FILE, {"layout": MODEL_LAYOUT, "join": _JOIN_RULE, **described}
    )


def load_model(folder: Path, *, device: torch.device) -> TrainedModel:
    """The model whose files lie in ``folder``.

    Raises:
        MissingArtefactError: There is none.
        CorruptArtefactError: A file is damaged, of another layout, or the weights do not fit the description.
    """
    description = read_description(folder)
    path = folder / WEIGHTS_FILE
    try:
        tensors = load_file(path, device=str(device))
    except FileNotFoundError:
        raise MissingArtefactError(f"No weights at {path}. Run `factseg train` again.") from None
    except (SafetensorError, OSError) as error:
        raise CorruptArtefactError(f"{path} cannot be read ({error}). Run `factseg train` again.") from error
    try:
        mean_D, scale_D = tensors.pop(_MEAN), tensors.pop(_SCALE)
        state = {name.removeprefix(_NETWORK): tensor for name, tensor in tensors.items()}
        network = description.build(state.get("text_embeddings")).to(device)
        network.load_state_dict(state)
    except (KeyError, RuntimeError, FactError) as error:
        raise CorruptArtefactError(
            f"{path} does not fit {DESCRIPTION_FILE}: {error}. Run `factseg train` again."
        ) from error
    # Features arrive on the host and are standardised there.
    standardisation = Standardisation(mean_D=mean_D.cpu(), scale_D=scale_D.cpu())
    return TrainedModel(description=description, network=network.eval(), standardisation=standardisation)


def read_description(folder: Path) -> ModelDescription:
    """What the model in ``folder`` is, without its weights.

    Raises:
        MissingArtefactError: There is none.
        CorruptArtefactError: The file is malformed or of another layout.
    """
    path = folder / DESCRIPTION_FILE
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("layout") != MODEL_LAYOUT:
            raise CorruptArtefactError(
                f"{path} is not of layout {MODEL_LAYOUT!r}. Use the program that wrote it."
            )
        values.pop("join")
        return ModelDescription(
            kind=values["kind"],
            config=parse_config(values["config"]),
            class_names=tuple(values["class_names"]),
            background=tuple(values["background"]),
            inputs=tuple(FeatureInput(**item) for item in values["inputs"]),
            text=values["text"]
            and TextInput(**{**values["text"], "prompts": tuple(values["text"]["prompts"])}),
        )
    except FileNotFoundError:
        raise MissingArtefactError(f"No model at {folder}. Run `factseg train` first.") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptArtefactError(f"{path} is malformed ({error}). Run `factseg train` again.") from error
