"""The later stages of the status table: texts, predictions, evaluations."""

import json
from collections.abc import Iterator, Sequence

from pipeline.dataset import StoredVideo, dataset_classes, dataset_split, survey_part
from pipeline.errors import LabelError, PipelineError, SettingsError, WeightsError
from pipeline.evaluate import evaluation_key
from pipeline.imported import ImportedProfile, Recording
from pipeline.inputs import clip_network, feature_key, inputs_of_model, weights_not_here
from pipeline.known_video import KnownVideo
from pipeline.labels import ClassList
from pipeline.model import read_description
from pipeline.outcome import failures
from pipeline.predict import prediction_key
from pipeline.settings import SENTENCE_TRANSFORMERS, DatasetSettings, EvaluateSettings, StatusSettings
from pipeline.texts import class_text_paths
from pipeline.train import find_trained
from storage.errors import StorageError
from storage.folders import is_finished, read_manifest
from storage.places import listed
from storage.registry import Registry
from storage.segments import read_segments
from storage.status import State, StatusRow
from storage.store import Store


def text_row(classes: ClassList, settings: StatusSettings, *, store: Store) -> Iterator[StatusRow]:
    """One row: whether every class has its embedding. Nothing where the model needs no texts."""
    if settings.training.model != "fact-clip":
        return
    model = settings.text.model
    status: State = "missing"
    reason: str | None
    try:
        networks = [] if model.startswith(SENTENCE_TRANSFORMERS) else [clip_network(model)]
        if reason := weights_not_here(networks, settings.extraction, store=store):
            yield StatusRow(video="", path="", stage="texts", what=model, status=status, reason=reason)
            return
        paths = class_text_paths(
            classes.names,
            text=settings.text,
            extraction=settings.extraction,
            store=store,
            beside_features=settings.dataset is None or not settings.dataset.has_features,
        )
    except (LabelError, WeightsError, SettingsError) as error:
        reason = str(error)
    else:
        absent = sum(not path.exists() for path in paths)
        reason = (
            f"{absent} of {len(paths)} texts are not embedded by this model and prompt" if absent else None
        )
        if not absent:
            status = "done"
        elif listed(store.root / "texts", "*.parquet"):
            status = "stale"
    yield StatusRow(video="", path="", stage="texts", what=settings.text.model, status=status, reason=reason)


def prediction_rows(
    videos: Sequence[KnownVideo], settings: StatusSettings, *, store: Store
) -> Iterator[StatusRow]:
    """A row per video: whether the champion segmented it."""
    run, model, why_not = _champion(settings, store=store)
    made = _predictions(store) if videos else {}
    for known in videos:
        key: str | None = None
        status: State = "missing"
        reason: str | None = why_not or "it was never segmented"
        if run and known.video is None:
            reason = "the video is not probed"
        elif run:
            key = _prediction_key(known, run=run, store=store)
            if key is None:
                reason = "the model was trained on features of another kind (imported, or made from videos)"
            elif store.prediction_path(key).exists():
                status, reason = "done", None
        if status == "missing" and known.former_hash in made:
            status, reason = "stale", f"segmented by run {made[known.former_hash][:12]}: {_since(run)}"
        yield StatusRow(
            video=known.id,
            path=known.path,
            stage="prediction",
            what=model,
            status=status,
            reason=reason,
            key=key,
        )


def evaluation_rows(
    videos: Sequence[KnownVideo],
    settings: StatusSettings,
    dataset: DatasetSettings,
    *,
    ready: bool,
    store: Store,
) -> Iterator[StatusRow]:
    """A row per test video of the data set: whether today's settings were scored on it.

    Args:
        videos: What the store knows.
        settings: The settings.
        dataset: Their data set.
        ready: Whether the texts that training needs are there, and the keys of its features known.
        store: The store.
    """
    split = dataset_split(dataset, store=store)
    by_id = {known.id: known for known in videos}
    unknown = [name for name in (*split.train, *split.test) if name not in by_id or by_id[name].video is None]
    if unknown:
        found = _Evaluation(
            why_not=f"{len(unknown)} videos of the split are not probed, first {unknown[0]!r}"
        )
    elif not ready:
        found = _Evaluation(why_not="the features or texts that training needs are missing")
    else:
        found = _find_evaluation(settings, dataset, store=store)
    earlier = _evaluated(store)
    for name in split.test:
        status, reason = found.state(name)
        if status == "missing" and name in earlier:
            status, reason = "stale", f"scored by run {earlier[name][:12]}; since then: {reason}"
        path = by_id[name].path if name in by_id else ""
        yield StatusRow(
            video=name, path=path, stage="evaluation", what="", status=status, reason=reason, key=found.key
        )


class _Evaluation:
    """What there is of the evaluation that today's settings give."""

    def __init__(
        self, *, key: str | None = None, failed: dict[str, str] | None = None, why_not: str = ""
    ) -> None:
        self.key = key
        self._failed = failed or {}
        self._why_not = why_not

    def state(self, video: str) -> tuple[State, str | None]:
        if video in self._failed:
            return "failed", self._failed[video]
        return ("missing", self._why_not) if self._why_not else ("done", None)


def _find_evaluation(settings: StatusSettings, dataset: DatasetSettings, *, store: Store) -> _Evaluation:
    try:
        values = {
            name: getattr(settings, name) for name in ("store", "dataset", "extraction", "text", "training")
        }
        run = find_trained(EvaluateSettings(**values))
        survey = survey_part(
            dataset_split(dataset, store=store).test,
            dataset=dataset,
            inputs=inputs_of_model(read_description(store.run_folder(run)).inputs),
            classes=dataset_classes(dataset, store=store),
            store=store,
        )
    except (PipelineError, StorageError) as error:
        return _Evaluation(why_not=str(error))
    failed = failures(survey.outcomes)
    key = evaluation_key(run, survey.sources, failed)
    scored = is_finished(store.evaluation_folder(key))
    why_not = "" if scored else f"run {run[:12]} was not scored on these videos and labels"
    return _Evaluation(key=key, failed={outcome.video: outcome.reason for outcome in failed}, why_not=why_not)


def _evaluated(store: Store) -> dict[str, str]:
    """Runs by the videos they were scored on, in any finished evaluation."""
    found: dict[str, str] = {}
    for folder in listed(store.root / "evaluations", "*"):
        if not is_finished(folder):
            continue
        run = read_manifest(folder)["run"]
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        found |= {video["video_id"]: run for video in report["videos"]}
    return found


def _champion(settings: StatusSettings, *, store: Store) -> tuple[str, str, str]:
    """Run and name of the model that segments, or why there is none."""
    try:
        champions = Registry(store).champions()
    except StorageError as error:
        return "", "", str(error)
    name = settings.dataset.title if settings.dataset is not None else ""
    if name in champions:
        return champions[name].run, name, ""
    if not name and len(champions) == 1:
        (entry,) = champions.values()
        return entry.run, entry.name, ""
    several = f"the store has several models ({', '.join(champions)}): name the data set of one"
    return "", name, several if champions and not name else "there is no trained model"


def _prediction_key(known: KnownVideo, *, run: str, store: Store) -> str | None:
    """Key of the segments of a video by a run; None where they do not fit together."""
    inputs = inputs_of_model(read_description(store.run_folder(run)).inputs)
    imported = any(isinstance(item.profile, ImportedProfile) for item in inputs)
    if known.video is None or imported != (known.features is not None):
        return None
    if isinstance(known.video, Recording):
        keys = known.features or ()
    else:
        keys = tuple(feature_key(item, known.video) for item in inputs)
    return prediction_key(StoredVideo(video=known.video, inputs=inputs, keys=keys), run=run)


def _predictions(store: Store) -> dict[str, str]:
    """Runs by the content of the videos they segmented."""
    found = {}
    for path in listed(store.root / "predictions", "*.parquet"):
        try:
            _, metadata = read_segments(path)
        except StorageError:
            # `factseg doctor` names files that do not open.
            continue
        found[str(metadata["video"])] = str(metadata["run"])
    return found


def _since(run: str) -> str:
    return f"run {run[:12]} leads now, or its features changed" if run else "no model leads now"
