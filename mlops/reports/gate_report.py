"""The gate report: one self-contained HTML page, verdict first."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops.config import PipelineConfig
from mlops.reports import costs, judged, telling, tried, words
from mlops.reports.facts import facts
from mlops.reports.table import OUTCOMES

_FOLDER = Path(__file__).parent
_TONE = {"promoted": "pass", "rejected": "fail", "held": "fail"}
_IMAGES = {
    "confusion_matrix.png": "Confusion matrix: true labels down, predicted ones across",
    "reliability_curve.png": "Reliability curve: how often it is right, by how sure it is",
}


def render(
    config: PipelineConfig,
    summary: Mapping[str, Any],
    images: Mapping[str, Path],
    record: Mapping[str, Any] | None = None,
) -> str:
    """The page; every value is escaped, images are inlined, nothing is loaded from elsewhere, nothing runs.

    summary: as `mlops.summary` makes it. images: PNG files by name. record: of the judgement that decided
    (`mlops.records`), none for a run that ended before one.
    """
    record = record or {}
    metric = record.get("metric") or config.gate.metric
    page: str = (
        _environment()
        .get_template("gate_report.html.j2")
        .render(
            s=summary,
            r=record,
            metric=metric,
            meaning=words.meaning(metric),
            outcome=OUTCOMES[summary["outcome"]],
            tone=_TONE.get(summary["outcome"], "inconclusive"),
            sentence=record.get("sentence") or summary.get("sentence"),
            facts=facts(summary, record, metric),
            metrics=_metrics(summary, metric),
            verdicts=[each for each in summary["verdicts"] if not record or each["subject"] != record.get("subject")],
            costs=costs.rows(summary.get("cost"), summary["seconds"]),
            images={name: base64.b64encode(path.read_bytes()).decode() for name, path in images.items()},
            tried=tried.view(summary.get("compression"), metric),
            **judged.view(record, config.gate.margin),
        )
    )
    return page


def _metrics(summary: Mapping[str, Any], metric: str) -> telling.Shown:
    if not summary["candidate"]:
        return telling.Shown(())
    before = (summary["champion_before"] or {}).get("metrics", {})
    return telling.metrics(summary["candidate"]["metrics"], before, metric)


def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(_FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_final
    )
    tools = (words.answer, words.clip, words.named, words.cell, words.spread, words.number, words.signed)
    more = (words.plain, words.count, words.share, words.points, words.known, telling.some)
    environment.globals |= {tool.__name__: tool for tool in (*tools, *more)}
    environment.globals |= {"pick": telling, "tones": ("pass", "fail", "warn", "inconclusive")}
    environment.globals["image_words"] = lambda name: _IMAGES.get(name, name)
    return environment


def _final(value: Any) -> Any:
    """Texts without characters that are no text, as the last thing before they are escaped; a dash for none."""
    from markupsafe import Markup

    if value is None:
        return words.NOTHING
    return words.clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value
