"""Decoding in another process: the same pictures, and a clear sentence for whatever goes wrong there."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.reduction import send_handle
from pathlib import Path

import numpy as np
import pytest

from pipeline import guard
from pipeline.decode_rules import DecodeRules
from pipeline.errors import CorruptVideoError, DecoderError, NotAVideoError, VideoError
from pipeline.guard import probe_guarded, read_guarded
from pipeline.probe import probe_video
from pipeline.video import read_frames
from pipeline.watchdog import MAX_BLINK_SECONDS, Watchdog
from tests.pipeline import fake_decoders

HASTY = DecodeRules(timeout_seconds=0.5)


def read_all(batches):
    # Copies, because a batch's memory is shared.
    indices, pictures = zip(*((i, p.copy()) for i, p in batches), strict=True)
    return np.concatenate(indices), np.concatenate(pictures)


@pytest.fixture(params=["pyav", "decord"])
def facts(request, h264):
    pytest.importorskip(request.param.replace("pyav", "av"))
    return probe_video(h264, decoder=request.param)


def test_facts_are_those_of_an_unguarded_probe(h264):
    ours, theirs = probe_guarded(h264), probe_video(h264)
    for name in type(ours).__slots__:
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize("batch_frames", [1, 7, 64])
def test_pictures_are_those_of_an_unguarded_read(h264, facts, batch_frames):
    indices, pictures = read_all(read_guarded(h264, facts, batch_frames=batch_frames))
    _, expected = read_all(read_frames(h264, facts))
    assert indices.tolist() == list(range(40))
    np.testing.assert_array_equal(pictures, expected)


def test_chosen_pictures_are_those_of_a_full_read(h264, facts):
    chosen = [0, 3, 13, 39]
    indices, pictures = read_all(read_guarded(h264, facts, chosen, batch_frames=3))
    assert indices.tolist() == chosen
    np.testing.assert_array_equal(pictures, read_all(read_frames(h264, facts))[1][chosen])


def test_batches_that_are_held_keep_their_pictures(h264, facts):
    held = [pictures for _, pictures in read_guarded(h264, facts, batch_frames=3)]
    np.testing.assert_array_equal(np.concatenate(held), read_all(read_frames(h264, facts))[1])


def test_part_of_a_batch_keeps_its_pictures(h264, facts):
    rows = [pictures[-1, 10:20] for _, pictures in read_guarded(h264, facts, batch_frames=1)]
    np.testing.assert_array_equal(np.stack(rows), read_all(read_frames(h264, facts))[1][:, 10:20])


def test_one_process_does_many_videos(h264):
    process_ids = set()
    for _ in range(3):
        read_all(read_guarded(h264, probe_guarded(h264)))
        process_ids.update(guard.live_processes()[-1:])
    assert len(process_ids) == 1


def test_a_reader_that_is_left_early_leaves_a_working_pool(h264):
    facts = probe_guarded(h264)
    batches = read_guarded(h264, facts, batch_frames=1)
    next(batches)
    batches.close()
    assert len(read_all(read_guarded(h264, facts))[0]) == 40


def test_several_threads_decode_at_once(h264):
    facts = probe_video(h264)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(len(read_all(read_guarded(h264, facts))[0])))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [40, 40, 40]


@pytest.mark.parametrize(
    ("reader", "rules", "reason"),
    [
        (fake_decoders.hangs, HASTY, "the decoder hung, without a step in 0.5 s"),
        (fake_decoders.dies, DecodeRules(), "the decoder died (SIGSEGV)"),
        (fake_decoders.runs_away, DecodeRules(), "the decoder ran away with memory, beyond "),
        (fake_decoders.throws, DecodeRules(), "failed (IndexError: list index out of range)"),
        (fake_decoders.leaves, DecodeRules(), "the decoder ended (exit code 7)"),
    ],
)
def test_a_decoder_gone_wrong_is_one_sentence_and_the_next_video_goes_on(
    h264, monkeypatch, reader, rules, reason
):
    monkeypatch.setattr(guard, "_READ_MEMORY_BYTES", 200 << 20)
    facts = probe_video(h264)
    with pytest.raises(DecoderError) as caught:
        read_all(read_guarded(h264, facts, rules=rules, reader=reader))
    assert str(caught.value).startswith(f"{h264}: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(read_all(read_guarded(h264, facts))[0]) == 40


def test_a_process_that_dies_before_it_gets_the_memory_for_pictures_is_one_sentence(h264, facts, monkeypatch):
    def kill_then_send(connection, handle, pid):
        os.kill(pid, signal.SIGKILL)
        # Both ends of the connection are open until the process is gone.
        while connection.poll(0.01) is False:
            pass
        send_handle(connection, handle, pid)

    monkeypatch.setattr("pipeline.guard_process.send_handle", kill_then_send)
    with pytest.raises(DecoderError, match=r"the decoder died \(SIGKILL\)"):
        read_all(read_guarded(h264, facts))
    monkeypatch.undo()
    assert len(read_all(read_guarded(h264, facts))[0]) == 40


def test_a_reader_that_is_slow_with_the_last_pictures_is_not_a_hanging_decoder(h264, facts):
    count = 0
    for indices, _ in read_guarded(h264, facts, batch_frames=20, rules=HASTY):
        count += len(indices)
        # All is decoded by now, and more than the decoder's time passes until the end is asked for.
        time.sleep(3 * HASTY.timeout_seconds)
    assert count == 40


def test_a_prober_that_hangs_is_stopped(h264):
    with pytest.raises(DecoderError, match=r"the decoder hung, .* 0.5 s"):
        probe_guarded(h264, rules=HASTY, prober=fake_decoders.prober_that_hangs)


def test_where_decord_crashes_while_probing_pyav_takes_over(h264, caplog):
    facts = probe_guarded(h264, prober=fake_decoders.prober_that_dies_with_decord)
    assert (facts.decoder, facts.num_frames) == ("pyav", 40)
    assert f"{h264}: it is probed again without decord, because the decoder died (SIGSEGV)" in caplog.text


def test_errors_of_the_video_are_those_of_an_unguarded_probe(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_text("words")
    with pytest.raises(NotAVideoError, match="not a video but text"):
        probe_guarded(path)
    with pytest.raises(VideoError, match="no such file"):
        probe_guarded(tmp_path / "gone.mp4")


def test_an_error_in_the_middle_leaves_the_process_ready(tmp_path, h264):
    facts = probe_video(h264, decoder="pyav")
    broken = tmp_path / "broken.mp4"
    content = bytearray(h264.read_bytes())
    start, stop = content.index(b"mdat") + 4, content.index(b"moov") - 4
    middle = (start + stop) // 2
    content[middle:stop] = bytes(stop - middle)
    broken.write_bytes(content)
    with pytest.raises(CorruptVideoError, match="of 40"):
        read_all(read_guarded(broken, facts))
    (before,) = guard.live_processes()[-1:]
    read_all(read_guarded(h264, facts))
    assert guard.live_processes()[-1] == before


@pytest.mark.parametrize(
    "change",
    [Path.unlink, lambda path: path.write_bytes(b"words"), lambda path: path.write_bytes(bytes(9000))],
)
def test_a_video_that_is_gone_or_changed_when_it_is_read_is_named(tmp_path, h264, facts, change):
    path = tmp_path / "film.mp4"
    path.write_bytes(h264.read_bytes())
    change(path)
    with pytest.raises(
        CorruptVideoError, match=r"film.mp4: not readable any more \(.*changed after it was probed"
    ):
        read_all(read_guarded(path, facts))


def test_log_lines_of_the_other_process_are_logged_here(tmp_path, make_video, make_frames, caplog):
    path = make_video(tmp_path / "raw.h264", make_frames(5))
    probe_guarded(path)
    assert "nominal rate" in caplog.text


def test_indices_out_of_order_are_refused_before_anything_is_started(h264):
    with pytest.raises(ValueError, match="strictly"):
        next(read_guarded(h264, probe_video(h264), [3, 2]))


def start_hanging_parent(h264, folder):
    """A program whose decoder hangs, and the id of the process in which it does."""
    video = folder / "square.mp4"
    video.write_bytes(h264.read_bytes())
    code = (
        "from pathlib import Path; from pipeline.guard import probe_guarded;"
        "from tests.pipeline.fake_decoders import prober_that_logs_its_process as prober;"
        f"probe_guarded(Path({str(video)!r}), prober=prober)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(__file__).resolve().parents[2],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    note = folder / "square.mp4.pid"
    while not note.exists() or not note.read_text():
        assert parent.poll() is None
        time.sleep(0.05)
    return parent, int(note.read_text())


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's promise is Linux's")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_hanging_decoder_ends_with_the_program(h264, tmp_path, number):
    parent, child = start_hanging_parent(h264, tmp_path)
    parent.send_signal(number)
    assert parent.wait() != 0
    # The test's own time limit ends this where the child lives on.
    while is_running(child):
        time.sleep(0.05)


def is_running(process_id):
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return state != "Z"
    return False


def test_a_fork_leaves_the_processes_of_its_parent_alone(h264):
    facts = probe_guarded(h264)
    child = os.fork()
    if child == 0:
        os._exit(0 if guard.live_processes() == [] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert len(read_all(read_guarded(h264, facts))[0]) == 40


# The judgement itself, by a clock of the test's own.


def looks(watchdog, looks):
    """Verdicts of looks given as (now, beats, working)."""
    return [
        watchdog.verdict(now=now, beats=beats, working=working, memory_bytes=0)
        for now, beats, working in looks
    ]


def test_a_slow_but_living_decoder_is_left_alone():
    watchdog = Watchdog(stall_seconds=2, total_seconds=1e9, memory_bytes=1)
    assert not any(looks(watchdog, [(second, second // 2, True) for second in range(100)]))


def test_waiting_for_the_reader_is_no_fault():
    watchdog = Watchdog(stall_seconds=2, total_seconds=10, memory_bytes=1)
    assert not any(looks(watchdog, [(second, 5, False) for second in range(100)]))


def test_silence_beyond_the_limit_is_a_hang():
    watchdog = Watchdog(stall_seconds=2, total_seconds=1e9, memory_bytes=1)
    verdicts = looks(watchdog, [(second / 2, 5, True) for second in range(7)])
    assert [bool(verdict) for verdict in verdicts] == [False] * 5 + [True] * 2
    assert verdicts[-1] == "hung, without a step in 2 s"


def test_a_watcher_that_was_kept_waiting_blames_nobody():
    watchdog = Watchdog(stall_seconds=2 * MAX_BLINK_SECONDS, total_seconds=1e9, memory_bytes=1)
    assert not any(looks(watchdog, [(0, 5, True), (1000, 5, True), (2000, 5, True)]))


def test_work_without_end_is_too_slow():
    watchdog = Watchdog(stall_seconds=2, total_seconds=10, memory_bytes=1)
    verdicts = looks(watchdog, [(second, second, True) for second in range(12)])
    assert [bool(verdict) for verdict in verdicts] == [False] * 11 + [True]
    assert verdicts[-1] == "is too slow, with 10 s of work for this length"


def test_memory_beyond_the_ceiling_is_a_runaway():
    watchdog = Watchdog(stall_seconds=2, total_seconds=10, memory_bytes=3 << 20)
    told = [
        watchdog.verdict(now=0, beats=0, working=True, memory_bytes=bytes_)
        for bytes_ in (3 << 20, (3 << 20) + 1)
    ]
    assert told == [None, "ran away with memory, beyond 3 MiB"]
