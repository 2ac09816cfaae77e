"""Under which licence weights may be used, as far as that is on record: beside the weights, or known for a tag."""

import re
from pathlib import Path

UNKNOWN = "unknown"
"""Where nothing is on record."""

NOT_NEEDED = "not needed"
"""Of seeded random numbers."""

PERMISSIVE = frozenset({"mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause"})
"""Licences that ask for no more than their notice; any other is worth a sentence in a report."""

RECORD_SUFFIX = ".licence"
"""A file of weights may have a file beside it with this at the end of its name, whose first line is the licence."""

_OF_TAGS = (
    # That of https://github.com/openai/CLIP, which has the weights' addresses and no other licence.
    ("openai", "MIT"),
    # https://github.com/mlfoundations/open_clip/issues/177: its own weights are under its licence.
    ("laion400m_", "MIT"),
    ("laion2b_", "MIT"),
)


def licence_of_tag(tag: str) -> str:
    """Licence of the weights that a pretrained tag of open_clip names.

    >>> licence_of_tag("laion2b_s34b_b79k"), licence_of_tag("dfn2b")
    ('MIT', 'unknown')
    """
    return next(
        (name for start, name in _OF_TAGS if tag == start or (start[-1] == "_" and tag.startswith(start))),
        UNKNOWN,
    )


def licence_of_file(path: Path) -> str:
    """What the file beside a checkpoint says: ``rgb_imagenet.pt.licence`` of ``rgb_imagenet.pt``."""
    record = path.with_name(path.name + RECORD_SUFFIX)
    if not record.is_file():
        return UNKNOWN
    return next(iter(record.read_text(encoding="utf-8").split("\n")), "").strip() or UNKNOWN


def licence_of_folder(folder: Path) -> str:
    """What the model card of a folder says: the key ``license`` in the head of its ``README.md``."""
    card = folder / "README.md"
    if not card.is_file():
        return UNKNOWN
    head = re.match(r"---\r?\n(.*?)\r?\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    found = head and re.search(r"^license:\s*[\"']?([^\s\"'#]+)", head.group(1), re.MULTILINE)
    return found.group(1) if found else UNKNOWN


def joined_licence(licences: list[str]) -> str:
    """One record for the networks of a profile: each licence once, in their order.

    >>> joined_licence(["MIT", "unknown", "MIT"])
    'MIT, unknown'
    """
    return ", ".join(dict.fromkeys(licences))


def licence_notice(what: str, *, licence: str, digest: str) -> str:
    """A plain sentence on weights whose licence is not on record, or asks for more than a notice; else empty.

    Args:
        what: What they made, as it goes on after "behind".
        licence: The record, of one network or several.
        digest: SHA-256 of the weights; empty where nobody knows it.
    """
    named = f"{what} (SHA-256 {digest[:12]})" if digest else what
    parts = licence.split(", ")
    if UNKNOWN in parts:
        return f"No licence is on record for the weights behind {named}: see that you may use them."
    asking = [part for part in parts if part.lower() not in PERMISSIVE | {NOT_NEEDED}]
    if asking:
        return f"The weights behind {named} are under {', '.join(asking)}: see that it allows your use."
    return ""
