"""MLflow's runs of retrains: which of them still run, which stay, and the removal of the others with their models and
files."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from mlops.retention.rule import DAY, LONGEST_DAYS, Removal, Rule
from mlops.retention.sizes import size_of
from mlops.tracking import client
from mlops.uploads import models_of, remove_upload

log = logging.getLogger("evergreen")

RETRAIN = "evergreen.retrain_id"
_PARENT = "mlflow.parentRunId"


@dataclass(frozen=True)
class Retrains:
    """stay and go: MLflow's runs. since: when the oldest of those that still run began, in seconds; none where none
    does."""

    stay: tuple[Any, ...]
    go: tuple[Any, ...]
    since: float | None

    @property
    def ids(self) -> set[str]:
        """The retrains that stay."""
        return {run.data.tags[RETRAIN] for run in self.stay}


def retrains(rule: Rule, used: Collection[str | None]) -> Retrains:
    """Every run that a retrain made; runs of others are not looked at. used: ids of runs that versions came from."""
    api = client()
    stay: list[Any] = []
    go: list[Any] = []
    running: list[float] = []
    for home in _experiments(api):
        for place, run in enumerate(_runs(api, home, f"tags.`{RETRAIN}` LIKE '%'")):  # newest first
            started = run.info.start_time / 1000
            runs = run.info.status == "RUNNING" and rule.now - started < LONGEST_DAYS * DAY
            if runs:
                running.append(started)
            age = rule.now - (run.info.end_time or run.info.start_time) / 1000
            keeps = runs or place < rule.keep or age < rule.days * DAY or run.info.run_id in used
            (stay if keeps else go).append(run)
    return Retrains(tuple(stay), tuple(go), min(running, default=None))


def _experiments(api: Any) -> list[str]:
    found, page = [], None
    while True:
        answer = api.search_experiments(page_token=page)
        found += [each.experiment_id for each in answer]
        page = answer.token
        if not page:
            return found


def _runs(api: Any, home: str, which: str) -> list[Any]:
    found, page = [], None
    while True:
        answer = api.search_runs([home], which, order_by=["attributes.start_time DESC"], page_token=page)
        found += answer
        page = answer.token
        if not page:
            return found


def outdated(found: Retrains, models_in_use: Collection[str | None], rule: Rule) -> Iterator[Removal]:
    """Runs that go, each with the trials of its search and with the models that it logged."""
    api = client()
    logged: dict[str, list[tuple[str, str]]] = {}
    for home in {run.info.experiment_id for run in found.go}:
        for model in models_of(api, home):
            if model.model_id not in models_in_use:
                logged.setdefault(model.source_run_id, []).append((model.model_id, model.artifact_location))
    for run in found.go:
        family = [*_runs(api, run.info.experiment_id, f"tags.`{_PARENT}` = '{run.info.run_id}'"), run]
        models = [model for each in family for model in logged.get(each.info.run_id, ())]
        size = sum(size_of(each.info.artifact_uri) for each in family) + sum(size_of(place) for _, place in models)
        why = f"ended more than {rule.days:g} days ago, no version that stays came from it"

        def remove(family: list[Any] = family, models: list[tuple[str, str]] = models) -> None:
            for model_id, _ in models:
                remove_upload(api, model_id)
            for each in family:  # the retrain's own last: what is left of it is found by it
                _remove(api, each)

        yield Removal("run", f"{run.data.tags[RETRAIN]} ({run.info.run_id})", size, why, remove)


def _remove(api: Any, run: Any) -> None:
    """The files first: a run that MLflow holds for deleted is not found again."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    get_artifact_repository(run.info.artifact_uri).delete_artifacts()
    api.delete_run(run.info.run_id)
