"""Neighbouring windows share their stem: the answer is that of separate windows."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline import i3d
from pipeline.extractors import load_i3d
from pipeline.i3d import same_padding, strided_convolution
from pipeline.i3d_stem import Places, can_share, shared_stem
from pipeline.weights import random_weights

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def encoder():
    return load_i3d(random_weights("i3d-rgb", seed=0), device=CPU)


@pytest.mark.parametrize("window", range(15, 66))
def test_places_and_their_taps_are_those_of_the_padded_window(window):
    places = Places(window)
    padded = np.pad(np.ones(window), same_padding(window, kernel=7, stride=2))
    for place in range(places.count):
        seen = padded[2 * place : 2 * place + 7]
        taps = places.taps(place)
        assert seen[taps].all()
        assert seen.sum() == taps.stop - taps.start
        assert seen.all() == (places.first_inner <= place <= places.last_inner)


@pytest.mark.parametrize(
    ("stride", "window"), [(1, 21), (2, 21), (3, 21), (4, 21), (6, 21), (1, 16), (2, 24), (5, 64), (1, 15)]
)
@torch.inference_mode()
def test_a_shared_stem_is_that_of_separate_windows(encoder, stride, window):
    count = 4
    generator = torch.Generator().manual_seed(stride)
    video = torch.randn(1, 3, window + (count - 1) * stride, 32, 32, generator=generator)
    windows = torch.cat([video[:, :, index * stride : index * stride + window] for index in range(count)])
    apart = encoder._model.stem(windows)
    shared = shared_stem(encoder._model, video, stride=stride, window_frames=window)
    assert shared.shape == apart.shape
    assert (shared - apart).norm() <= 1e-6 * apart.norm()


# Six windows are more than go through the rest of the network at once on a CPU.
@pytest.mark.parametrize(("stride", "count"), [(2, 2), (1, 6)])
@torch.inference_mode()
def test_features_of_neighbours_are_those_of_separate_windows(encoder, stride, count):
    starts = range(0, count * stride, stride)
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(starts[-1] + 15, 224, 224, 3, generator=generator) * 2 - 1
    shared = encoder.encode_overlapping(frames, stride=stride, window_frames=15)
    apart = encoder.encode_windows(torch.stack([frames[start : start + 15] for start in starts]))
    assert (shared - apart).norm() <= 1e-6 * apart.norm()


def test_windows_that_hardly_overlap_do_not_share():
    assert can_share(stride=1, window_frames=21)
    assert not can_share(stride=64, window_frames=64)
    assert not can_share(stride=1, window_frames=9)


@pytest.mark.parametrize("channels", [2, 3])
@pytest.mark.parametrize("size", [30, 31, 224])
def test_squares_as_channels_give_the_first_convolution(channels, size):
    conv = torch.nn.Conv3d(channels, 8, 7, 2)
    video = torch.randn(1, channels, 9, size, size, generator=torch.Generator().manual_seed(size))
    before, after = same_padding(size, kernel=7, stride=2)
    after += (size + before + after) % 2
    blocks = i3d._squares_to_channels(functional.pad(video, (before, after, before, after)))
    weight = i3d._squares_to_channels(functional.pad(conv.weight, (0, 1, 0, 1)))
    expected = strided_convolution(conv, video, step=2)
    made = functional.conv3d(blocks, weight, conv.bias, stride=(2, 1, 1))
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)


@pytest.mark.needs_cuda
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_on_a_gpu_points_where_float32_on_a_cpu_does(encoder, precision):
    half = load_i3d(random_weights("i3d-rgb", seed=0), device=torch.device("cuda"), precision=precision)
    frames = torch.rand(23, 224, 224, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    made = half.encode_overlapping(frames, stride=1, window_frames=21).cpu()
    expected = encoder.encode_overlapping(frames, stride=1, window_frames=21)
    assert torch.cosine_similarity(made, expected).min() > 0.999
