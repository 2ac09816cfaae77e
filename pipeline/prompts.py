"""The sentences that stand for a class: templates around its name, its description, or its code in words."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import LabelError
from pipeline.havid import describe_code
from pipeline.labels import nearest_name, read_text
from pipeline.settings import TextSettings


def prompts_for(names: Sequence[str], *, text: TextSettings) -> tuple[tuple[str, ...], ...]:
    """The sentences of each class, one per template.

    Raises:
        LabelError: The file of descriptions cannot be used, or a name is no code of the vocabulary.
    """
    words = _words_for(names, text=text)
    return tuple(tuple(template.replace("{label}", word) for template in text.templates) for word in words)


def read_descriptions(path: Path, *, classes: Sequence[str]) -> dict[str, str]:
    """Descriptions by class, from lines ``class<TAB>description``.

    Raises:
        LabelError: A line is malformed, describes no class of the data set, or one that is described already.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(read_text(path, what="file of descriptions").split("\n"), start=1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        name, tab, description = (part.strip() for part in line.partition("\t"))
        if not tab and "\t" not in line:
            raise LabelError(
                f"{where}: {line[:60]!r} is not `class<TAB>description`. Put a tab between the two."
            )
        if not description:
            raise LabelError(f"{where}: class {name!r} has no description. Write one, or remove the line.")
        if name not in classes:
            raise LabelError(
                f"{where}: {name!r} is no class of this data set{nearest_name(name, classes)}. Correct the line."
            )
        if name in found:
            raise LabelError(f"{where}: class {name!r} is described twice. Remove one of the lines.")
        found[name] = description
    return found


def _words_for(names: Sequence[str], *, text: TextSettings) -> list[str]:
    described = {} if text.descriptions is None else read_descriptions(text.descriptions, classes=names)
    if text.codes == "havid":
        return [described.get(name) or describe_code(name) for name in names]
    missing = next((name for name in names if name not in described), None)
    if text.descriptions is not None and missing is not None:
        raise LabelError(f"{text.descriptions}: class {missing!r} is not described. Add a line for it.")
    return [described.get(name, name.replace("_", " ")) for name in names]
