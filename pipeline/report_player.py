"""Where a page's player finds the videos: what the user said, and no other path of the machine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.report_timelines import VideoTimeline


def media_sources(beside: str) -> str:
    """What the page's content security policy lets a player load; empty without a player.

    >>> media_sources("../videos"), media_sources("https://media.example:8443/cut")
    ("'self' file:", 'https://media.example:8443')

    Raises:
        SettingsError: The address is of a kind that holds no video.
    """
    if not beside:
        return ""
    address = urlsplit(beside)
    if address.scheme in {"", "file"} and not beside.startswith("//"):
        return "'self' file:"
    # Only a plain host goes into the policy, so that no address can add a rule to it.
    if address.scheme in {"http", "https"} and re.fullmatch(r"[\w.-]+(?::\d+)?", address.netloc):
        return f"{address.scheme}://{address.netloc}"
    raise SettingsError(
        f"--videos-beside {beside!r} is neither a folder, such as ../videos, nor an address of http, https or file. "
        "Give one of them."
    )


def player_data(timelines: Sequence[VideoTimeline], *, beside: str) -> dict[str, Any] | None:
    """Folder and file names for the page's player; None without one."""
    if not beside:
        return None
    return {"beside": beside.removesuffix("/"), "files": [timeline.file for timeline in timelines]}
