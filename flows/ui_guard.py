"""What stands before every page: who may ask, by which name, and what a browser may do with the answer."""

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE: Final = "factseg-ui"

PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Nothing inline and nothing from elsewhere."""

REPORT_POLICY: Final = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
"""For a report, which is one file with its scripts in it, named by their hashes in a policy of its own that holds as
well as this one. The sandbox takes its origin away: it can ask this server for nothing."""

FILE_POLICY: Final = "sandbox; default-src 'none'; frame-ancestors 'none'"

_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine only.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("localhost")
    (True, True, False, True)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Refuses what is no plain reading by somebody entitled to it, and adds the headers of safety to every answer.

    Args:
        app: What answers the rest.
        local_names_only: Answer only where asked by a name of this machine, so that no page of another site can read
            through a name of its own that points here (DNS rebinding).
        token: What a reader must know; nothing where empty.
    """

    def __init__(self, app: ASGIApp, *, local_names_only: bool, token: str = "") -> None:
        self._app = app
        self._local_names_only = local_names_only
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"This server speaks HTTP only, not {scope['type']}.")

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(Request(scope))
        await (refusal or self._app)(scope, receive, send_guarded)

    def _refusal(self, request: Request) -> Response | None:
        if request.method not in {"GET", "HEAD"}:
            return PlainTextResponse("Nothing can be changed here.\n", 405, {"Allow": "GET, HEAD"})
        if self._local_names_only and not is_loopback(_host_name(request)):
            return PlainTextResponse(
                "This server answers to the names of its own machine only, such as 127.0.0.1 and localhost.\n",
                421,
            )
        if not self._token or self._is_known(request):
            return None
        if self._is_token(request.query_params.get("token", "")):
            return self._let_in(request)
        return PlainTextResponse(
            "A token is needed: open this address with ?token=... at its end, or send 'Authorization: Bearer ...'.\n",
            401,
            {"WWW-Authenticate": "Bearer"},
        )

    def _is_known(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(given.strip()):
            return True
        return _equal(request.cookies.get(COOKIE, ""), self._pass)

    def _is_token(self, given: str) -> bool:
        return _equal(given, self._token)

    @property
    def _pass(self) -> str:
        """What the cookie holds: it proves the token and does not say it."""
        return hmac.new(self._token.encode(), b"factseg ui", hashlib.sha256).hexdigest()

    def _let_in(self, request: Request) -> Response:
        """The same page without the token in its address, which would stay in the history."""
        # One stroke at the start: two would name another host.
        target = quote("/" + request.url.path.lstrip("/\\"))
        kept = [pair for pair in parse_qsl(request.url.query, keep_blank_values=True) if pair[0] != "token"]
        response = RedirectResponse(f"{target}?{urlencode(kept)}" if kept else target, status_code=303)
        response.set_cookie(
            COOKIE,
            self._pass,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
            path="/",
        )
        return response


def _host_name(request: Request) -> str:
    """The name this server was asked by; empty where there is none, or several."""
    given = request.headers.getlist("host")
    if len(given) != 1 or not re.fullmatch(r"[\w.:\[\]-]+", given[0]):
        return ""
    try:
        return urlsplit(f"//{given[0]}").hostname or ""
    except ValueError:
        return ""


def _equal(given: str, wanted: str) -> bool:
    """Compared in a time that says nothing of how much agrees."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode())
