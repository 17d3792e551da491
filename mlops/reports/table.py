"""The summary of a retrain as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlops.reports import costs
from mlops.reports.words import clean

OUTCOMES = {
    "promoted": "promoted: the candidate serves now",
    "held": "held: not good enough beside the champion, which goes on serving",
    "inconclusive": "inconclusive: the test rows are too few to tell; the champion goes on serving",
    "awaiting_approval": "awaiting approval: registered, not serving",
    "awaiting_rollout": "awaiting rollout: registered; a server tries it on live requests",
    "skipped": "skipped: there is nothing to gain",
    "rejected": "rejected",
}


def grid(rows: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """Rows of cells, in columns as wide as their widest cell."""
    widths = [max(len(row[i]) if i < len(row) else 0 for row in rows) for i in range(max(map(len, rows)))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) for row in rows)
    return "\n".join(indent + line.rstrip() for line in lines)


def interval(metric: Mapping[str, float]) -> str:
    """0.9712 [0.9470, 0.9903]"""
    return f"{metric['value']:.4f} [{metric['low']:.4f}, {metric['high']:.4f}]"


def render(summary: Mapping[str, Any]) -> str:
    """The whole table; parts that the run did not reach are left out."""
    first = f"{summary['pipeline']}: {OUTCOMES[summary['outcome']]}"
    parts = [first, _sentence(summary.get("sentence")), *_reason(summary), _rows(summary["snapshot"])]
    parts.append(_tuning(summary.get("tuning")))
    parts += [
        _metrics(summary),
        _files(summary["variants"]),
        _checks(summary["verdicts"]),
        _seconds(summary),
        _cost(summary.get("cost")),
    ]
    release = summary["release"]
    if release:
        parts.append(f"release   {release['name']} version {release['version']} ({release['variant']})")
    return "\n".join(part for part in parts if part)


def _sentence(sentence: str | None) -> str:
    """What the judgement came to, as one line without signs that a terminal would obey."""
    return " ".join(clean(sentence or "").split())


def _reason(summary: Mapping[str, Any]) -> list[str]:
    return [
        f"reason    {line}" if not i else f"          {line}" for i, line in enumerate(summary["reason"].splitlines())
    ]


def _rows(snapshot: Mapping[str, Any] | None) -> str:
    if not snapshot:
        return ""
    splits = ", ".join(f"{name} {count}" for name, count in snapshot["rows"].items())
    aside = f"quarantined {snapshot['quarantined']}, duplicates dropped {snapshot['deduplicated']}"
    return f"rows      {splits}; {aside}; snapshot {snapshot['sha256'][:12]}"


def _tuning(tuning: Mapping[str, Any] | None) -> str:
    if not tuning:
        return ""
    study = tuning["study"]
    ends = ", ".join(f"{study[name]} {name}" for name in ("complete", "pruned", "failed"))
    pairs = [(key, f"{value:.3g}" if isinstance(value, float) else value) for key, value in tuning["train"].items()]
    values = ", ".join(f"{key} {value}" for key, value in pairs)
    return (
        f"tuning    trial {tuning['trial']}: {tuning['metric']} {tuning['value']:.4f} on validation; {values}\n"
        f"          {ends} in {study['minutes']:.1f} minutes; base {tuning['base']}"
    )


def _metrics(summary: Mapping[str, Any]) -> str:
    candidate, champion = summary["candidate"], summary["champion_before"]
    if not candidate:
        return ""
    title = f"champion before (v{champion['version']}, {champion['variant']})" if champion else "champion before (none)"
    rows = [["", f"candidate ({candidate['variant']})", title]]
    for name, metric in candidate["metrics"].items():
        theirs = (champion or {"metrics": {}})["metrics"].get(name)
        rows.append([name, interval(metric), interval(theirs) if theirs else "-"])
    return f"metrics on {metric['n']} test rows, with 95% intervals\n{grid(rows)}"


def _files(variants: Mapping[str, Any]) -> str:
    if not variants:
        return ""
    rows = [["", "size", "p50", "p95"]]
    for name, entry in variants.items():
        latency = entry["latency_ms"]
        times = [f"{latency[key]:.1f} ms" for key in ("p50", "p95")] if latency else ["-", "-"]
        rows.append([name, f"{entry['size_bytes'] / 1e6:.1f} MB", *times])
    return f"files that were judged, one row at a time\n{grid(rows)}"


def _checks(verdicts: Sequence[Mapping[str, Any]]) -> str:
    if not verdicts:
        return ""
    rows = []
    for verdict in verdicts:
        checks = verdict["checks"]
        passed = sum(check["outcome"] == "pass" for check in checks)
        rows.append([verdict["subject"], verdict["outcome"], f"{passed} of {len(checks)} checks passed"])
        rows += [
            ["", check["outcome"], f"{check['name']}: observed {check['observed']}, allowed {check['allowed']}"]
            for check in checks
            if check["outcome"] != "pass"
        ]
    return f"verdicts\n{grid(rows)}"


def _seconds(summary: Mapping[str, Any]) -> str:
    spent = summary["seconds"]
    steps = "  ".join(f"{name} {value:.1f}" for name, value in spent.items())
    return f"seconds   {steps}; all steps {sum(spent.values()):.1f}" if spent else ""


def _cost(found: Mapping[str, Mapping[str, Any]] | None) -> str:
    """One row per step and one for all."""
    return f"cost\n{grid(costs.rows(found, {}))}" if found and len(found) > 1 else ""
