import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from storage.catalogue import read_catalogue
from storage.errors import MissingArtefactError
from storage.feature_cache import read_mapped_features
from storage.features import read_features
from storage.health import examine_store
from storage.keys import DigestMemo, file_digest
from storage.store import Store
from storage.verify import verify_store
from tests.storage.samples import FEATURES, small_store

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path):
    root = small_store(tmp_path / "store").root
    # What a writer left for readers to write again.
    shutil.rmtree(root / "digests")
    shutil.rmtree(root / "features/clip/.cache")
    return root


def snapshot(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob("*")} | {root: root.stat().st_mtime_ns}


def test_a_reader_of_a_read_only_store_writes_nothing(root):
    before = snapshot(root)
    store = Store(root, read_only=True)
    path = store.feature_path("clip", FEATURES)
    assert len(read_catalogue(store.catalogue_path)) == 1
    assert len(read_features(path).feature) == len(read_mapped_features(path, read_only=True).feature) == 12
    assert store.digests.digest(root / "store.json") == file_digest(root / "store.json")
    assert examine_store(store).problems == ()
    assert verify_store(store).findings == ()
    assert snapshot(root) == before


def test_a_read_only_store_is_never_made(tmp_path):
    with pytest.raises(MissingArtefactError, match="no store at"):
        Store(tmp_path / "none", read_only=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_memo_that_cannot_be_written_is_done_without(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    (tmp_path / "a").write_bytes(b"abc")
    monkeypatch.setattr("storage.keys.write_sealed_json", refuse)
    assert DigestMemo(tmp_path / "memo").digest(tmp_path / "a") == file_digest(tmp_path / "a")


def test_a_full_disk_is_not_taken_for_a_read_only_one(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "a").write_bytes(b"abc")
    monkeypatch.setattr("storage.keys.write_sealed_json", refuse)
    with pytest.raises(OSError, match="No space"):
        DigestMemo(tmp_path / "memo").digest(tmp_path / "a")


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_a_reader_without_the_right_to_write_reads_everything(root):
    """In a process that is not root: root may write whatever the modes say."""
    script = textwrap.dedent(
        """
        import json, os, sys
        from pathlib import Path
        from storage.catalogue import read_catalogue
        from storage.feature_cache import read_mapped_features
        from storage.features import read_features
        from storage.store import Store
        from storage.verify import verify_store
        root, key = Path(sys.argv[1]), sys.argv[2]
        # Imports everything that is imported late: another user may not read this machine's packages.
        read_features(Store(root, read_only=True).feature_path("clip", key))
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        try:
            (root / "new").touch()
            sys.exit("the folder can be written")
        except PermissionError:
            pass
        store = Store(root)
        path = store.feature_path("clip", key)
        print(json.dumps({
            "rows": len(read_mapped_features(path).feature),
            "videos": len(read_catalogue(store.catalogue_path)),
            "digest": store.digests.digest(root / "store.json"),
            "findings": len(verify_store(store).findings),
        }))
        """
    )
    # pytest's folders are closed to other users.
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "store"
        shutil.copytree(root, copy)
        Path(folder).chmod(0o755)
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        ran = subprocess.run(
            [sys.executable, "-c", script, str(copy), FEATURES],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755)
        assert ran.returncode == 0, ran.stderr
        assert json.loads(ran.stdout) == {
            "rows": 12,
            "videos": 1,
            "digest": file_digest(copy / "store.json"),
            "findings": 0,
        }
