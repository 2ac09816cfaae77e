"""The random masks of training."""

import torch

from fact.masking import mask_channels, mask_time


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_whole_channels_are_dropped_and_the_rest_scaled():
    x = torch.ones(3, 7, 200)
    masked = mask_channels(x, rate=0.25, generator=seeded())
    assert torch.equal(masked, masked[:, :1].expand_as(masked))
    assert set(masked.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert abs((masked == 0).float().mean() - 0.25) < 0.05
    assert not torch.equal(masked[0], masked[1])


def test_spans_are_short_enough_and_inside_the_video():
    x = torch.ones(200, 40, 1)
    lengths = torch.full((200,), 30)
    masked = mask_time(x, lengths, max_steps=10, max_fraction=0.1, spans=1, generator=seeded())
    zeros = (masked[..., 0] == 0).sum(1)
    assert zeros.max() == 3
    assert (masked[:, 30:] == 1).all()


def test_spans_are_shorter_than_the_limit_in_steps():
    x = torch.ones(500, 40, 1)
    lengths = torch.full((500,), 40)
    masked = mask_time(x, lengths, max_steps=4, max_fraction=1.0, spans=1, generator=seeded())
    assert set((masked[..., 0] == 0).sum(1).tolist()) == {0, 1, 2, 3}


def test_several_spans_add_up_to_at_most_their_sum():
    x = torch.ones(100, 60, 1)
    lengths = torch.full((100,), 60)
    masked = mask_time(x, lengths, max_steps=5, max_fraction=1.0, spans=3, generator=seeded())
    zeros = (masked[..., 0] == 0).sum(1)
    assert 4 < zeros.max() <= 12


def test_the_input_is_not_edited():
    x = torch.ones(2, 20, 3)
    mask_channels(x, rate=0.9)
    mask_time(x, torch.tensor([20, 20]), max_steps=10, max_fraction=1.0, spans=4)
    assert (x == 1).all()


def test_a_video_of_one_step_can_be_masked():
    x = torch.ones(1, 1, 1)
    for seed in range(20):
        masked = mask_time(
            x, torch.tensor([1]), max_steps=3, max_fraction=0.5, spans=2, generator=seeded(seed)
        )
        assert masked.item() == 1
