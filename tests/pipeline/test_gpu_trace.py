"""How busy a GPU was, from the spans of a trace."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gpu_trace import covered, shares_of

spans = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 12)).map(lambda one: (one[0], one[0] + one[1])), max_size=8
)


@given(spans=spans, start=st.integers(0, 20), length=st.integers(1, 20))
def test_a_stretch_is_covered_where_any_span_lies(spans, start, length):
    seconds = range(start, start + length)
    busy = sum(any(begin <= second < end for begin, end in spans) for second in seconds)
    assert covered(spans, within=(start, start + length)) == pytest.approx(busy / length)


def test_of_a_trace_kernels_and_copies_in_the_middle_half_count():
    kernel, copy = {"cat": "kernel", "dur": 10}, {"cat": "gpu_memcpy", "dur": 15}
    events = [
        {**kernel, "ts": 0},
        {**kernel, "ts": 30},
        {**copy, "ts": 5},
        {"cat": "cpu_op", "ts": 0, "dur": 40},
    ]
    # From 10 to 30 no kernel runs, and a copy until 20.
    assert shares_of({"traceEvents": events}) == {"kernels_busy": 0, "kernels_or_copies_busy": 0.5}
