"""The Airflow tasks of a retrain but the last: start and one per step. Values between them are the design's types as
JSON.

A step's XComs: "return_value" is its output (none where it has none), "facts" its own seconds, when its task began and
ended with it (seconds since 1970), whether it was reused, and either the stop after it or the error that ended it. Both
are pushed before anything is raised: a failing task loses what it returns.
"""

from __future__ import annotations

import logging
import time
from typing import Any
from urllib.parse import quote

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, DownstreamTasksSkipped

from evergreen import params
from evergreen.approval import APPROVAL
from evergreen.assets import promoted_facts, tell_promotion
from evergreen.links import DataDocsLink, GateReportLink, MlflowRunLink, VersionLink, tell
from evergreen.notify import send
from evergreen.process import StepProcess, begin_task
from mlops import flow, pipeline
from mlops.config import PipelineConfig
from mlops.cost.value import Cost
from mlops.errors import Rejected, UserError
from mlops.flow import STEPS, steps_of
from mlops.pipeline import Result, Stop
from mlops.types import Run

log = logging.getLogger("evergreen")

START, FINISH, FACTS = "start", "finish", "facts"
TRIALS = flow.TRIALS.name
Json = dict[str, Any]


class StartOperator(BaseOperator):
    """Reads the pipeline file with what the trigger form says, and opens the retrain.

    Its value pins both for all later tasks: {"config", "run"}.
    """

    ui_color = "#d8ecd8"

    def __init__(self, *, pipeline_path: str, given: Json, tuned: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline_path = pipeline_path
        self.given = given
        self.tuned = tuned

    def execute(self, context: Any) -> Json:
        begin_task()
        filled_in, config = dict(context["params"]), None
        try:
            config = params.chosen(self.pipeline_path, filled_in, self.given)
            self._same_shape(config)
            run = pipeline.start(config, force=bool(filled_in.get("force")), airflow=airflow_facts(context))
        except Exception as error:
            final = isinstance(error, UserError)  # trying again would find the same
            if config is not None and (final or context["ti"].try_number > self.retries):
                _not_started(config, error, context)  # and `finish` will have nothing to tell it by
            if final:
                raise AirflowFailException(str(error)) from error
            raise
        log.info("retrain %s, MLflow run %s", run.retrain_id, run.mlflow_run_id)
        return {"config": config.model_dump(mode="json", by_alias=True), "run": run.model_dump(mode="json")}

    def _same_shape(self, config: PipelineConfig) -> None:
        """The Airflow tasks of a search are there or not since the file was read: a run cannot add or remove them."""
        if (config.tune is not None) != self.tuned:
            found, has = ("a", "none") if config.tune is not None else ("no", "one")
            raise UserError(
                f"tune: this run has {found} tune section, its DAG was made with {has}; change the pipeline file, not the "
                "overrides, and wait until Airflow has read it again"
            )


def _not_started(config: PipelineConfig, error: Exception, context: Any) -> None:
    summary = {"pipeline": config.name, "reason": f"start: {type(error).__name__}: {error}"}
    send(config, "failed", summary, {"this Airflow run": airflow_facts(context)["url"]}, context)


def airflow_facts(context: Any) -> dict[str, str]:
    """dag_id, run_id and url of the Airflow run."""
    from airflow.sdk.configuration import conf

    dag_id, run_id = context["dag"].dag_id, context["run_id"]
    base = str(conf.get("api", "base_url", fallback="") or "http://localhost:8080").rstrip("/")
    return {"dag_id": dag_id, "run_id": run_id, "url": f"{base}/dags/{dag_id}/runs/{quote(run_id, safe='')}"}


def opened(ti: Any) -> tuple[PipelineConfig, Run]:
    """What `start` pinned: the settings and the retrain."""
    value = ti.xcom_pull(task_ids=START)
    return PipelineConfig.model_validate(value["config"]), Run.model_validate(value["run"])


def skip_if_ended(ti: Any, before: str | None) -> None:
    """The step before ended the retrain: this one is skipped with the reason, and Airflow skips those after it."""
    facts = ti.xcom_pull(task_ids=before, key=FACTS) if before else None
    if facts and facts.get("stop"):
        stop = facts["stop"]
        raise AirflowSkipException(f"{before} ended the retrain, {stop['outcome']}: {stop['reason']}")


class StepOperator(BaseOperator):
    """One step of the flow: in this process where it is light, else in a process group of its own."""

    ui_color = "#e8f4e8"

    def __init__(self, *, step_name: str, before: str | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step_name = step_name
        self.before = before
        self._child: StepProcess | None = None
        self._spent: dict[str, Cost] = {}
        self._began = 0.0

    def execute(self, context: Any) -> Any:
        self._began = time.time()
        begin_task()
        ti = context["ti"]
        skip_if_ended(ti, self.before)
        step = flow.step_named(self.step_name)
        config, run = opened(ti)
        try:
            result = self._run(step, config, run, _inputs(ti, step))
        except Rejected as error:
            stop = Stop("rejected", str(error), (error.verdict,))
            ti.xcom_push(FACTS, self._facts(stop=stop, cost=self._cost()))
            raise AirflowFailException(f"rejected: {stop.reason}") from error
        except Exception as error:
            ti.xcom_push(FACTS, self._facts(cost=self._cost()) | {"error": f"{type(error).__name__}: {error}"})
            if isinstance(error, UserError):  # trying again would find the same
                raise AirflowFailException(str(error)) from error
            raise
        self._tell(context, config, run, result.output)
        return self._hand_over(ti, config, result, pipeline.stop(step, config, run, {step.output: result.output}))

    def on_kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    def _cost(self) -> Cost | None:
        """Of a step that raised; none of one that was killed."""
        told = self._child.cost if self._child is not None else None
        return Cost.model_validate(told) if told else self._spent.get(self.step_name)

    def _tell(self, context: Any, config: PipelineConfig, run: Run, output: Any) -> None:
        """Says where a person reads more, and whoever waits for it that it is there; for a step that has either."""
        from mlops.tracking import artifact_url, run_url, version_url

        if self.step_name == "gate":
            report = artifact_url(run.mlflow_run_id, "gate_report.html")
            tell(context["ti"], {MlflowRunLink: run_url(run.mlflow_run_id), GateReportLink: report})
        if self.step_name == "promote":
            tell(context["ti"], {VersionLink: version_url(output.release.name, output.release.version)})
        if self.step_name == "promote" and output.outcome == "promoted":
            tell_promotion(context, config.name, promoted_facts(run, output))

    def _run(self, step: flow.Step, config: PipelineConfig, run: Run, values: Json) -> Result:
        if not step.loads_model:
            typed = {name: pipeline.typed(_type_of(name), value) for name, value in values.items()}
            return pipeline.run_step(step, config, run, typed, self._spent)
        self._child = StepProcess(step.name)
        handed = {"config": config.model_dump(mode="json", by_alias=True), "run": run.model_dump(mode="json")}
        answer = self._child.run(handed | {"values": values})
        cost = Cost.model_validate(answer["cost"]) if answer.get("cost") else None
        return Result(pipeline.typed(step.type, answer["output"]), answer["seconds"], answer["reused"], cost)

    def _hand_over(self, ti: Any, config: PipelineConfig, result: Result, stop: Stop | None) -> Any:
        output = result.output.model_dump(mode="json") if result.output is not None else None
        ti.xcom_push(FACTS, self._facts(result, stop))
        if stop:
            log.info("%s: %s", stop.outcome, stop.reason)
        if stop and stop.outcome == "rejected":
            ti.xcom_push("return_value", output)
            raise AirflowFailException(f"rejected: {stop.reason}")
        names = [*(entry.name for entry in steps_of(config)), APPROVAL]
        later = names[names.index(self.step_name) + 2 :] if stop else []
        if self.step_name == "promote" and result.output.outcome != "awaiting_approval":
            later = [APPROVAL]
        if later:
            ti.xcom_push("return_value", output)
            # All at once instead of one per turn of the scheduler; the next one skips itself and says why.
            raise DownstreamTasksSkipped(tasks=later)
        return output

    def _facts(self, result: Result | None = None, stop: Stop | None = None, cost: Cost | None = None) -> Json:
        """cost: of a step without result."""
        verdicts = [verdict.model_dump(mode="json") for verdict in stop.verdicts] if stop else []
        cost = result.cost if result else cost
        return {
            "seconds": result.seconds if result else cost.seconds if cost else 0.0,
            "clock": [self._began, time.time()],
            "reused": bool(result and result.reused),
            "cost": cost.model_dump(mode="json") if cost else None,
            "stop": {"outcome": stop.outcome, "reason": stop.reason, "verdicts": verdicts} if stop else None,
        }


class GateOperator(StepOperator):
    """`gate`, with links to the retrain's MLflow run and to its report, which is there once the retrain has ended."""

    operator_extra_links = (MlflowRunLink(), GateReportLink())


class PromoteOperator(StepOperator):
    """`promote`, with a link to the registered version."""

    operator_extra_links = (VersionLink(),)


class TrialsOperator(StepOperator):
    """One worker of a study, mapped over as many as `tune.workers` says; `tune` after them gives the best."""

    def __init__(self, *, worker: int, **kwargs: Any) -> None:
        super().__init__(step_name=TRIALS, **kwargs)
        self.worker = worker


class WorkersOperator(BaseOperator):
    """The workers that a study gets, as the run's own settings have it: what the trials are mapped over."""

    ui_color = "#e8f4e8"

    def __init__(self, *, before: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.before = before

    def execute(self, context: Any) -> list[int]:
        skip_if_ended(context["ti"], self.before)
        config, _ = opened(context["ti"])
        return list(range(config.tune.workers if config.tune else 0))


class ValidateOperator(StepOperator):
    """`validate`, with a link to its pages: in MLflow once the retrain has ended, else where they lie."""

    operator_extra_links = (DataDocsLink(),)

    def _tell(self, context: Any, config: PipelineConfig, run: Run, output: Any) -> None:
        from mlops.tracking import artifact_url

        address = artifact_url(run.mlflow_run_id, "data_docs/index.html")
        tell(context["ti"], {DataDocsLink: address or f"file://{output.docs}"})


def _type_of(value_name: str) -> str:
    return next(step.type for step in STEPS if step.output == value_name)


def _inputs(ti: Any, step: flow.Step) -> Json:
    """The values that a step takes, as JSON, from the Airflow tasks that gave them."""
    names = (*step.inputs.values(), *step.optional.values())
    wanted = {name.partition(".")[0] for name in names} - {"run"}
    return {entry.output: ti.xcom_pull(task_ids=entry.name) for entry in STEPS if entry.output in wanted}


class BrokenOperator(BaseOperator):
    """Fails with the faults of a pipeline file that cannot be loaded."""

    ui_color = "#f4d8d8"

    def __init__(self, *, faults: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.faults = faults

    def execute(self, context: Any) -> None:
        raise AirflowFailException(self.faults)
