"""A store by URL, on a real S3 protocol server and in fsspec's memory."""

import json
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

from storage.atomic import artefact_lock, atomic_path, write_text_atomically
from storage.errors import LeaseLostError, MissingArtefactError, StoreError, TrackingError
from storage.features import FeatureMetadata, read_features, write_features
from storage.folders import finish_folder, is_finished, read_manifest, start_folder
from storage.keys import file_digest
from storage.leases import Lease
from storage.places import listed, local_copy, name_within, place_of, put_bytes
from storage.registry import Registry
from storage.runs import find_run
from storage.store import Store

KEY = "0123456789abcdef" * 4


@pytest.fixture
def memory_root():
    place = place_of("memory://test-places/store")
    yield place
    if place.exists():
        place.fs.rm(place.path, recursive=True)


@pytest.fixture(params=["memory", "s3"])
def root(request):
    return (
        request.getfixturevalue("memory_root")
        if request.param == "memory"
        else place_of(f"{request.getfixturevalue('bucket')}/a folder")
    )


def metadata():
    return FeatureMetadata(
        profile="clip",
        identity={},
        weights_digest="w",
        random_weights=True,
        video_hash="v",
        decoder="pyav",
        fps=25.0,
        num_frames=3000,
        window_frames=1,
        stride_frames=1,
    )


def fill(path, value, *, steps=3000):
    with write_features(path, width=4, metadata=metadata()) as writer:
        writer.append(np.arange(steps) / 25, np.full((steps, 4), value, np.float32))


def test_a_url_becomes_a_store_and_opens_again(root):
    assert Store(root).root == root
    assert json.loads((root / "store.json").read_text())["layout"] == "factseg-store"
    assert Store(str(root)).root == root
    assert [place.name for place in root.iterdir()] == ["store.json"]


def test_foreign_objects_are_not_taken_over(root):
    put_bytes(root / "thesis.tex", b"", once=False)
    with pytest.raises(StoreError, match=r"thesis\.tex.*new or empty folder"):
        Store(root)


def test_features_are_read_back_whole_and_by_time(root):
    path = Store(root).feature_path("clip", KEY)
    fill(path, 1.5)
    assert read_features(path).feature.shape == (3000, 4)
    part = read_features(path, start_seconds=2.0, stop_seconds=3.0)
    np.testing.assert_array_equal(part.time, np.arange(50, 75) / 25)
    assert np.all(part.feature == 1.5)
    with pytest.raises(MissingArtefactError):
        read_features(path.with_name("00.parquet"))


def test_the_first_writer_of_a_key_wins_and_the_second_changes_nothing(root):
    path = Store(root).feature_path("clip", KEY)
    fill(path, 1.0)
    fill(path, 2.0)
    assert np.all(read_features(path).feature == 1.0)


def test_writers_at_once_store_one_result(root):
    path = Store(root).feature_path("clip", KEY)
    gate = threading.Barrier(4)
    stored = []

    def write(value):
        gate.wait()
        stored.append(put_bytes(path, value, once=True))

    threads = [threading.Thread(target=write, args=(b"%d" % number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(stored) == [False, False, False, True]


def test_a_failed_write_leaves_nothing(root):
    def write_half():
        with atomic_path(root / "a.txt") as scratch:
            scratch.write_text("half")
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        write_half()
    assert not (root / "a.txt").exists()


def test_a_folder_is_finished_by_its_manifest(root):
    folder = Store(root).run_folder(KEY)
    with artefact_lock(folder):
        start_folder(folder)
        write_text_atomically(folder / "deep" / "a.txt", "old")
        start_folder(folder)
        write_text_atomically(folder / "deep" / "a.txt", "abc")
        assert not is_finished(folder)
        finish_folder(folder, {"kind": "run"})
    digest = file_digest(folder / "deep" / "a.txt")
    assert read_manifest(folder) == {"kind": "run", "files": {"deep/a.txt": digest}}
    assert find_run(Store(root), "0123") == KEY
    with pytest.raises(ValueError, match="finished work"):
        start_folder(folder)
    # Another writer that was as far does not replace what readers may hold.
    finish_folder(folder, {"kind": "other"})
    assert read_manifest(folder)["kind"] == "run"


def test_a_reader_that_takes_only_local_paths_gets_a_copy(root):
    write_text_atomically(root / "a.txt", "abc")
    with local_copy(root / "a.txt") as local:
        assert (local.name, local.read_text()) == ("a.txt", "abc")
    assert not local.exists()


def test_hidden_objects_are_not_listed(root):
    for name in (".a.lease/00000001", "b", "c/d"):
        put_bytes(root / name, b"x", once=False)
    assert [name_within(root, place) for place in listed(root, "*")] == ["b", "c"]
    assert listed(root / "nowhere", "*") == []


def test_a_lease_keeps_others_out_until_it_is_given_back(root):
    mine, theirs = Lease(root / "a"), Lease(root / "a")
    assert mine.take()
    assert not theirs.take()
    with pytest.raises(TimeoutError, match="another process"), artefact_lock(root / "a", timeout_seconds=0):
        pytest.fail("held twice")
    mine.release()
    assert theirs.take()
    theirs.release()
    assert listed(root, ".a.lease/*") == []


def test_an_expired_lease_is_taken_over_and_its_holder_finds_out(root):
    now = [1000.0]
    mine, theirs = (Lease(root / "a", seconds=60, clock=lambda: now[0]) for _ in range(2))
    assert mine.take()
    now[0] += 59
    assert not theirs.take()
    mine.renew()
    now[0] += 59
    assert not theirs.take()
    now[0] += 2
    assert theirs.take()
    for act in (mine.check, mine.renew):
        with pytest.raises(LeaseLostError, match="Run the same command again"):
            act()
    mine.release()
    theirs.check()


def test_of_many_that_see_an_expired_lease_one_takes_it(root):
    now = [1000.0]
    assert Lease(root / "a", clock=lambda: now[0]).take()
    now[0] += 1000
    gate, taken = threading.Barrier(4), []

    def take():
        lease = Lease(root / "a", clock=lambda: now[0])
        gate.wait()
        taken.append(lease.take())

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 1


def test_who_lost_the_lease_writes_nothing_more(root):
    folder = root / "run"
    with artefact_lock(folder):
        write_text_atomically(folder / "a.txt", "first")
        later = Lease(folder, clock=lambda: 1e12)
        assert later.take()
        with pytest.raises(LeaseLostError):
            write_text_atomically(folder / "a.txt", "too late")
    assert (folder / "a.txt").read_text() == "first"


def test_another_process_waits_for_the_lease_and_finds_the_work_done(bucket):
    target = place_of(f"{bucket}/a")
    script = textwrap.dedent(
        """
        import sys
        from storage.atomic import artefact_lock
        from storage.places import place_of
        with artefact_lock(place_of(sys.argv[1])):
            print(place_of(sys.argv[1]).read_text())
        """
    )
    with artefact_lock(target):
        child = subprocess.Popen(
            [sys.executable, "-c", script, str(target)], stdout=subprocess.PIPE, text=True
        )
        write_text_atomically(target, "done")
    assert child.communicate() == ("done\n", None)


@pytest.mark.slow
def test_an_upload_killed_between_its_parts_shows_nothing_and_the_next_completes(bucket):
    target = place_of(f"{bucket}/store/big")
    script = textwrap.dedent(
        """
        import os, signal, sys
        import s3fs
        from storage.atomic import artefact_lock, atomic_path
        from storage.places import place_of

        call = s3fs.S3FileSystem._call_s3
        async def killed_after_a_part(self, method, *arguments, **options):
            made = await call(self, method, *arguments, **options)
            if method == "upload_part" and sys.argv[2] == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            return made
        s3fs.S3FileSystem._call_s3 = killed_after_a_part

        target = place_of(sys.argv[1])
        with artefact_lock(target), atomic_path(target, once=True) as scratch:
            with scratch.open("wb") as file:
                file.truncate(101 << 20)
        """
    )
    command = [sys.executable, "-c", script, str(target)]
    assert subprocess.run([*command, "kill"], check=False).returncode == -9
    assert not target.exists()
    # The killed process still holds its lease, as far as the server knows; time frees it.
    late = Lease(target, clock=lambda: 1e12)
    assert late.take()
    late.release()
    subprocess.run([*command, "go on"], check=True)
    assert target.stat().st_size == 101 << 20


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("http://127.0.0.1/store", "cannot lie at http"),
        ("odd://bucket/store", "cannot lie at odd"),
        ("s3://", "name a bucket"),
        ("s3://bucket/a/../b", "name a bucket"),
        ("gs://bucket/store", "pip install gcsfs"),
    ],
)
def test_an_address_no_store_can_lie_at_is_refused_with_the_remedy(address, why):
    with pytest.raises(StoreError, match=why):
        place_of(address)


def test_a_missing_extra_is_named():
    code = (
        "import sys; sys.modules['s3fs'] = None\n"
        "from storage.places import place_of\n"
        "place_of('s3://bucket/store')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "StoreError" in ran.stderr
    assert "pip install 'factseg[s3]'" in ran.stderr


@pytest.mark.usefixtures("s3_server")
def test_a_missing_bucket_is_told():
    with pytest.raises(StoreError, match=r"cannot be reached.*whether the bucket exists"):
        Store("s3://nobody-made-this/store")


def test_a_file_url_is_a_local_folder(tmp_path):
    assert place_of(f"file://{tmp_path}/a") == Path(tmp_path / "a")


@pytest.mark.parametrize("uri", ["", "sqlite:///mlflow.db", "mlruns", "file:///mlruns"])
def test_tracking_of_a_store_by_url_needs_a_server_and_makes_no_local_file(
    memory_root, tmp_path, monkeypatch, uri
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(TrackingError, match=r"MLFLOW_TRACKING_URI.*mlflow server"):
        Registry(Store(memory_root))
    assert list(tmp_path.iterdir()) == []


def test_digests_of_local_files_stay_out_of_the_object_store(memory_root, tmp_path, monkeypatch):
    monkeypatch.setenv("FACTSEG_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a").write_text("abc")
    store = Store(memory_root)
    assert store.digests.digest(tmp_path / "a") == file_digest(tmp_path / "a")
    assert [place.name for place in memory_root.iterdir()] == ["store.json"]
