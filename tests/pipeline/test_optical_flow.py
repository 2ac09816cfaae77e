"""The optical-flow input of I3D: direction, order, borders, scale, and the same answer however it is cut."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.optical_flow import raft_large

from pipeline import flow_stream
from pipeline.errors import WeightsError
from pipeline.extractors import Networks
from pipeline.flow_stream import FlowStream
from pipeline.optical_flow import (
    TVL1_BYTES_PER_PIXEL,
    FieldWorkers,
    dis_method,
    quantised_input,
    raft_method,
    scaled_input,
    tvl1_method,
    tvl1_threads,
)
from pipeline.preprocess import resize_and_crop
from pipeline.raft import RaftEncoder, load_raft
from pipeline.weights import ResolvedWeights, WeightsChoice, WeightsPolicy, random_weights, resolve_weights

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def moving():
    """Five frames (64 x 96) of a smooth texture that moves by 2 pixels to the right and 1 down per frame."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8), (0, 0), 3)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    return np.stack([texture[20 - t : 84 - t, 30 - 2 * t : 126 - 2 * t] for t in range(5)])


@pytest.fixture(scope="module")
def workers():
    made = FieldWorkers(2)
    yield made
    made.close()


@pytest.fixture(scope="module")
def raft():
    """RAFT with random weights and two refinements."""
    weights = random_weights("raft", seed=0)
    return RaftEncoder(load_raft(weights, device=CPU)._model, device=CPU, updates=2)


def fields_of(method, frames, cuts):
    stream = FlowStream(method)
    parts = [stream.push(part) for part in np.split(frames, cuts)]
    return torch.cat([*parts, stream.finish()])


@pytest.fixture(scope="module")
def fields(moving, workers):
    return fields_of(tvl1_method(workers), moving, [])


def test_a_field_is_the_displacement_to_the_next_frame(fields):
    assert fields.shape == (5, 224, 224, 2)
    inside = fields[:-1, 24:-24, 24:-24] * 20
    np.testing.assert_allclose(inside.mean(dim=(0, 1, 2)), [2, 1], atol=0.15)


def test_the_field_past_the_last_frame_is_zero(fields):
    assert not fields[-1].any()
    assert fields[-2].any()


def test_a_field_is_that_of_opencv_resized_like_a_picture(fields, moving):
    greys = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in moving[:2]]
    field = cv2.optflow.createOptFlow_DualTVL1().calc(*greys, None)
    expected = resize_and_crop(torch.from_numpy(field[None])).clamp(-20, 20) / 20
    torch.testing.assert_close(fields[:1], expected, rtol=0, atol=0)


def test_dis_measures_pixels_of_the_picture_with_a_short_side_of_256(moving, workers):
    fields = fields_of(dis_method(workers), moving, [])
    inside = fields[:-1, 24:-24, 24:-24] * 20
    np.testing.assert_allclose(inside.mean(dim=(0, 1, 2)), [8, 4], atol=0.8)


@pytest.mark.parametrize(("pairs", "cuts"), [(1, [1, 3]), (3, [1, 2, 3, 4]), (8, [2]), (2, [])])
def test_batches_do_not_matter(fields, moving, workers, monkeypatch, *, cuts, pairs):
    monkeypatch.setattr(flow_stream, "PAIRS_PER_BATCH", pairs)
    torch.testing.assert_close(fields_of(tvl1_method(workers), moving, cuts), fields, rtol=0, atol=0)


def test_a_stream_taken_up_later_gives_the_same_fields(monkeypatch):
    monkeypatch.setattr(flow_stream, "PAIRS_PER_BATCH", 2)
    asked = []

    def method(frames):
        asked.append(frames[:, 0, 0, 0].tolist())
        return (
            torch.from_numpy(np.diff(frames[:, 0, 0, 0].astype(np.float32)))
            .view(-1, 1, 1, 1)
            .expand(-1, 224, 224, 2)
        )

    frames = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1) ** 2
    whole = fields_of(method, frames, [])
    batches, asked[:] = list(asked), []
    later = FlowStream(method, first=2)
    rest = torch.cat([later.push(frames[2:]), later.finish()])
    torch.testing.assert_close(rest, whole[2:])
    assert asked == batches[1:]


def test_displacements_are_clipped_at_20_pixels_and_scaled_to_one():
    got = scaled_input(torch.tensor([35.0, -5.0, -400.0]))
    torch.testing.assert_close(got, torch.tensor([1.0, -0.25, -1.0]))


def test_quantised_displacements_are_one_of_256_levels():
    values = torch.linspace(-25, 25, 1001)
    got = quantised_input(values)
    levels = (got + 1) * 127.5
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
    torch.testing.assert_close(got, values.clamp(-20, 20) / 20, atol=1.5 / 127.5, rtol=0)


def test_resizing_a_field_leaves_its_magnitude_alone():
    field = torch.full((1, 720, 1280, 2), 4.0)
    torch.testing.assert_close(scaled_input(resize_and_crop(field)), torch.full((1, 224, 224, 2), 0.2))


def test_an_empty_stream_has_no_last_field(workers):
    with pytest.raises(ValueError, match="No picture was pushed"):
        FlowStream(tvl1_method(workers)).finish()


@pytest.mark.slow
def test_raft_gives_a_quantised_field_per_frame_alone_and_in_a_batch(moving, raft):
    """Random weights: only shape, range and batching can be judged."""
    together = fields_of(raft_method(raft), moving[:3], [])
    assert together.shape == (3, 224, 224, 2)
    assert not together[-1].any()
    assert together.abs().max() <= 1
    alone = quantised_input(raft.fields(moving[1:3]))
    torch.testing.assert_close(together[1:2], alone, atol=2.1 / 127.5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "resized", "padded"), [((60, 107), (256, 457), (256, 464)), ((338, 300), (288, 256), (288, 256))]
)
def test_raft_gives_the_numbers_of_a_direct_call_on_pictures_resized_and_padded_by_hand(
    raft, size, resized, padded
):
    """The network is torchvision's own, called as its page has it; resizing is OpenCV's, padding numpy's."""
    rng = np.random.default_rng(1)
    frames = np.stack(
        [cv2.GaussianBlur(rng.integers(0, 256, (*size, 3), np.uint8), (0, 0), 2) for _ in range(3)]
    )
    small = [
        cv2.resize(frame.astype(np.float32), resized[::-1], interpolation=cv2.INTER_LINEAR)
        for frame in frames
    ]
    below, right = (whole - side for whole, side in zip(padded, resized, strict=True))
    framed = np.stack([np.pad(picture, ((0, below), (0, right), (0, 0)), mode="edge") for picture in small])
    images = torch.from_numpy(framed).permute(0, 3, 1, 2) / 255 * 2 - 1
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = raft_large(weights=None, progress=False).eval()
    with torch.inference_mode():
        flows = model(images[:-1], images[1:], num_flow_updates=2)[-1]
    top, left = (side // 2 - 112 for side in resized)
    expected = flows[:, :, top : top + 224, left : left + 224].permute(0, 2, 3, 1)
    found = raft.fields(frames)
    scale = float(expected.abs().max())
    assert scale > 0
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * scale)
    # 256 levels from -20 to 20 pixels, as the published extractor stores a field as a picture.
    levels = np.clip(np.rint(128 + np.clip(expected.numpy(), -20, 20) * 255 / 40), 0, 255)
    made = raft_method(raft)(frames)
    np.testing.assert_allclose(made.numpy(), levels / 255 * 2 - 1, atol=2.01 / 255)


@pytest.mark.slow
def test_raft_checkpoints_are_loaded_strictly(raft, tmp_path):
    state = raft._model.state_dict()
    path = tmp_path / "raft_large.pth"
    torch.save(state, path)
    weights = ResolvedWeights(network="raft", digest="0" * 64, random=False, origin="", path=path, seed=7)
    loaded = load_raft(weights, device=CPU)._model.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    del state["mask_predictor.convrelu.0.weight"]
    torch.save(state, path)
    with pytest.raises(WeightsError, match="1 missing: mask_predictor"):
        load_raft(weights, device=CPU)


def test_raft_is_built_once_however_many_ask_at_once(monkeypatch):
    built = []

    def build(weights, *, device):  # noqa: ARG001
        time.sleep(0.05)
        built.append(object())
        return built[-1]

    monkeypatch.setattr("pipeline.raft.load_raft", build)
    networks = Networks({"raft": random_weights("raft", seed=0)}, device=CPU)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: networks.raft, range(4)))
    assert len(built) == 1
    assert found == built * 4


@given(width=st.integers(1, 16384), height=st.integers(1, 16384), cores=st.integers(1, 512))
def test_threads_of_tvl1_keep_to_a_gib_and_are_never_none(width, height, cores):
    threads = tvl1_threads(width, height, cores=cores)
    needed = width * height * TVL1_BYTES_PER_PIXEL
    assert 1 <= threads <= cores
    assert threads == 1 or threads * needed <= 1 << 30
    # Nor are there fewer than fit.
    assert threads == cores or (threads + 1) * needed > 1 << 30


MEASURE = """
import numpy as np
from pathlib import Path
from pipeline.optical_flow import FieldWorkers, tvl1_method
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
height, width, threads = 540, 960, 2
fields = tvl1_method(FieldWorkers(threads))
frames = np.random.default_rng(0).integers(0, 256, (threads + 1, height, width, 3), np.uint8)
fields(frames[:, :16, :16])
before = resident()
fields(frames)
print((resident() - before) / (height * width * threads))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell the memory of a process otherwise")
def test_a_thread_of_tvl1_keeps_what_the_bound_says():
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True, cwd=ROOT
    )
    # The field itself, 8 bytes, is gone by now; the allocator may have given back a little more.
    assert 0.65 * TVL1_BYTES_PER_PIXEL < float(ran.stdout) <= TVL1_BYTES_PER_PIXEL


def test_raft_weights_come_by_path_or_are_random(tmp_path):
    path = tmp_path / "mine.pth"
    path.write_bytes(b"weights")
    (found,) = resolve_weights(["raft"], WeightsChoice(raft=path)).values()
    assert (found.path, found.random) == (path, False)
    (drawn,) = resolve_weights(["raft"], WeightsChoice(policy=WeightsPolicy.RANDOM)).values()
    assert drawn.random
