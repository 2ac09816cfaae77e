"""Small valid videos with bytes flipped or ends cut off, by seed: a row for each, and this process lives."""

import numpy as np
import pytest

from pipeline.decode_rules import DecodeRules
from pipeline.errors import VideoError
from pipeline.guard import probe_guarded, read_guarded

CONTAINERS = {
    "mp4": "libx264",
    "webm": "libvpx-vp9",
    "mkv": "libx264",
    "avi": "mpeg4",
    "gif": "gif",
}
PATIENT = DecodeRules(timeout_seconds=120)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A whole video of ten small pictures in each container, by its ending."""
    from tests.pipeline.conftest import draw_frames, write_video

    folder = tmp_path_factory.mktemp("originals")
    pictures = draw_frames(10, width=32, height=32)
    made = {}
    for ending, codec in CONTAINERS.items():
        pixels = "rgb8" if codec == "gif" else "yuv420p"
        path = write_video(folder / f"whole.{ending}", pictures, codec=codec, pixel_format=pixels)
        made[ending] = path.read_bytes()
    return made


def mutate(content, seed):
    """Up to eight bytes changed, or the end missing, or both."""
    rng = np.random.default_rng(seed)
    mutated = bytearray(content)
    kind = seed % 3
    if kind != 1:
        for place in rng.integers(0, len(mutated), rng.integers(1, 9)):
            mutated[place] ^= int(rng.integers(1, 256))
    if kind != 0:
        del mutated[int(rng.integers(1, len(mutated))) :]
    return bytes(mutated)


def row_of(path):
    """What became of a file: its frames, or the reason why not."""
    try:
        facts = probe_guarded(path, rules=PATIENT)
        shapes = [pictures.shape[1:] for _, pictures in read_guarded(path, facts, rules=PATIENT)]
    except VideoError as error:
        return str(error)
    assert set(shapes) == {(facts.height, facts.width, 3)}
    return facts.num_frames


@pytest.mark.parametrize("ending", CONTAINERS)
def test_every_original_is_whole(originals, tmp_path, ending):
    path = tmp_path / f"film.{ending}"
    path.write_bytes(originals[ending])
    assert row_of(path) == 10


def check_mutations(originals, folder, ending, seeds):
    rows = []
    for seed in seeds:
        path = folder / f"{seed}.{ending}"
        path.write_bytes(mutate(originals[ending], seed))
        rows.append(row_of(path))
        path.unlink()
    reasons = [row for row in rows if isinstance(row, str)]
    assert len(rows) == len(seeds)
    assert all(reason.startswith(f"{folder}/") and reason.isprintable() for reason in reasons)
    # Neither all lost nor all unharmed: the damage is of both kinds.
    assert 0 < len(reasons) < len(rows)


@pytest.mark.parametrize("ending", CONTAINERS)
def test_some_mutations_give_a_row_each(originals, tmp_path, ending):
    check_mutations(originals, tmp_path, ending, range(12))


@pytest.mark.slow
@pytest.mark.parametrize("ending", CONTAINERS)
def test_a_thousand_mutations_give_a_row_each(originals, tmp_path, ending):
    check_mutations(originals, tmp_path, ending, range(200))
