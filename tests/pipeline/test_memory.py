"""Memory of extraction: what waits between its parts is bounded, by bytes where pictures are large, at any length."""

import time
import weakref
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from pipeline import guard
from pipeline.extract import _INPUTS_AHEAD, extract_video
from pipeline.guard import read_guarded
from pipeline.probe import probe_video
from pipeline.steps import _StreamInput
from storage.store import Store
from tests.pipeline.test_extract import fake_extractors

MIB = 1 << 20


class _Recorder:
    """Instead of a decoding process: remembers what was asked for, and decodes nothing."""

    def stream(self, *_, **options):
        self.asked = options
        yield from ()


@pytest.mark.parametrize(
    ("width", "height", "batch"), [(64, 48, 32), (1280, 720, 12), (1920, 1080, 5), (7680, 4320, 1)]
)
def test_the_ring_of_decoded_pictures_is_bounded_in_bytes(h264, monkeypatch, width, height, batch):
    recorder = _Recorder()
    monkeypatch.setattr(guard, "_lent", contextmanager(lambda: iter([recorder])))
    facts = replace(probe_video(h264), width=width, height=height)
    assert not list(read_guarded(h264, facts))
    asked = recorder.asked
    picture = width * height * 3
    assert (asked["batch_frames"], asked["frame_shape"]) == (batch, (height, width, 3))
    assert asked["slots"] * batch * picture <= max(128 * MIB, 4 * picture)
    # A decoder that takes more than this for itself is stopped.
    assert asked["watchdog"].memory_bytes == 1024 * MIB + 64 * picture


def peaks(video, place, monkeypatch, *, num_frames):
    """Most batches decoded and not used up, most of them in memory, most pictures kept for coming windows."""
    facts = replace(
        probe_video(video),
        num_frames=num_frames,
        promised_frames=num_frames,
        frame_times=np.arange(num_frames) / 25,
    )
    batches, used, ahead, alive, kept = [], [], [], [], []

    def read(*_args, **_options):
        for start in range(0, num_frames, 8):
            frames = np.zeros((8, 32, 32, 3), np.uint8)
            batches.append(weakref.ref(frames))
            ahead.append(len(batches) - len(used))
            yield np.arange(start, start + 8), frames
            del frames
            alive.append(sum(batch() is not None for batch in batches))

    def progress(done, _total):
        used.append(done)
        # Slower than what is ahead of it, so that all that may wait does.
        time.sleep(0.01)

    def add(self, inputs, original=_StreamInput.add):
        original(self, inputs)
        kept.append(self.stop - self._start)

    with monkeypatch.context() as patched:
        patched.setattr("pipeline.extract.read_guarded", read)
        patched.setattr("pipeline.extract.check_unchanged", lambda *_args, **_options: None)
        patched.setattr(_StreamInput, "add", add)
        _, extractors = fake_extractors("i3d-rgb:stride=16", "i3d-rgb:window=9", "clip:stride=4")
        extract_video(video, facts, "0" * 64, extractors, store=place, progress=progress)
    assert len(batches) == num_frames // 8
    return max(ahead), max(alive), max(kept)


def test_what_waits_is_bounded_and_does_not_grow_with_the_video(h264, tmp_path, monkeypatch):
    short, long = (
        peaks(h264, Store(tmp_path / str(frames)), monkeypatch, num_frames=frames) for frames in (160, 1600)
    )
    ahead, alive, kept = long
    # Those that wait, one in the making, one at the networks, and the one just decoded.
    assert ahead <= _INPUTS_AHEAD + 3
    # The next batch is asked for when nothing of the last one is held.
    assert alive == 0
    # Four windows of 21 at stride 16 go through the network together, and a batch of 8 came with the last of them.
    assert kept <= 3 * 16 + 21 + 8
    assert kept == short[-1]
