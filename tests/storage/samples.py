"""Feature metadata, rows, and a small store with an artefact of every kind, for the tests of this folder."""

from dataclasses import replace

import numpy as np

from storage.atomic import write_text_atomically
from storage.catalogue import CatalogueRow, update_catalogue
from storage.datasets import StoredDataset, StoredRecording, StoredSplit, write_dataset
from storage.feature_cache import read_mapped_features
from storage.features import FeatureMetadata, write_features
from storage.folders import finish_folder, start_folder
from storage.outcomes import write_outcomes
from storage.sealed_json import write_sealed_json
from storage.segments import Segment, write_segments
from storage.store import Store
from storage.texts import write_text_embedding
from storage.timelines import write_timeline

METADATA = FeatureMetadata(
    profile="clip",
    identity={"name": "clip", "stride_frames": 4},
    weights_digest="ab" * 32,
    random_weights=True,
    video_hash="cd" * 32,
    decoder="pyav",
    fps=25.0,
    num_frames=100,
    window_frames=1,
    stride_frames=4,
)
VIDEO = METADATA.video_hash
TIMELINE, FEATURES, TEXT, LABELS, PREDICTION, RUN, EVALUATION = (f"{digit}" * 64 for digit in "1234567")
SEGMENT = Segment(
    video="a", start_frame=0, end_frame=9, start_seconds=0.0, end_seconds=0.36, label="cut", score=0.5
)


def rows(steps, width, *, seed=0):
    """Rectified values with many zeros, as I3D's last pool gives them."""
    values = np.random.default_rng(seed).standard_normal((steps, width)).astype(np.float32)
    return np.maximum(values, 0)


def put_features(store, key, *, steps=12, **changes):
    """A small feature file whose metadata differ from the sample by ``changes``."""
    path = store.feature_path("clip", key)
    with write_features(path, width=3, metadata=replace(METADATA, **changes)) as writer:
        writer.append(np.arange(steps) * 0.16, rows(steps, 3))
    return path


def put_folder(folder, facts):
    """A finished folder with one file in it."""
    start_folder(folder)
    write_text_atomically(folder / "scores.json", '{"f1": 1}')
    finish_folder(folder, facts)


def small_store(root):
    """A store with every kind of artefact but the tracking database, which takes MLflow seconds to make."""
    store = Store(root)
    row = CatalogueRow(id="a", path="videos/a.mp4", status="ok", video_hash=VIDEO)
    update_catalogue(store.catalogue_path, [row])
    write_timeline(store.timeline_path(TIMELINE), frame_times=np.arange(9) / 25, facts={"fps": 25.0})
    read_mapped_features(put_features(store, FEATURES))
    write_text_embedding(
        store.text_path(TEXT), np.ones(4, np.float32), label="cut", prompt="cut", model="ViT-B-32"
    )
    write_segments(store.label_path(LABELS), [SEGMENT], metadata={})
    write_segments(store.prediction_path(PREDICTION), [SEGMENT], metadata={"run": RUN, "video": VIDEO})
    put_folder(store.run_folder(RUN), {"kind": "run", "videos": {"a": [FEATURES]}})
    put_folder(store.evaluation_folder(EVALUATION), {"kind": "evaluation", "run": RUN})
    write_dataset(
        store,
        StoredDataset(
            name="toy",
            classes=("cut",),
            recordings={"a": StoredRecording(labels=LABELS)},
            splits={"split1": StoredSplit(train=("a",), test=())},
            source={},
        ),
    )
    source = root.parent / "a.mp4"
    source.write_bytes(b"video")
    store.digests.digest(source)
    outcome = {"video": "a", "status": "done", "reason": "", "path": "videos/a.mp4"}
    write_outcomes(store.tables, "extract", [outcome])
    write_sealed_json(root / "champions.json", {"database": [1, 2], "champions": {}})
    return store
