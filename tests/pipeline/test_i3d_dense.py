"""The dense mode: the shared first layers are those of a window where it sees no border, and close to it elsewhere."""

import numpy as np
import pytest
import torch

from pipeline.extractors import load_i3d
from pipeline.i3d_dense import REACH, dense_stem
from pipeline.weights import random_weights

CPU = torch.device("cpu")
PLACES = 11  # of the stem of 21 frames
INSIDE = range(3, 8)  # those whose convolutions see no frame beyond the window


@pytest.fixture(scope="module")
def encoder():
    return load_i3d(random_weights("i3d-rgb", seed=0), device=CPU)


@pytest.fixture(scope="module")
def frames():
    """A texture that drifts by two pixels a frame, (23, 224, 224, 3) in [-1, 1]."""
    rng = np.random.default_rng(0)
    texture = rng.uniform(-1, 1, (36, 36, 3)).repeat(8, axis=0).repeat(8, axis=1).astype(np.float32)
    return torch.from_numpy(np.stack([texture[t : t + 224, 2 * t : 2 * t + 224] for t in range(23)]))


@torch.inference_mode()
def test_inside_a_window_the_shared_layers_are_exactly_its_own(encoder):
    video = torch.randn(1, 3, 21 + 2 * REACH, 32, 32, generator=torch.Generator().manual_seed(0))
    alone = encoder._model.stem(video[:, :, REACH : REACH + 21])
    shared = dense_stem(encoder._model, video)
    assert shared.shape[2] == 21
    for place in range(PLACES):
        difference = (alone[:, :, place] - shared[:, :, 2 * place]).abs().max()
        assert (difference <= 1e-5 * alone.abs().max()) == (place in INSIDE)


def test_windows_get_the_same_features_together_and_alone(encoder, frames):
    together = encoder.encode_dense(frames, stride=2, window_frames=9)
    assert together.shape == (3, 1024)
    alone = torch.cat(
        [encoder.encode_dense(frames[start : start + 19], stride=1, window_frames=9) for start in (0, 2, 4)]
    )
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4 * float(alone.abs().max()))


def test_features_point_where_those_of_separate_windows_do(encoder, frames):
    """With random weights; borders are a larger share of these 9 frames than of the profile's 21."""
    dense = encoder.encode_dense(frames[:19], stride=1, window_frames=9)
    exact = encoder.encode_windows(frames[None, REACH : REACH + 9])
    assert 0.99 < torch.cosine_similarity(dense, exact).item() < 0.999999
