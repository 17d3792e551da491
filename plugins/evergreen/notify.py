"""Messages through Airflow's notifiers, as the notify section of a pipeline file asks for. What cannot be sent is
logged and costs nothing else."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Mapping
from typing import Any

from mlops.config import PipelineConfig
from mlops.config_notify import NotifyEntry
from mlops.types import Run

log = logging.getLogger("evergreen")

# Module and class of the notifier, and the package that has them.
_NOTIFIERS = {
    "smtp": ("airflow.providers.smtp.notifications.smtp", "SmtpNotifier", "apache-airflow-providers-smtp"),
    "slack": ("airflow.providers.slack.notifications.slack", "SlackNotifier", "apache-airflow-providers-slack"),
    "apprise": (
        "airflow.providers.apprise.notifications.apprise",
        "AppriseNotifier",
        "apache-airflow-providers-apprise",
    ),
}


def require_providers(config: PipelineConfig) -> None:
    """Raises ValueError, as faults of a pipeline file are told, for a provider that is not installed; imports none."""
    for entry in config.notify:
        module, _, package = _NOTIFIERS[entry.by]
        try:
            there = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            there = False
        if not there:
            raise ValueError(f"notify: by: {entry.by} needs {package}")


def send(
    config: PipelineConfig, event: str, summary: Mapping[str, Any], links: Mapping[str, str | None], context: Any
) -> int:
    """Tells everybody who asked for an event; how many were told. Never raises: a message is not worth a retrain."""
    wanted = [entry for entry in config.notify if event in entry.on]
    told = 0
    for entry in wanted:
        where = f"{entry.by} through {entry.connection or 'the default connection'}"
        try:
            from mlops.reports.message import message

            # Not by calling the notifier: that renders the text as a template first, and texts of the data are in it.
            _notifier(entry, message(event, summary, config.gate.metric, links)).notify(context)
        except Exception as error:
            log.warning("notify: %s was not told by %s: %s: %s", event, where, type(error).__name__, error)
        else:
            told += 1
            log.info("notify: %s was told by %s", event, where)
    return told


def _notifier(entry: NotifyEntry, told: Any) -> Any:
    module, name, _ = _NOTIFIERS[entry.by]
    kind = getattr(importlib.import_module(module), name)
    if entry.by == "smtp":
        given = {"smtp_conn_id": entry.connection} if entry.connection else {}
        return kind(to=list(entry.to), subject=told.subject, html_content=told.page, **given)
    if entry.by == "slack":
        given = {"slack_conn_id": entry.connection} if entry.connection else {}
        return kind(channel=entry.to[0], text=f"{told.subject}\n{told.text}", **given)
    given = {"apprise_conn_id": entry.connection} if entry.connection else {}
    tags = {"tag": list(entry.to)} if entry.to else {}
    return kind(title=told.subject, body=told.text, **tags, **given)


def links_of(run: Run, version: tuple[str, str] | None = None) -> dict[str, str | None]:
    """Where a person reads more of a retrain. version: name and number of what it registered."""
    from mlops import settings
    from mlops.tracking import artifact_url, run_url, version_url

    return {
        "this Airflow run": run.airflow.get("url"),
        "MLflow run": run_url(run.mlflow_run_id),
        "gate report": artifact_url(run.mlflow_run_id, "gate_report.html"),
        "model card": version_url(*version) if version else None,
        "server": settings.current().serve_url,
    }
