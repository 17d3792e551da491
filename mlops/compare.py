"""Any two registered versions of a model on the same test rows, paired; nothing is trained, registered or promoted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mlops import registry
from mlops.config import METRICS, PipelineConfig
from mlops.config_gate import GateSection
from mlops.errors import StoreError, UserError
from mlops.judgement import Rows, paired
from mlops.judging.answers import metric_values, unit_statistics
from mlops.reports.table import grid, interval
from mlops.rows import load_rows
from mlops.scoring import score
from mlops.statistics.bootstrap import intervals
from mlops.statistics.paired import Difference
from mlops.tasks import get
from mlops.tasks.base import Task
from mlops.types import Evaluation, Release, Snapshot

log = logging.getLogger("evergreen")


class _Side(NamedTuple):
    release: Release
    evaluation: Evaluation
    rows: Rows

    @property
    def name(self) -> str:
        return f"version {self.release.version}"


def compare(name: str, a: str, b: str, config: PipelineConfig | None = None) -> dict[str, Any]:
    """What version b gains over version a, JSON-safe. a, b: numbers or aliases. config: score both again on the test
    rows of this pipeline's data as it is now; without one the rows that both were judged on when they came are
    compared.

    Raises NotFound for unknown versions, UserError where tasks or rows do not fit, Rejected where the data of the
    pipeline does not pass.
    """
    one, other = registry.at(name, a), registry.at(name, b)
    _require_fit(one, other, config)
    task = get(one.model.task)
    if config is None:
        labels: Sequence[str] = ()
        before, after = (_Side(each, each.evaluation, _stored(each)) for each in (one, other))
        _require_same_rows(before, after)
    else:
        before, after, labels = _scored_again(task, config, one, other)
    rules = config.gate if config else GateSection(metric=METRICS[task.key][0])
    for side in (before, after):
        if rules.metric not in side.evaluation.metrics:
            there = ", ".join(side.evaluation.metrics)
            raise UserError(f"gate.metric: {side.name} has no {rules.metric!r}; it has {there}")
    outputs = _outputs(task, before, after, labels)
    before, after = (_on(task, side, outputs) for side in (before, after))
    gap = paired(task, after.rows, before.rows, outputs, rules)
    return _told(name, before, after, gap, rules, config.name if config else None)


def _require_fit(one: Release, other: Release, config: PipelineConfig | None) -> None:
    if one.version == other.version:
        raise UserError(f"both are version {one.version} of {one.name}; allowed: two versions")
    if one.model.task != other.model.task:
        raise UserError(
            f"version {one.version} is for {one.model.task}, version {other.version} for {other.model.task}; only versions "
            "for one task can be compared"
        )
    if config is not None and config.task_key != one.model.task:
        raise UserError(f"--data: {config.name} is for {config.task_key}; {one.name} is for {one.model.task}")


def _stored(release: Release) -> Rows:
    try:
        return load_rows(release.evaluation)
    except (StoreError, OSError) as error:
        raise UserError(
            f"the answers of version {release.version} to its test rows are gone: {error}; --data PIPELINE scores both again"
        ) from error


def _require_same_rows(one: _Side, other: _Side) -> None:
    if (one.rows.ids, one.rows.labels) == (other.rows.ids, other.rows.labels):
        return
    ours, theirs = (set(zip(side.rows.ids, side.rows.labels, strict=True)) for side in (one, other))
    raise UserError(
        f"{one.name} was judged on {len(ours):,} rows and {other.name} on {len(theirs):,}, {len(ours & theirs):,} of them the "
        "same; --data PIPELINE scores both on the test rows of that pipeline's data as it is now"
    )


def _scored_again(
    task: Task, config: PipelineConfig, one: Release, other: Release
) -> tuple[_Side, _Side, tuple[str, ...]]:
    """Both on the pipeline's test rows, and its labels in their order."""
    snapshot = _as_it_is_now(config)
    known = set(task.outputs(snapshot.labels)) - {"O"}
    sides = []
    for release in (one, other):
        log.info("compare: version %s answers %s test rows", release.version, f"{snapshot.rows['test']:,}")
        evaluation = score(release.model, snapshot)
        if not known & set(evaluation.outputs):
            theirs = ", ".join(sorted(known)[:10])
            raise UserError(
                f"--data: the labels of {config.name} are {theirs}; version {release.version} of {release.name} knows "
                f"{', '.join(evaluation.outputs[:10])}: it can answer none of these rows"
            )
        sides.append(_Side(release, evaluation, load_rows(evaluation)))
    return sides[0], sides[1], tuple(snapshot.labels)


def _as_it_is_now(config: PipelineConfig) -> Snapshot:
    """The pipeline's rows prepared as its next retrain would have them."""
    from mlops.steps.prepare import prepare
    from mlops.steps.source import source
    from mlops.steps.validate import validate
    from mlops.training.base import pin

    base, raw = pin(config.model.base), source(config)
    verdict = validate(config, raw, base, raw.parent_sha256)
    # prepare publishes which rows are test rows for good, which is a retrain's business: under a name that no
    # pipeline can have nobody reads it. The book that the rows are split by is pinned in the raw snapshot.
    aside = config.model_copy(update={"name": f"{config.name}.compare"})
    return prepare(aside, raw, verdict, base)


def _outputs(task: Task, before: _Side, after: _Side, labels: Sequence[str]) -> tuple[str, ...]:
    """What the metric averages over: the labels of the data in their order, the outputs of both models, and what else
    the rows' labels need."""
    seen = {name for label in set(after.rows.labels) for name in task.label_names(label)}
    first = task.outputs(labels) if labels else ()
    return tuple(
        dict.fromkeys((*first, *after.evaluation.outputs, *before.evaluation.outputs, *task.outputs(sorted(seen))))
    )


def _on(task: Task, side: _Side, outputs: tuple[str, ...]) -> _Side:
    """The side with its metrics over these outputs, as the difference has them."""
    units = unit_statistics(task, side.rows, side.rows.judged, outputs)
    metrics = intervals(units, metric_values(task, outputs))
    return side._replace(evaluation=side.evaluation.model_copy(update={"metrics": metrics}))


def _told(
    name: str, before: _Side, after: _Side, gap: Difference, rules: GateSection, pipeline: str | None
) -> dict[str, Any]:
    right, before_right = (
        np.array(
            [label == answer for label, answer in zip(side.rows.labels, side.rows.predicted, strict=True)], dtype=bool
        )
        for side in (after, before)
    )
    changed = sum(one != other for one, other in zip(before.rows.predicted, after.rows.predicted, strict=True))
    units = "rows" if gap.n == len(after.rows.ids) else "groups"
    return {
        "model": name,
        "metric": rules.metric,
        "a": _side(before),
        "b": _side(after),
        "difference": {key: getattr(gap, key) for key in ("value", "low", "high", "n", "detectable")}
        | {"units": units, "level": 1 - 2 * rules.alpha},
        "rows": len(after.rows.ids),
        "fixed": int((right & ~before_right).sum()),
        "broken": int((~right & before_right).sum()),
        "flips": changed,
        "data": pipeline,
        "snapshot": after.evaluation.snapshot_sha256,
        "sentence": _sentence(before.name, after.name, gap, rules.metric, units),
    }


def _side(side: _Side) -> dict[str, Any]:
    keys = {"value", "low", "high", "n"}
    latency = side.evaluation.latency
    return {
        "version": side.release.version,
        "variant": side.release.variant,
        "metrics": {name: metric.model_dump(include=keys) for name, metric in side.evaluation.metrics.items()},
        "latency_ms": {"p50": latency.p50, "p95": latency.p95} if latency else None,
        "size_bytes": side.evaluation.size,
    }


def _sentence(before: str, after: str, gap: Difference, metric: str, units: str) -> str:
    seen = f"{gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}] {metric}"
    if gap.low > 0 or gap.high < 0:
        return f"{after} is {'better' if gap.low > 0 else 'worse'} than {before}: {seen} on {gap.n:,} {units}"
    return f"no difference that {gap.n:,} {units} would show: {seen}; a drop of {gap.detectable:.4f} would show"


def newer(name: str, than: str) -> str:
    """What a version or alias is compared with where nobody says: the candidate, else the newest version that is
    another.

    Raises NotFound for a version that is not there, UserError where it is the only one.
    """
    there, first = registry.releases(name), registry.at(name, than).version
    others = [row for row in there if row["state"] == "complete" and row["version"] != first]
    waiting = [row for row in others if "candidate" in row["aliases"]]
    if not others:
        raise UserError(f"{name} has no version beside {first} to compare it with")
    return str((waiting or others)[-1]["version"])


def render(found: dict[str, Any]) -> str:
    """The comparison as a table for a terminal, the sentence first."""
    a, b, gap = found["a"], found["b"], found["difference"]
    rows = [["", *(f"version {side['version']} ({side['variant']})" for side in (a, b))]]
    plain = [name for name in a["metrics"] if name in b["metrics"] and ("/" not in name or name == found["metric"])]
    rows += [[name, interval(a["metrics"][name]), interval(b["metrics"][name])] for name in plain]
    times = [f"{side['latency_ms']['p95']:.1f} ms" if side["latency_ms"] else "-" for side in (a, b)]
    rows += [["p95", *times], ["size", *(f"{side['size_bytes'] / 1e6:.1f} MB" for side in (a, b))]]
    where = (
        f"the test rows of {found['data']} as they are now" if found["data"] else "the rows that both were judged on"
    )
    share = found["flips"] / found["rows"]
    lines = [
        f"{found['model']}: {found['sentence']}",
        f"metrics on {where}, {found['rows']:,}, with 95% intervals",
        grid(rows),
        f"difference  {found['metric']} {gap['value']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}], "
        f"{gap['level']:.0%} interval, paired over {gap['n']:,} {gap['units']}",
        f"rows        {found['fixed']:,} fixed, {found['broken']:,} broken, {found['flips']:,} answers changed ({share:.1%})",
    ]
    return "\n".join(lines)
