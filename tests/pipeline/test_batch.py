"""Batches: padding is decided once, and a video keeps its rows whatever it is batched with."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.batch import Sample, collate


def sample(length, video_id="a"):
    generator = torch.Generator().manual_seed(length)
    return Sample(
        video_id=video_id,
        features_TD=torch.randn(length, 3, generator=generator),
        labels_T=torch.randint(1, 5, (length,), generator=generator),
    )


@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5))
def test_a_video_is_the_same_alone_and_in_a_batch(lengths):
    samples = [sample(length, str(index)) for index, length in enumerate(lengths)]
    batch = collate(samples)
    assert batch.video_ids == tuple(str(index) for index in range(len(lengths)))
    assert batch.features_BTD.shape == (len(lengths), max(lengths), 3)
    for row, one in enumerate(samples):
        valid = batch.valid_BT[row]
        assert valid.tolist() == [True] * len(one.labels_T) + [False] * (max(lengths) - len(one.labels_T))
        assert torch.equal(batch.features_BTD[row][valid], one.features_TD)
        assert torch.equal(batch.labels_BT[row][valid], one.labels_T)
        assert not batch.features_BTD[row][~valid].any()
        assert not batch.labels_BT[row][~valid].any()
