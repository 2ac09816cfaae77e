"""Which decoder probing chooses, and the line in the log where it is not decord."""

import logging

import av
import numpy as np
import pytest

from pipeline import decoder_check
from pipeline.probe import probe_video

decord = pytest.importorskip("decord")


class Reader:
    """decord as it might be: pictures that another decoder gave, changed."""

    def __init__(self, *, count=40, pictures=lambda batch: batch):
        self._count = count
        self._pictures = pictures

    def __len__(self):
        return self._count

    def get_batch(self, indices):
        return Batch(self._pictures(np.zeros((len(indices), 64, 96, 3), np.uint8)))


class Batch:
    def __init__(self, pictures):
        self._pictures = pictures

    def asnumpy(self):
        return self._pictures


def fails(_path):
    raise decord.DECORDError("[1:2:3] video_reader.cc:9: Check failed: no codec\nStack trace:\n  0x1")


def chosen(path, caplog):
    """The decoder, and the lines that say why."""
    caplog.set_level(logging.INFO)
    facts = probe_video(path)
    told = [record.getMessage() for record in caplog.records if record.name == decoder_check.__name__]
    return facts.decoder, told


def test_decord_is_chosen_without_a_word_where_it_agrees(h264, caplog):
    assert chosen(h264, caplog) == ("decord", [])


@pytest.mark.parametrize(
    ("reader", "reason"),
    [
        (lambda _: Reader(count=39), "decord counts 39 frames instead of 40"),
        (fails, "decord fails ([1:2:3] video_reader.cc:9: Check failed: no codec)"),
        (
            lambda _: Reader(pictures=lambda batch: batch[:, :-2]),
            "decord gives pictures of shape (62, 96, 3) instead of (64, 96, 3)",
        ),
        (lambda _: Reader(), "decord differs by "),
    ],
)
def test_where_decord_is_wrong_the_log_says_how(h264, monkeypatch, caplog, reader, reason):
    monkeypatch.setattr(decoder_check, "open_decord", reader)
    decoder, (line,) = chosen(h264, caplog)
    assert decoder == "pyav"
    assert line.startswith(f"{h264}: PyAV decodes it, because {reason}")
    assert line.endswith(".")


def test_a_single_wrong_level_in_four_is_not_yet_another_picture(h264, monkeypatch, caplog):
    true = decoder_check.open_decord

    def off_by(levels):
        def read(path):
            pictures = true(path).get_batch([0, 24, 36]).asnumpy()
            changed = pictures.copy()
            changed.reshape(3, -1)[:, ::4] = (
                np.where(pictures.reshape(3, -1)[:, ::4] > 127, -levels, levels).astype(np.uint8)
                + pictures.reshape(3, -1)[:, ::4]
            )
            return Reader(pictures=lambda _: changed)

        return read

    monkeypatch.setattr(decoder_check, "open_decord", off_by(1))
    assert chosen(h264, caplog) == ("decord", [])
    monkeypatch.setattr(decoder_check, "open_decord", off_by(2))
    decoder, (line,) = chosen(h264, caplog)
    assert decoder == "pyav"
    assert "decord differs by 0.50 levels at frame 0" in line


def test_a_frame_that_seeking_does_not_meet_cannot_be_checked(h264, monkeypatch, caplog):
    monkeypatch.setattr(decoder_check, "_frame_at", lambda *_: None)
    decoder, (line,) = chosen(h264, caplog)
    assert decoder == "pyav"
    assert "because decord cannot be checked at frame " in line


def test_where_decord_is_not_installed_the_log_says_so(h264, monkeypatch, caplog):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert chosen(h264, caplog) == ("pyav", [f"{h264}: PyAV decodes it, because decord is not installed."])


def test_a_video_whose_pictures_decord_would_hoard_goes_to_pyav(h264, monkeypatch, caplog):
    monkeypatch.setattr(decoder_check, "MAX_DECORD_BYTES", 40 * 96 * 64 * 3 - 1)
    decoder, (line,) = chosen(h264, caplog)
    assert decoder == "pyav"
    assert line.endswith("because decord would hold all its pictures.")


def test_untagged_high_definition_goes_to_pyav(tmp_path, make_video, make_frames, caplog):
    path = make_video(tmp_path / "high.mp4", make_frames(2, width=64, height=720))
    decoder, (line,) = chosen(path, caplog)
    assert decoder == "pyav"
    assert "because its untagged high definition is BT.709" in line


def test_several_video_streams_go_to_pyav(tmp_path, make_frames, caplog):
    path = tmp_path / "two.mkv"
    with av.open(path, "w") as container:
        for stream in [container.add_stream("libx264", rate=25, width=96, height=64) for _ in range(2)]:
            for picture in make_frames(3):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
    decoder, (line,) = chosen(path, caplog)
    assert decoder == "pyav"
    assert line.endswith("because it has 2 video streams.")
