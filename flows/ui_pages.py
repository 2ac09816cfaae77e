"""The pages of ``factseg ui``: what the templates in ``ui_assets`` are given. Every text in them is escaped."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from pipeline.browse_catalogue import (
    SORTS,
    STAGES,
    STATES,
    BrowsedVideo,
    Catalogue,
    CatalogueQuery,
    playable_file,
)
from pipeline.browse_predictions import SegmentedTimeline, StoredPrediction, read_timeline_of
from pipeline.browse_runs import BrowsedRun, Runs, run_details
from pipeline.errors import PipelineError
from pipeline.report_colors import class_colors
from pipeline.report_page import clock
from pipeline.report_summary import percent
from pipeline.report_timelines import segments, timeline_data, used_classes
from storage.errors import MissingArtefactError, StorageError
from storage.store import Store

_STATUSES: Final = ("ok", "failed", "not a video", "not probed")
_COLUMNS: Final = {
    "name": "Video",
    "status": "Status",
    "codec": "Codec",
    "size": "Size",
    "fps": "Frames/s",
    "frames": "Frames",
    "length": "Length",
}
_FIGURES: Final = {
    "frame accuracy": "Accuracy",
    "foreground accuracy": "Foreground",
    "edit": "Edit",
    "f1@10": "F1@10",
    "f1@25": "F1@25",
    "f1@50": "F1@50",
}
_MOST_CLASSES: Final = 5000


class Pages:
    """Renders the pages of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._environment = Environment(
            loader=ChoiceLoader(
                [PackageLoader("flows", "ui_assets"), PackageLoader("pipeline", "report_assets")]
            ),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        # Jinja's tojson writes <, >, & and ' as \u escapes, so no name can end the script element it stands in.
        self._environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
        self._environment.filters |= {"percent": percent, "clock": clock, "moment": _moment, "bytes": _bytes}

    def catalogue(self, catalogue: Catalogue, query: CatalogueQuery) -> str:
        """The table of videos."""
        page = catalogue.page(query)
        names = Counter(video.name for video in page.videos)
        return self._render(
            "catalogue.html",
            query=query,
            page=page,
            folders={
                video.key: str(Path(video.path).parent)
                for video in page.videos
                if names[video.name] > 1 and video.path
            },
            rows=[(video, len(catalogue.segmented(video))) for video in page.videos],
            columns=[_column(name, query) for name in SORTS],
            stages=STAGES,
            states=STATES,
            statuses=_STATUSES,
            judged_at=catalogue.judged_at(),
            earlier=_address(query, page=page.page - 1) if page.page > 1 else "",
            later=_address(query, page=page.page + 1) if page.page < page.pages else "",
        )

    def video(self, catalogue: Catalogue, video: BrowsedVideo, *, chosen: str) -> str:
        """One video: its facts and stages, and one of its predictions with the player.

        Raises:
            MissingArtefactError: The prediction chosen is none of this video.
        """
        predictions = catalogue.segmented(video)
        file, unplayable = "", ""
        try:
            playable_file(video, store=self._store)
            file = Path(video.path).name
        except MissingArtefactError as error:
            unplayable = str(error)
        shown = _choose(predictions, chosen, video=video)
        drawn, damage = self._drawn(shown, video=video, file=file)
        return self._render(
            "video.html",
            video=video,
            facts=_video_facts(video),
            stages=[(name, video.stages[name]) for name in STAGES if name in video.stages],
            judged_at=catalogue.judged_at(),
            predictions=predictions,
            shown=shown,
            drawn=drawn,
            damage=damage,
            file=file,
            unplayable=unplayable,
            **_timeline_context(drawn, beside=f"/videos/{video.key}/file"),
        )

    def runs(self, runs: Runs) -> str:
        """The table of runs."""
        return self._render(
            "runs.html", runs=runs.all(), figures=_FIGURES, champions_unknown=runs.champions_unknown()
        )

    def run(self, run: BrowsedRun) -> str:
        """One run: scores, curves, settings, reports."""
        details = run_details(self._store, run.key)
        return self._render(
            "run.html",
            run=run,
            details=details,
            figures=_FIGURES,
            data={"classes": [], "timelines": [], "player": None, "panels": details.panels},
        )

    def message(self, text: str, *, title: str) -> str:
        """A page that says what is wrong."""
        return self._render("message.html", text=text, title=title)

    def class_style(self, count: int, *, idle: Collection[int]) -> str:
        """Colours of so many classes as CSS; ``idle`` ones are background."""
        rules = [
            f".c{index}{{--fill:{color.fill};--on-fill:{color.text}}}"
            for index, color in enumerate(class_colors(min(count, _MOST_CLASSES)))
        ]
        rules += [f".c{index}{{--fill:var(--idle);--on-fill:var(--on-idle)}}" for index in sorted(idle)]
        return "\n".join(rules) + "\n"

    def _drawn(
        self, prediction: StoredPrediction | None, *, video: BrowsedVideo, file: str
    ) -> tuple[SegmentedTimeline | None, str]:
        """The prediction to draw, or why it cannot be drawn."""
        if prediction is None:
            return None, ""
        try:
            return read_timeline_of(prediction.key, store=self._store, title=video.name, file=file), ""
        except (StorageError, PipelineError) as error:
            return None, str(error)

    def _render(self, template: str, **context: Any) -> str:  # noqa: ANN401  (what the template names)
        store = str(self._store.root)
        return self._environment.get_template(f"ui_{template}").render(store=store, **context)


def _choose(
    predictions: Sequence[StoredPrediction], chosen: str, *, video: BrowsedVideo
) -> StoredPrediction | None:
    if not chosen:
        return predictions[0] if predictions else None
    found = next((each for each in predictions if each.key == chosen), None)
    if found is None:
        raise MissingArtefactError(f"{video.name} has no prediction {chosen[:64]!r}.")
    return found


def _timeline_context(drawn: SegmentedTimeline | None, *, beside: str) -> dict[str, Any]:
    """What the report's own scripts and macros draw a time line from."""
    if drawn is None:
        return {"data": None, "used": [], "class_names": [], "rows": [], "idle": ""}
    timeline = drawn.timeline
    player = {"beside": beside, "files": [timeline.file]} if timeline.file else None
    return {
        "data": {
            "classes": drawn.class_names,
            "timelines": [timeline_data(timeline)],
            "player": player,
            "panels": [],
        },
        "used": used_classes([timeline]),
        "class_names": drawn.class_names,
        "rows": segments(timeline, timeline.predicted, drawn.class_names, confidence=timeline.confidence),
        "idle": ",".join(map(str, drawn.background)),
    }


def _column(name: str, query: CatalogueQuery) -> dict[str, str]:
    """Title of a column, how it is sorted now, and the address that sorts by it, or the other way round."""
    now = query.sort == name
    down = not query.descending if now else False
    order = ("descending" if query.descending else "ascending") if now else ""
    return {
        "title": _COLUMNS[name],
        "word": "yes" if name in {"status", "codec"} else "",
        "order": order,
        "address": _address(query, sort=name, order="down" if down else ""),
    }


def _address(query: CatalogueQuery, **change: str | int) -> str:
    """The address of the catalogue that asks for this; another order starts at its first page."""
    values: Mapping[str, Any] = {
        "find": query.text,
        "status": query.status,
        "stage": query.stage,
        "sort": query.sort,
        "order": "down" if query.descending else "",
        **change,
    }
    plain = {"sort": "name", "page": 1}
    return "/?" + urlencode(
        {name: value for name, value in values.items() if value not in {"", plain.get(name)}}
    )


def _video_facts(video: BrowsedVideo) -> list[tuple[str, Any]]:
    """What the catalogue knows, as rows of a table."""
    if video.row is None:
        return [("path", video.path or "none: a recording that was imported")]
    row = asdict(video.row)
    row["size"] = _bytes(row.pop("size_bytes"))
    titles = {"video_hash": "SHA-256", "num_frames": "frames", "duration_seconds": "seconds"}
    return [
        (titles.get(name, name), value) for name, value in row.items() if value is not None and name != "id"
    ]


def _moment(iso: str) -> str:
    """A time of ISO 8601 for people.

    >>> _moment("2026-02-03T04:05:06.789+00:00"), _moment("")
    ('2026-02-03 04:05 UTC', 'not recorded')
    """
    return datetime.fromisoformat(iso).strftime("%Y-%m-%d %H:%M UTC") if iso else "not recorded"


def _bytes(count: int | None) -> str | None:
    """Decimal megabytes.

    >>> _bytes(1234567)
    '1.23 MB'
    """
    return None if count is None else f"{count / 1e6:,.2f} MB"
