"""The predictions of a store by the video they are of, and one of them as a time line."""

import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.browse_cache import stamp_of
from pipeline.browse_runs import model_facts
from pipeline.report_timelines import VideoTimeline
from pipeline.results import timeline_of_segments
from storage.errors import CorruptArtefactError, StorageError
from storage.places import Place, listed
from storage.segments import SEGMENT_LAYOUT, Segment, read_segments
from storage.store import Store
from storage.tables import open_parquet, unpack_metadata


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredPrediction:
    """Segments of one video by one run, without the segments."""

    key: str
    video_hash: str
    run: str
    made_at: float
    """Seconds since 1970."""

    @property
    def date(self) -> str:
        """When it was made, as text."""
        return datetime.fromtimestamp(self.made_at, UTC).strftime("%Y-%m-%d %H:%M UTC")


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentedTimeline:
    """A prediction to be drawn."""

    timeline: VideoTimeline
    segments: Sequence[Segment]
    class_names: tuple[str, ...]
    background: tuple[int, ...]
    notices: tuple[str, ...]


class StoredPredictions:
    """Which videos were segmented; each file is opened once, since what has a key never changes."""

    def __init__(self, store: Store) -> None:
        self._folder = store.root / "predictions"
        self._lock = threading.Lock()
        self._stamp: object = None
        self._known: dict[str, StoredPrediction | None] = {}
        self._by_content: dict[str, tuple[StoredPrediction, ...]] = {}

    def of_content(self, video_hash: str) -> tuple[StoredPrediction, ...]:
        """Predictions of the content with this hash, the latest first."""
        with self._lock:
            stamp = stamp_of(self._folder)
            if stamp is None or stamp != self._stamp:
                self._read()
                self._stamp = stamp
            return self._by_content.get(video_hash, ())

    def _read(self) -> None:
        paths = {path.stem: path for path in listed(self._folder, "*.parquet")}
        self._known = {
            key: self._known[key] if key in self._known else _facts(path) for key, path in paths.items()
        }
        found = defaultdict(list)
        for prediction in self._known.values():
            if prediction is not None:
                found[prediction.video_hash].append(prediction)
        self._by_content = {
            content: tuple(sorted(each, key=lambda one: (-one.made_at, one.key)))
            for content, each in found.items()
        }


def _facts(path: Place) -> StoredPrediction | None:
    """What a file says of itself; None where it does not open, which `factseg doctor` and `verify` name."""
    try:
        facts = unpack_metadata(open_parquet(path).schema_arrow, layout=SEGMENT_LAYOUT, path=path)
    except StorageError:
        return None
    return StoredPrediction(
        key=path.stem, video_hash=str(facts["video"]), run=str(facts["run"]), made_at=path.stat().st_mtime
    )


def read_timeline_of(key: str, *, store: Store, title: str, file: str) -> SegmentedTimeline:
    """The segments under a key as a time line, classes in the order and colours of the model's reports.

    Args:
        key: Of the prediction.
        store: Where it is.
        title: What the time line is called.
        file: Name of the video file, for a player; empty without one.

    Raises:
        MissingArtefactError: There is no such prediction.
        CorruptArtefactError: It cannot be read, or holds no segment.
    """
    segments, metadata = read_segments(store.prediction_path(key))
    if not segments:
        raise CorruptArtefactError(f"Prediction {key} holds no segment. Run `factseg verify`.")
    labels = sorted({segment.label for segment in segments})
    model = model_facts(store, str(metadata["run"]))
    names = tuple(labels)
    background: tuple[int, ...] = ()
    if model is not None and set(labels) <= set(model.class_names):
        names, background = model.class_names, model.background
    return SegmentedTimeline(
        timeline=timeline_of_segments(segments, title=title, names=names, file=file),
        segments=segments,
        class_names=names,
        background=background,
        notices=tuple(metadata["notices"]),
    )
