"""A package as a logged model of MLflow, on its way to become a version: uploaded, read back by digest, linked, removed."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlops.errors import RegistryError
from mlops.serving.signature import signature
from mlops.store import MANIFEST, check_manifest
from mlops.tasks import get
from mlops.tracking import experiment
from mlops.types import Release

log = logging.getLogger("evergreen")

UPLOAD = "evergreen.upload"  # the tag of a model that was uploaded to be registered, with its idempotency key
_LINKS = "mlflow.modelVersions"
_PYFUNC = Path(__file__).resolve().parent / "serving" / "pyfunc.py"


def upload(api: Any, package: Path, release: Release, run_id: str | None, key: str) -> tuple[str, str]:
    """Logs the package as an MLflow model, reads every file back and checks it; (source URI, model id)."""
    import mlflow

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
    known, example = signature(get(release.model.task))
    with mlflow.start_run(run_id=run_id, experiment_id=None if run_id else experiment(api, release.name)):
        info = mlflow.pyfunc.log_model(
            name=release.variant,
            python_model=str(_PYFUNC),
            artifacts={"package": str(package)},
            code_paths=[str(_PYFUNC.parent.parent)],
            pip_requirements=_requirements(),
            signature=known,
            input_example=example,
            tags={UPLOAD: key},
        )
    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=info.model_uri))
    manifest = json.loads((package / MANIFEST).read_text(encoding="utf-8"))
    found = [path.parent for path in folder.rglob("package.json")]
    if len(found) != 1:
        raise RegistryError(f"{info.model_uri} holds {len(found)} packages after the upload; allowed is one")
    check_manifest(found[0], manifest)
    return str(info.model_uri), str(info.model_id)


def _requirements() -> list[str]:
    from importlib.metadata import version

    wanted = ("mlflow", "numpy", "onnxruntime", "pandas", "pydantic", "pyyaml", "tokenizers")
    return [f"{name}=={version(name)}" for name in wanted]


def link(api: Any, model_id: str, name: str, version: str) -> None:
    """Leads from an uploaded model's page to the version that it became."""
    api.set_logged_model_tags(model_id, {_LINKS: json.dumps([{"name": name, "version": version}])})


def orphans(api: Any, name: str, older_than_seconds: float) -> list[str]:
    """Ids of models that were uploaded to be registered and never became a version of a model, oldest first."""
    found = api.get_experiment_by_name(name)
    if found is None:
        return []
    before = (time.time() - older_than_seconds) * 1000
    ids = [
        (model.creation_timestamp, model.model_id)
        for model in models_of(api, found.experiment_id)
        if UPLOAD in model.tags and _LINKS not in model.tags and model.creation_timestamp <= before
    ]
    return [model_id for _, model_id in sorted(ids)]


def model_of(version: Any) -> str | None:
    """The id of the model that a version was made from; none where it came from elsewhere.

    MLflow's own database gives no model_id for a version: its source, models:/ID, has it.
    """
    source = str(version.source or "")
    return version.model_id or (source.removeprefix("models:/") if re.fullmatch(r"models:/m-[^/]+", source) else None)


def left_behind(api: Any, name: str, older_than_seconds: float) -> list[str]:
    """Ids of models that became a version of a model which is gone by now."""
    found = api.get_experiment_by_name(name)
    if found is None:
        return []
    before = (time.time() - older_than_seconds) * 1000
    there = api.search_model_versions(f"name = '{name}'")
    used, left = {model_of(version) for version in there}, {(name, str(version.version)) for version in there}
    return [
        model.model_id
        for model in models_of(api, found.experiment_id)
        if UPLOAD in model.tags
        and (links := {(link["name"], str(link["version"])) for link in json.loads(model.tags.get(_LINKS, "[]"))})
        and all(each[0] == name for each in links)
        and not links & left
        and model.model_id not in used
        and model.creation_timestamp <= before
    ]


def models_of(api: Any, experiment_id: str) -> Iterator[Any]:
    """Every model that was logged in an experiment."""
    page = None
    while True:
        models = api.search_logged_models([experiment_id], page_token=page)
        yield from models
        page = models.token
        if not page:
            return


def remove_upload(api: Any, model_id: str) -> None:
    """Takes an uploaded model out of MLflow, its files first; what is gone already is no error."""
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    try:
        place = api.get_logged_model(model_id).artifact_location
        get_artifact_repository(place).delete_artifacts()
        api.delete_logged_model(model_id)
    except (MlflowException, OSError) as error:
        log.warning("the uploaded model %s could not be removed: %s", model_id, error)
