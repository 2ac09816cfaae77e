"""HA-ViD action codes in words: ``sshc1dh`` is 'screw a hex screw into cylinder plate hole 1 with a hex screwdriver'.

A code is a verb (one letter), a manipulated object, a target and a tool (two letters each); shorter codes stop
early, and a tool may follow without a target. ``null`` and ``w`` (wrong) are noise.
"""

from collections.abc import Iterable

from pipeline.errors import LabelError

NOISE = {"null": "do nothing", "w": "do something wrong"}
"""Codes that stand for no action of the assembly."""

VERBS = {
    "a": ("approach", "at"),
    "d": ("disassemble", "from"),
    "g": ("grasp", "at"),
    "h": ("hold", "at"),
    "i": ("insert", "into"),
    "l": ("slide", "onto"),
    "m": ("move", "to"),
    "p": ("place", "on"),
    "r": ("rotate", "on"),
    "s": ("screw", "into"),
}
"""Verb, and the word before its target."""

OBJECTS = {
    "ba": "a ball",
    "bs": "a ball seat",
    "bx": "a box",
    **{f"c{number}": f"cylinder plate hole {number}" for number in range(1, 5)},
    "cb": "a cylinder base",
    "cc": "a cylinder cap",
    "ck": "a cylinder bracket",
    "cs": "a cylinder subassembly",
    "ft": "a gear shaft",
    **{f"g{number}": f"gear plate hole {number}" for number in range(1, 4)},
    "gl": "a large gear",
    "gs": "a small gear",
    "gw": "a worm gear",
    "hd": "a dial",
    "hq": "a quarter-turn handle",
    "hw": "a hand wheel",
    "ib": "a bar",
    "ir": "a rod",
    "lb": "a linear bearing",
    **{f"n{number}": f"general plate hole {number}" for number in range(1, 5)},
    "n5": "the general plate stud",
    "n6": "the general plate USB female",
    "nt": "a nut",
    "pl": "a large spacer",
    "ps": "a small spacer",
    "sb": "a bolt",
    "sh": "a hex screw",
    "sp": "a Phillips screw",
    "us": "a USB male",
}
"""What is manipulated, and what it is brought to."""

TOOLS = {
    "dh": "a hex screwdriver",
    "dp": "a Phillips screwdriver",
    "wn": "a nut wrench",
    "ws": "a shaft wrench",
}


def describe_code(code: str) -> str:
    """An action code in words.

    >>> describe_code("sshc1dh")
    'screw a hex screw into cylinder plate hole 1 with a hex screwdriver'
    >>> describe_code("rntwn")
    'rotate a nut with a nut wrench'

    Raises:
        LabelError: It is no code of the vocabulary; the message names the part that is unknown.
    """
    if code in NOISE:
        return NOISE[code]
    verb, rest = code[:1], code[1:]
    if verb not in VERBS:
        raise _unknown(code, part=verb, what="verb", known=VERBS)
    parts = [rest[start : start + 2] for start in range(0, len(rest), 2)]
    words, before_target = [VERBS[verb][0]], VERBS[verb][1]
    if parts:
        manipulated = parts.pop(0)
        if manipulated not in OBJECTS:
            raise _unknown(code, part=manipulated, what="object", known=OBJECTS)
        words.append(OBJECTS[manipulated])
    if parts and parts[0] in OBJECTS:
        words += [before_target, OBJECTS[parts.pop(0)]]
    if parts and parts[0] in TOOLS:
        words += ["with", TOOLS[parts.pop(0)]]
    if parts:
        raise _unknown(code, part=parts[0], what="target or tool", known={**OBJECTS, **TOOLS})
    return " ".join(words)


def _unknown(code: str, *, part: str, what: str, known: Iterable[str]) -> LabelError:
    return LabelError(
        f"{code!r} is no HA-ViD code: {part!r} is no {what} (known: {', '.join(sorted(known))}). "
        "Correct the class, or describe it with --descriptions."
    )
