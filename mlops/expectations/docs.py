"""Data Docs where people find them: a folder per pipeline and snapshot, whole or not there."""

from __future__ import annotations

import logging
import shutil
import uuid
from pathlib import Path

from mlops import settings

log = logging.getLogger("evergreen")


def docs_folder(pipeline: str, revision: str) -> Path:
    """Where the pages of a snapshot's validation lie on this machine."""
    return settings.current().data_docs / pipeline / revision[:12]


def publish_docs(report: Path, pipeline: str, revision: str) -> Path:
    """Copies a report's data_docs/ to their place; the path of their first page."""
    target = docs_folder(pipeline, revision)
    _replace_folder(report / "data_docs", target)
    return target / "index.html"


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
