"""The server of ``factseg ui``: which address shows what. It reads the store and writes nothing."""

import mimetypes
import socket
from importlib import resources
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

from flows.ui_guard import FILE_POLICY, REPORT_POLICY, Guard, is_loopback
from flows.ui_pages import Pages
from pipeline.browse_catalogue import Catalogue, CatalogueQuery, playable_file
from pipeline.browse_runs import Runs, report_of
from pipeline.errors import PipelineError, SettingsError
from storage.errors import InvalidNameError, MissingArtefactError, StorageError
from storage.store import Store

SHORTEST_TOKEN: Final = 16
"""Characters; less could be guessed."""

_ASSETS: Final = {
    "ui.css": ("flows", "ui_assets", "text/css"),
    "ui.js": ("flows", "ui_assets", "text/javascript"),
    "mark.svg": ("flows", "ui_assets", "image/svg+xml"),
    "style.css": ("pipeline", "report_assets", "text/css"),
    **{
        f"{name}.js": ("pipeline", "report_assets", "text/javascript")
        for name in ("theme", "timeline", "player", "page")
    },
}
"""Room, folder and type of every file that pages ask for; there are no others."""


def make_app(store: Store, *, host: str = "127.0.0.1", token: str = "") -> Guard:
    """The application for a store that is only read.

    Args:
        store: Opened with ``read_only``.
        host: Where it will listen.
        token: What readers must know.

    Raises:
        SettingsError: It would be reached from other machines without a token, or the token is too short.
    """
    check_reach(host, token=token)
    site = _Site(store)
    routes = [
        Route("/", site.catalogue),
        Route("/videos/{key}", site.video),
        Route("/videos/{key}/file/{name}", site.video_file),
        Route("/runs", site.runs),
        Route("/runs/{key}", site.run),
        Route("/evaluations/{key}", site.report),
        Route("/classes.css", site.classes),
        Route("/assets/{name}", asset),
    ]
    handlers = {StorageError: site.failed, PipelineError: site.failed, HTTPException: site.refused}
    app = Starlette(routes=routes, exception_handlers=handlers)  # type: ignore[arg-type]
    return Guard(app, local_names_only=is_loopback(host), token=token)


def check_reach(host: str, *, token: str) -> None:
    """Refuse to be reached by others without a token.

    Raises:
        SettingsError: Saying what to do.
    """
    remedy = "Make one with `python -c 'import secrets; print(secrets.token_urlsafe())'`."
    if not token and not is_loopback(host):
        raise SettingsError(
            f"--host {host} lets other machines read the store and its videos. Give a --token as well, or leave "
            f"--host at 127.0.0.1. {remedy}"
        )
    if token and len(token) < SHORTEST_TOKEN:
        raise SettingsError(f"The token has {len(token)} characters; {SHORTEST_TOKEN} are needed. {remedy}")


class _Site:
    """What each address answers."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._catalogue = Catalogue(store)
        self._runs = Runs(store)
        self._pages = Pages(store)

    def catalogue(self, request: Request) -> Response:
        query = read_query(request)
        return HTMLResponse(self._pages.catalogue(self._catalogue, query))

    def video(self, request: Request) -> Response:
        video = self._catalogue.video(request.path_params["key"])
        chosen = request.query_params.get("prediction", "")
        return HTMLResponse(self._pages.video(self._catalogue, video, chosen=chosen))

    def video_file(self, request: Request) -> Response:
        video = self._catalogue.video(request.path_params["key"])
        if request.path_params["name"] != Path(video.path).name:
            raise MissingArtefactError(f"{video.name} has another file name.")
        path = playable_file(video, store=self._store)
        return FileResponse(
            path,
            media_type=media_type(path),
            headers={"Content-Security-Policy": FILE_POLICY, "Cache-Control": "private, no-cache"},
        )

    def runs(self, _: Request) -> Response:
        return HTMLResponse(self._pages.runs(self._runs))

    def run(self, request: Request) -> Response:
        return HTMLResponse(self._pages.run(self._runs.one(request.path_params["key"])))

    def report(self, request: Request) -> Response:
        page = report_of(self._store, request.path_params["key"])
        return HTMLResponse(page, headers={"Content-Security-Policy": REPORT_POLICY})

    def classes(self, request: Request) -> Response:
        count, idle = _numbers(request, "count"), _numbers(request, "idle")
        style = self._pages.class_style(sum(count), idle=idle)
        return Response(style, media_type="text/css", headers={"Cache-Control": "private, max-age=3600"})

    def failed(self, _: Request, error: Exception) -> Response:
        absent = isinstance(error, MissingArtefactError | InvalidNameError)
        status = 404 if absent else 400 if isinstance(error, SettingsError) else 500
        return HTMLResponse(self._pages.message(str(error), title=_TITLES[status]), status)

    def refused(self, _: Request, error: HTTPException) -> Response:
        page = self._pages.message("There is no such page.", title=_TITLES[404])
        return HTMLResponse(page, error.status_code)


_TITLES: Final = {400: "That cannot be asked", 404: "Not found", 500: "Cannot be shown"}


def read_query(request: Request) -> CatalogueQuery:
    """What the address asks of the catalogue.

    Raises:
        SettingsError: It makes no sense.
    """
    asked = request.query_params
    page = asked.get("page", "1")
    if not (page.isascii() and page.isdecimal() and len(page) < 10):
        raise SettingsError(f"There is no page {page[:20]!r}. Pages are numbered from 1.")
    return CatalogueQuery(
        text=asked.get("find", "").strip()[:200],
        status=asked.get("status", ""),
        stage=asked.get("stage", ""),
        sort=asked.get("sort", "name"),
        descending=asked.get("order", "") == "down",
        page=int(page),
    )


def _numbers(request: Request, name: str) -> tuple[int, ...]:
    given = [part for part in request.query_params.get(name, "").split(",") if part]
    if not all(part.isascii() and part.isdecimal() and len(part) < 5 for part in given):
        raise SettingsError(f"{name}: give numbers below 10,000, separated by commas.")
    return tuple(map(int, given))


def media_type(path: Path) -> str:
    """The type of a video file by its ending; never one that a browser would run, whatever the file is called.

    >>> media_type(Path("a.mp4")), media_type(Path("a.html"))
    ('video/mp4', 'application/octet-stream')
    """
    guessed = mimetypes.guess_type(path.name)[0] or ""
    return guessed if guessed.startswith("video/") else "application/octet-stream"


def asset(request: Request) -> Response:
    """A script, style or picture that pages need."""
    room, folder, kind = _ASSETS.get(request.path_params["name"], ("", "", ""))
    if not room:
        raise HTTPException(404)
    content = (resources.files(room) / folder / request.path_params["name"]).read_bytes()
    return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        SettingsError: The address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise SettingsError(
            f"{host}, port {port}: {error.strerror or error}. Give another --port, or 0 for any free one."
        ) from error


def serve(app: Guard, sock: socket.socket) -> None:
    """Answer until the process is told to stop."""
    import uvicorn

    # No log of accesses: an address may hold a token.
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run(sockets=[sock])
