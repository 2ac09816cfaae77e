"""Progress reaches whoever listens, and nobody else."""

import threading

import pytest

from pipeline import progress
from pipeline.progress import Progress


def test_a_listener_hears_what_is_reported_while_it_listens():
    heard = []
    progress.report("train", done=0, total=2, unit="epochs")
    with progress.listening(heard.append):
        progress.report("train", done=1, total=2, unit="epochs", note="loss 1.0")
    progress.report("train", done=2, total=2, unit="epochs")
    assert heard == [Progress(work="train", done=1, total=2, unit="epochs", note="loss 1.0")]


def test_listeners_do_not_disturb_each_other():
    outer, inner = [], []
    with progress.listening(outer.append):
        with progress.listening(inner.append):
            progress.report("a", done=1, total=1, unit="videos")
        progress.report("b", done=1, total=1, unit="videos")
    assert ([one.work for one in outer], [one.work for one in inner]) == (["a", "b"], ["a"])


def test_a_listener_is_gone_when_its_block_raises():
    heard = []
    with pytest.raises(RuntimeError), progress.listening(heard.append):
        raise RuntimeError
    progress.report("a", done=1, total=1, unit="videos")
    assert heard == []


def test_reports_of_several_threads_all_arrive():
    heard = []

    def work(name):
        for done in range(200):
            progress.report(name, done=done, total=200, unit="frames")

    with progress.listening(heard.append):
        threads = [threading.Thread(target=work, args=(str(index),)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(heard) == 800
    assert [one.done for one in heard if one.work == "2"] == list(range(200))
