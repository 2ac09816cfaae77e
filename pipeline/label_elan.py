"""ELAN files (``.eaf``): read safely, and written so that ELAN opens them.

What comes from outside goes through defusedxml; the standard library only builds trees here.
"""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from pipeline.errors import LabelError
from pipeline.label_rows import LabelRow, ReadingRules, checked_row, milliseconds
from storage.segments import Segment

TIER = "actions"
"""Name of the tier in files written here."""


def read_elan(path: Path, rules: ReadingRules) -> list[LabelRow]:
    """The time-aligned annotations of one tier."""
    root = _parse(path)
    times = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")}
    rows = []
    for number, annotation in enumerate(
        _tier(root, path, wanted=rules.tier).iter("ALIGNABLE_ANNOTATION"), start=1
    ):
        where = f"{path}, annotation {annotation.get('ANNOTATION_ID', number)}"
        start, end = (times.get(annotation.get(f"TIME_SLOT_REF{index}")) for index in (1, 2))
        if start is None or end is None or not (start.isdecimal() and end.isdecimal()):
            raise LabelError(f"{where}: has no time in milliseconds. Align it in ELAN, or remove it.")
        rows.append(
            checked_row(
                video=path.stem,
                start=int(start) / 1000,
                end=int(end) / 1000,
                unit="seconds",
                label=annotation.findtext("ANNOTATION_VALUE") or "",
                where=where,
            )
        )
    return rows


def elan_document(segments: Sequence[Segment]) -> bytes:
    """The segments of one video as an ELAN file.

    Raises:
        LabelError: A segment is shorter than a millisecond, the unit of the format.
    """
    root = ET.Element(
        "ANNOTATION_DOCUMENT", AUTHOR="", DATE="1970-01-01T00:00:00+00:00", FORMAT="3.0", VERSION="3.0"
    )
    ET.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    order = ET.SubElement(root, "TIME_ORDER")
    tier = ET.SubElement(root, "TIER", LINGUISTIC_TYPE_REF="default-lt", TIER_ID=TIER)
    for number, segment in enumerate(segments, start=1):
        stamps = milliseconds(segment)
        slots = [f"ts{2 * number - 1}", f"ts{2 * number}"]
        for slot, stamp in zip(slots, stamps, strict=True):
            ET.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=slot, TIME_VALUE=str(stamp))
        annotation = ET.SubElement(
            ET.SubElement(tier, "ANNOTATION"),
            "ALIGNABLE_ANNOTATION",
            ANNOTATION_ID=f"a{number}",
            TIME_SLOT_REF1=slots[0],
            TIME_SLOT_REF2=slots[1],
        )
        ET.SubElement(annotation, "ANNOTATION_VALUE").text = segment.label
    ET.SubElement(
        root,
        "LINGUISTIC_TYPE",
        GRAPHIC_REFERENCES="false",
        LINGUISTIC_TYPE_ID="default-lt",
        TIME_ALIGNABLE="true",
    )
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    return document


def _parse(path: Path) -> ET.Element:
    try:
        root: ET.Element = fromstring(path.read_bytes(), forbid_dtd=True)
    except OSError as error:
        raise LabelError(
            f"{path}: the label file cannot be read ({error.strerror}). Check the path."
        ) from error
    except (ET.ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise LabelError(f"{path}: is no safe XML ({error}). Save it again from ELAN.") from error
    if root.tag != "ANNOTATION_DOCUMENT":
        raise LabelError(f"{path}: its root is {root.tag[:40]!r}, not that of ELAN. Is it an .eaf file?")
    return root


def _tier(root: ET.Element, path: Path, *, wanted: str) -> ET.Element:
    tiers = [tier for tier in root.iter("TIER") if tier.find(".//ALIGNABLE_ANNOTATION") is not None]
    names = [tier.get("TIER_ID", "") for tier in tiers]
    fitting = [tier for tier, name in zip(tiers, names, strict=True) if not wanted or name == wanted]
    if len(fitting) != 1:
        raise LabelError(
            f"{path}: has tiers {', '.join(sorted(names)) or 'none'} with annotations; one is needed. "
            "Name it with --tier."
        )
    return fitting[0]
