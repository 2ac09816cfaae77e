"""Optical flow: computed once for all profiles of a run, kept where a cache is asked for, under the right key."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline import extractors as extractors_module
from pipeline import optical_flow
from pipeline.anywhere import extract_anywhere
from pipeline.extract import extract_video
from pipeline.extract_batch import shared_extractors
from pipeline.flow_cache import FlowCache
from pipeline.probe import probe_video
from pipeline.settings import ExtractionSettings
from pipeline.sources import Sources
from storage.features import read_features
from storage.keys import file_digest
from storage.store import Store
from tests.pipeline.test_extract import FakeI3D, fake_extractors

TWO = ("mstcn-i3d:window=9:stride=3", "mstcn-i3d:stride=10:streams=optical-flow:name=other")


@pytest.fixture
def pairs(monkeypatch):
    """How many pairs of pictures each call of a counting method in place of TV-L1 was given."""
    asked = []

    def method(_workers):
        def fields(frames):
            asked.append(len(frames) - 1)
            steps = torch.from_numpy(np.diff(frames.astype(np.float32), axis=0).mean(axis=(1, 2, 3)))
            return (steps / 255).view(-1, 1, 1, 1).expand(-1, 224, 224, 2)

        return fields

    monkeypatch.setattr(optical_flow, "tvl1_method", method)
    return asked


def extract(path, store, *texts, cache=None):
    networks, extractors = fake_extractors(*texts)
    networks.flow_cache = cache
    facts = probe_video(path)
    files = extract_video(path, facts, file_digest(path), extractors, store=Store(store))
    return [read_features(file).feature for file in files]


def test_two_profiles_share_one_computation(h264, tmp_path, pairs):
    together = extract(h264, tmp_path / "together", *TWO)
    assert (sum(pairs), len(pairs)) == (39, 5)
    alone = [extract(h264, tmp_path / "alone", text)[0] for text in TWO]
    assert sum(pairs) == 3 * 39
    for ours, theirs in zip(together, alone, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_another_rate_is_another_computation(h264, tmp_path, pairs):
    extract(h264, tmp_path / "store", TWO[0], "mstcn-i3d:window=9:fps=5")
    assert sum(pairs) == 39 + 7


def test_a_cache_serves_later_runs_with_other_windows(h264, tmp_path, pairs):
    cache = FlowCache(tmp_path / "flow", max_bytes=1 << 30)
    first = extract(h264, tmp_path / "one", TWO[0], cache=cache)
    assert sum(pairs) == 39
    assert extract(h264, tmp_path / "two", TWO[1], cache=cache)[0].shape == (4, 1024)
    np.testing.assert_array_equal(extract(h264, tmp_path / "three", TWO[0], cache=cache)[0], first[0])
    assert sum(pairs) == 39


@pytest.mark.parametrize("gib", [0, 0.5])
def test_the_setting_decides_whether_and_where_fields_are_kept(h264, tmp_path, monkeypatch, pairs, gib):
    monkeypatch.setenv("FACTSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(extractors_module, "load_i3d", lambda *_args, **_options: FakeI3D())
    shared_extractors.cache_clear()
    for stride in (4, 5):
        settings = ExtractionSettings(
            features=(f"mstcn-i3d:window=9:stride={stride}",), weights="random", device="cpu", flow_cache=gib
        )
        (outcome,) = extract_anywhere([h264], extraction=settings, store=tmp_path / "store", cache_gib=1)
        assert outcome.status == "done"
    shared_extractors.cache_clear()
    kept = [np.load(path) for path in (tmp_path / "cache" / "optical-flow").glob("*.npy")]
    assert sum(map(len, kept)) == (39 if gib else 0)
    assert sum(pairs) == (39 if gib else 2 * 39)


def test_fields_of_raft_are_kept_apart_by_weights_and_kind_of_device(h264, tmp_path, monkeypatch):
    """Devices round differently, and a field is quantised: one level is soon another."""
    networks, (extractor,) = fake_extractors("mstcn-i3d:flow=raft:window=9")
    facts = probe_video(h264)
    names = []

    class Cache(FlowCache):
        def around(self, method, *, name):
            names.append(name)
            return method

    networks.flow_cache = Cache(tmp_path / "flow", max_bytes=1)
    monkeypatch.setattr(extractors_module.Networks, "raft", None)
    for digest, device in itertools.product(("aa", "bb"), ("cpu", "cuda:0", "cuda:1", "mps")):
        networks._weights["raft"] = extractors_module.ResolvedWeights(
            network="raft", digest=digest, random=True, origin=""
        )
        networks.device = torch.device(device)
        Sources([(extractor, 0)], facts=facts, device=torch.device("cpu"))
    assert len(set(names)) == 2 * 3
    assert names[1] == names[2]


@pytest.mark.parametrize(
    ("texts", "threads"), [(TWO, 3), (("mstcn-i3d:flow=dis",), 16), (("mstcn-i3d:flow=dis", TWO[0]), 3)]
)
def test_high_definition_gives_tvl1_as_many_threads_as_memory_allows(h264, monkeypatch, texts, threads):
    made = []
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    monkeypatch.setattr(optical_flow, "FieldWorkers", lambda count: made.append(count) or made)
    facts = replace(probe_video(h264), width=1920, height=1080)
    _, extractors = fake_extractors(*texts)
    Sources([(extractor, 0) for extractor in extractors], facts=facts, device=torch.device("cpu"))
    assert made == [threads]
