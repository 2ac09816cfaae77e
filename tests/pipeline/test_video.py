"""Reading frames: two decoders against each other, and both against the pictures that were drawn."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import CorruptVideoError, DecoderError
from pipeline.probe import probe_video
from pipeline.video import read_frames


def read_all(path, facts, **options):
    indices, pictures = zip(*read_frames(path, facts, **options), strict=True)
    return np.concatenate(indices), np.concatenate(pictures)


@pytest.fixture(params=["pyav", "decord"])
def decoder(request):
    pytest.importorskip(request.param.replace("pyav", "av"))
    return request.param


def test_both_decoders_give_the_same_pictures(h264):
    pytest.importorskip("decord")
    facts = probe_video(h264)
    assert facts.decoder == "decord"
    _, ours = read_all(h264, facts)
    _, theirs = read_all(h264, replace(facts, decoder="pyav"))
    np.testing.assert_array_equal(ours, theirs)


def test_frames_come_in_display_order(h264, make_frames, decoder):
    indices, pictures = read_all(h264, probe_video(h264, decoder=decoder))
    drawn = make_frames(40)
    differences = np.abs(pictures[:, None].astype(int) - drawn[None]).mean(axis=(2, 3, 4))
    assert indices.tolist() == list(range(40))
    assert differences.argmin(axis=1).tolist() == list(range(40))
    assert differences.diagonal().max() < 4


def test_chosen_frames_equal_those_of_a_full_read(h264, decoder):
    facts = probe_video(h264, decoder=decoder)
    _, everything = read_all(h264, facts)
    indices, some = read_all(h264, facts, indices=[0, 3, 13, 39], batch_frames=3)
    assert indices.tolist() == [0, 3, 13, 39]
    np.testing.assert_array_equal(some, everything[[0, 3, 13, 39]])


def test_no_batch_is_larger_than_asked_for(h264, decoder):
    batches = list(read_frames(h264, probe_video(h264, decoder=decoder), batch_frames=16))
    assert [len(pictures) for _, pictures in batches] == [16, 16, 8]
    assert all(pictures.dtype == np.uint8 and pictures.shape[1:] == (64, 96, 3) for _, pictures in batches)


@pytest.mark.parametrize("indices", [[3, 2], [1, 1], [-1], [40]])
def test_indices_outside_the_video_or_out_of_order_are_refused(h264, indices):
    with pytest.raises(ValueError, match="strictly"):
        next(read_frames(h264, probe_video(h264), indices))


def test_untagged_high_definition_is_read_with_its_own_matrix(tmp_path, make_video):
    # A reader that assumes BT.601 shows this colour ten levels off; no channel clips on the way.
    plain = np.empty((2, 720, 64, 3), np.uint8)
    plain[:] = (170, 90, 100)
    path = make_video(tmp_path / "plain.mp4", encode_as_bt709(plain), pixel_format="yuv444p")
    facts = probe_video(path)
    assert facts.decoder == "pyav"
    _, pictures = read_all(path, facts)
    assert np.abs(pictures.astype(int) - plain).max() <= 3


def encode_as_bt709(rgb):
    """RGB that, pushed through the encoder's BT.601, lands on the BT.709 code values of ``rgb``."""
    bt601 = ycbcr_matrix(0.299, 0.114)
    bt709 = ycbcr_matrix(0.2126, 0.0722)
    mixed = rgb @ (np.linalg.inv(bt601) @ bt709).T
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def ycbcr_matrix(red, blue):
    green = 1 - red - blue
    return np.array(
        [
            [red, green, blue],
            [-red / (2 * (1 - blue)), -green / (2 * (1 - blue)), 0.5],
            [0.5, -green / (2 * (1 - red)), -blue / (2 * (1 - red))],
        ]
    )


def test_a_video_damaged_inside_says_after_which_frame(tmp_path, h264, decoder):
    facts = probe_video(h264, decoder=decoder)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(damage(h264))
    with pytest.raises(CorruptVideoError, match=r"broken.mp4: corrupt after frame \d+ of 40"):
        read_all(broken, facts)


def damage(path):
    """The file's bytes with the pictures of its second half overwritten by zeros."""
    import av

    content = bytearray(path.read_bytes())
    with av.open(path) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for packet in packets[20:]:
        content[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    return bytes(content)


def test_an_index_that_promises_too_few_frames_is_an_error(h264):
    facts = replace(probe_video(h264, decoder="pyav"), num_frames=30, promised_frames=30)
    with pytest.raises(CorruptVideoError, match="more frames than the 30"):
        read_all(h264, facts)


def test_facts_from_a_machine_with_decord_say_so_where_it_is_missing(h264, monkeypatch):
    facts = probe_video(h264, decoder="decord")
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(DecoderError, match="decord, which was chosen for it, is not installed here"):
        next(read_frames(h264, facts))


def test_without_decord_pyav_reads_everything(h264, monkeypatch):
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "decord" else pytest.fail(name)
    )
    assert probe_video(h264).decoder == "pyav"
