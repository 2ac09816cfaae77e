"""Inception-I3D against numbers of the published port, in both vocabularies of its checkpoints."""

import json
import pickle
import re
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from pipeline.errors import WeightsError
from pipeline.i3d import InceptionI3D, Unit, for_inference, random_init, same_padding
from pipeline.i3d_weights import load_i3d_checkpoint, published_name
from pipeline.preprocess import i3d_frames

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "i3d"
FACTS = json.loads((GOLDEN / "i3d.json").read_text(encoding="utf-8"))
CPU = torch.device("cpu")


def golden_state(channels):
    shapes = {**FACTS["state_dict_keys"], "Conv3d_1a_7x7.conv3d.weight": [64, channels, 7, 7, 7]}
    return {
        name: torch.from_numpy(golden_tensor(name, shape).astype(np.float32))
        for name, shape in shapes.items()
        if not name.endswith("num_batches_tracked")
    }


def golden_tensor(name, shape):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith(("running_mean", "bias")):
        return 0.1 * rng.standard_normal(shape)
    if name.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape)
    if name.endswith("bn.weight"):
        return rng.uniform(0.8, 1.2, shape)
    return rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))


def golden_input(case):
    shape = (1, case["channels"], case["frames"], case["size"], case["size"])
    return torch.from_numpy(np.random.default_rng(case["seed"]).uniform(-1, 1, shape).astype(np.float32))


def second_vocabulary(name):
    """A published name in the other published vocabulary, written out independently of the converter."""
    name = name.replace(".bn.", ".batch3d.").replace("logits.", "conv3d_0c_1x1.")
    for ours, theirs in {
        "b0": "0",
        "b1a": "1.0",
        "b1b": "1.1",
        "b2a": "2.0",
        "b2b": "2.1",
        "b3b": "3.1",
    }.items():
        name = name.replace(f".{ours}.", f".branch_{theirs}.")
    return name.replace("Conv3d_", "conv3d_").replace("Mixed_", "mixed_")


@pytest.fixture(scope="module")
def rgb_model():
    model = InceptionI3D(in_channels=3)
    model.load_state_dict(golden_state(3), strict=False)
    return for_inference(model, device=CPU)


CASES = [
    # 64 frames take as long as all other cases together.
    pytest.param(case, id=case["name"], marks=[pytest.mark.slow] if case["frames"] > 32 else [])
    for case in FACTS["cases"]
]


@pytest.mark.parametrize("case", CASES)
def test_output_is_that_of_the_published_port(case):
    model = InceptionI3D(in_channels=case["channels"])
    model.load_state_dict(golden_state(case["channels"]), strict=False)
    expected = load_file(GOLDEN / "i3d.safetensors")
    with torch.inference_mode():
        output = for_inference(model, device=CPU)(golden_input(case))
    for name in ("features", "logits"):
        golden = expected[f"{case['name']}.{name}"]
        np.testing.assert_allclose(
            getattr(output, name)[0].numpy(), golden, rtol=0, atol=1e-4 * np.abs(golden).max()
        )


def test_a_window_gives_the_same_alone_and_in_a_batch(rgb_model):
    windows = torch.rand(2, 3, 9, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        together = rgb_model(windows).features
        alone = torch.cat([rgb_model(window[None]).features for window in windows])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (2, 2), (3, 1), (3, 2), (7, 2)])
@pytest.mark.parametrize("size", range(1, 40))
def test_same_padding_gives_an_output_per_stride(size, kernel, stride):
    before, after = same_padding(size, kernel=kernel, stride=stride)
    assert 0 <= after - before <= 1
    assert (size + before + after - kernel) // stride + 1 == -(-size // stride)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("rename", [str, second_vocabulary], ids=["first", "second"])
def test_both_vocabularies_load_into_the_same_model(tmp_path, rename, suffix):
    state = golden_state(3)
    path = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pt" else save_file)(
        {rename(name): value for name, value in state.items()}, path
    )
    model = InceptionI3D(in_channels=3)
    load_i3d_checkpoint(model, path)
    for name, value in state.items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=0)


def test_every_published_name_survives_the_round_trip():
    for name in FACTS["state_dict_keys"]:
        assert published_name(name) == name
        assert published_name(second_vocabulary(name)) == name
        assert second_vocabulary(name) == name or not re.search(
            r"Conv3d|Mixed|\.bn\.", second_vocabulary(name)
        )


def test_a_checkpoint_that_does_not_fit_lists_what_does_not(tmp_path):
    state = golden_state(2)
    del state["Mixed_5c.b0.bn.bias"]
    state["fc.weight"] = torch.zeros(3)
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(WeightsError) as caught:
        load_i3d_checkpoint(InceptionI3D(in_channels=3), tmp_path / "weights.pt")
    message = str(caught.value)
    assert "1 missing: Mixed_5c.b0.bn.bias" in message
    assert "1 unexpected: fc.weight" in message
    assert "Conv3d_1a_7x7.conv3d.weight (64, 2, 7, 7, 7) instead of (64, 3, 7, 7, 7)" in message


class Trap:
    """Something that would run code when unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("code ran while weights were loaded",))


@pytest.mark.parametrize(
    "content", [b"", b"no weights", pickle.dumps(Trap(), protocol=2), pickle.dumps([1, 2], protocol=2)]
)
def test_a_file_that_is_no_state_dict_is_refused(tmp_path, content):
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights\.pt"):
        load_i3d_checkpoint(InceptionI3D(in_channels=3), path)


def test_a_missing_weights_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match="no such weights file"):
        load_i3d_checkpoint(InceptionI3D(in_channels=3), tmp_path / "absent.pt")


def test_random_weights_depend_on_the_seed_alone():
    one, same, other = (InceptionI3D(in_channels=2) for _ in range(3))
    random_init(one, seed=3)
    torch.rand(10)
    random_init(same, seed=3)
    random_init(other, seed=4)
    name = "Mixed_4b.b1b.conv3d.weight"
    assert torch.equal(one.state_dict()[name], same.state_dict()[name])
    assert not torch.equal(one.state_dict()[name], other.state_dict()[name])


def test_random_weights_keep_activations_in_scale_and_pictures_apart():
    model = InceptionI3D(in_channels=3)
    random_init(model, seed=0)
    scales = []
    for module in model.modules():
        if isinstance(module, Unit):
            module.register_forward_hook(lambda _module, _input, output: scales.append(output.std().item()))
    smooth = functional.interpolate(
        torch.rand(2, 3, 9, 7, 7, generator=torch.Generator().manual_seed(0)) * 2 - 1,
        size=(9, 224, 224),
        mode="trilinear",
    )
    with torch.inference_mode():
        features = model.eval()(smooth).features.mean(1)
    assert min(scales) > 0.05
    assert max(scales) < 20
    difference = (features[0] - features[1]).norm() / features.norm()
    rounding = (features - features.half().float()).norm() / features.norm()
    assert difference > 50 * rounding


@pytest.mark.parametrize(
    ("height", "width"), [(720, 1280), (240, 320), (64, 96), (300, 200), (257, 513), (1, 3)]
)
def test_pictures_are_resized_and_cropped_as_published(height, width):
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    scale = 256 / min(height, width)
    size = (round(width * scale), round(height * scale))
    resized = cv2.resize(frame.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    left, top = (side // 2 - 112 for side in size)
    expected = (resized[top : top + 224, left : left + 224] - 127.5) / 127.5
    got = i3d_frames(torch.from_numpy(frame[None]))
    assert got.shape == (1, 224, 224, 3)
    np.testing.assert_allclose(got[0].numpy(), expected, atol=5e-4)


def test_folding_batch_norm_leaves_no_batch_norm(rgb_model):
    assert not any(isinstance(module, nn.BatchNorm3d) for module in rgb_model.modules())
