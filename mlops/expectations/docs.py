"""Data Docs where people find them: a folder per pipeline and snapshot, whole or not there, loading nothing from elsewhere."""

from __future__ import annotations

import logging
import re
import shutil
import uuid
from html import escape
from pathlib import Path
from typing import Any

from mlops import settings

log = logging.getLogger("evergreen")


# Great Expectations' pages take their styles and scripts from six other hosts: not to be had behind a firewall, and a
# page about a team's data should tell nobody that it was opened.
_ELSEWHERE = re.compile(
    r"""<(?:link|img)[^>]*(?:href|src)\s*=\s*["']?(?:https?:)?//[^>]*>"""
    r"""|<script[^>]*src\s*=\s*["']?(?:https?:)?//[^>]*>\s*</script>|url\(\s*["']?(?:https?:)?//[^)]*\)""",
    re.IGNORECASE,
)
# Whatever of the data comes through as markup all the same: it is not run, and loads nothing.
_POLICY = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'\">"
)
_STYLE = """<style>
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1200px;padding:1rem;color:#1f2933;background:#fff}
img,.cloud-footer,#cooltip,footer{display:none}h1,h2,h3,h4,h5{margin:1.2rem 0 .4rem}a{color:#1c64b0}
table{border-collapse:collapse;margin:.4rem 0;width:auto}table table{margin-left:1rem;font-size:13px}
th,td{border:1px solid #d5dbe1;padding:.3rem .6rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}
th{background:#f3f5f7;overflow-wrap:normal}ol.breadcrumb,ol.ge-breadcrumbs{list-style:none;padding:0;display:flex;gap:.5rem}
.fa-check-circle::before{content:"\\2714";color:#1a7f37}.fa-times::before{content:"\\2718";color:#c62828}
.fa-exclamation-triangle::before,.fa-exclamation-circle::before{content:"\\26A0";color:#b26a00}i{font-style:normal}
@media(prefers-color-scheme:dark){body{color:#e4e7eb;background:#16191d}th{background:#242a31}th,td{border-color:#39424c}a{color:#7db7ff}}
</style>"""


def self_contained(site: Path) -> None:
    """Rewrites the pages of a site so that they load nothing from another host and run no script."""
    for page in site.rglob("*.html"):
        html = _ELSEWHERE.sub("", page.read_text(encoding="utf-8"))
        html = html.replace("<head>", f"<head>{_POLICY}", 1).replace("</head>", f"{_STYLE}</head>", 1)
        page.write_text(html, encoding="utf-8")


def escape_values(store: Any) -> None:
    """Makes the values of a store of validation results text: Great Expectations writes many of them into its pages as they
    are, and a label or a text may be markup."""
    for key in store.list_keys():
        judged = store.get(key)
        for result in judged.results:
            # What ours show in tables is escaped where it is shown.
            result.result = {
                name: value if name == "evergreen_table" else _escaped(value)
                for name, value in (result.result or {}).items()
            }
            result.exception_info = _escaped(result.exception_info)
        store.set(key, judged)


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, dict):
        return {_escaped(name): _escaped(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_escaped(each) for each in value]
    return value


def docs_folder(pipeline: str, revision: str) -> Path:
    """Where the pages of a snapshot's validation lie on this machine."""
    return settings.current().data_docs / pipeline / revision[:12]


def publish_docs(report: Path, pipeline: str, revision: str) -> Path:
    """Copies a report's data_docs/ to their place; the path of their first page."""
    target = docs_folder(pipeline, revision)
    _replace_folder(report / "data_docs", target)
    return target / "index.html"


def quarantine_folder(pipeline: str, revision: str) -> Path:
    """Where the rows of a snapshot that were set aside lie on this machine, to be read and mended."""
    return settings.current().home / "quarantine" / pipeline / revision[:12]


def publish_quarantine(report: Path, pipeline: str, revision: str) -> None:
    """Copies a report's quarantine/ (rows.jsonl, a reason each) to its place; where no row was set aside, what an earlier
    suite set aside of the same snapshot goes."""
    target = quarantine_folder(pipeline, revision)
    if (report / "quarantine").is_dir():
        _replace_folder(report / "quarantine", target)
    else:
        shutil.rmtree(target, ignore_errors=True)


def _replace_folder(built: Path, target: Path) -> None:
    """Copies a folder to its place, whole or not at all; another run that builds the same place may win."""
    target.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex[:8]
    fresh, stale = target.with_name(f".{target.name}-{mark}"), target.with_name(f".{target.name}-{mark}-old")
    shutil.copytree(built, fresh)
    try:
        if target.exists():
            target.rename(stale)
        fresh.rename(target)
    except OSError:
        log.warning("validate: %s is being written by another run; its pages are kept", target)
    for leftover in (fresh, stale):
        shutil.rmtree(leftover, ignore_errors=True)
