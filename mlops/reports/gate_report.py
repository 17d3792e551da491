"""The gate report: one self-contained HTML page, verdict first."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops.config import PipelineConfig
from mlops.reports.table import OUTCOMES, interval

_TEMPLATE = Path(__file__).with_name("gate_report.html.j2")
_TONE = {"promoted": "pass", "rejected": "fail", "held": "fail"}


def render(config: PipelineConfig, summary: Mapping[str, Any], images: Mapping[str, Path]) -> str:
    """The page; every value is escaped, images are inlined, nothing is loaded from elsewhere."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        s=summary,
        outcome=OUTCOMES[summary["outcome"]],
        tone=_TONE.get(summary["outcome"], "inconclusive"),
        metric=config.gate.metric,
        interval=interval,
        images={name: base64.b64encode(path.read_bytes()).decode() for name, path in images.items()},
    )
