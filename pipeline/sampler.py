"""Which videos make which step: a function of the seed and the epoch, so a resumed run needs nothing else."""

import hashlib
from collections.abc import Sequence

import torch

POOL_BATCHES = 8
"""Batches whose videos are sorted by length together: enough to pad little, few enough to stay random."""


def seed_of(*parts: int | str) -> int:
    """A seed for torch from whole numbers and words; any other part gives an unrelated one.

    >>> seed_of(0, "order", 1) == seed_of(0, "order", 1), seed_of(0, "order", 1) == seed_of(0, "order", 2)
    (True, False)
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def epoch_batches(lengths: Sequence[int], *, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Every video once, in batches of videos of like length; the batches are in random order.

    The order is drawn at random, cut into pools of some batches, and sorted by length within each pool. One batch
    may be smaller.

    Args:
        lengths: Steps of each video.
        batch_size: Videos of a batch.
        seed: Of the run.
        epoch: From 1.
    """
    generator = torch.Generator().manual_seed(seed_of(seed, "order", epoch))
    order = torch.randperm(len(lengths), generator=generator).tolist()
    pool = batch_size * POOL_BATCHES if batch_size > 1 else 1
    for start in range(0, len(order), pool):
        # A stable sort: videos of one length stay in random order.
        order[start : start + pool] = sorted(order[start : start + pool], key=lengths.__getitem__)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]


def epoch_steps(
    lengths: Sequence[int], *, batch_size: int, accumulate: int, seed: int, epoch: int
) -> list[list[list[int]]]:
    """The batches of an epoch in groups of ``accumulate``: one group per step of the optimiser."""
    batches = epoch_batches(lengths, batch_size=batch_size, seed=seed, epoch=epoch)
    return [batches[start : start + accumulate] for start in range(0, len(batches), accumulate)]


def steps_per_epoch(num_videos: int, *, batch_size: int, accumulate: int) -> int:
    """Steps of the optimiser in an epoch.

    >>> steps_per_epoch(7, batch_size=2, accumulate=3)
    2
    """
    batches = -(-num_videos // batch_size)
    return -(-batches // accumulate)
