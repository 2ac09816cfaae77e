"""What became of videos, counted in a few words."""

import pytest

from pipeline.outcome import VideoOutcome, failures, summary


def outcomes(text):
    status = {"d": "done", "s": "skipped", "f": "failed"}
    return [VideoOutcome(video=str(index), status=status[letter]) for index, letter in enumerate(text)]


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        ("fdsdf", "2 of 5 failed"),
        ("f", "1 of 1 failed"),
        ("dds", "2 done, 1 skipped"),
        ("sss", "0 done, 3 skipped"),
        ("", "0 done, 0 skipped"),
    ],
)
def test_the_summary_counts_failures_first(ended, expected):
    assert summary(outcomes(ended)) == expected


def test_failures_keep_their_order():
    assert [outcome.video for outcome in failures(iter(outcomes("dfsf")))] == ["1", "3"]
