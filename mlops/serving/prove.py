"""Infra validation: a packaged model answers in a clean process as it did where it was judged, whatever it is asked.

After TFX's component of that name (https://www.tensorflow.org/tfx/guide/infra_validator): what ships is loaded by the server
that ships it, before it ships.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from mlops.errors import UserError
from mlops.serving.apart import ask_apart
from mlops.serving.odd import odd
from mlops.serving.onnx_file import check_onnx
from mlops.serving.package import MODEL
from mlops.serving.proving import ask
from mlops.serving.runtime import Runtime
from mlops.tasks.base import Answers, Item, Logits, Task
from mlops.types import Check, Value

ROWS = 256
# Between two processes that compute the same: sums in another order, where their threads differ.
SAME = 1e-4
# A row alone and in company, by the change of a probability: sums in another order.
STEADY = 1e-3
# Dynamic int8 takes the range of its activations per call, so that a row's neighbours move its answer: most of it on average,
# and most labels that change. The largest change is told, not limited: one row on the edge would decide.
MEAN, FLIPS = 0.05, 0.05
_PATIENCE = 900.0  # seconds for all answers
_MODULE = "mlops.serving.proving"


class Proof(Value):
    """What a package did in a process of its own.

    checks: what has to hold, and what was recorded. rows: asked, odd ones included. cold_seconds: from the start of the
    process to its first answer; import_seconds, load_seconds and first_seconds are parts of it. memory_mb: the highest
    resident memory, MB of 10^6 bytes. p50, p95: milliseconds of one row at a time, warm. difference: largest change of a
    probability between a row alone and in company.
    """

    checks: tuple[Check, ...]
    rows: int
    cold_seconds: float
    import_seconds: float
    load_seconds: float
    first_seconds: float
    memory_mb: float
    p50: float
    p95: float
    difference: float

    @property
    def holds(self) -> bool:
        """Whether no check failed."""
        return all(check.outcome != "fail" for check in self.checks)


def prove(
    folder: Path,
    items: Sequence[Item],
    expected: Sequence[Logits] | None = None,
    golden: Sequence[Item] = (),
    cold_seconds: float | None = None,
) -> Proof:
    """Asks a package up to 256 of the items, the golden ones and odd ones, alone and in batches, in a clean process.

    expected: one array of logits per item, as `Runtime.logits` gave them where the package was judged. cold_seconds: most
    from the start of the process to its first answer; none is recorded only. Odd ones have to be answered with numbers.
    Raises UserError without items, and for a folder that the runtime cannot load.
    """
    if not len(items):
        raise UserError("prove: found no items, at least 1 is needed")
    places = np.unique(np.linspace(0, len(items) - 1, min(ROWS, len(items))).round().astype(int))
    asked = [*(items[place] for place in places), *golden]
    runtime = Runtime.load(folder)
    strange = odd(runtime.task.kind)
    question = {"folder": str(Path(folder).absolute()), "asked": asked, "odd": strange, "started": time.monotonic()}
    there = ask_apart(_MODULE, question, _PATIENCE)
    here = ask(runtime, asked, strange)
    answers = {way: _answers(runtime, rows) for way, rows in there["logits"].items()}
    rule = rule_of(folder, len(asked))
    company = [Change(answers["alone"], answers[way], runtime.task, rule) for way in ("mixed", "together")]
    checks = [_clean(there), _odd(there, strange), _finite(there), _same(there, here)]
    for change, way in zip(company, ("mixed", "by length"), strict=True):
        checks += change.checks(f"alone against batches, {way}", there["names"])
    if expected is not None:
        earlier = runtime.task.answers([expected[place] for place in places], runtime.labels)
        change = Change(earlier, _first(answers["together"], len(places)), runtime.task, rule)
        checks += change.checks("against offline", there["names"])
    return _proof([*checks, *_recorded(there, cold_seconds)], there, max(change.largest for change in company))


class Rule(NamedTuple):
    """dynamic: whether neighbours may move an answer. rows: how many of the first rows count where they may; the others
    are odd ones, which move it most."""

    dynamic: bool
    rows: int


def rule_of(folder: Path, rows: int) -> Rule:
    """What a package's file promises, by its operators."""
    dynamic = any(kind.startswith("DynamicQuantize") for kind in check_onnx(Path(folder) / MODEL))
    return Rule(dynamic, rows)


class Change:
    """How far answers to the same rows are apart: the largest change of a probability per row, and changed labels."""

    def __init__(self, one: Answers, other: Answers, task: Task, rule: Rule) -> None:
        self._rule = rule
        self.by_row = np.array([_apart(mine, its) for mine, its in zip(one.chances, other.chances, strict=True)])
        labels = _labels(task, one.predicted[: rule.rows]), _labels(task, other.predicted[: rule.rows])
        one_by_one = zip(*labels, strict=False)  # of other shapes all have changed
        same = len(labels[0]) == len(labels[1])
        self.flips = [mine != its for mine, its in one_by_one] if same else [True] * len(labels[0])

    @property
    def largest(self) -> float:
        return float(self.by_row.max(initial=0.0))

    def checks(self, what: str, names: Sequence[str]) -> list[Check]:
        """What has to hold. names: of the rows."""
        flips = f"{sum(self.flips)} of {len(self.flips)} labels changed"
        if not self._rule.dynamic:
            worst = [row for row in np.argsort(-self.by_row, kind="stable") if not self.by_row[row] <= STEADY]
            beyond = f"; beyond it: {', '.join(names[row] for row in worst[:5])}" if worst else ""
            return [_limit(f"{what}, change of a probability", self.largest, STEADY, flips + beyond)]
        mean = float(self.by_row[: self._rule.rows].mean())
        share = sum(self.flips) / max(1, len(self.flips))
        return [
            _limit(f"{what}, mean change of a probability", mean, MEAN, f"at most {self.largest:.3g}"),
            _limit(f"{what}, labels changed", share, FLIPS, flips),
        ]


def _labels(task: Task, predicted: Sequence[str]) -> list[str]:
    """One label per row, or per token."""
    return [tag for row in predicted for tag in row.split()] if task.kind == "tokens" else list(predicted)


def _limit(name: str, value: float, most: float, detail: str) -> Check:
    return Check(name=name, observed=_rounded(value), allowed=most, outcome=_outcome(value <= most), detail=detail)


def _apart(one: Any, other: Any) -> float:
    """Not-a-number counts as far apart as can be."""
    one, other = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if one.shape != other.shape:
        return 1.0
    found = float(np.abs(one - other).max(initial=0.0))
    return found if np.isfinite(found) else 1.0


def _answers(runtime: Runtime, rows: Sequence[Any]) -> Answers:
    width = len(runtime.labels)
    shape = (-1, width) if runtime.task.kind == "tokens" else (width,)
    return _of(runtime.task, [np.array(row, dtype=np.float32).reshape(shape) for row in rows], runtime.labels)


def _of(task: Task, logits: Sequence[Logits], labels: Sequence[str]) -> Answers:
    with np.errstate(invalid="ignore"):  # what is not finite has a check of its own
        return task.answers(logits, labels)


def _first(answers: Answers, rows: int) -> Answers:
    return Answers(answers.predicted[:rows], answers.scores[:rows], answers.chances[:rows])


def _clean(there: dict[str, Any]) -> Check:
    found = ", ".join(there["foreign"]) or "none"
    return Check(
        name="serves without training libraries",
        observed=found,
        allowed="none",
        outcome=_outcome(not there["foreign"]),
    )


def _odd(there: dict[str, Any], strange: dict[str, Any]) -> Check:
    refused = there["refused"]
    return Check(
        name=f"odd inputs refused, of {len(strange)}",
        observed=len(refused),
        allowed=0,
        outcome=_outcome(not refused),
        detail="; ".join(f"{name}: {reason}" for name, reason in list(refused.items())[:3]),
    )


def _finite(there: dict[str, Any]) -> Check:
    strange = [
        name
        for way in there["logits"].values()
        for name, row in zip(there["names"], way, strict=True)
        if not np.isfinite(np.asarray(row, dtype=np.float64)).all()
    ]
    detail = ", ".join(list(dict.fromkeys(strange))[:5])
    return Check(
        name="answers that are not finite",
        observed=len(strange),
        allowed=0,
        outcome=_outcome(not strange),
        detail=detail,
    )


def _same(there: dict[str, Any], here: dict[str, Any]) -> Check:
    """Logits of the same calls, relative to the largest: company is the same, so int8 has no excuse."""
    name = "clean process against here, share of a logit"
    if there["names"] != here["names"]:
        return Check(name=name, observed="other rows answered", allowed=SAME, outcome="fail")
    pairs = [
        (np.asarray(one, dtype=np.float64).ravel(), np.asarray(other, dtype=np.float64).ravel())
        for way in there["logits"]
        for one, other in zip(there["logits"][way], here["logits"][way], strict=True)
    ]
    if any(one.shape != other.shape for one, other in pairs):
        return Check(name=name, observed="other shapes", allowed=SAME, outcome="fail")
    one, other = (np.concatenate(values) for values in zip(*pairs, strict=True))
    apart = float(np.abs(one - other).max(initial=0.0) / max(1.0, np.abs(other).max(initial=0.0)))
    return Check(name=name, observed=_rounded(apart), allowed=SAME, outcome=_outcome(apart <= SAME))


def _recorded(there: dict[str, Any], most: float | None) -> list[Check]:
    cold = there["cold_seconds"]
    parts = (
        f"import {there['import_seconds']:.2f}, load {there['load_seconds']:.2f}, answer {there['first_seconds']:.2f}"
    )
    return [
        Check(
            name="cold start",
            observed=round(cold, 3),
            allowed=most,
            unit=" s",
            outcome=_outcome(most is None or cold <= most),
            detail=parts,
        ),
        Check(
            name="one row at a time, median",
            observed=round(float(np.median(there["milliseconds"])), 2),
            allowed=None,
            unit=" ms",
            outcome="pass",
            detail=f"95th percentile {np.percentile(there['milliseconds'], 95):.2f} ms",
        ),
        Check(name="memory", observed=round(there["memory_mb"], 1), allowed=None, unit=" MB", outcome="pass"),
    ]


def _proof(checks: Sequence[Check], there: dict[str, Any], difference: float) -> Proof:
    p50, p95 = np.percentile(there["milliseconds"], [50, 95])
    kept = ("cold_seconds", "import_seconds", "load_seconds", "first_seconds", "memory_mb")
    return Proof(
        checks=tuple(checks),
        rows=len(there["names"]),
        p50=float(p50),
        p95=float(p95),
        difference=difference,
        **{name: there[name] for name in kept},
    )


def _outcome(holds: bool) -> Literal["pass", "fail"]:
    return "pass" if holds else "fail"


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
