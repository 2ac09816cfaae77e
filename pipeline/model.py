"""A trained model with everything needed to use it: inputs, classes, standardisation, weights."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
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
from pipeline.input_rules import Over, Pool
from pipeline.labels import ClassList
from pipeline.licences import UNKNOWN
from pipeline.run_files import DESCRIPTION_FILE
from pipeline.settings import DEFAULT_PROMPT
from pipeline.standardize import Standardisation
from storage.atomic import atomic_path, write_json_atomically
from storage.errors import CorruptArtefactError, MissingArtefactError
from storage.places import Place, local_copy

WEIGHTS_FILE = "model.safetensors"

MODEL_LAYOUT = "model/1"
"""Version of the two files; a reader refuses any other."""

_NETWORK = "network."
_MEAN = "standardisation.mean"
_SCALE = "standardisation.scale"

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
    licence: str = UNKNOWN
    """Under which licence the weights may be used, as far as that is on record; older models have no record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextInput:
    """The text embeddings a FACT_CLIP was trained with."""

    model: str
    weights_digest: str
    random_weights: bool
    prompts: tuple[str, ...]
    """The sentences of each class, class by class."""
    templates: tuple[str, ...] = (DEFAULT_PROMPT,)
    """What became sentences; other labels are put into the same."""
    licence: str = UNKNOWN
    """As for ``FeatureInput``."""


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
    pool: Pool = "none"
    """What stands for the steps of which one is used."""
    standardized_over: Over = "training"
    """Whose steps a channel's mean and scale are from."""

    @property
    def classes(self) -> ClassList:
        """The classes; a class id is a position."""
        return ClassList(self.class_names)

    @property
    def width(self) -> int:
        """D, the values of a joined step."""
        return sum(item.width for item in self.inputs)

    @property
    def input_width(self) -> int:
        """Channels that the network reads: D, or twice as many where both standardisations lie side by side."""
        return self.width * (2 if self.standardized_over == "both" else 1)

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
            return FACT(self.config, input_dim=self.input_width, n_classes=len(self.class_names))
        return FACT_CLIP(
            self.config,
            input_dim=self.input_width,
            n_classes=len(self.class_names),
            text_embeddings=text_embeddings,
        )


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

    def predict(
        self, features: NDArray[np.float32], *, texts: NDArray[np.float32] | None = None
    ) -> StepPrediction:
        """Labels and confidence of one video's steps.

        Args:
            features: (T, D) joined features.
            texts: (L, W) embeddings of other labels, whose rows the labels are then; needs FACT_CLIP.
        """
        return predict_steps(self.network, self.standardisation.apply(features), texts=texts)


def predict_steps(
    network: FACT | FACT_CLIP, features_TD: Tensor, *, texts: NDArray[np.float32] | None = None
) -> StepPrediction:
    """Labels and confidence of one video's steps, from its standardised features; puts the network in eval mode.

    Args:
        network: The model.
        features_TD: Standardised features.
        texts: As for ``TrainedModel.predict``.
    """
    features_1TD = features_TD[None].to(next(network.parameters()).device)
    network.eval()
    with torch.inference_mode():
        if not isinstance(network, FACT_CLIP):
            prediction = network.predict(features_1TD)
        elif texts is None:
            prediction = network.eval_with_clip(features_1TD)
        else:
            prediction = network.predict_texts(features_1TD, torch.from_numpy(texts).to(features_1TD.device))
    return StepPrediction(
        labels_T=prediction.labels[0].cpu().numpy(), confidence_T=prediction.confidence[0].cpu().numpy()
    )


def _frozen(value: Any) -> Any:  # noqa: ANN401  (any JSON value)
    return tuple(value) if isinstance(value, list) else value


def save_model(folder: Place, model: TrainedModel) -> None:
    """Write a model's two files; the description last."""
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


def load_model(folder: Place, *, device: torch.device) -> TrainedModel:
    """The model whose files lie in ``folder``.

    Raises:
        MissingArtefactError: There is none.
        CorruptArtefactError: A file is damaged, of another layout, or the weights do not fit the description.
    """
    description = read_description(folder)
    path = folder / WEIGHTS_FILE
    try:
        with local_copy(path) as local:
            tensors = load_file(local, device=str(device))
    except FileNotFoundError:
        raise MissingArtefactError(f"No weights at {path}. Run `factseg train` again.") from None
    except (SafetensorError, OSError) as error:
        raise CorruptArtefactError(f"{path} cannot be read ({error}). Run `factseg train` again.") from error
    try:
        mean_D, scale_D = tensors.pop(_MEAN), tensors.pop(_SCALE)
        state = network_state(tensors)
        network = description.build(state.get("text_embeddings")).to(device)
        network.load_state_dict(state)
    except (KeyError, RuntimeError, FactError) as error:
        raise CorruptArtefactError(
            f"{path} does not fit {DESCRIPTION_FILE}: {error}. Run `factseg train` again."
        ) from error
    # Features arrive on the host and are standardised there.
    standardisation = Standardisation(
        mean_D=mean_D.cpu(), scale_D=scale_D.cpu(), over=description.standardized_over
    )
    return TrainedModel(description=description, network=network.eval(), standardisation=standardisation)


def network_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's state dict in the tensors of a model file; others are taken as a state dict as they are."""
    ours = {
        name.removeprefix(_NETWORK): tensor for name, tensor in tensors.items() if name.startswith(_NETWORK)
    }
    return ours or dict(tensors)


def read_description(folder: Place) -> ModelDescription:
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
            and TextInput(**{name: _frozen(value) for name, value in values["text"].items()}),
            # Files of the first models do not say: there was one way.
            pool=values.get("pool", "none"),
            standardized_over=values.get("standardized_over", "training"),
        )
    except FileNotFoundError:
        raise MissingArtefactError(f"No model at {folder}. Run `factseg train` first.") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptArtefactError(f"{path} is malformed ({error}). Run `factseg train` again.") from error
