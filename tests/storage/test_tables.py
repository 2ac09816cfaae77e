import threading

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from storage.catalogue import CATALOGUE_LAYOUT, CatalogueRow, read_catalogue, update_catalogue
from storage.datasets import DATASET_LAYOUT, read_dataset
from storage.errors import CorruptArtefactError, MissingArtefactError
from storage.features import FEATURE_LAYOUT, read_features
from storage.sealed_json import write_sealed_json
from storage.segments import SEGMENT_LAYOUT, Segment, read_segments, write_segments
from storage.status import STATUS_LAYOUT, read_status
from storage.store import Store
from storage.tables import write_table
from storage.texts import (
    TEXT_LAYOUT,
    TextEncoderIdentity,
    read_text_embedding,
    text_key,
    write_text_embedding,
)
from storage.timelines import TIMELINE_LAYOUT, read_timeline, write_timeline

SEGMENTS = [
    Segment(
        video="a", start_frame=0, end_frame=5, start_seconds=0.0, end_seconds=0.2, label="<pour>", score=0.5
    ),
    Segment(video="a", start_frame=5, end_frame=6, start_seconds=0.2, end_seconds=0.24, label="stir milk"),
]
ENCODER = TextEncoderIdentity(model="ViT-B-32", weights_digest="ab", tokenizer="clip/77", version=1)


def test_segments_come_back_as_they_were(tmp_path):
    write_segments(tmp_path / "a.parquet", SEGMENTS, metadata={"run": "ab"})
    assert read_segments(tmp_path / "a.parquet") == (SEGMENTS, {"run": "ab"})


def test_segments_are_a_plain_table_for_others(tmp_path):
    write_segments(tmp_path / "a.parquet", SEGMENTS, metadata={})
    table = pl.read_parquet(tmp_path / "a.parquet")
    assert table["class"].to_list() == ["<pour>", "stir milk"]
    assert table["end_frame"].to_list() == [5, 6]


def test_a_segment_without_a_frame_is_refused():
    with pytest.raises(ValueError, match="holds no frame"):
        Segment(video="a", start_frame=3, end_frame=3, start_seconds=0.0, end_seconds=0.0, label="x")


def test_a_timeline_comes_back_as_it_was(tmp_path):
    times = np.array([0.0, 0.04, 0.5])
    write_timeline(tmp_path / "a.parquet", frame_times=times, facts={"codec": "h264"})
    stored = read_timeline(tmp_path / "a.parquet")
    np.testing.assert_array_equal(stored.frame_times, times)
    assert stored.facts == {"codec": "h264"}


def test_a_table_of_another_kind_is_refused(tmp_path):
    write_segments(tmp_path / "a.parquet", SEGMENTS, metadata={})
    with pytest.raises(CorruptArtefactError, match="segments/1"):
        read_timeline(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("layout", "read"),
    [
        (CATALOGUE_LAYOUT, read_catalogue),
        (FEATURE_LAYOUT, read_features),
        (SEGMENT_LAYOUT, read_segments),
        (STATUS_LAYOUT, read_status),
        (TEXT_LAYOUT, read_text_embedding),
        (TIMELINE_LAYOUT, read_timeline),
    ],
)
def test_a_file_of_a_future_version_is_named_with_the_remedy(tmp_path, layout, read):
    kind, _, number = layout.partition("/")
    future = f"{kind}/{int(number) + 1}"
    write_table(tmp_path / "a.parquet", pa.table({"new": [1]}), layout=future, metadata={})
    with pytest.raises(
        CorruptArtefactError,
        match=rf"a\.parquet has layout '{future}'.*reads '{layout}'.*use the program that wrote it",
    ):
        read(tmp_path / "a.parquet")


def test_a_data_set_of_a_future_version_is_named_with_the_remedy(tmp_path):
    store = Store(tmp_path / "store")
    write_sealed_json(store.dataset_path("tea"), {"layout": "dataset/2", "name": "tea"})
    with pytest.raises(CorruptArtefactError, match=rf"tea\.json.*'{DATASET_LAYOUT}'.*program that wrote it"):
        read_dataset(store, "tea")


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(MissingArtefactError, match=r"a\.parquet"):
        read_segments(tmp_path / "a.parquet")


def test_a_text_embedding_comes_back_bit_for_bit(tmp_path):
    vector = np.random.default_rng(0).standard_normal(5).astype(np.float32)
    write_text_embedding(
        tmp_path / "a.parquet", vector, label="pour", prompt="a video of pour", model="ViT-B-32"
    )
    np.testing.assert_array_equal(read_text_embedding(tmp_path / "a.parquet"), vector)


@pytest.mark.parametrize(
    "change", [{"model": "x"}, {"weights_digest": "x"}, {"tokenizer": "x"}, {"version": 2}, {"prompt": "x"}]
)
def test_whatever_can_change_a_vector_changes_its_name(change):
    fields = {
        "model": "ViT-B-32",
        "weights_digest": "ab",
        "tokenizer": "clip/77",
        "version": 1,
        "prompt": "pour",
    }

    def key(**fields):
        return text_key(fields.pop("prompt"), encoder=TextEncoderIdentity(**fields))

    assert key(**fields) == key(**fields)
    assert key(**{**fields, **change}) != key(**fields)


def test_the_catalogue_keeps_one_row_per_path(tmp_path):
    path = tmp_path / "catalogue.parquet"
    assert read_catalogue(path) == []
    update_catalogue(path, [CatalogueRow(id="b", path="v/b.mp4", status="failed", error="empty file")])
    update_catalogue(path, [CatalogueRow(id="a", path="v/a.mp4", status="ok", num_frames=3)])
    update_catalogue(path, [CatalogueRow(id="b", path="v/b.mp4", status="ok", num_frames=9)])
    assert [(row.path, row.status, row.num_frames) for row in read_catalogue(path)] == [
        ("v/a.mp4", "ok", 3),
        ("v/b.mp4", "ok", 9),
    ]


def test_writers_at_once_lose_no_row(tmp_path):
    path = tmp_path / "catalogue.parquet"
    rows = [CatalogueRow(id=str(index), path=f"v/{index:02}", status="ok") for index in range(12)]
    threads = [threading.Thread(target=update_catalogue, args=(path, [row])) for row in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_catalogue(path) == rows
