from dataclasses import replace

import numpy as np
import pytest

from storage.feature_parts import parts_folder
from storage.features import ROWS_PER_GROUP, read_features, write_features
from storage.seal import is_parquet_whole
from tests.storage.samples import METADATA, rows

PART = 2 * ROWS_PER_GROUP
STEPS = 2 * PART + ROWS_PER_GROUP + 17


class KilledError(Exception):
    pass


def feed(path, feature, *, stop=None, chunk=700, metadata=METADATA, packing="compact", part_steps=PART):
    """Write what is not written yet, in chunks; step at which writing began. Dies before step ``stop``."""
    with write_features(
        path, width=feature.shape[1], metadata=metadata, packing=packing, part_steps=part_steps
    ) as writer:
        began = writer.num_steps
        for first in range(began, len(feature), chunk):
            if stop is not None and first >= stop:
                raise KilledError
            piece = feature[first : first + chunk]
            writer.append((first + np.arange(len(piece))) * 0.04, piece)
    return began


@pytest.mark.parametrize("packing", ["compact", "exact", "fast"])
def test_a_killed_run_goes_on_after_its_last_part_and_makes_the_same_bytes(tmp_path, packing):
    feature = rows(STEPS, 3)
    feed(tmp_path / "whole.parquet", feature, packing=packing, part_steps=None)
    path = tmp_path / "a.parquet"
    with pytest.raises(KilledError):
        feed(path, feature, stop=PART + 900, packing=packing)
    assert not path.exists()
    assert feed(path, feature, chunk=333, packing=packing) == PART
    assert path.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.parquet", "whole.parquet"]


def test_parts_made_by_something_else_are_not_continued(tmp_path):
    feature = rows(STEPS, 3)
    path = tmp_path / "a.parquet"
    with pytest.raises(KilledError):
        feed(path, feature, stop=2 * PART + 1)
    other = replace(METADATA, weights_digest="ef" * 32)
    assert feed(path, 2 * feature, metadata=other) == 0
    np.testing.assert_array_equal(
        read_features(path).feature, (2 * feature).astype(np.float16).astype(np.float32)
    )


def test_parts_of_another_packing_or_size_are_not_continued(tmp_path):
    feature = rows(STEPS, 3)
    for change in ({"packing": "exact"}, {"part_steps": 2 * PART}):
        with pytest.raises(KilledError):
            feed(tmp_path / "a.parquet", feature, stop=2 * PART + 1)
        assert feed(tmp_path / "a.parquet", feature, **change) == 0


def test_a_damaged_part_and_all_after_it_are_made_again(tmp_path):
    feature = rows(STEPS, 3)
    path = tmp_path / "a.parquet"
    with pytest.raises(KilledError):
        feed(path, feature, stop=2 * PART + 1)
    second = sorted(parts_folder(path).iterdir())[1]
    content = bytearray(second.read_bytes())
    content[len(content) // 2] ^= 1
    second.write_bytes(content)
    assert feed(path, feature) == PART
    np.testing.assert_array_equal(read_features(path).time, np.arange(STEPS) * 0.04)


def test_a_part_ends_where_a_row_group_ends(tmp_path):
    with pytest.raises(ValueError, match=f"multiple of {ROWS_PER_GROUP}"):
        feed(tmp_path / "a.parquet", rows(5, 3), part_steps=ROWS_PER_GROUP + 1)


def test_a_finished_file_is_sealed(tmp_path):
    feed(tmp_path / "a.parquet", rows(PART, 3))
    assert is_parquet_whole(tmp_path / "a.parquet")
