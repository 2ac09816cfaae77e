"""Half precision: close to float32, refused where a device lacks it, said where it is slow."""

import logging

import numpy as np
import pytest
import torch

from pipeline import device
from pipeline.clip import load_clip
from pipeline.errors import SettingsError
from pipeline.extractors import load_i3d
from pipeline.weights import random_weights

CPU = torch.device("cpu")


def pictures(count, size):
    """Smooth pictures, (count, size, size, 3) in [0, 1]."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 1, (count, 3, 9, 9)).astype(np.float32))
    fine = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")
    return fine.permute(0, 2, 3, 1).contiguous()


@torch.inference_mode()
def test_the_first_layers_of_i3d_in_bfloat16_point_where_float32_does():
    video = (2 * pictures(5, 32) - 1).permute(3, 0, 1, 2)[None]
    weights = random_weights("i3d-rgb", seed=0)
    full, half = (
        load_i3d(weights, device=CPU, precision=precision)._model for precision in ("float32", "bfloat16")
    )
    exact, close = full.stem(video).flatten(), half.stem(video.bfloat16()).float().flatten()
    assert torch.cosine_similarity(exact, close, dim=0) >= 0.999
    assert not torch.equal(exact, close)


@pytest.mark.skipif(not device.cpu_has_bf16(), reason="this CPU has no bfloat16 instructions")
def test_i3d_in_bfloat16_points_where_float32_does_on_a_cpu():
    compare_windows(CPU, "bfloat16")


@pytest.mark.needs_cuda
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_i3d_in_half_precision_points_where_float32_does_on_a_gpu(precision):
    compare_windows(torch.device("cuda"), precision)


def compare_windows(where, precision):
    windows = 2 * pictures(9, 224)[None] - 1
    weights = random_weights("i3d-rgb", seed=0)
    full, half = (
        load_i3d(weights, device=where, precision=one).encode_windows(windows)
        for one in ("float32", precision)
    )
    assert half.dtype == torch.float32
    assert torch.cosine_similarity(full, half).min() >= 0.999
    assert not torch.equal(full, half)


@pytest.mark.slow
def test_clip_in_bfloat16_points_where_float32_does():
    frames = (255 * pictures(2, 224)).byte()
    weights = random_weights("clip/ViT-B-32", seed=0)
    full, half = (
        encoder.encode_images(encoder.preprocess(frames))
        for encoder in (
            load_clip(weights, device=CPU, precision=precision) for precision in ("float32", "bfloat16")
        )
    )
    assert half.dtype == torch.float32
    assert torch.cosine_similarity(full, half).min() >= 0.999
    assert not torch.equal(full, half)


def test_float16_is_refused_on_a_cpu():
    with pytest.raises(SettingsError, match="float16 features are made on a GPU only"):
        load_i3d(random_weights("i3d-rgb", seed=0), device=CPU, precision="float16")


@pytest.mark.parametrize("has", [True, False])
def test_a_cpu_without_the_instructions_is_warned_of_once(monkeypatch, caplog, has):
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: has)
    device._warn_slow_bf16.cache_clear()
    with caplog.at_level(logging.WARNING, logger="pipeline"):
        for _ in range(3):
            device.check_precision("bfloat16", device=CPU)
            device.check_precision("float32", device=CPU)
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "This CPU has no bfloat16 instructions"
    ] * (not has)


def test_devices_are_named_once_each():
    assert device.choose_devices("cpu") == (CPU,)
    assert device.choose_device("cpu, cpu") == CPU
    with pytest.raises(SettingsError, match="named twice"):
        device.choose_devices("cpu,cpu")
    with pytest.raises(SettingsError, match="cannot be used"):
        device.choose_devices("cpu,quantum:0")
