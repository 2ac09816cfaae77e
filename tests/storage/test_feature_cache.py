import errno
import os

import numpy as np
import pytest

from storage.errors import CorruptArtefactError, MissingArtefactError
from storage.feature_cache import CACHE_FOLDER, is_cache_whole, read_mapped_features
from storage.features import read_features, write_features
from tests.storage.samples import METADATA, rows


def write(path, feature, *, packing="compact"):
    with write_features(path, width=feature.shape[1], metadata=METADATA, packing=packing) as writer:
        writer.append(np.arange(len(feature)) / 25, feature)


@pytest.fixture
def path(tmp_path):
    write(tmp_path / "a.parquet", rows(40, 3))
    return tmp_path / "a.parquet"


def caches(path):
    return list((path.parent / CACHE_FOLDER).glob("*"))


def same(first, second):
    return (
        np.array_equal(first.feature, second.feature)
        and np.array_equal(first.time, second.time)
        and first.metadata == second.metadata
    )


def test_the_cache_gives_what_the_file_gives(path):
    truth = read_features(path)
    assert same(read_mapped_features(path), truth)
    assert len(caches(path)) == 1
    assert same(read_mapped_features(path), truth)


def test_a_warm_read_decodes_no_parquet(path, monkeypatch):
    truth = read_mapped_features(path)
    monkeypatch.setattr("storage.feature_cache.read_features", lambda _: pytest.fail("decoded again"))
    assert same(read_mapped_features(path), truth)


def test_changed_content_makes_another_cache_though_the_time_stamps_stay(path):
    read_mapped_features(path)
    before = path.stat()
    write(path, 2 * rows(40, 3))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert same(read_mapped_features(path), read_features(path))
    assert len(caches(path)) == 1


def test_writing_to_the_array_changes_no_file(path):
    features = read_mapped_features(path)
    read_mapped_features(path).feature[:] = 7
    assert same(read_mapped_features(path), features)
    assert is_cache_whole(caches(path)[0])


def test_a_truncated_or_foreign_cache_counts_for_nothing(path):
    truth = read_features(path)
    read_mapped_features(path)
    cache = caches(path)[0]
    content = cache.read_bytes()
    for keep in (0, 20, 47, 100, len(content) - 4):
        cache.write_bytes(content[:keep])
        assert same(read_mapped_features(path), truth)
        assert cache.read_bytes() == content


def test_every_flipped_byte_of_a_cache_is_found(path):
    read_mapped_features(path)
    cache = caches(path)[0]
    content = cache.read_bytes()
    assert is_cache_whole(cache)
    for place in range(len(content)):
        cache.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert not is_cache_whole(cache)


def test_a_read_only_reader_makes_no_cache(path):
    assert same(read_mapped_features(path, read_only=True), read_features(path))
    assert caches(path) == []


def test_where_the_disk_is_read_only_the_features_come_all_the_same(path, monkeypatch):
    def refuse(_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("storage.feature_cache.atomic_path", refuse)
    assert same(read_mapped_features(path), read_features(path))


def test_a_full_disk_is_not_hidden(path, monkeypatch):
    def refuse(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("storage.feature_cache.atomic_path", refuse)
    with pytest.raises(OSError, match="No space"):
        read_mapped_features(path)


def test_a_missing_or_damaged_feature_file_is_never_replaced_by_its_cache(path):
    read_mapped_features(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptArtefactError, match=r"a\.parquet"):
        read_mapped_features(path)
    path.unlink()
    with pytest.raises(MissingArtefactError, match=r"a\.parquet"):
        read_mapped_features(path)
