"""CLIP through open_clip: pictures and sentences to embeddings, unnormalised."""

import contextlib
import logging
import pickle  # for the name of its error only; nothing is unpickled
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.clip_models import clip_config, tag_config
from pipeline.device import check_precision
from pipeline.errors import WeightsError
from pipeline.preprocess import ClipPreprocessing, upload
from pipeline.profiles import Precision
from pipeline.weights import ResolvedWeights

_TEXT_BATCH = 64


_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_PREPROCESS_KEYS = ("mean", "std", "interpolation", "resize_mode")


class ClipEncoder:
    """A CLIP model in evaluation mode on a device.

    Args:
        name: Model name in open_clip.
        model: The model, ready for inference.
        preprocessing: How it wants its pictures.
        tokenizer: Sentences to token ids, as the model wants them.
        device: Where the model is.
        precision: Type of the image tower's arithmetic; sentences are always encoded in float32.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        *,
        preprocessing: ClipPreprocessing,
        tokenizer: Any,  # noqa: ANN401  (three unrelated classes in open_clip)
        device: torch.device,
        precision: Precision = "float32",
    ) -> None:
        self.name = name
        self.preprocessing = preprocessing
        self._model: Any = model
        self._tokenizer = tokenizer
        self._device = device
        self._dtype = _DTYPES[precision]

    @property
    def logit_scale(self) -> float:
        """What cosine similarities are multiplied by before the softmax."""
        return float(self._model.logit_scale.exp())

    def preprocess(self, frames: Tensor) -> Tensor:
        """RGB pictures (n, H, W, 3) uint8 to images (n, 3, size, size) float32, on their device."""
        return self.preprocessing(frames)

    @torch.inference_mode()
    def encode_images(self, images: Tensor) -> Tensor:
        """Embeddings (n, W) float32, unnormalised, of preprocessed images, on the device."""
        embeddings: Tensor = self._model.encode_image(images.to(self._device, self._dtype))
        return embeddings.float()

    def encode_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeddings (n, W) float32, unnormalised, of RGB pictures (n, H, W, 3)."""
        return _to_numpy(self.encode_images(self.preprocess(upload(frames, device=self._device))))

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings (n, W) float32, unnormalised, of sentences, cut at the context length."""
        batches = [texts[start : start + _TEXT_BATCH] for start in range(0, len(texts), _TEXT_BATCH)]
        tokens = [self._tokenizer(list(batch)).to(self._device) for batch in batches]
        return np.concatenate([_to_numpy(self._model.encode_text(batch)) for batch in tokens])


def load_clip(
    weights: ResolvedWeights, *, device: torch.device, precision: Precision = "float32"
) -> ClipEncoder:
    """Build the model that resolved weights are for, and load them.

    Raises:
        SettingsError: open_clip lists no such model, or the device cannot compute in this precision.
        WeightsError: The weights do not fit, or the model needs a package or file that is not here.
    """
    check_precision(precision, device=device)
    name = weights.network.removeprefix("clip/")
    try:
        model, tokenizer = (
            _random(name, seed=weights.seed) if weights.path is None else _pretrained(name, weights)
        )
    except (RuntimeError, OSError, ImportError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"CLIP model {name} cannot be built with {weights.origin} ({str(error).splitlines()[0]}). "
            "Choose other weights or another model."
        ) from error
    # Sentences stay in float32: they are few, and every video is compared with them.
    model.visual.to(_DTYPES[precision])
    return ClipEncoder(
        name,
        model.eval().requires_grad_(requires_grad=False).to(device),
        preprocessing=_preprocessing(model),
        tokenizer=tokenizer,
        device=device,
        precision=precision,
    )


def _random(name: str, *, seed: int) -> tuple[nn.Module, Any]:
    """The model as its authors initialise it, from a seed and without touching the caller's random state."""
    clip_config(name)
    with torch.random.fork_rng(devices=[]), _quiet():
        torch.manual_seed(seed)
        model = open_clip.create_model(name, pretrained=None, pretrained_text=False)
    return model, open_clip.get_tokenizer(name)


def _pretrained(name: str, weights: ResolvedWeights) -> tuple[nn.Module, Any]:
    if weights.tag is None:
        folder = f"local-dir:{weights.path}"
        model = open_clip.create_model(folder, pretrained_text=False, require_pretrained=True)
        return model, open_clip.get_tokenizer(folder)
    config = tag_config(name, weights.tag)
    model = open_clip.create_model(
        name,
        pretrained=str(weights.path),
        # Without this a checkpoint trained with the quick GELU runs with the exact one, after a mere warning.
        force_quick_gelu=bool(config.get("quick_gelu")),
        force_preprocess_cfg={key: config[key] for key in _PREPROCESS_KEYS if key in config},
        pretrained_text=False,
        require_pretrained=True,
    )
    return model, open_clip.get_tokenizer(name)


def _preprocessing(model: Any) -> ClipPreprocessing:  # noqa: ANN401
    config = model.visual.preprocess_cfg
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise WeightsError(
            f"CLIP pictures of {width} x {height} are not known, only square ones. Choose another model."
        )
    return ClipPreprocessing(
        size=height,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
        resize_mode=config["resize_mode"],
    )


def _to_numpy(embeddings: Tensor) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = embeddings.float().cpu().numpy()
    return rows


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back open_clip's warning, on the root logger, that a model is random: that was asked for."""
    root = logging.getLogger()
    root.addFilter(_is_not_about_random_weights)
    try:
        yield
    finally:
        root.removeFilter(_is_not_about_random_weights)


def _is_not_about_random_weights(record: logging.LogRecord) -> bool:
    return "No pretrained weights loaded" not in record.getMessage()
