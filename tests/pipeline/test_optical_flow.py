"""The optical-flow input of I3D: direction, order, borders and scale."""

import cv2
import numpy as np
import pytest
import torch

from pipeline.optical_flow import TvL1Stream, optical_flow_input

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def moving():
    """Five frames (64 x 96) of a smooth texture that moves by 2 pixels to the right and 1 down per frame."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8), (0, 0), 3)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    return np.stack([texture[20 - t : 84 - t, 30 - 2 * t : 126 - 2 * t] for t in range(5)])


def fields_of(frames, batches):
    stream = TvL1Stream()
    parts = [stream.push(part) for part in np.split(frames, batches)]
    return np.concatenate([*parts, stream.finish()])


@pytest.fixture(scope="module")
def fields(moving):
    return fields_of(moving, [])


def test_a_field_is_the_displacement_to_the_next_frame(fields):
    inside = fields[:-1, 12:-12, 12:-12]
    np.testing.assert_allclose(inside.mean(axis=(0, 1, 2)), [2, 1], atol=0.15)


def test_there_is_a_field_per_frame_and_the_last_is_zero(fields, moving):
    assert fields.shape == (*moving.shape[:3], 2)
    assert not fields[-1].any()


def test_batches_do_not_matter(fields, moving):
    np.testing.assert_array_equal(fields_of(moving, [1, 3]), fields)


def test_displacements_are_clipped_at_20_pixels_and_scaled_to_one():
    field = np.zeros((1, 256, 256, 2), np.float32)
    field[..., 0], field[..., 1] = 35, -5
    got = optical_flow_input(field, device=CPU)
    assert got.shape == (1, 224, 224, 2)
    assert torch.all(got[..., 0] == 1)
    torch.testing.assert_close(got[..., 1], torch.full((1, 224, 224), -0.25))


def test_resizing_a_field_leaves_its_magnitude_alone():
    field = np.full((1, 720, 1280, 2), 4, np.float32)
    torch.testing.assert_close(optical_flow_input(field, device=CPU), torch.full((1, 224, 224, 2), 0.2))


def test_an_empty_stream_has_no_last_field():
    with pytest.raises(ValueError, match="No frame was pushed"):
        TvL1Stream().finish()
