"""Ask a model the behaviour cases of a pipeline: any model, whatever form it has.

After Ribeiro et al., "Beyond accuracy: behavioral testing of NLP models with CheckList", ACL 2020. What the groups hold
is in `mlops/config_behaviour.py`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from mlops.behaviour_changes import changed
from mlops.config_behaviour import BehaviourGroup, Case
from mlops.data.rows import showable
from mlops.data.tags import entities, scheme, to_iob2
from mlops.tasks.base import Item, Logits, Task
from mlops.tasks.multi_label import written
from mlops.types import Behaviour

log = logging.getLogger("evergreen")

_TOLD = 10  # failures kept in words, of a group
_SHOWN = 120  # characters of a text
_SLACK = 0.01  # of a probability that may fall although it should not: half precision, int8


class Predictor(Protocol):
    """`mlops.serving.runtime.Runtime`, `mlops.training.predictor.TorchPredictor` and what else answers like them."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What the outputs stand for, in their order."""
        ...

    def logits(self, items: Sequence[Item]) -> list[Logits]:
        """One array per item."""
        ...


class _Answer(NamedTuple):
    """predicted: as a snapshot writes it. chances: per output. problem: why there is no answer at all."""

    predicted: str
    score: float
    chances: Any
    problem: str = ""


class _Probe(NamedTuple):
    """One case: its questions, and what tells from their answers what went wrong; an empty text is a pass."""

    items: list[Item]
    wrong: Callable[[Sequence[_Answer]], str]


class _Asked(NamedTuple):
    """What a group comes to for one model. strange: labels of cases that were left out, which the model does not have."""

    probes: list[_Probe]
    left_out: int = 0
    strange: frozenset[str] = frozenset()


def examine(
    groups: Sequence[BehaviourGroup], predictor: Predictor, task: Task, rows: Sequence[tuple[str, Item]]
) -> tuple[Behaviour, ...]:
    """One result per group, in their order. rows: (row id, item) of the test split, for the groups that change rows.

    Cases with a label that the model does not have are left out; a group of which nothing is left has 0 cases and says
    so. A question that the model cannot answer at all is a failure of its case: nothing here raises for what is asked.
    """
    return tuple(_result(group, _asked(group, predictor.labels, task, rows), predictor, task) for group in groups)


def questions(groups: Sequence[BehaviourGroup], labels: Sequence[str], task: Task) -> list[Item]:
    """Everything that the groups' own cases ask a model with these labels."""
    probes = [probe for group in groups for probe in _asked(group, labels, task, ()).probes]
    return [item for probe in probes for item in probe.items]


def _asked(group: BehaviourGroup, labels: Sequence[str], task: Task, rows: Sequence[tuple[str, Item]]) -> _Asked:
    if group.change is not None:
        return _Asked(_changes(group.change, group.most_rows, task, rows))
    if group.kind == "invariance":
        return _Asked([_same(case, task) for case in group.cases])
    if group.kind == "direction":
        label = None if group.label is None else str(group.label)
        if label is not None and label not in labels:
            return _Asked([], len(group.cases), frozenset([label]))
        return _Asked([_direction(case, label, labels, task) for case in group.cases])
    unknown = [_names(case, task) - set(labels) for case in group.cases]
    probes = [_minimum(case, task) for case, strange in zip(group.cases, unknown, strict=True) if not strange]
    return _Asked(probes, len(group.cases) - len(probes), frozenset().union(*unknown))


def _names(case: Case, task: Task) -> set[str]:
    """The outputs that the right answer needs."""
    if task.kind == "tokens":
        return set(_tags(case))
    return {case.label} if isinstance(case.label, str) else set(case.label or ())


def _tags(case: Case) -> list[str]:
    """In IOB2, whatever they are written in."""
    tags = list(case.tags or ())
    return to_iob2(tags, scheme([tags]))


def _item(question: str | tuple[str, ...], task: Task) -> Item:
    return list(question) if task.kind == "tokens" and not isinstance(question, str) else task.asked(question)


def _minimum(case: Case, task: Task) -> _Probe:
    if task.kind == "tokens":
        expected = " ".join(_tags(case))
    elif task.one_label:
        expected = str(case.label)
    else:
        expected = written([case.label] if isinstance(case.label, str) else list(case.label or ()))
    item = _item(case.question, task)
    if task.kind == "tokens" and len(item) != len(expected.split(" ")):
        told = f"{_shown(item)} has {len(item)} tokens and {len(expected.split(' '))} tags: write it as tokens"
        return _Probe([], lambda _: told)

    def wrong(answers: Sequence[_Answer]) -> str:
        found = answers[0].predicted
        return "" if found == expected else f"{_shown(item)}: found {found}, expected {expected}"

    return _Probe([item], wrong)


def _same(case: Case, task: Task) -> _Probe:
    return _steady([_item(question, task) for question in (case.question, *case.same)], task)


def _steady(items: list[Item], task: Task, who: str = "") -> _Probe:
    """All items have the answer of the first."""

    def wrong(answers: Sequence[_Answer]) -> str:
        first = answers[0].predicted
        for item, answer in zip(items[1:], answers[1:], strict=True):
            if not _agree(first, answer.predicted, task):
                return f"{who}{_shown(items[0])} is {first}, but {_shown(item)} is {answer.predicted}"
        return ""

    return _Probe(items, wrong)


def _agree(one: str, other: str, task: Task) -> bool:
    """Equal answers; of texts with unlike numbers of tokens the kinds of their entities, in order."""
    if task.kind != "tokens" or one.count(" ") == other.count(" "):
        return one == other
    ours, theirs = ([kind for kind, _, _ in entities(cell.split(" "))] for cell in (one, other))
    return ours == theirs


def _direction(case: Case, label: str | None, labels: Sequence[str], task: Task) -> _Probe:
    items = [_item(case.question, task), _item(case.than or "", task)]

    def wrong(answers: Sequence[_Answer]) -> str:
        more, less = (
            answer.score if label is None else float(answer.chances[list(labels).index(label)]) for answer in answers
        )
        what = "the score" if label is None else f"the probability of {label}"
        told = f"{what} of {_shown(items[0])} is {more:.3f}, below {less:.3f} of {_shown(items[1])}"
        return "" if more >= less - _SLACK else told

    return _Probe(items, wrong)


def _changes(change: str, most: int, task: Task, rows: Sequence[tuple[str, Item]]) -> list[_Probe]:
    """Of the rows that the change does something to those with the smallest digests of their ids: the same every time."""
    probes: list[_Probe] = []
    for row_id, item in sorted(rows, key=lambda row: hashlib.sha256(row[0].encode("utf-8", "replace")).digest()):
        if len(probes) == most:
            break
        fresh = changed(change, item, row_id)
        if fresh is not None:
            probes.append(_steady([item, fresh], task, f"row {row_id}: "))
    return probes


def _result(group: BehaviourGroup, asked: _Asked, predictor: Predictor, task: Task) -> Behaviour:
    answers = _answers([item for probe in asked.probes for item in probe.items], predictor, task)
    failures: list[str] = []
    place = 0
    for probe in asked.probes:
        own = answers[place : place + len(probe.items)]
        place += len(probe.items)
        problem = next((answer.problem for answer in own if answer.problem), "")
        if told := problem or probe.wrong(own):
            failures.append(showable(told))
    if not asked.probes:
        failures.append(showable(_nothing(group, asked)))
    elif asked.left_out:
        log.warning("behaviour: %s: %d cases left out, no label %s", group.name, asked.left_out, _list(asked.strange))
    return Behaviour(
        name=group.name,
        kind=group.kind,
        cases=len(asked.probes),
        passed=len(asked.probes) - len(failures) if asked.probes else 0,
        least=group.limit,
        severity=group.severity,
        failures=tuple(failures[:_TOLD]),
    )


def _nothing(group: BehaviourGroup, asked: _Asked) -> str:
    if group.change is not None:
        return f"there is no test row that {group.change} changes"
    return f"all {asked.left_out} cases left out: the model has no label {_list(asked.strange)}"


def _list(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)[:10])


def _answers(items: list[Item], predictor: Predictor, task: Task) -> list[_Answer]:
    """One per item; where one of them breaks all, each is asked by itself."""
    try:
        return _together(items, predictor, task)
    except Exception as error:
        if len(items) == 1:
            why = f"{type(error).__name__}: {error}"[:200]
            return [_Answer("", 0.0, None, f"{_shown(items[0])}: the model has no answer: {why}")]
        return [answer for item in items for answer in _answers([item], predictor, task)]


def _together(items: list[Item], predictor: Predictor, task: Task) -> list[_Answer]:
    found = task.answers(predictor.logits(items), predictor.labels)
    whole = zip(found.predicted, found.scores.tolist(), found.chances, strict=True)
    return [_Answer(predicted, score, chances) for predicted, score, chances in whole]


def _shown(item: Item) -> str:
    text = item if isinstance(item, str) else " ".join(item) if isinstance(item, list) else " / ".join(item)
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
