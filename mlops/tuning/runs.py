"""Every trial as an MLflow run below that of its retrain. Tracking that is away is a warning, not a failed trial."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from mlops.tracking import client

log = logging.getLogger("evergreen")

# MLflow has no word for a pruned run; the tag evergreen.trial.state has.
STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED", "killed": "KILLED"}


def open_run(parent: str | None, study: str, number: int, params: Mapping[str, Any]) -> str | None:
    """The id of a new run; none without a parent."""
    if parent is None:
        return None
    try:
        from mlflow.entities import Param

        api = client()
        tags = {"mlflow.parentRunId": parent, "evergreen.study": study, "evergreen.trial.number": str(number)}
        tags |= {"mlflow.source.name": "mlops tune", "mlflow.source.type": "JOB"}
        home = api.get_run(parent).info.experiment_id
        run_id = str(api.create_run(home, run_name=f"trial-{number:03}", tags=tags).info.run_id)
        api.log_batch(run_id, params=[Param(key, str(value)[:6000]) for key, value in params.items()])
        return run_id
    except Exception as error:
        log.warning("trial %d is not tracked: %s: %s", number, type(error).__name__, error)
        return None


def close_run(run_id: str | None, state: str, reason: str = "", value: float | None = None) -> None:
    """Ends a trial's run. state: complete, pruned, failed or killed."""
    if run_id is None:
        return
    try:
        api = client()
        if value is not None:
            api.log_metric(run_id, "value", value)
        api.set_tag(run_id, "evergreen.trial.state", state)
        if reason:
            api.set_tag(run_id, "evergreen.reason", reason[:4000])
        api.set_terminated(run_id, STATUS[state])
    except Exception as error:
        log.warning("the MLflow run %s of a trial was not ended: %s: %s", run_id, type(error).__name__, error)
