"""The last Airflow task of a retrain: what the others left as XComs becomes the summary, the reports and the
messages."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from airflow.sdk import BaseOperator

from evergreen.approval import APPROVAL
from evergreen.links import GateReportLink, MlflowRunLink, tell
from evergreen.notify import links_of, send
from evergreen.operators import FACTS, TRIALS, Json, opened
from evergreen.process import begin_task
from mlops import pipeline
from mlops.config import PipelineConfig
from mlops.cost.value import Cost, total
from mlops.flow import steps_of
from mlops.pipeline import Stop
from mlops.types import Run, Verdict

log = logging.getLogger("evergreen")


class FinishOperator(BaseOperator):
    """Writes down what the retrain came to, however it ended: reports, the MLflow run's end, the summary as its
    value."""

    ui_color = "#d8ecd8"
    operator_extra_links = (MlflowRunLink(), GateReportLink())

    def execute(self, context: Any) -> Json:
        begin_task()
        ti = context["ti"]
        config, run = opened(ti)
        summary = self._written_down(ti, config, run)
        release = summary.get("release")
        links = links_of(run, (release["name"], release["version"]) if release else None)
        report = None if summary["outcome"] == "failed" else links["gate report"]
        tell(ti, {MlflowRunLink: links["MLflow run"], GateReportLink: report})
        if summary["outcome"] != "awaiting_approval":  # which `approval` has told when it began to wait
            send(config, summary["outcome"], summary, links | {"gate report": report}, context)
        return summary

    def _written_down(self, ti: Any, config: PipelineConfig, run: Run) -> Json:
        from mlops.reports.table import render
        from mlops.summary import fail, finish

        values, seconds, ending, crash = _collected(ti, config)
        if ending is None:
            log.error("the retrain failed: %s", crash)
            costs = _costs(ti, config)
            return fail(config, run, pipeline.timed(seconds, costs), crash, costs)
        summary = finish(config, run, values, seconds, ending, _costs(ti, config))
        for line in render(summary).splitlines():
            log.info("%s", line)
        return summary


def _collected(ti: Any, config: PipelineConfig) -> tuple[Json, dict[str, float], Stop | None, str]:
    """Values and seconds of the steps that ran; how the retrain ended, or what broke it."""
    values: Json = {}
    seconds: dict[str, float] = {}
    for step in steps_of(config):
        facts: Mapping[str, Any] | None = ti.xcom_pull(task_ids=step.name, key=FACTS)
        trials = _trials(ti) if step.name == "tune" else []
        if facts is None and (errors := [each["error"] for each in trials if "error" in each]):
            return values, seconds, None, f"{TRIALS}: {errors[0]}"
        if facts is None:
            return values, seconds, None, f"{step.name} ended without a result: it was killed, timed out or stopped"
        if "error" in facts:
            return values, seconds, None, f"{step.name}: {facts['error']}"
        values[step.output] = pipeline.typed(step.type, ti.xcom_pull(task_ids=step.name))
        seconds |= {TRIALS: sum(each["seconds"] for each in trials)} if trials else {}
        seconds[step.name] = facts["seconds"]
        asked = ti.xcom_pull(task_ids=APPROVAL) if step.name == "promote" else None
        if asked:
            return values, seconds, Stop(asked["outcome"], asked["reason"]), ""
        if stop := facts["stop"]:
            verdicts = tuple(Verdict.model_validate(verdict) for verdict in stop["verdicts"])
            return values, seconds, Stop(stop["outcome"], stop["reason"], verdicts), ""
    return values, seconds, None, "the last step ended without an outcome"


def _costs(ti: Any, config: PipelineConfig) -> dict[str, Cost]:
    """The cost of the steps that ran; that of a study's workers, who ran side by side, is their sum."""
    found: dict[str, Cost] = {}
    for step in steps_of(config):
        if step.name == "tune":
            workers = {str(n): each["cost"] for n, each in enumerate(_trials(ti)) if each.get("cost")}
            found |= {TRIALS: total({n: Cost.model_validate(each) for n, each in workers.items()})} if workers else {}
        facts = ti.xcom_pull(task_ids=step.name, key=FACTS) or {}
        if facts.get("cost"):
            found[step.name] = Cost.model_validate(facts["cost"])
    return found


def _trials(ti: Any) -> list[Json]:
    """The facts of the workers of a study."""
    found = ti.xcom_pull(task_ids=TRIALS, key=FACTS)
    facts = [found] if isinstance(found, Mapping) else list(found or ())
    return [dict(each) for each in facts if each]
