"""Right pixels from unusual videos: against the picture that was drawn, and decoder against decoder."""

import struct
from dataclasses import replace

import av
import numpy as np
import pytest

from pipeline.decoder_check import MAX_DECODER_DIFFERENCE
from pipeline.guard import probe_guarded, read_guarded

BT601, BT709 = 5, 1
LIMITED, FULL = 1, 2


def draw(width, height):
    """A smooth picture in which every corner has a colour of its own, away from black and white."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack(
        [40 + x * 150 // width, 60 + y * 130 // height, 180 - (x + y) * 100 // (width + height)], axis=-1
    ).astype(np.uint8)


def encode(path, picture, *, pixels, matrix=BT601, colours=LIMITED, codec="libx264", options=None, count=3):
    """``count`` times the picture, with matrix and range as tagged."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25, options={"crf": "1"} if options is None else options)
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = pixels
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = colours
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            shown = frame.reformat(format=pixels, dst_colorspace=matrix, dst_color_range=colours)
            shown.pts = index
            container.mux(stream.encode(shown))
        container.mux(stream.encode(None))
    return path


def read(path, facts):
    return np.concatenate([pictures.copy() for _, pictures in read_guarded(path, facts)])


UNUSUAL = {
    "plain": {"pixels": "yuv420p"},
    "4:2:2": {"pixels": "yuv422p"},
    "4:4:4": {"pixels": "yuv444p"},
    "10-bit": {"pixels": "yuv420p10le"},
    "10-bit 4:4:4": {"pixels": "yuv444p10le"},
    "full range": {"pixels": "yuv420p", "colours": FULL},
    "full range 4:4:4": {"pixels": "yuv444p", "colours": FULL},
    "BT.709": {"pixels": "yuv420p", "matrix": BT709},
    "BT.709 full range": {"pixels": "yuv420p", "matrix": BT709, "colours": FULL},
    "grey": {"pixels": "gray", "colours": FULL},
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_an_unusual_video_shows_the_picture_that_was_drawn(tmp_path, kind):
    picture = draw(96, 64)
    if kind == "grey":
        picture = np.repeat(picture[..., :1], 3, axis=-1)
    path = encode(tmp_path / "film.mp4", picture, **UNUSUAL[kind])
    facts = probe_guarded(path)
    found = read(path, facts)
    assert found.shape == (3, 64, 96, 3)
    assert np.abs(found.astype(int) - picture).mean() < 2
    # Whatever was chosen, PyAV shows the same.
    by_pyav = read(path, replace(facts, decoder="pyav"))
    assert np.abs(found.astype(int) - by_pyav).mean() <= MAX_DECODER_DIFFERENCE


@pytest.mark.parametrize(("width", "height"), [(2, 2), (4, 6), (8, 8), (16, 2), (34, 18)])
def test_tiny_pictures_keep_their_size_and_colour(tmp_path, width, height):
    picture = np.full((height, width, 3), (150, 90, 60), np.uint8)
    path = encode(tmp_path / "tiny.mp4", picture, pixels="yuv420p")
    facts = probe_guarded(path)
    found = read(path, facts)
    assert (facts.width, facts.height) == (width, height)
    assert found.shape == (3, height, width, 3)
    assert np.abs(found.astype(int) - picture).max() <= 4


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (33, 17)])
def test_odd_sizes_keep_their_size_and_colour(tmp_path, width, height):
    picture = np.full((height, width, 3), (150, 90, 60), np.uint8)
    path = encode(tmp_path / "odd.mp4", picture, pixels="yuv444p")
    found = read(path, probe_guarded(path))
    assert found.shape == (3, height, width, 3)
    assert np.abs(found.astype(int) - picture).max() <= 4


MATRICES = {
    0: (1, 0, 0, 1),
    90: (0, 1, -1, 0),
    180: (-1, 0, 0, -1),
    270: (0, -1, 1, 0),
}


def turn(path, clockwise):
    """Write a display matrix (ISO/IEC 14496-12, 8.3.2) into the only track of an MP4."""
    a, b, c, d = (value * 65536 for value in MATRICES[clockwise])
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 44
    content[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


@pytest.mark.parametrize("clockwise", MATRICES)
def test_pictures_are_upright(tmp_path, clockwise):
    picture = draw(96, 64)
    path = encode(tmp_path / "phone.mp4", picture, pixels="yuv420p")
    turn(path, clockwise)
    facts = probe_guarded(path)
    upright = np.rot90(picture, -clockwise // 90)
    assert (facts.height, facts.width) == upright.shape[:2]
    assert facts.rotation == -clockwise % 360
    assert np.abs(read(path, facts).astype(int) - upright).mean() < 2


def test_pixel_aspect_is_recorded_and_not_applied(tmp_path):
    path = tmp_path / "wide.mkv"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": "sar=4/3"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(draw(96, 64), format="rgb24")))
        container.mux(stream.encode(None))
    facts = probe_guarded(path)
    assert facts.pixel_aspect == pytest.approx(4 / 3)
    assert (facts.width, facts.height) == (96, 64)
    assert read(path, facts).shape == (1, 64, 96, 3)


@pytest.mark.parametrize("name", ["torchcodec__bt709_full_range.mp4", "torchcodec__h264_10bits.mp4"])
def test_real_unusual_videos_look_the_same_whoever_decodes(shared, name):
    path = shared / "videos" / "odd" / name
    facts = probe_guarded(path)
    first = next(read_guarded(path, facts, [0]))[1].astype(int)
    other = next(read_guarded(path, replace(facts, decoder="pyav"), [0]))[1]
    assert np.abs(first - other).mean() <= MAX_DECODER_DIFFERENCE
