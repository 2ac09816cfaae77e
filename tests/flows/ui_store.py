"""A small store for tests of the dashboard, written by the store's own functions: no extraction, no training."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.browse_catalogue import BrowsedVideo, join_stages
from pipeline.encode import write_h264
from pipeline.evaluate_files import score_facts
from pipeline.report import write_report
from pipeline.run_files import CURVES_FILE, DESCRIPTION_FILE, SETTINGS_FILE
from storage.atomic import write_json_atomically
from storage.catalogue import CatalogueRow, update_catalogue
from storage.folders import finish_folder, start_folder
from storage.segments import Segment, write_segments
from storage.status import StatusRow, write_status
from storage.store import Store
from tests.pipeline.test_report import EVIL_CLASS, NAMES, make_report

RUN = "ab" * 32
EVALUATION = "cd" * 32
PREDICTION = "ef" * 32
EVIL_ID = "<script>alert('video')</script>"
EVIL_FILE = "a clip #1 <img src=x onerror=alert(1)>.mp4"
EVIL_SET = "<script>alert('run')</script>"
FPS = 10
LABELS = ("background", EVIL_CLASS, "background")


@dataclass(frozen=True)
class UiStore:
    """A store and what is in it."""

    root: Path
    video: Path
    """A playable file, 4 s, probed and segmented."""
    key: str
    """Its key in addresses."""

    def open(self) -> Store:
        return Store(self.root, read_only=True)


def make_store(folder: Path) -> UiStore:
    store = Store(folder / "store")
    video = folder / EVIL_FILE
    pictures = (np.full((48, 64, 3), 6 * index, dtype=np.uint8) for index in range(4 * FPS))
    write_h264(video, pictures, width=64, height=48, fps=FPS)
    row = CatalogueRow(
        id=EVIL_ID,
        path=str(video),
        status="ok",
        video_hash=store.digests.digest(video),
        size_bytes=video.stat().st_size,
        container="mp4",
        codec="h264",
        width=64,
        height=48,
        rotation=0,
        fps=float(FPS),
        num_frames=4 * FPS,
        duration_seconds=4.0,
        decoder="pyav",
    )
    broken = CatalogueRow(
        id="broken", path=str(folder / "broken.mp4"), status="failed", error="no <b>moov</b>"
    )
    update_catalogue(store.catalogue_path, [row, broken])
    write_status(store.status_path, status_rows(row))
    write_run(store)
    segments = [
        Segment(
            video=EVIL_ID,
            start_frame=start,
            end_frame=end,
            start_seconds=start / FPS,
            end_seconds=end / FPS,
            label=label,
            score=0.75,
        )
        for label, start, end in zip(LABELS, (0, 10, 30), (10, 30, 40), strict=True)
    ]
    facts = {"run": RUN, "video": row.video_hash, "notices": ["Random <i>weights</i>."]}
    write_segments(store.prediction_path(PREDICTION), segments, metadata=facts)
    return UiStore(root=folder / "store", video=video, key=key_of(row).key)


def status_rows(row: CatalogueRow) -> list[StatusRow]:
    def part(stage, status, what="", reason=None):
        return StatusRow(video=row.id, path=row.path, stage=stage, what=what, status=status, reason=reason)

    return [
        part("probe", "done"),
        part("features", "done", "clip"),
        part("features", "stale", "i3d-rgb", "extracted before with <u>other</u> weights"),
        part("labels", "missing", reason="there is no label file"),
        part("prediction", "done", "tiny"),
        StatusRow(video="", path="", stage="texts", what="ViT-B-32", status="done"),
        StatusRow(video="recording 7", path="", stage="features", what="imported", status="done"),
    ]


def key_of(row: CatalogueRow) -> BrowsedVideo:
    (video,) = join_stages([row], [])
    return video


def write_run(
    store: Store,
    *,
    key: str = RUN,
    evaluation: str = EVALUATION,
    name: str = "bench",
    trained_at: str = "2026-02-03T04:05:06.789+00:00",
) -> None:
    """A run whose data set lies in a folder of an evil name where ``name`` is empty, and its evaluation."""
    folder = store.run_folder(key)
    start_folder(folder)
    dataset = {"videos": "v", "labels": "l", "mapping": "m.txt", "splits": "s", "name": name}
    write_json_atomically(
        folder / SETTINGS_FILE, {"dataset": dataset, "training": {"recipe": EVIL_SET, "seed": 3}}
    )
    write_json_atomically(
        folder / DESCRIPTION_FILE,
        {
            "kind": "fact",
            "class_names": list(NAMES),
            "background": [0],
            "inputs": [{"spec": "clip:stride=5"}],
        },
    )
    curves = [
        {"epoch": epoch, "loss": 3.0 / epoch, "validation f1@50": 10.0 * epoch, "learning_rate": 0.005}
        for epoch in (1, 2, 3)
    ]
    pq.write_table(pa.Table.from_pylist(curves), folder / CURVES_FILE)
    finish_folder(
        folder,
        {
            "trained_at": trained_at,
            "git_revision": "0123456",
            "machine": "a <machine>",
            "seconds": 1.5,
            "seed": 3,
            "videos": {EVIL_ID: []},
            "notices": ["Random <i>weights</i>."],
        },
    )
    report = replace(make_report(), run_id=key)
    target = store.evaluation_folder(evaluation)
    start_folder(target)
    write_report(target, report)
    facts = {"run": key, "created_at": report.created_at}
    finish_folder(target, json.loads(json.dumps(facts | score_facts(report.scores, report.zero_shot))))
