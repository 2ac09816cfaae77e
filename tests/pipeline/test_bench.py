import hashlib
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import av
import decord
import pytest

from pipeline.bench import BenchDataset, write_bench
from pipeline.bench_work import (
    BACKGROUND,
    CLASS_NAMES,
    FRAMES_PER_SECOND,
    MAX_SECONDS,
    MIN_SECONDS,
    frame_labels,
    plan_video,
)
from pipeline.errors import DatasetError


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> BenchDataset:
    return write_bench(tmp_path_factory.mktemp("bench"), num_train=1, num_test=1)


def labels_of(bench: BenchDataset, video_id: str) -> list[str]:
    if video_id == bench.new:
        return list(bench.new_labels)
    return (bench.labels / f"{video_id}.txt").read_text(encoding="utf-8").splitlines()


def everything(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and not path.name.endswith(".lock")
    }


def orders() -> Iterator[list[str]]:
    for seed, index in itertools.product(range(12), range(15)):
        yield [name for name, _ in plan_video(seed=seed, index=index)]


def test_pyav_decodes_as_many_frames_as_there_are_labels(bench: BenchDataset) -> None:
    for video_id in (*bench.train, *bench.test, bench.new):
        with av.open(bench.video(video_id)) as container:
            assert sum(1 for _ in container.decode(video=0)) == len(labels_of(bench, video_id))


def test_decord_counts_as_many_frames_as_there_are_labels(bench: BenchDataset) -> None:
    for video_id in (*bench.train, *bench.test, bench.new):
        reader = decord.VideoReader(os.fspath(bench.video(video_id)))
        assert len(reader) == len(labels_of(bench, video_id))
        assert reader[len(reader) - 1].shape == (240, 320, 3)


def test_a_video_is_h264_of_the_promised_size_and_rate(bench: BenchDataset) -> None:
    with av.open(bench.new_video) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.average_rate) == (320, 240, 15)


def test_frames_are_stamped_one_fifteenth_of_a_second_apart_from_zero(bench: BenchDataset) -> None:
    with av.open(bench.new_video) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx([k / 15 for k in range(len(times))])


def test_the_picture_changes_where_the_hand_works_and_rests_where_it_does_not(bench: BenchDataset) -> None:
    with av.open(bench.video(bench.train[0])) as container:
        grey = [frame.to_ndarray(format="gray").astype(int) for frame in container.decode(video=0)]
    moved = [abs(after - before).mean() for before, after in itertools.pairwise(grey)]
    labels = labels_of(bench, bench.train[0])
    first = len(list(itertools.takewhile(lambda name: name == BACKGROUND, labels)))
    resting, working = moved[: first - 1], moved[first : first + 20]
    assert max(resting) < sum(working) / len(working)


def test_the_first_training_video_shows_every_class(bench: BenchDataset) -> None:
    assert set(labels_of(bench, bench.train[0])) == set(CLASS_NAMES)


def test_the_mapping_numbers_the_classes_from_zero(bench: BenchDataset) -> None:
    assert bench.mapping.read_text(encoding="utf-8").splitlines() == [
        f"{number} {name}" for number, name in enumerate(CLASS_NAMES)
    ]
    assert CLASS_NAMES[0] == BACKGROUND


def test_the_splits_list_the_label_files_and_share_none(bench: BenchDataset) -> None:
    train, test = (
        (bench.splits / f"{part}.split1.bundle").read_text(encoding="utf-8").split()
        for part in ("train", "test")
    )
    assert train == ["bench-01.txt"]
    assert test == ["bench-02.txt"]
    assert {path.name for path in bench.labels.iterdir()} == {*train, *test}


def test_the_truth_of_the_new_video_stands_in_no_file(bench: BenchDataset) -> None:
    assert [path.name for path in bench.new_video.parent.iterdir()] == ["bench-03.mp4"]
    assert not list(bench.root.rglob("bench-03.txt"))
    assert bench.new not in {path.stem for path in bench.videos.iterdir()}


def test_a_second_call_draws_nothing_and_returns_the_same(bench: BenchDataset) -> None:
    files = [path for path in bench.root.rglob("*") if path.is_file() and path.suffix != ".lock"]
    before = {path: path.stat().st_mtime_ns for path in files}
    drawn: list[tuple[int, ...]] = []
    again = write_bench(bench.root, num_train=1, num_test=1, progress=lambda *counts: drawn.append(counts))
    assert again == bench
    assert drawn == []
    assert {path: path.stat().st_mtime_ns for path in files} == before


def test_a_changed_argument_replaces_the_data_set(bench: BenchDataset, tmp_path: Path) -> None:
    shutil.copytree(bench.root, tmp_path, dirs_exist_ok=True)
    for name in ("videos/bench-04.mp4", "groundTruth/bench-04.txt"):
        (tmp_path / name).write_bytes(b"of an earlier, larger data set")
    before = everything(tmp_path)
    progress: list[tuple[int, ...]] = []
    write_bench(tmp_path, num_train=1, num_test=1, seed=3, progress=lambda *counts: progress.append(counts))
    after = everything(tmp_path)
    assert progress == [(1, 3), (2, 3), (3, 3)]
    assert after.keys() == before.keys() - {"videos/bench-04.mp4", "groundTruth/bench-04.txt"}
    assert after["videos/bench-01.mp4"] != before["videos/bench-01.mp4"]


def test_a_killed_run_is_made_good_with_the_same_bytes(bench: BenchDataset, tmp_path: Path) -> None:
    shutil.copytree(bench.root, tmp_path, dirs_exist_ok=True)
    (tmp_path / "bench.json").unlink()
    (tmp_path / "videos" / "bench-02.mp4").unlink()
    (tmp_path / "videos" / ".bench-02.mp4.abc.part").write_bytes(b"half a video")
    write_bench(tmp_path, num_train=1, num_test=1)
    assert everything(tmp_path) == everything(bench.root)


def test_a_run_stopped_half_way_leaves_neither_manifest_nor_scratch_file(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        message = f"stopped after {done} of {total}"
        raise KeyboardInterrupt(message)

    with pytest.raises(KeyboardInterrupt, match="stopped after 1 of 3"):
        write_bench(tmp_path, num_train=1, num_test=1, progress=stop)
    assert not (tmp_path / "bench.json").exists()
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(("num_train", "num_test", "seed"), [(0, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_numbers_out_of_range_are_refused_before_anything_is_written(
    tmp_path: Path, num_train: int, num_test: int, seed: int
) -> None:
    with pytest.raises(DatasetError, match="at least 1 of each"):
        write_bench(tmp_path / "bench", num_train=num_train, num_test=num_test, seed=seed)
    assert not (tmp_path / "bench").exists()


def test_every_video_lasts_as_long_as_promised() -> None:
    for seed, index in itertools.product(range(12), range(15)):
        seconds = len(frame_labels(plan_video(seed=seed, index=index))) / FRAMES_PER_SECOND
        assert MIN_SECONDS <= seconds <= MAX_SECONDS


def test_work_begins_with_taking_the_base_plate_and_ends_with_putting_it_away() -> None:
    for order in orders():
        assert order[:2] == [BACKGROUND, "take the base plate"]
        assert order[-2:] == ["put away the base plate", BACKGROUND]


def test_no_action_follows_itself() -> None:
    assert all(before != after for order in orders() for before, after in itertools.pairwise(order))


def test_the_gear_is_inserted_before_it_is_turned_and_the_test_comes_after_all_parts() -> None:
    for order in orders():
        if "turn the gear" in order:
            assert order.index("turn the gear") == order.index("insert the gear") + 1
        inserts = [k for k, name in enumerate(order) if name.startswith("insert")]
        assert max(inserts) < order.index("press the button")


def test_steps_are_sometimes_left_out_swapped_and_repeated() -> None:
    found = list(orders())
    assert any("insert the ball" not in order for order in found)
    assert any(order.count("press the button") == 2 for order in found)
    swapped = {
        order.index("insert the ball") < order.index("insert the gear")
        for order in found
        if "insert the ball" in order
    }
    assert swapped == {True, False}


def test_verbs_and_nouns_are_shared_between_actions() -> None:
    actions = [name.split(" the ") for name in CLASS_NAMES if name != BACKGROUND]
    verbs, nouns = zip(*actions, strict=True)
    assert len(set(verbs)) < len(verbs)
    assert len(set(nouns)) < len(nouns)
