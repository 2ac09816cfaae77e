"""What is exported: the stored predictions of a run, its predictions for imported features, or imported labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.errors import DatasetError, SettingsError
from pipeline.export_formats import TIMED, ExportFormat, Written, write_export
from pipeline.import_mstcn import check_rate
from storage.datasets import read_dataset
from storage.errors import MissingArtefactError
from storage.registry import Registry
from storage.runs import find_run
from storage.segments import Segment, read_segments
from storage.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Exportable:
    """Segments and what is known of them."""

    videos: dict[str, Sequence[Segment]]
    classes: tuple[str, ...]
    timed: bool
    """False where seconds count frames, because nobody said the rate."""
    origin: dict[str, Any]
    """JSON-able facts."""


def exported_labels(dataset: str, *, store: Store) -> Exportable:
    """The labels of an imported data set.

    Raises:
        MissingArtefactError: No such data set was imported.
        CorruptArtefactError: A file of labels is damaged.
    """
    found = read_dataset(store, dataset)
    videos: dict[str, Sequence[Segment]] = {}
    timed = True
    for video, recording in found.recordings.items():
        segments, facts = read_segments(store.label_path(recording.labels))
        videos[video] = segments
        timed &= facts["fps"] is not None
    return Exportable(
        videos=videos,
        classes=found.classes,
        timed=timed,
        origin={"labels": dataset, "source": dict(found.source)},
    )


def exported_predictions(*, run: str, model: str, store: Store) -> Exportable:
    """The predictions of a run that are in the store.

    Args:
        run: Key of a run, or its first digits; empty for the champion of ``model``.
        model: Name in the registry; may be empty where there is one model only.
        store: The store.

    Raises:
        MissingArtefactError: There is no such run, or it predicted nothing yet.
        DatasetError: Two different videos of one id were predicted.
    """
    key = chosen_run(run=run, model=model, store=store)
    videos: dict[str, Sequence[Segment]] = {}
    # Any key serves to find the folder.
    folder = store.prediction_path("0" * 64).parent
    for name in sorted(path.name for path in folder.glob("*.parquet")):
        path = folder / name
        segments, facts = read_segments(path)
        if facts.get("run") != key:
            continue
        video = segments[0].video
        if video in videos:
            raise DatasetError(
                f"Run {key[:12]} predicted two different videos named {video!r}; the second is {path}. "
                "Delete the one that is not wanted, or rename the videos."
            )
        videos[video] = segments
    if not videos:
        raise MissingArtefactError(
            f"Run {key[:12]} predicted nothing yet. Run `factseg segment` on videos, or name an imported data set "
            "with --dataset."
        )
    return Exportable(videos=videos, classes=_class_names(key, store), timed=True, origin={"run": key})


def predicted_dataset(
    *, run: str, model: str, dataset: str, split: str, device: str, store: Store
) -> Exportable:
    """Predictions of a run for the test recordings of an imported data set; no video is needed.

    Raises:
        MissingArtefactError: There is no such run or data set.
        DatasetError: The data set has no such split, or none of its recordings has features.
        WeightsError: The model was trained on other features.
    """
    # torch takes seconds to import, and stored segments need none.
    from pipeline.dataset import dataset_split, stored_recording
    from pipeline.device import choose_device
    from pipeline.inputs import check_weights, imported_inputs, inputs_of_model
    from pipeline.model import load_model
    from pipeline.predict import predict_frames, segments_of
    from pipeline.settings import DatasetSettings

    key = chosen_run(run=run, model=model, store=store)
    found = read_dataset(store, dataset)
    trained = load_model(store.run_folder(key), device=choose_device(device))
    inputs = imported_inputs(found)
    check_weights(inputs_of_model(trained.description.inputs), inputs)
    names = dataset_split(DatasetSettings(imported=dataset, split=split), store=store).test
    videos: dict[str, Sequence[Segment]] = {}
    for video in names:
        if video not in found.recordings:
            continue
        stored = stored_recording(video, found, inputs=inputs)
        prediction = predict_frames(stored, model=trained, store=store)
        videos[video] = segments_of(prediction, video=stored.video, classes=trained.description.classes)
    if not videos:
        raise DatasetError(
            f"None of the {len(names)} test videos of split {split!r} was imported. Import them first."
        )
    return Exportable(
        videos=videos,
        classes=trained.description.class_names,
        timed=found.fps is not None,
        origin={"run": key, "dataset": dataset, "split": split},
    )


def chosen_run(*, run: str, model: str, store: Store) -> str:
    """Key of the run asked for, else of the champion."""
    return find_run(store, run) if run else Registry(store).champion(model).run


def export(
    what: Exportable, *, form: ExportFormat, folder: Path, blank_as: str = "", fps: float | None = None
) -> Written:
    """Write segments into a folder.

    Args:
        what: The segments.
        form: The format.
        folder: Where to.
        blank_as: What stands for a blank in recognition files.
        fps: Frames per second, where the segments have none.

    Raises:
        SettingsError: The format needs seconds and nobody said the rate.
        LabelError: Class names cannot be told apart in a recognition file.
    """
    check_rate(fps)
    if fps is None and not what.timed and form in TIMED:
        raise SettingsError(
            f"Format {form} needs seconds, and the rate of these segments is not known. Give --fps."
        )
    videos = what.videos
    if fps is not None:
        if what.timed:
            raise SettingsError("--fps is for segments without times; these have theirs. Leave it out.")
        videos = {
            video: [_retimed(segment, fps) for segment in segments] for video, segments in videos.items()
        }
    return write_export(
        videos, form=form, folder=folder, classes=what.classes, blank_as=blank_as, metadata=what.origin
    )


def _retimed(segment: Segment, fps: float) -> Segment:
    return replace(segment, start_seconds=segment.start_frame / fps, end_seconds=segment.end_frame / fps)


def _class_names(run: str, store: Store) -> tuple[str, ...]:
    from pipeline.model import read_description

    return read_description(store.run_folder(run)).class_names
