"""Probing: facts of good videos, one clear sentence for every other file."""

import json
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from pipeline.errors import CorruptVideoError, DatasetError, NotAVideoError, VideoError
from pipeline.guard import probe_guarded, read_guarded
from pipeline.listing import list_videos
from pipeline.probe import probe_video
from pipeline.video import read_frames


def test_facts_of_a_plain_video(h264):
    facts = probe_video(h264)
    assert (facts.codec, facts.width, facts.height, facts.rotation) == ("h264", 96, 64, 0)
    assert (facts.num_frames, facts.duration, facts.fps) == (40, pytest.approx(1.6), pytest.approx(25))
    assert (facts.video_streams, facts.stream_index, facts.pixel_aspect) == (1, 0, 1)
    assert facts.size_bytes == h264.stat().st_size
    np.testing.assert_allclose(facts.frame_times, np.arange(40) / 25, atol=1e-12)


def test_times_of_a_variable_rate_video_are_its_own(tmp_path, make_video, make_frames):
    stamps = [0, 40, 80, 500, 510, 900, 1000, 1600]
    path = make_video(tmp_path / "variable.mp4", make_frames(8), stamps=stamps)
    facts = probe_video(path)
    np.testing.assert_allclose(facts.frame_times, np.array(stamps) / 1000, atol=1e-4)
    assert facts.has_variable_rate


@pytest.mark.parametrize("fps", [1, 15, 24, 30, 60, 120])
def test_a_container_that_counts_in_milliseconds_does_not_make_a_rate_variable(
    tmp_path, make_video, make_frames, fps
):
    stamps = [round(1000 * index / fps) for index in range(9)]
    path = make_video(tmp_path / "even.mkv", make_frames(9), stamps=stamps)
    assert not probe_video(path).has_variable_rate
    # A frame that was dropped by the camera.
    path = make_video(tmp_path / "gap.mkv", make_frames(8), stamps=stamps[:4] + stamps[5:])
    assert probe_video(path).has_variable_rate


def test_times_count_from_the_first_frame(tmp_path, make_video, make_frames):
    path = make_video(tmp_path / "late.mkv", make_frames(3), stamps=[5000, 5040, 5080])
    np.testing.assert_allclose(probe_video(path).frame_times, [0, 0.04, 0.08], atol=1e-9)


def test_a_stream_without_time_stamps_follows_its_nominal_rate(tmp_path, make_video, make_frames, caplog):
    path = make_video(tmp_path / "raw.h264", make_frames(20))
    facts = probe_video(path)
    assert facts.num_frames == 20
    np.testing.assert_allclose(facts.frame_times, np.arange(20) / 25)
    assert "nominal rate" in caplog.text


def test_a_title_that_is_not_utf_8_keeps_nobody_from_the_pictures(tmp_path, make_video, make_frames):
    path = tmp_path / "title.mp4"
    with av.open(make_video(tmp_path / "plain.mp4", make_frames(8))) as plain, av.open(path, "w") as titled:
        titled.metadata["title"] = "creme_brulee"
        stream = titled.add_stream_from_template(plain.streams.video[0])
        for packet in plain.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                titled.mux(packet)
    content = path.read_bytes()
    assert content.count(b"creme_brulee") == 1
    path.write_bytes(content.replace(b"creme_brulee", "crème_brulée".encode("latin-1")))
    assert len(list(read_frames(path, probe_video(path), batch_frames=8))) == 1


def test_frames_that_an_edit_list_hides_do_not_count(tmp_path, h264):
    path = tmp_path / "trimmed.mp4"
    trim(h264, path, seconds=0.2)
    facts = probe_video(path)
    assert facts.num_frames == 35
    assert sum(len(indices) for indices, _ in read_frames(path, facts)) == 35


def trim(source, target, *, seconds):
    """Copy the packets with a start time before zero, which MP4 turns into an edit list."""
    with av.open(source) as reader, av.open(target, "w", options={"avoid_negative_ts": "disabled"}) as writer:
        inward = reader.streams.video[0]
        outward = writer.add_stream_from_template(inward)
        offset = round(seconds / inward.time_base)
        for packet in reader.demux(inward):
            if packet.dts is None:
                continue
            packet.pts -= offset
            packet.dts -= offset
            packet.stream = outward
            writer.mux(packet)


def test_hidden_reference_frames_of_vp8_do_not_count(tmp_path, make_video, make_frames):
    path = make_video(tmp_path / "plain.webm", make_frames(12), codec="libvpx")
    with av.open(path) as container:
        packet = [bytes(packet) for packet in container.demux(video=0) if packet.size][7]
    hidden = bytes([packet[0] & ~0x10]) + packet[1:]
    path.write_bytes(path.read_bytes().replace(packet, hidden))
    facts = probe_video(path)
    assert facts.num_frames == 11
    assert 0.28 not in facts.frame_times.round(3)
    assert sum(len(indices) for indices, _ in read_frames(path, facts)) == 11


def test_the_stream_with_most_pixels_is_taken(tmp_path, make_frames):
    path = tmp_path / "two.mkv"
    with av.open(path, "w") as container:
        sizes = [(64, 48), (96, 64)]
        streams = [container.add_stream("libx264", rate=25, width=w, height=h) for w, h in sizes]
        for stream, (width, height), count in zip(streams, sizes, (5, 7), strict=True):
            for picture in make_frames(count, width=width, height=height):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
    facts = probe_video(path)
    assert (facts.video_streams, facts.stream_index, facts.width, facts.num_frames) == (2, 1, 96, 7)


def test_the_pixel_aspect_is_recorded(tmp_path, make_frames):
    path = tmp_path / "wide.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25, width=96, height=64)
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for picture in make_frames(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    assert probe_video(path).pixel_aspect == pytest.approx(4 / 3)


def cut(source, target, share):
    content = source.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])
    return target


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_video_cut_before_its_header_is_not_readable(tmp_path, h264, share):
    # The header of a plain MP4 lies at its end.
    with pytest.raises(CorruptVideoError, match=r"cut.mp4: not readable .*intact copy"):
        probe_video(cut(h264, tmp_path / "cut.mp4", share))


def test_a_video_cut_after_its_header_says_how_much_is_left(tmp_path, make_video, make_frames):
    path = make_video(tmp_path / "whole.mp4", make_frames(40), container_options={"movflags": "faststart"})
    with pytest.raises(CorruptVideoError, match=r"cut.mp4: corrupt after frame \d+ of 40"):
        probe_video(cut(path, tmp_path / "cut.mp4", 0.6))


def test_a_cut_matroska_file_is_shorter_than_it_says(tmp_path, make_video, make_frames):
    path = make_video(tmp_path / "whole.mkv", make_frames(40))
    with pytest.raises(CorruptVideoError, match=r"corrupt after frame \d+ of 40"):
        probe_video(cut(path, tmp_path / "cut.mkv", 0.5))


def make_empty(path):
    path.touch()


def make_folder(path):
    path.mkdir()


def make_text(path):
    path.write_text("start,end,label\n", encoding="utf-8")


def make_playlist(path):
    path.write_text("#EXTM3U\nhttp://localhost/other.ts\n", encoding="utf-8")


def make_noise(path):
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def make_sound(path):
    with av.open(path, "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))


def make_picture(path):
    with av.open(path, "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("png", rate=1, width=16, height=16)
        stream.pix_fmt = "rgb24"
        container.mux(
            stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24"))
        )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (make_empty, NotAVideoError, "empty file"),
        (make_folder, NotAVideoError, "is a folder"),
        (make_text, NotAVideoError, "not a video but text"),
        (make_playlist, NotAVideoError, "not a video but text"),
        (make_noise, VideoError, "not readable as a video"),
        (make_sound, NotAVideoError, "no video stream"),
        (make_picture, NotAVideoError, "still picture"),
        (lambda _: None, VideoError, "no such file"),
    ],
)
def test_what_is_no_video_gets_one_sentence_that_begins_with_its_path(tmp_path, make, error, message):
    path = tmp_path / "film.mp4"
    make(path)
    with pytest.raises(error) as caught:
        probe_video(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["-dash.mp4", "two words.mp4", "quote'\".mp4", "concat:a|b.mp4", "größe 🎬.mp4", "%03d.mp4"]
)
def test_odd_names_are_plain_files(tmp_path, h264, name):
    path = tmp_path / name
    path.write_bytes(h264.read_bytes())
    facts = probe_video(path)
    assert sum(len(indices) for indices, _ in read_frames(path, facts)) == 40


def test_a_listing_parts_text_from_what_must_be_judged(tmp_path, h264):
    (tmp_path / "b.mp4").write_bytes(h264.read_bytes())
    (tmp_path / "a.bin").write_bytes(b"\x00\x01")
    (tmp_path / "text.mp4").write_text("no video", encoding="utf-8")
    (tmp_path / "labels.tsv").write_text("a\tb\n", encoding="utf-8")
    (tmp_path / "notes.vtt").write_bytes("WEBVTT\n\n\xe9\n".encode("latin-1"))
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "c.mp4").touch()
    listing = list_videos(tmp_path)
    assert [path.name for path in listing.videos] == ["a.bin", "b.mp4", "text.mp4"]
    assert [path.name for path in listing.not_videos] == ["labels.tsv", "notes.vtt"]


@pytest.mark.parametrize("kind", ["missing", "empty", "file"])
def test_a_folder_without_files_is_named_with_the_remedy(tmp_path, kind):
    folder = tmp_path / "videos"
    if kind == "empty":
        folder.mkdir()
    if kind == "file":
        folder.touch()
    with pytest.raises(DatasetError, match=r"videos: .+\. .+\."):
        list_videos(folder)


NAMED_ERRORS = {
    "go-mp4__sample_init.encv.mp4": "encrypted",
    "moviepy__result.webm": "empty file",
    "mp4parse-rust__amr_nb_1f.3gp": "no video stream",
    "mp4parse-rust__bipbop_480wp_1001kbps-cenc-video-key1-init.mp4": "encrypted",
    "mp4parse-rust__bipbop_nonfragment_header.mp4": "holds no pictures",
    "mp4parse-rust__chunk_out_of_range.mp4": "not readable",
    "mp4parse-rust__invalid_userdata.mp4": "corrupt after frame 0 of 5544",
    "mp4parse-rust__sine-3s-xhe-aac-44khz-mono.mp4": "no video stream",
    "mp4parser__count-english-audio.mp4": "no video stream",
    "mp4parser__redbull_100kbit_dash.mp4": "holds no pictures",
    "small__AudioVideoInterleave.avi": "holds no pictures",
    "small__FlashVideo.flv": "not readable",
    "small__gif.gif": "no picture can be decoded",
    "small__webm-with-audio.webm": "no video stream",
    "torchcodec__nasa_13013.mp4.audio.mp3": "no video stream",
    "decord__corrupted.mp4": "corrupt after frame 28 of 50",
}
STREAM_WITH_MOST_PIXELS = {"torchcodec__nasa_13013.mp4": 390}


def test_every_odd_file_gives_its_frames_or_its_named_error(shared):
    odd = shared / "videos" / "odd"
    rows = [json.loads(line) for line in (odd / "PROBE.jsonl").read_text(encoding="utf-8").splitlines()]
    outcome = {row["file"]: frames_or_error(odd / row["file"]) for row in rows}
    expected = {
        row["file"]: NAMED_ERRORS.get(row["file"], STREAM_WITH_MOST_PIXELS.get(row["file"], row.get("n")))
        for row in rows
    }
    assert len(rows) == 43
    assert outcome == expected


@pytest.mark.parametrize("place", ["odd/torchcodec__nasa_13013.mp4", "clips/torchcodec_nasa_13013.mp4"])
def test_of_two_streams_the_larger_one_is_taken_by_both_decoders(shared, place):
    path = shared / "videos" / place
    facts = probe_video(path)
    assert (facts.width, facts.height, facts.num_frames) == (480, 270, 390)
    assert (facts.video_streams, facts.stream_index) == (2, 3)
    for decoder in ("pyav", "decord"):
        indices, pictures = next(read_frames(path, replace(facts, decoder=decoder), [0, 389]))
        assert (indices.tolist(), pictures.shape) == ([0, 389], (2, 270, 480, 3))


def test_only_real_videos_of_a_variable_rate_are_called_so(shared):
    odd = shared / "videos" / "odd"
    rows = [json.loads(line) for line in (odd / "PROBE.jsonl").read_text(encoding="utf-8").splitlines()]
    uneven = {row["file"] for row in rows if row.get("ndelta", 1) > 1 and row["file"] not in NAMED_ERRORS}
    good = [odd / row["file"] for row in rows if row["file"] not in NAMED_ERRORS]
    assert {path.name for path in good if probe_video(path).has_variable_rate} == uneven


def frames_or_error(path):
    try:
        facts = probe_guarded(path)
        return sum(len(indices) for indices, _ in read_guarded(path, facts))
    except VideoError as error:
        return NAMED_ERRORS.get(path.name) if NAMED_ERRORS.get(path.name, "?") in str(error) else str(error)


TIMED = [
    "torchcodec__var_fps_video.mp4",
    "mp4parser__MOV00006.3gp",
    "moviepy__no_duration.webm",
    "go-mp4__sample_fragmented.mp4",
    "decord__unordered.mov",
    "moviepy__clip1024.flv",
]


@pytest.mark.parametrize("name", TIMED)
def test_times_from_packets_are_those_of_decoded_frames(shared, name):
    path = shared / "videos" / "odd" / name
    facts = probe_video(path)
    with av.open(path) as container:
        stream = container.streams[facts.stream_index]
        stamps = [frame.pts for frame in container.decode(stream)]
        times = [float((stamp - stamps[0]) * stream.time_base) for stamp in stamps]
    np.testing.assert_allclose(facts.frame_times, times, atol=1e-9)


def test_every_badminton_video_has_a_frame_per_label_at_25_frames_per_second(shared):
    folder = shared / "datasets" / "badminton"
    if not folder.is_dir():
        pytest.skip("no badminton data")
    videos = list_videos(folder / "videos").videos
    assert len(videos) == 14
    for video in videos:
        facts = probe_video(video)
        labels = (folder / "groundTruth" / f"{video.stem}.txt").read_text(encoding="utf-8").split()
        assert facts.num_frames == len(labels)
        np.testing.assert_allclose(facts.frame_times, np.arange(len(labels)) / 25, atol=1e-9)


def test_frames_and_rate_are_those_a_public_extractor_found(shared):
    golden = shared / "golden" / "video_features"
    facts = probe_video(shared / "videos" / "clips" / "activitynet_v_GGSY1Qvo990.mp4")
    assert facts.num_frames == len(np.load(golden / "v_GGSY1Qvo990_ViT-B_32_1_None_clip.npy"))
    rate = float(np.load(golden / "v_GGSY1Qvo990_ViT-B_32_1_None_fps.npy"))
    assert facts.fps == pytest.approx(rate, abs=1e-6)
