"""Choosing weights: real ones where they are, random ones by policy, and no connection unasked."""

import functools
import hashlib
import http.server
import socket
import threading

import pytest
import torch

from pipeline import clip_models
from pipeline.errors import SettingsError, WeightsError
from pipeline.extractors import load_i3d
from pipeline.i3d import InceptionI3D, random_init
from pipeline.weights import (
    WeightsChoice,
    WeightsPolicy,
    combined_digest,
    random_weights,
    resolve_weights,
    weights_folder,
)
from storage.keys import file_digest

NETWORKS = ["i3d-rgb", "clip/ViT-B-32"]


@pytest.fixture(autouse=True)
def weights_home(tmp_path, monkeypatch):
    """An empty cache folder, no word in the environment, an empty hub cache and no connection anywhere."""
    home = tmp_path / "weights"
    home.mkdir()
    monkeypatch.setenv("FACTSEG_WEIGHTS", str(home))
    for stream in ("RGB", "FLOW"):
        for suffix in ("", "_URL", "_SHA256"):
            monkeypatch.delenv(f"FACTSEG_I3D_{stream}{suffix}", raising=False)
    monkeypatch.setattr(clip_models, "try_to_load_from_cache", lambda *_: None)
    real_connect = socket.socket.connect

    def connect(self, address):
        if self.family != socket.AF_UNIX and address[0] not in {"127.0.0.1", "localhost"}:
            pytest.fail(f"a connection to {address} was tried")
        return real_connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", refuse_names(socket.getaddrinfo))
    return home


def refuse_names(real):
    def getaddrinfo(host, *rest, **options):
        if host not in {"127.0.0.1", "localhost"}:
            pytest.fail(f"the name {host} was looked up")
        return real(host, *rest, **options)

    return getaddrinfo


@pytest.fixture
def checkpoint(weights_home):
    path = weights_home / "rgb_imagenet.pt"
    path.write_bytes(b"weights")
    return path


def choose(policy, **options):
    return WeightsChoice(policy=WeightsPolicy(policy), **options)


def test_random_weights_are_named_as_such_and_depend_on_the_seed():
    first = resolve_weights(NETWORKS, choose("random"))
    assert all(weights.random and weights.path is None for weights in first.values())
    assert "random" in first["i3d-rgb"].origin
    assert resolve_weights(NETWORKS, choose("random")) == first
    other = resolve_weights(NETWORKS, choose("random", seed=1))
    assert other["i3d-rgb"].digest != first["i3d-rgb"].digest
    assert first["i3d-rgb"].digest != first["clip/ViT-B-32"].digest


def test_a_random_network_needs_no_connection():
    weights = resolve_weights(["i3d-optical-flow"], choose("random"))
    windows = torch.zeros(1, 9, 224, 224, 2)
    encoder = load_i3d(weights["i3d-optical-flow"], device=torch.device("cpu"))
    assert encoder.encode_windows(windows).shape == (1, 1024)


@pytest.mark.parametrize("name", ["rgb_imagenet.pt", "i3d_rgb.pt", "model_rgb.pth", "i3d_rgb.safetensors"])
def test_cached_weights_are_found_under_the_names_people_have(weights_home, name):
    (weights_home / name).write_bytes(b"weights")
    found = resolve_weights(["i3d-rgb"], choose("pretrained"))["i3d-rgb"]
    assert found.path == weights_home / name
    assert found.digest == hashlib.sha256(b"weights").hexdigest()
    assert not found.random


def test_a_named_file_goes_before_the_environment_and_the_cache(tmp_path, checkpoint, monkeypatch):
    named, in_environment = tmp_path / "named.pt", tmp_path / "environment.pt"
    for path in (named, in_environment):
        path.write_bytes(path.name.encode())
    monkeypatch.setenv("FACTSEG_I3D_RGB", str(in_environment))
    assert resolve_weights(["i3d-rgb"], choose("pretrained", i3d_rgb=named))["i3d-rgb"].path == named
    assert resolve_weights(["i3d-rgb"], choose("pretrained"))["i3d-rgb"].path == in_environment
    monkeypatch.delenv("FACTSEG_I3D_RGB")
    assert resolve_weights(["i3d-rgb"], choose("pretrained"))["i3d-rgb"].path == checkpoint


@pytest.mark.parametrize("policy", ["pretrained", "cached"])
def test_a_named_file_that_is_missing_is_never_passed_over(tmp_path, checkpoint, policy):
    assert checkpoint.exists()
    with pytest.raises(WeightsError, match=r"absent\.pt: no such weights file"):
        resolve_weights(["i3d-rgb"], choose(policy, i3d_rgb=tmp_path / "absent.pt"))


@pytest.mark.parametrize("policy", ["pretrained", "cached"])
@pytest.mark.parametrize("asked", ["named", "cached"])
def test_a_file_of_another_checksum_than_demanded_is_refused_and_kept(checkpoint, monkeypatch, policy, asked):
    wanted = hashlib.sha256(b"the published weights").hexdigest()
    monkeypatch.setenv("FACTSEG_I3D_RGB_SHA256", wanted.upper())
    choice = choose(policy, i3d_rgb=checkpoint if asked == "named" else None)
    with pytest.raises(WeightsError) as caught:
        resolve_weights(["i3d-rgb"], choice)
    found = hashlib.sha256(b"weights").hexdigest()
    assert str(caught.value).startswith(f"{checkpoint}: its SHA-256 is {found} instead of {wanted} ")
    assert "FACTSEG_I3D_RGB_SHA256" in str(caught.value)
    assert checkpoint.read_bytes() == b"weights"
    monkeypatch.setenv("FACTSEG_I3D_RGB_SHA256", found)
    assert resolve_weights(["i3d-rgb"], choice)["i3d-rgb"].path == checkpoint


def test_pretrained_without_weights_says_which_file_goes_where(weights_home):
    with pytest.raises(WeightsError) as caught:
        resolve_weights(["i3d-optical-flow"], choose("pretrained"))
    message = str(caught.value)
    assert "flow_imagenet.pt" in message
    assert str(weights_home) in message
    assert "--weights random" in message


def test_cached_takes_random_weights_for_all_when_one_is_missing(checkpoint, caplog):
    assert checkpoint.exists()
    found = resolve_weights(NETWORKS, choose("cached"))
    assert all(weights.random for weights in found.values())
    assert "clip/ViT-B-32" in caplog.text
    assert "random" in caplog.text


def test_cached_takes_real_weights_when_all_are_there(checkpoint):
    found = resolve_weights(["i3d-rgb"], choose("cached"))
    assert found["i3d-rgb"].path == checkpoint


def test_cached_never_downloads(monkeypatch):
    monkeypatch.setenv("FACTSEG_I3D_RGB_URL", "http://example.invalid/rgb.pt")
    monkeypatch.setenv("FACTSEG_I3D_RGB_SHA256", "0" * 64)
    monkeypatch.setattr(
        clip_models, "download_pretrained", lambda *_, **__: pytest.fail("a download was tried")
    )
    assert all(weights.random for weights in resolve_weights(NETWORKS, choose("cached")).values())


def test_a_failed_download_of_clip_says_what_to_do(monkeypatch):
    def fail(*_args, **_options):
        raise FileNotFoundError("no connection")

    monkeypatch.setattr(clip_models, "download_pretrained", fail)
    with pytest.raises(WeightsError, match=r"download failed \(no connection\).*--weights random"):
        resolve_weights(["clip/ViT-B-32"], choose("pretrained"))


def test_random_weights_together_with_a_file_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="leave one of them out"):
        choose("random", i3d_rgb=tmp_path / "rgb.pt")


@pytest.fixture
def server(tmp_path):
    """A web server of one folder, with a checkpoint in it."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "rgb.pt").write_bytes(b"served weights")
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args):
        pass


def test_a_download_with_the_right_checksum_is_cached(server, weights_home, monkeypatch):
    monkeypatch.setenv("FACTSEG_I3D_RGB_URL", f"{server}/rgb.pt")
    monkeypatch.setenv("FACTSEG_I3D_RGB_SHA256", hashlib.sha256(b"served weights").hexdigest())
    found = resolve_weights(["i3d-rgb"], choose("pretrained"))["i3d-rgb"]
    assert found.path == weights_home / "rgb_imagenet.pt"
    monkeypatch.setenv("FACTSEG_I3D_RGB_URL", f"{server}/gone.pt")
    assert resolve_weights(["i3d-rgb"], choose("pretrained"))["i3d-rgb"] == found


@pytest.mark.parametrize(
    ("name", "sha256", "message"),
    [
        ("rgb.pt", "0" * 64, "its SHA-256 is"),
        ("gone.pt", "0" * 64, "cannot be fetched"),
        ("rgb.pt", "", "FACTSEG_I3D_RGB_SHA256 is not"),
    ],
)
def test_a_download_that_is_not_what_was_promised_is_refused(server, monkeypatch, name, sha256, message):
    monkeypatch.setenv("FACTSEG_I3D_RGB_URL", f"{server}/{name}")
    monkeypatch.setenv("FACTSEG_I3D_RGB_SHA256", sha256)
    with pytest.raises(WeightsError, match=message):
        resolve_weights(["i3d-rgb"], choose("pretrained"))
    assert not [path for path in weights_folder().iterdir() if not path.name.endswith(".lock")]


def test_only_web_addresses_are_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTSEG_I3D_RGB_URL", (tmp_path / "rgb.pt").as_uri())
    monkeypatch.setenv("FACTSEG_I3D_RGB_SHA256", "0" * 64)
    with pytest.raises(WeightsError, match="only http and https"):
        resolve_weights(["i3d-rgb"], choose("pretrained"))


def test_a_resolved_checkpoint_loads_into_its_network(weights_home):
    model = InceptionI3D(in_channels=3)
    random_init(model, seed=0)
    torch.save(model.state_dict(), weights_home / "i3d_rgb.pt")
    real = resolve_weights(["i3d-rgb"], choose("pretrained"), digest=file_digest)["i3d-rgb"]
    cpu = torch.device("cpu")
    windows = torch.rand(1, 9, 224, 224, 3)
    loaded = load_i3d(real, device=cpu).encode_windows(windows)
    drawn = load_i3d(random_weights("i3d-rgb", seed=0), device=cpu).encode_windows(windows)
    torch.testing.assert_close(loaded, drawn)


def test_the_digest_of_a_profile_covers_all_its_networks():
    rgb, flow = (random_weights(name, seed=0) for name in ("i3d-rgb", "i3d-optical-flow"))
    assert combined_digest([rgb]) == rgb.digest
    assert len({combined_digest([rgb, flow]), combined_digest([flow, rgb]), rgb.digest, flow.digest}) == 4


def test_the_cache_folder_is_the_platforms_unless_named(monkeypatch, tmp_path):
    monkeypatch.delenv("FACTSEG_WEIGHTS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert weights_folder() == tmp_path / "factseg" / "weights"
