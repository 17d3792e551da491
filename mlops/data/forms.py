"""Which cells of a record are its text and its target, by task: every kind of work becomes a text and a label."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from mlops.config import PipelineConfig
from mlops.config_data import Columns
from mlops.data.rows import Record, label_cell, showable, text_cell
from mlops.data.tags import scheme, to_iob2
from mlops.data.text import normalise
from mlops.tasks import get
from mlops.tasks.multi_label import written
from mlops.tasks.pairs import HIGHEST, SEPARATOR

BLANK = "\u2423"  # stands for a token of which nothing is left, so that tokens and tags stay as many


class Cells(NamedTuple):
    """text and label as a snapshot writes them; problem: a key of PROBLEMS, or none. text is then a preview."""

    text: str | None
    label: str | None
    problem: str | None = None


class Form(Protocol):
    """How a task's rows stand in a source. plain: one text cell and one label cell, which are read by whole columns."""

    plain: bool

    def wanted(self, columns: Columns) -> list[str]:
        """The columns of the source that hold text and target."""
        ...

    def read(self, cells: Mapping[str, Any], columns: Columns, most: int) -> Cells:
        """most: bytes of a text."""
        ...


class Plain:
    """A text and its label."""

    plain = True

    def wanted(self, columns: Columns) -> list[str]:
        return [columns.text, columns.label]

    def read(self, cells: Mapping[str, Any], columns: Columns, most: int) -> Cells:
        return _joined(*text_cell(cells.get(columns.text), most), *label_cell(cells.get(columns.label), most))


class Multi(Plain):
    """A text and any number of labels: a list, a JSON list as text, or names parted by |."""

    plain = False

    def read(self, cells: Mapping[str, Any], columns: Columns, most: int) -> Cells:
        text, problem = text_cell(cells.get(columns.text), most)
        return _joined(text, problem, *_names(cells.get(columns.label), most))


class Pair:
    """Two texts and their label."""

    plain = False

    def wanted(self, columns: Columns) -> list[str]:
        return [columns.text_a, columns.text_b, columns.label]

    def read(self, cells: Mapping[str, Any], columns: Columns, most: int) -> Cells:
        parts = [text_cell(cells.get(name), most) for name in (columns.text_a, columns.text_b)]
        label, label_problem = label_cell(cells.get(columns.label), most)
        problem = next((problem for _, problem in parts if problem), None)
        first, second = ((text or "").replace(SEPARATOR, " ") for text, _ in parts)
        # A pair with half a pair missing has no text.
        text = f"{first} {SEPARATOR} {second}" if problem or (first.strip() and second.strip()) else None
        return _joined(text, problem, label, label_problem)


class Grades(Pair):
    """Two texts and how relevant the second is to the first: a number, 0 for not at all."""

    def read(self, cells: Mapping[str, Any], columns: Columns, most: int) -> Cells:
        found = super().read(cells, columns, most)
        try:
            good = found.label is None or 0 <= float(found.label) < HIGHEST
        except ValueError:
            good = False
        return found if good else Cells(found.text, None, found.problem or "not_a_grade")


class Tokens:
    """Tokens and a tag for each, in the scheme that the whole source is written in; tags become strict IOB2."""

    plain = False

    def __init__(self, written_in: str = "IOB2") -> None:
        self._scheme = written_in

    def wanted(self, columns: Columns) -> list[str]:
        return [columns.tokens, columns.tags]

    def read(self, cells: Mapping[str, Any], columns: Columns, most: int) -> Cells:
        tokens, tags = (_strings(cells.get(name)) for name in (columns.tokens, columns.tags))
        if tokens is None or tags is None:
            shown = showable(str(cells.get(columns.tokens))[:4000])
            missing = cells.get(columns.tokens) is None or cells.get(columns.tags) is None
            return Cells(None if missing else shown, None, None if missing else "not_tokens")
        text, problem = text_cell(" ".join(tokens), most)
        if problem or text is None:
            return Cells(text, None, problem)
        if len(tokens) != len(tags):
            return Cells(showable(text), None, "tags_do_not_fit")
        clean = [normalise(token).replace(" ", BLANK) or BLANK for token in tokens]
        label, label_problem = text_cell(" ".join(to_iob2(tags, self._scheme)), most)
        return _joined(" ".join(clean) if clean else None, None, label, label_problem)


def form_of(config: PipelineConfig) -> Form:
    """How the rows of a pipeline's source are read; tagged ones as IOB2 until `scheme_of` has told otherwise."""
    kinds: dict[str, type[Plain] | type[Pair]] = {
        "text-classification:multi": Multi,
        "text-pair-classification": Pair,
        "text-ranking": Grades,
    }
    return Tokens() if config.task == "token-classification" else kinds.get(config.task_key, Plain)()


def scheme_of(records: Iterable[Record], columns: Columns) -> str:
    """The scheme that the tags of a source are written in."""
    found = (_strings(record.cells.get(columns.tags)) for record in records if record.cells)
    return scheme(tags for tags in found if tags)


def _strings(value: Any) -> list[str] | None:
    """A list cell as texts: a list, a JSON list, or words parted by white space; none for anything else."""
    if isinstance(value, str):
        if not value.lstrip().startswith("["):
            return value.split()
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, list | tuple) or not all(isinstance(each, str | int) for each in value):
        return None
    return [str(each) for each in value]


def _names(value: Any, most: int) -> tuple[str | None, str | None]:
    """(labels as a JSON list, problem); no cell is no label, an empty list is one."""
    if isinstance(value, str) and not value.lstrip().startswith("["):
        value = [part for part in value.split("|") if part.strip()] or None
    elif isinstance(value, str | bytes):
        try:
            value = json.loads(value)
        except ValueError:
            return showable(str(value))[:100], "not_text"
    if hasattr(value, "tolist"):
        value = value.tolist()
    if value is None:
        return None, None
    cells = [label_cell(each, most) for each in (value if isinstance(value, list | tuple) else [value])]
    problem = next((problem for _, problem in cells if problem), None)
    if problem:
        return showable(str(value))[:100], problem
    return written([name for name, _ in cells if name is not None]), None


def _joined(text: str | None, problem: str | None, label: str | None, label_problem: str | None) -> Cells:
    if label_problem and label is not None:
        label = label[:100]
    if text is not None and label_problem and not problem:
        text = showable(text)
    return Cells(text, label, problem or label_problem)


def names_in(cells: Sequence[str | None], config: PipelineConfig) -> set[str]:
    """The labels that label cells of a snapshot name."""
    task = get(config.task_key)
    return {name for cell in cells if cell is not None for name in task.label_names(cell)}
