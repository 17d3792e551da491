"""The pipeline files that the DAGs of all pipelines together, such as rollback, are about."""

from __future__ import annotations

import logging
from pathlib import Path

from mlops import config as pipeline_file

log = logging.getLogger("evergreen")


def files(folder: Path) -> dict[str, str]:
    """Pipeline files by the names of their pipelines, sorted; those that cannot be read have a DAG that says so."""
    found = {}
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            found.setdefault(pipeline_file.load(path).name, str(path.resolve()))
        except Exception as error:  # whatever is wrong with one file must not take away what is about the others
            log.debug("%s: %s", path, error)
    return dict(sorted(found.items()))
