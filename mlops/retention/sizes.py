"""Bytes of what MLflow keeps as files, wherever it keeps them."""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger("evergreen")


def size_of(uri: str) -> int:
    """Bytes below an artifact URI; 0 where it cannot be listed, which is told: a number is not worth a removal."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(uri)

    def below(path: str | None) -> int:
        found = repository.list_artifacts(path)
        return sum(below(each.path) if each.is_dir else int(each.file_size or 0) for each in found)

    try:
        return below(None)
    except Exception as error:
        log.warning("the size of %s is not known: %s: %s", uri, type(error).__name__, error)
        return 0


def size_of_model(api: Any, model_id: str) -> int:
    """Bytes of a logged model; 0 where it is gone."""
    from mlflow.exceptions import MlflowException

    try:
        return size_of(api.get_logged_model(model_id).artifact_location)
    except MlflowException:
        return 0
