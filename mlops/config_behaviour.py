"""Behaviour cases: small files that say how any model of a task has to behave, whatever its test rows say.

After Ribeiro et al., "Beyond accuracy: behavioral testing of NLP models with CheckList", ACL 2020. Every
`tests/behaviour/*.yaml` below the project's root that names the pipeline's task (and its name, or no pipeline at all)
counts; `mlops.behaviour` asks the models.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from mlops.config_base import Section, Share
from mlops.config_files import read_yaml
from mlops.errors import ConfigError
from mlops.faults import describe

FOLDER = Path("tests") / "behaviour"
Change = Literal["whitespace", "case", "punctuation", "typo", "repeated-marks"]
Severity = Literal["fail", "warn"]
_LEAST = {"minimum": 0.9, "invariance": 0.95, "direction": 1.0}
_ROWS = 100
# What a question is made of, by task; the rest of a file is the same for all.
_QUESTIONS = {
    "text-classification": ("text",),
    "token-classification": ("tokens", "text"),
    "text-pair-classification": ("text_a", "text_b"),
    "text-ranking": ("text_a", "text_b"),
}


def _question(value: Any) -> Any:
    """A text, the two texts of a pair, or tokens; a pair may be written {text_a: …, text_b: …}."""
    if isinstance(value, Mapping) and set(value) == {"text_a", "text_b"}:
        value = [value["text_a"], value["text_b"]]
    if isinstance(value, str) or (isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)):
        return value
    raise ValueError("allowed: a text, {text_a: …, text_b: …} or a list of tokens, as the task is asked")


def _words(value: Any) -> Any:
    return value.split() if isinstance(value, str) else value


def _label(value: Any) -> Any:
    """Numbers as a snapshot writes them; YAML's yes and no are no labels."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool):
        raise ValueError("YAML reads yes, no, on and off as true and false; write a label of that name in quotes")
    if isinstance(value, list | tuple):
        return tuple(_label(each) for each in value)
    if not isinstance(value, str | int | float | None):
        raise ValueError("allowed: a label, or a list of labels where a row may have several")
    return None if value is None else str(value)


Question = Annotated[str | tuple[str, ...], BeforeValidator(_question)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Label = Annotated[str | tuple[str, ...] | None, BeforeValidator(_label)]


class Case(Section):
    """One question with what is asked of its answer. text, tokens, or text_a and text_b: the question, as the task has it.

    label, tags: the right answer (minimum). same: questions with the same answer (invariance). than: a question for which
    the group's label is no more probable (direction).
    """

    text: str | None = None
    tokens: Words | None = None
    text_a: str | None = None
    text_b: str | None = None
    label: Label = None
    tags: Words | None = None
    same: tuple[Question, ...] = ()
    than: Question | None = None

    @model_validator(mode="after")
    def _tags_fit(self) -> Case:
        if self.tokens is not None and self.tags is not None and len(self.tokens) != len(self.tags):
            raise ValueError(f"found {len(self.tags)} tags for {len(self.tokens)} tokens; allowed: one for each")
        return self

    @property
    def question(self) -> str | tuple[str, ...]:
        """The text, the tokens, or both texts of a pair."""
        if self.text_a is not None and self.text_b is not None:
            return self.text_a, self.text_b
        return self.tokens if self.tokens is not None else self.text or ""


class BehaviourGroup(Section):
    """Cases that are judged together. least: share of them that has to pass, by default .9 of minimum, .95 of invariance
    and all of direction. severity: by default the file's. change, rows: an invariance on that many test rows instead of
    cases. label: what a direction is about; none for a ranking, which goes by its score.
    """

    name: Annotated[str, Field(min_length=1, max_length=100)]
    kind: Literal["minimum", "invariance", "direction"]
    least: Share | None = None
    severity: Severity = "warn"
    cases: tuple[Case, ...] = ()
    change: Change | None = None
    rows: Annotated[int, Field(ge=1, le=10_000)] | None = None
    label: Label = None

    @model_validator(mode="after")
    def _what_the_kind_takes(self) -> BehaviourGroup:
        if self.kind != "invariance" and (self.change or self.rows):
            raise ValueError(f"change, rows: {self.kind} has cases; only an invariance may change rows instead")
        if bool(self.cases) == bool(self.change):
            what = "cases, or a change" if self.kind == "invariance" else "cases"
            raise ValueError(f"found {'both' if self.cases else 'none'}; allowed: {what}")
        if self.rows and not self.change:
            raise ValueError(f"rows: only with a change; allowed: {', '.join(get_args(Change))}")
        if self.label is not None and self.kind != "direction":
            raise ValueError("label: belongs to each case; only a direction has one of its own")
        return self

    @property
    def limit(self) -> float:
        """The share that has to pass."""
        return _LEAST[self.kind] if self.least is None else self.least

    @property
    def most_rows(self) -> int:
        """Test rows that a change is tried on."""
        return self.rows or _ROWS


class BehaviourFile(Section):
    """One file below tests/behaviour. pipeline: the only one that it is about; none is all of the task."""

    task: Literal["text-classification", "token-classification", "text-pair-classification", "text-ranking"]
    pipeline: str | None = None
    severity: Severity = "warn"
    groups: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]


def load_behaviour(root: Path, task: Any, pipeline: Any) -> tuple[tuple[BehaviourGroup, ...], list[str]]:
    """(groups, faults) of the files below `root` that are about this task and pipeline; a fault names file and group."""
    groups: list[BehaviourGroup] = []
    faults: list[str] = []
    places: dict[str, str] = {}
    for path in sorted((root / FOLDER).glob("*.yaml")):
        named = str(FOLDER / path.name)
        found, wrong = _read(path, named, task, pipeline)
        faults += wrong
        for group in found:
            if group.name in places:
                faults.append(
                    f"{named}, group {group.name!r}: stands in {places[group.name]} too; give it another name"
                )
            places.setdefault(group.name, named)
        groups += found
    return tuple(groups), faults


@functools.lru_cache(maxsize=256)
def _content(path: Path, _changed: int, _size: int) -> tuple[Any, list[str]]:
    """Read once for all pipelines of a folder; nobody may write into it."""
    return read_yaml(path, "behaviour cases")


def _read(path: Path, named: str, task: Any, pipeline: Any) -> tuple[list[BehaviourGroup], list[str]]:
    try:
        written = path.stat()
        raw, twice = _content(path, written.st_mtime_ns, written.st_size)
    except ConfigError as error:
        return [], [f"{named}: {fault}" for fault in error.faults]
    if not isinstance(raw, dict):
        return [], [f"{named}: found {type(raw).__name__}; allowed is a mapping with task and groups"]
    if str(raw.get("task")) in _QUESTIONS and (raw["task"] != task or raw.get("pipeline") not in (None, pipeline)):
        return [], []  # somebody else's: its faults are told where it counts
    faults = [f"{named}: {fault}" for fault in twice]
    try:
        file = BehaviourFile.model_validate(raw)
    except ValidationError as error:
        return [], faults + describe(error, BehaviourFile, prefix=(named,))
    groups = []
    for number, entry in enumerate(file.groups, 1):
        where = f"{named}, group {entry.get('name', number)!r}"
        wrong = _case_faults(entry.get("cases"), entry.get("kind"), file.task, where)
        if not wrong:
            try:
                group = BehaviourGroup.model_validate({"severity": file.severity} | entry)
                wrong = [f"{where}: {fault}" for fault in _unfit(group, file.task)]
                groups.append(group)
            except ValidationError as error:
                wrong = describe(error, BehaviourGroup, prefix=(where,))
        faults += wrong
    return groups, faults


def _case_faults(cases: Any, kind: Any, task: str, where: str) -> list[str]:
    """Each case by itself, so that its line says which one it is and what its keys are."""
    faults: list[str] = []
    for number, entry in enumerate(cases if isinstance(cases, list) else (), 1):
        which = f"{where}, case {number}"
        try:
            case = Case.model_validate(entry)
        except ValidationError as error:
            faults += describe(error, Case, prefix=(which,))
        else:
            faults += [f"{which}: {fault}" for fault in _case_unfit(case, kind, task)]
    return faults


def _case_unfit(case: Case, kind: Any, task: str) -> list[str]:
    """What a case has too much or too little of, for its kind and task."""
    given = {name for name in Case.model_fields if getattr(case, name) not in (None, ())}
    asked = _QUESTIONS[task]
    found = [name for name in ("text", "tokens", "text_a", "text_b") if name in given]
    pair = len(asked) == 2 and task != "token-classification"
    if (found != list(asked)) if pair else (len(found) != 1 or found[0] not in asked):
        allowed = " and ".join(asked) if pair else " or ".join(asked)
        return [f"found {', '.join(found) or 'no question'}; {task} is asked {allowed}"]
    answer = "tags" if task == "token-classification" else "label"
    needed = {"minimum": answer, "invariance": "same", "direction": "than"}.get(str(kind))
    if needed is None:
        return []  # the group's own fault
    # An empty list is a right answer where a row may have no label.
    has = needed in given or (needed == "label" and case.label == ())
    faults = [] if has else [f"{needed}: is missing; {kind} of {task} needs it"]
    over = sorted(given - {*asked, needed})
    faults += [f"{name}: has no meaning in {kind} of {task}" for name in over]
    return faults + [fault for each in _others(case) if (fault := _other_unfit(each, task))]


def _others(case: Case) -> tuple[str | tuple[str, ...], ...]:
    return case.same if case.than is None else (*case.same, case.than)


def _other_unfit(value: str | tuple[str, ...], task: str) -> str:
    shown = repr(value)[:80]
    if task == "text-classification" and not isinstance(value, str):
        return f"found {shown}; {task} is asked texts"
    if task in ("text-pair-classification", "text-ranking") and (isinstance(value, str) or len(value) != 2):
        return f"found {shown}; {task} is asked {{text_a: …, text_b: …}}"
    return ""


def _unfit(group: BehaviourGroup, task: str) -> list[str]:
    """What a task has no answer to."""
    if group.kind == "minimum" and task == "text-ranking":
        return ["minimum: text-ranking has no right answer for one pair, only an order; allowed: invariance, direction"]
    if group.kind == "direction" and task == "token-classification":
        return ["direction: a text's tags have no one probability; allowed: minimum, invariance"]
    if group.kind == "direction" and group.label is None and task != "text-ranking":
        return ["label: is missing; a direction says which label becomes more probable"]
    if group.kind == "direction" and isinstance(group.label, tuple):
        return [f"label: found {list(group.label)}; allowed: one label"]
    if group.change == "whitespace" and task == "token-classification":
        return [
            "change: white space parts tokens, there is none in them; allowed: case, punctuation, typo, repeated-marks"
        ]
    return []
