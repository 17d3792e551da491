"""The comparison of two versions as Markdown, for a page that a person reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlops.reports.markdown import escaped, section, table
from mlops.reports.table import interval


def markdown(found: Mapping[str, Any], link: str | None = None) -> str:
    """What `mlops compare --json` gives: the sentence, a table of both versions, the paired difference. link:
    MLflow's page."""
    sides = (found["a"], found["b"])
    names = [name for name in sides[0]["metrics"] if name in sides[1]["metrics"]]
    rows = [[escaped(name), *(interval(side["metrics"][name]) for side in sides)] for name in names]
    rows.append(["p95", *(f"{side['latency_ms']['p95']:.1f} ms" if side["latency_ms"] else "-" for side in sides)])
    rows.append(["size", *(f"{side['size_bytes'] / 1e6:.1f} MB" for side in sides)])
    gap = found["difference"]
    where = (
        f"the test rows of {found['data']} as they are now" if found["data"] else "the rows that both were judged on"
    )
    return section(
        f"{found['model']}: version {sides[1]['version']} beside version {sides[0]['version']}",
        escaped(found["sentence"], 500),
        table(["", *(f"version {side['version']} ({side['variant']})" for side in sides)], rows),
        f"{found['rows']:,} rows, {where}: {found['fixed']:,} fixed, {found['broken']:,} broken, {found['flips']:,} answers "
        f"changed. {found['metric']} {gap['value']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}], {gap['level']:.0%} interval "
        f"over {gap['n']:,} {gap['units']}.",
        f"[MLflow's comparison]({link})" if link else "",
    )
