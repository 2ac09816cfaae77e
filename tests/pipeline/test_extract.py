"""Extraction: every row is that of its own window, one decode serves all, a second run does nothing."""

import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import CorruptVideoError
from pipeline.extract import extract_video, feature_identity, missing_features
from pipeline.extractors import Extractor, I3DEncoder, Networks, load_extractors, load_i3d
from pipeline.guard import read_guarded
from pipeline.preprocess import i3d_frames
from pipeline.probe import probe_video
from pipeline.profiles import parse_profile
from pipeline.sampling import sample_frames
from pipeline.video import read_frames
from pipeline.weights import WeightsChoice, WeightsPolicy, random_weights, resolve_weights
from storage.features import read_features
from storage.keys import digest_of, file_digest
from storage.store import Store

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


class FakeI3D(I3DEncoder):
    """Instead of a network: a few numbers that tell which frames, in which order, were in a window."""

    def __init__(self):
        self.batches = []

    def encode_windows(self, windows):
        self.batches.append(len(windows))
        levels = windows.mean(dim=(2, 3, 4)).numpy()
        assert windows.shape[2:4] == (224, 224)
        ramp = np.arange(1, levels.shape[1] + 1, dtype=np.float32)
        features = np.zeros((len(levels), 1024), np.float32)
        features[:, 0], features[:, 1] = levels.mean(axis=1), (levels * ramp).sum(axis=1)
        features[:, 2], features[:, 3] = levels[:, 0], levels[:, -1]
        return torch.from_numpy(features)

    def encode_overlapping(self, frames, *, stride, window_frames):
        return self.encode_windows(frames.unfold(0, window_frames, stride).permute(0, 4, 1, 2, 3))


class FakeClip:
    """Instead of a network: the mean picture value."""

    logit_scale = 1.0

    def __init__(self, preprocessing):
        self.preprocessing = preprocessing

    def preprocess(self, frames):
        return frames.float().mean(dim=(1, 2, 3), keepdim=True)

    def encode_images(self, images):
        features = torch.zeros(len(images), 512)
        features[:, 0] = images.flatten()
        return features


class FakeNetworks(Networks):
    """Networks that cost nothing and count how often they are asked for."""

    def __init__(self):
        names = ("i3d-rgb", "i3d-optical-flow", "clip/ViT-B-32")
        super().__init__({name: random_weights(name, seed=0) for name in names}, device=CPU)
        self.built = []
        self.encoder = FakeI3D()

    def i3d(self, network, *, precision="float32"):  # noqa: ARG002
        self.built.append(network)
        return self.encoder

    def clip(self, network, *, precision="float32"):  # noqa: ARG002
        from pipeline.preprocess import ClipPreprocessing

        if network not in self.built:
            self.built.append(network)
        return FakeClip(
            ClipPreprocessing(
                size=224, mean=(0,) * 3, std=(1,) * 3, interpolation="bicubic", resize_mode="shortest"
            )
        )


def fake_extractors(*texts):
    networks = FakeNetworks()
    return networks, [Extractor(profile=parse_profile(text), networks=networks) for text in texts]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture(scope="module")
def video(h264):
    facts = probe_video(h264)
    frames = np.concatenate([pictures for _, pictures in read_frames(h264, facts)])
    return h264, facts, file_digest(h264), frames


def rows_of_window(levels):
    return [levels.mean(), (levels * np.arange(1, len(levels) + 1)).sum(), levels[0], levels[-1]]


@pytest.mark.parametrize("stride", [1, 7, 8, 50])
def test_every_i3d_row_is_that_of_its_own_window(video, store, stride):
    path, facts, video_hash, frames = video
    _, extractors = fake_extractors(f"i3d-rgb:stride={stride}")
    (target,) = extract_video(path, facts, video_hash, extractors, store=store)
    levels = i3d_frames(torch.from_numpy(frames)).mean(dim=(1, 2, 3)).numpy()
    padded = np.pad(levels, 10, mode="edge")
    expected = [rows_of_window(padded[centre : centre + 21]) for centre in range(0, len(frames), stride)]
    stored = read_features(target)
    np.testing.assert_allclose(stored.feature[:, :4], expected, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(stored.time, facts.frame_times[::stride])


@pytest.mark.parametrize("stride", [1, 4, 33])
def test_every_clip_row_is_that_of_its_own_frame(video, store, stride):
    path, facts, video_hash, frames = video
    _, extractors = fake_extractors(f"clip:stride={stride}")
    (target,) = extract_video(path, facts, video_hash, extractors, store=store)
    stored = read_features(target)
    np.testing.assert_allclose(stored.feature[:, 0], frames[::stride].mean(axis=(1, 2, 3)), rtol=1e-3)
    np.testing.assert_allclose(stored.time, facts.frame_times[::stride])


def test_two_streams_are_joined_rgb_first(video, store):
    path, facts, video_hash, _ = video
    _, extractors = fake_extractors("mstcn-i3d:stride=16", "i3d-rgb:stride=16")
    both, rgb = (
        read_features(one).feature for one in extract_video(path, facts, video_hash, extractors, store=store)
    )
    assert both.shape == (3, 2048)
    np.testing.assert_array_equal(both[:, :1024], rgb)
    # The last frame has no successor, so the repeated last field of the last window is zero.
    assert both[-1, 1024 + 3] == 0
    assert both[0, 1024 + 3] != 0


def test_one_decode_feeds_all_profiles(video, store, monkeypatch):
    path, facts, video_hash, _ = video
    calls = []
    monkeypatch.setattr(
        "pipeline.extract.read_guarded", lambda *a, **k: calls.append(a) or read_guarded(*a, **k)
    )
    _, extractors = fake_extractors("i3d-rgb:stride=8", "clip:stride=4", "clip:stride=5")
    assert len(set(extract_video(path, facts, video_hash, extractors, store=store))) == 3
    assert len(calls) == 1


def test_a_second_run_decodes_nothing_and_builds_nothing(video, store, monkeypatch):
    path, facts, video_hash, _ = video
    first = extract_video(
        path, facts, video_hash, fake_extractors("i3d-rgb:stride=8", "clip")[1], store=store
    )
    content = [file.read_bytes() for file in first]
    monkeypatch.setattr("pipeline.extract.read_guarded", None)
    networks, extractors = fake_extractors("i3d-rgb:stride=8", "clip")
    assert extract_video(path, facts, video_hash, extractors, store=store) == first
    assert networks.built == []
    assert [file.read_bytes() for file in first] == content


def test_a_new_profile_leaves_the_stored_ones_alone(video, store):
    path, facts, video_hash, _ = video
    extract_video(path, facts, video_hash, fake_extractors("i3d-rgb:stride=8")[1], store=store)
    networks, extractors = fake_extractors("i3d-rgb:stride=8", "clip")
    extract_video(path, facts, video_hash, extractors, store=store)
    assert set(networks.built) == {"clip/ViT-B-32"}


def test_the_same_bytes_are_made_again(video, tmp_path):
    path, facts, video_hash, _ = video
    made = [
        extract_video(
            path, facts, video_hash, fake_extractors("clip:stride=3")[1], store=Store(tmp_path / name)
        )[0]
        for name in ("one", "other")
    ]
    assert made[0].read_bytes() == made[1].read_bytes()


def test_a_damaged_feature_file_is_made_anew(video, store):
    path, facts, video_hash, _ = video
    (target,) = extract_video(path, facts, video_hash, fake_extractors("clip")[1], store=store)
    target.write_bytes(b"no parquet")
    extract_video(path, facts, video_hash, fake_extractors("clip")[1], store=store)
    assert len(read_features(target).time) == 40


def test_a_corrupt_video_leaves_nothing_behind(video, store):
    path, facts, video_hash, _ = video
    longer = replace(facts, num_frames=50, promised_frames=50, frame_times=np.arange(50) / 25, decoder="pyav")
    _, extractors = fake_extractors("clip")
    with pytest.raises(CorruptVideoError, match="corrupt after frame 40 of 50"):
        extract_video(path, longer, video_hash, extractors, store=store)
    assert not list((store.root / "features").rglob("*.parquet"))
    assert not list((store.root / "features").rglob("*.part"))


def test_two_runs_at_once_make_each_file_once(video, store):
    path, facts, video_hash, _ = video
    networks, extractors = fake_extractors("clip", "i3d-rgb:stride=4")
    other = list(reversed(extractors))
    runs = [
        threading.Thread(target=extract_video, args=(path, facts, video_hash, order), kwargs={"store": store})
        for order in (extractors, other)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join(timeout=60)
    assert networks.built.count("i3d-rgb") == 1


@pytest.mark.parametrize(("stride", "batches"), [(8, [4, 1]), (1, [16, 16, 8])])
def test_windows_go_through_the_network_in_batches(video, store, stride, batches):
    path, facts, video_hash, _ = video
    networks, extractors = fake_extractors(f"i3d-rgb:stride={stride}")
    extract_video(path, facts, video_hash, extractors, store=store)
    assert networks.encoder.batches == batches


def test_progress_counts_frames_to_the_end(video, store):
    path, facts, video_hash, _ = video
    seen = []
    extract_video(
        path,
        facts,
        video_hash,
        fake_extractors("clip:stride=10")[1],
        store=store,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(32, 40), (40, 40)]


def test_everything_that_can_change_a_byte_changes_the_key():
    profile = parse_profile("i3d-rgb")
    base = {"weights_digest": "w", "video_hash": "v", "decoder": "pyav"}
    keys = {digest_of(feature_identity(profile, **base))}
    for change in ({"weights_digest": "x"}, {"video_hash": "x"}, {"decoder": "decord"}):
        keys.add(digest_of(feature_identity(profile, **{**base, **change})))
    keys.add(digest_of(feature_identity(parse_profile("i3d-rgb:stride=2"), **base)))
    assert len(keys) == 5


def test_keys_are_known_without_building_a_network(video, store):
    _, facts, video_hash, _ = video
    profiles = [parse_profile("mstcn-i3d"), parse_profile("clip")]
    choice = WeightsChoice(policy=WeightsPolicy.RANDOM)
    weights = resolve_weights([name for profile in profiles for name in profile.networks], choice)
    extractors = load_extractors(profiles, weights, device=CPU)
    assert all(extractor.random_weights for extractor in extractors)
    assert len(set(missing_features(facts, video_hash, extractors, store=store))) == 2


def test_metadata_says_that_weights_are_random_and_what_made_the_file(video, store):
    path, facts, video_hash, _ = video
    _, extractors = fake_extractors("clip:stride=4")
    (target,) = extract_video(path, facts, video_hash, extractors, store=store)
    metadata = read_features(target).metadata
    assert metadata.random_weights
    assert (metadata.profile, metadata.stride_frames, metadata.window_frames) == ("clip", 4, 1)
    assert (metadata.video_hash, metadata.decoder, metadata.num_frames) == (video_hash, facts.decoder, 40)
    recorded = metadata.identity.pop("recorded")
    assert digest_of(metadata.identity) == target.stem
    assert recorded["logit_scale"] == 1
    assert recorded["preprocessing"]["size"] == 224


def test_a_real_network_gives_the_features_of_a_window_on_its_own(video, store):
    path, facts, video_hash, frames = video
    weights = resolve_weights(["i3d-rgb"], WeightsChoice(policy=WeightsPolicy.RANDOM))
    extractors = load_extractors([parse_profile("i3d-rgb:stride=20:window=9")], weights, device=CPU)
    (target,) = extract_video(path, facts, video_hash, extractors, store=store)
    window = i3d_frames(torch.from_numpy(frames[16:25]))
    alone = load_i3d(weights["i3d-rgb"], device=CPU).encode_windows(window[None])
    np.testing.assert_allclose(read_features(target).feature[1], alone[0].numpy(), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("stride", [1, 5])
def test_beyond_the_edges_there_are_zeros_where_the_profile_says_so(video, store, stride):
    path, facts, video_hash, frames = video
    _, extractors = fake_extractors(f"i3d-rgb:edge=zero:stride={stride}")
    (target,) = extract_video(path, facts, video_hash, extractors, store=store)
    padded = np.pad(i3d_frames(torch.from_numpy(frames)).mean(dim=(1, 2, 3)).numpy(), 10)
    expected = [rows_of_window(padded[centre : centre + 21]) for centre in range(0, len(frames), stride)]
    np.testing.assert_allclose(read_features(target).feature[:, :4], expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(("window", "stride"), [(16, 8), (9, 1), (39, 3)])
def test_windows_that_do_not_fit_are_left_out_where_the_profile_says_so(video, store, window, stride):
    path, facts, video_hash, frames = video
    _, extractors = fake_extractors(f"raft-i3d:flow=dis:window={window}:stride={stride}")
    (target,) = extract_video(path, facts, video_hash, extractors, store=store)
    levels = i3d_frames(torch.from_numpy(frames)).mean(dim=(1, 2, 3)).numpy()
    starts = [first for first in range(0, len(frames), stride) if first + window + 1 <= len(frames)]
    expected = [rows_of_window(levels[first : first + window]) for first in starts]
    stored = read_features(target)
    np.testing.assert_allclose(stored.feature[:, :4], expected, rtol=2e-3, atol=2e-3)
    centres = [facts.frame_times[[s + (window - 1) // 2, s + window // 2]].mean() for s in starts]
    np.testing.assert_allclose(stored.time, centres)
    # No field past the last frame is in any window.
    assert stored.feature[-1, 1024 + 3] != 0


@pytest.mark.parametrize("fps", [10, 40])
def test_a_target_rate_samples_by_time_also_upwards(video, store, fps):
    path, facts, video_hash, frames = video
    _, extractors = fake_extractors(f"i3d-rgb:fps={fps}:window=9", f"clip:fps={fps}:stride=2", "clip")
    files = extract_video(path, facts, video_hash, extractors, store=store)
    sampled = frames[sample_frames(facts.frame_times, target_fps=fps, duration=facts.duration)]
    padded = np.pad(i3d_frames(torch.from_numpy(sampled)).mean(dim=(1, 2, 3)).numpy(), 4, mode="edge")
    windows, pictures, every = (read_features(file) for file in files)
    expected = [rows_of_window(padded[index : index + 9]) for index in range(len(sampled))]
    np.testing.assert_allclose(windows.feature[:, :4], expected, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(windows.time, np.arange(len(sampled)) / fps)
    np.testing.assert_allclose(pictures.feature[:, 0], sampled[::2].mean(axis=(1, 2, 3)), rtol=1e-3)
    assert len(every.time) == facts.num_frames


@pytest.mark.slow
def test_counts_and_time_stamps_are_those_of_public_extractors(shared, store):
    path = shared / "videos" / "clips" / "activitynet_v_GGSY1Qvo990.mp4"
    golden = shared / "golden" / "video_features"
    facts = probe_video(path)
    # Optical flow for one of the three: its fields take most of the time.
    settings = [(64, 64, None, "streams=rgb"), (24, 24, 25, "streams=rgb"), (24, 12, 15, "flow=dis")]
    texts = [
        f"raft-i3d:{kind}:window={window}:stride={stride}" + (f":fps={fps}" if fps else "")
        for window, stride, fps, kind in settings
    ]
    _, extractors = fake_extractors("clip", "clip:fps=5", *texts)
    every, five, *windows = (
        read_features(file) for file in extract_video(path, facts, file_digest(path), extractors, store=store)
    )
    stamps = np.load(golden / "v_GGSY1Qvo990_ViT-B_32_1_None_timestamps_ms.npy")
    assert every.feature.shape == (355, 512)
    np.testing.assert_allclose(every.time * 1000, stamps, atol=0.1)
    stamps = np.load(golden / "v_GGSY1Qvo990_ViT-B_32_1_5_timestamps_ms.npy")
    np.testing.assert_allclose(five.time * 1000, stamps, atol=1e-6)
    for found, (window, _, fps, kind), rows, name in zip(
        windows, settings, (5, 18, 21), ("None_None_None", "24_24_25", "24_12_15"), strict=True
    ):
        stamps = np.load(golden / f"v_GGSY1Qvo990_None_raft_{name}_timestamps_ms.npy")
        assert found.feature.shape == (rows, 2048 if "flow" in kind else 1024)
        # Theirs is the time of the picture after the window, ours that of its centre.
        later = (window + 1) / 2 / (fps or facts.fps)
        np.testing.assert_allclose((found.time + later) * 1000, stamps, atol=0.1)


LONG = ("clip", "i3d-rgb:window=9", "mstcn-i3d:flow=dis:window=9:name=both")

KILLED = """
import os, signal, sys
from pathlib import Path
from tests.pipeline.test_extract import LONG, extract_long, fake_extractors

def kill(done, total):
    if done > 1500:
        os.kill(os.getpid(), signal.SIGKILL)

extract_long(Path(sys.argv[1]), fake_extractors(*LONG)[1], store=Path(sys.argv[2]), progress=kill)
"""


def extract_long(path, extractors, *, store, progress=None):
    facts = probe_video(path)
    return extract_video(path, facts, file_digest(path), extractors, store=Store(store), progress=progress)


@pytest.mark.slow
def test_a_killed_run_goes_on_after_its_last_part_with_the_same_bytes(tmp_path, make_video, monkeypatch):
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(0, 256, (2100, 1, 1, 3), dtype=np.uint8), 32, axis=1).repeat(48, axis=2)
    path = make_video(tmp_path / "long.mp4", frames)
    child = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), str(tmp_path / "killed")], check=False, cwd=ROOT
    )
    assert child.returncode == -signal.SIGKILL
    assert not list((tmp_path / "killed").rglob("features/*/*.parquet"))
    asked = []
    monkeypatch.setattr(
        "pipeline.extract.read_guarded",
        lambda *args, **kwargs: asked.append(args[2]) or read_guarded(*args, **kwargs),
    )
    _, extractors = fake_extractors(*LONG)
    continued = extract_long(path, extractors, store=tmp_path / "killed")
    whole = extract_long(path, extractors, store=tmp_path / "whole")
    # The first window after 1,024 steps begins at frame 1020, the batch of pairs with its first field at 1016.
    assert [frames[0] for frames in asked] == [1016, 0]
    assert [file.read_bytes() for file in continued] == [file.read_bytes() for file in whole]
    assert not list((tmp_path / "killed").rglob("*.part*"))
