"""Which weights a network gets, and what to call them: real ones that were found, or seeded random ones.

Light on purpose: settings import it, so nothing here imports torch before weights are looked for.
"""

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path

from pipeline.download import download_file
from pipeline.errors import SettingsError, WeightsError
from pipeline.licences import NOT_NEEDED, UNKNOWN, joined_licence, licence_of_file
from storage.keys import digest_of, file_digest
from storage.places import cache_folder

log = logging.getLogger(__name__)

Digest = Callable[[Path], str]

WEIGHTS_FOLDER_VARIABLE = "FACTSEG_WEIGHTS"
"""Environment variable that names the folder of cached weights."""

RANDOM_INIT_VERSION = 1
"""Version of how random weights are drawn."""


class WeightsPolicy(StrEnum):
    """Where weights may come from."""

    PRETRAINED = "pretrained"
    """Real ones, downloaded if they must be; an error where they cannot be had."""
    RANDOM = "random"
    """Seeded random ones, asked for by name."""
    CACHED = "cached"
    """Real ones if all are here already, else seeded random ones; never a download."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsChoice:
    """What a user said about weights.

    Raises:
        SettingsError: Random weights are asked for together with a file.
    """

    policy: WeightsPolicy = WeightsPolicy.PRETRAINED
    i3d_rgb: Path | None = None
    """Checkpoint of the RGB stream of I3D."""
    i3d_flow: Path | None = None
    """Checkpoint of the optical-flow stream of I3D."""
    raft: Path | None = None
    """Checkpoint of torchvision's ``raft_large``."""
    clip_pretrained: str = "openai"
    """A tag that open_clip lists for the model, or the path of a folder with ``open_clip_config.json``."""
    seed: int = 0
    """Seed of random weights."""

    def __post_init__(self) -> None:
        files = [str(path) for path in (self.i3d_rgb, self.i3d_flow, self.raft) if path is not None]
        if self.policy is WeightsPolicy.RANDOM and files:
            raise SettingsError(
                f"Random weights were asked for together with {files[0]}; leave one of them out."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedWeights:
    """Weights of one network, found but not loaded."""

    network: str
    """``i3d-rgb``, ``i3d-optical-flow``, ``raft`` or ``clip/<model>``."""
    digest: str
    """SHA-256 of the file, or of what random numbers are drawn from."""
    random: bool
    """True for seeded random numbers, whose features mean nothing beyond a test."""
    origin: str
    """Where they are from, in words."""
    licence: str = UNKNOWN
    """Under which licence they may be used, as far as that is on record."""
    path: Path | None = None
    """Checkpoint file, or folder in open_clip's layout; None for random numbers."""
    tag: str | None = None
    """Tag of a CLIP checkpoint, which says how it wants its pictures; None for a folder."""
    seed: int = 0
    """Seed of random numbers."""


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """Where the weights of a network may lie."""

    setting: str
    variable: str
    file_names: tuple[str, ...]


_CHECKPOINTS = {
    "i3d-rgb": _Checkpoint(
        "i3d_rgb",
        "FACTSEG_I3D_RGB",
        ("rgb_imagenet.pt", "i3d_rgb.pt", "model_rgb.pth", "i3d_rgb.safetensors"),
    ),
    "i3d-optical-flow": _Checkpoint(
        "i3d_flow",
        "FACTSEG_I3D_FLOW",
        ("flow_imagenet.pt", "i3d_flow.pt", "model_flow.pth", "i3d_flow.safetensors"),
    ),
    "raft": _Checkpoint(
        "raft",
        "FACTSEG_RAFT",
        ("raft_large_C_T_SKHT_V2-ff5fadd5.pth", "raft_large.pth", "raft_large.safetensors"),
    ),
}


def resolve_weights(
    networks: Iterable[str], choice: WeightsChoice, *, digest: Digest = file_digest
) -> dict[str, ResolvedWeights]:
    """Weights of every network, by its name; no model is built.

    Under ``cached`` it is all or nothing, so real and random features are never mixed: resolve everything
    that a run needs in one call.

    Args:
        networks: Names, as ``Profile.networks`` gives them.
        choice: What the user said.
        digest: Digest of a file; ``store.digests.digest`` remembers them.

    Raises:
        SettingsError: open_clip lists no such CLIP model; the message names the nearest.
        WeightsError: Real weights cannot be had; the message says which file to put where.
    """
    names = sorted(set(networks))
    _check_clip_models(names)
    if choice.policy is WeightsPolicy.RANDOM:
        return {name: random_weights(name, seed=choice.seed) for name in names}
    may_download = choice.policy is WeightsPolicy.PRETRAINED
    found = {name: _find(name, choice, digest=digest, may_download=may_download) for name in names}
    real = {name: weights for name, weights in found.items() if weights is not None}
    if len(real) == len(names):
        return real
    absent = [name for name in names if name not in real]
    if not may_download:
        log.warning(
            "No cached weights of %s: seeded random weights are used instead, and nothing is downloaded. "
            "Scores will be those of random features.",
            ", ".join(absent),
        )
        return {name: random_weights(name, seed=choice.seed) for name in names}
    raise WeightsError(_remedy(absent[0]))


def _check_clip_models(networks: Iterable[str]) -> None:
    """Refuse a CLIP model that open_clip does not list, also where its weights would be random."""
    for network in networks:
        if network.startswith("clip/"):
            from pipeline.clip_models import clip_config

            clip_config(network.removeprefix("clip/"))


def combined_digest(weights: Iterable[ResolvedWeights]) -> str:
    """One digest for the networks of a profile, in their order; that of a single network is its own."""
    digests = [one.digest for one in weights]
    return digests[0] if len(digests) == 1 else digest_of({"networks": digests})


def combined_licence(weights: Iterable[ResolvedWeights]) -> str:
    """One record for the networks of a profile, in their order."""
    return joined_licence([one.licence for one in weights])


def random_weights(network: str, *, seed: int) -> ResolvedWeights:
    """Seeded random weights of a network; the torch version counts, because it draws the numbers."""
    identity = {
        "network": network,
        "seed": seed,
        "version": RANDOM_INIT_VERSION,
        "torch": version("torch"),
        "open_clip": version("open_clip_torch") if network.startswith("clip/") else None,
    }
    origin = f"random numbers of seed {seed}"
    return ResolvedWeights(
        network=network,
        digest=digest_of(identity),
        random=True,
        origin=origin,
        licence=NOT_NEEDED,
        seed=seed,
    )


def weights_folder() -> Path:
    """Folder of cached weights: ``FACTSEG_WEIGHTS``, else in the cache folder."""
    if named := os.environ.get(WEIGHTS_FOLDER_VARIABLE):
        return Path(named).expanduser()
    return cache_folder() / "weights"


def find_here(network: str, choice: WeightsChoice, *, digest: Digest = file_digest) -> ResolvedWeights | None:
    """Real weights of a network that need no download, or None.

    Raises:
        WeightsError: A file that settings or the environment name is not there.
    """
    return _find(network, choice, digest=digest, may_download=False)


def _find(
    network: str, choice: WeightsChoice, *, digest: Digest, may_download: bool
) -> ResolvedWeights | None:
    """Real weights of a network; None where there are none here and none could be, or may be, downloaded."""
    if network.startswith("clip/"):
        from pipeline.clip_models import find_clip_weights

        return find_clip_weights(network, choice.clip_pretrained, digest=digest, may_download=may_download)
    stream = _CHECKPOINTS[network]
    path = _named_file(stream, getattr(choice, stream.setting)) or _cached_file(stream)
    if path is None and may_download:
        path = _download(stream)
    if path is None:
        return None
    found = digest(path)
    expected = _expected_digest(stream)
    if expected and found != expected:
        raise WeightsError(
            f"{path}: its SHA-256 is {found} instead of {expected} ({stream.variable}_SHA256). "
            "Replace the file by an intact copy, or correct the checksum."
        )
    return ResolvedWeights(
        network=network,
        digest=found,
        random=False,
        origin=str(path),
        licence=licence_of_file(path),
        path=path,
    )


def _expected_digest(stream: _Checkpoint) -> str:
    """The SHA-256 that the environment demands of the file, wherever it is from; empty for any."""
    return os.environ.get(f"{stream.variable}_SHA256", "").lower()


def _named_file(stream: _Checkpoint, setting: Path | None) -> Path | None:
    """The file that settings or the environment name, which must then be there."""
    named = setting or (Path(text).expanduser() if (text := os.environ.get(stream.variable)) else None)
    if named is None or named.is_file():
        return named
    asked = f"setting {stream.setting}" if setting else f"environment variable {stream.variable}"
    raise WeightsError(f"{named}: no such weights file ({asked}). Correct the path, or leave it out.")


def _cached_file(stream: _Checkpoint) -> Path | None:
    candidates = (weights_folder() / name for name in stream.file_names)
    return next((path for path in candidates if path.is_file()), None)


def _download(stream: _Checkpoint) -> Path | None:
    """Fetch from the address in the environment, checked against the SHA-256 there; None without one."""
    url = os.environ.get(f"{stream.variable}_URL")
    if not url:
        return None
    sha256 = _expected_digest(stream)
    if not sha256:
        raise WeightsError(
            f"{stream.variable}_URL is set but {stream.variable}_SHA256 is not. "
            "Set it to the file's SHA-256, so that nothing else is ever loaded."
        )
    return download_file(url, weights_folder() / stream.file_names[0], sha256=sha256)


def _remedy(network: str) -> str:
    stream = _CHECKPOINTS[network]
    return (
        f"No weights of {network}. Put {stream.file_names[0]} (or {', '.join(stream.file_names[1:])}) into "
        f"{weights_folder()}, or name the file by the setting {stream.setting} or {stream.variable}, or set "
        f"{stream.variable}_URL and {stream.variable}_SHA256, or use `--weights random`."
    )
