"""Work made ahead in a thread: the same items, errors where they belong, nothing left running."""

import itertools
import threading
import time
from contextvars import ContextVar

import pytest

from pipeline.overlap import ahead


def numbers(stop, made=None, closed=None):
    try:
        for number in range(stop):
            if made is not None:
                made.append(number)
            yield number
    finally:
        if closed is not None:
            closed.append(threading.current_thread().name)


def test_items_come_in_order_and_end():
    with ahead(numbers(100), depth=3) as items:
        assert list(items) == list(range(100))


def test_the_generator_runs_in_another_thread_and_is_ended_there():
    closed = []
    with ahead(numbers(3, closed=closed)) as items:
        list(items)
    assert closed != [threading.current_thread().name]
    assert len(closed) == 1


def test_no_more_than_the_depth_and_one_are_made_ahead():
    made = []
    with ahead(numbers(100, made), depth=2) as items:
        next(items)
        deadline = time.monotonic() + 60
        while len(made) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(made) == 4


def test_an_error_is_raised_after_the_items_before_it():
    def broken():
        yield 1
        yield 2
        raise ValueError("third")

    seen = []
    with pytest.raises(ValueError, match="third"), ahead(broken()) as items:
        seen.extend(items)
    assert seen == [1, 2]


def test_leaving_early_ends_an_endless_generator():
    closed = []

    def endless():
        try:
            yield from itertools.count()
        finally:
            closed.append(True)

    def stopped():
        with ahead(endless(), depth=1) as items:
            next(items)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert closed == [True]


def test_stages_can_be_chained():
    with ahead(numbers(10)) as first, ahead(2 * item for item in first) as second:
        assert list(second) == list(range(0, 20, 2))


def test_what_is_made_ahead_is_made_within_the_consumers_context():
    run = ContextVar("run", default="none")

    def named():
        yield run.get()

    run.set("of the consumer")
    with ahead(named()) as items:
        assert list(items) == ["of the consumer"]
