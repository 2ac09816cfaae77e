"""Cached optical flow: exactly what was computed, once, within its size."""

import os

import numpy as np
import pytest
import torch

from pipeline.flow_cache import FlowCache

FIELDS_BYTES = 2 * 224 * 224 * 2 * 4


class Counting:
    """A method that counts how often it is asked."""

    def __init__(self):
        self.asked = 0

    def __call__(self, frames):
        self.asked += 1
        generator = torch.Generator().manual_seed(int(frames.sum()))
        return torch.randn(len(frames) - 1, 224, 224, 2, generator=generator)


@pytest.fixture
def cache(tmp_path):
    return FlowCache(tmp_path / "flow", max_bytes=1 << 30)


def pictures(seed):
    return np.random.default_rng(seed).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)


def test_fields_are_computed_once_and_come_back_bit_for_bit(cache, tmp_path):
    method = Counting()
    expected = method(pictures(0))
    first = cache.around(method, name="tvl1")(pictures(0))
    again = FlowCache(tmp_path / "flow", max_bytes=1 << 30).around(method, name="tvl1")(pictures(0))
    assert method.asked == 2
    assert torch.equal(first, expected)
    assert torch.equal(again, expected)


def test_other_pictures_or_another_method_are_computed(cache):
    method = Counting()
    cache.around(method, name="tvl1")(pictures(0))
    cache.around(method, name="tvl1")(pictures(1))
    cache.around(method, name="dis")(pictures(0))
    cache.around(method, name="tvl1")(pictures(0)[:2])
    assert method.asked == 4


def test_the_oldest_are_deleted_beyond_the_size(tmp_path):
    folder = tmp_path / "flow"
    cache = FlowCache(folder, max_bytes=4 * FIELDS_BYTES)
    method = Counting()
    ask = cache.around(method, name="tvl1")
    for seed in range(3):
        ask(pictures(seed))
        for age, path in enumerate(sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)):
            os.utime(path, ns=(age, age))
    ask(pictures(0))
    ask(pictures(3))
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 4 * FIELDS_BYTES
    method.asked = 0
    ask(pictures(0))
    assert method.asked == 0
    ask(pictures(1))
    assert method.asked == 1


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_a_damaged_file_is_computed_anew(cache, tmp_path, caplog, content):
    method = Counting()
    ask = cache.around(method, name="tvl1")
    expected = ask(pictures(0))
    (file,) = (tmp_path / "flow").iterdir()
    file.write_bytes(content)
    assert torch.equal(ask(pictures(0)), expected)
    assert torch.equal(ask(pictures(0)), expected)
    assert method.asked == 2
    assert "computed anew" in caplog.text
