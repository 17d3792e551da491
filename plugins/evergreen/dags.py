"""One retraining DAG per pipeline file: the table of steps as a chain of Airflow tasks between `start` and `finish`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, ParamsDict

from evergreen.approval import approval
from evergreen.assets import champion_alias, schedule_of
from evergreen.finish import FinishOperator
from evergreen.notify import require_providers
from evergreen.operators import (
    FINISH,
    START,
    BrokenOperator,
    GateOperator,
    PromoteOperator,
    StartOperator,
    StepOperator,
    TrialsOperator,
    ValidateOperator,
    WorkersOperator,
)
from evergreen.params import defaults, trigger_form
from evergreen.pool import POOL
from mlops import config as pipeline_file
from mlops.config import PipelineConfig
from mlops.flow import TRIALS, Step, steps_of

_OPERATORS: dict[str, type[StepOperator]] = {
    "validate": ValidateOperator,
    "gate": GateOperator,
    "promote": PromoteOperator,
}  # those with links
LIGHT, HEAVY, WHOLE = timedelta(hours=1), timedelta(hours=12), timedelta(hours=24)
# What trains waits for its turn here: the pool's slots are the GPUs, the queue's workers the machines that have them.
GPU: dict[str, Any] = {"pool": POOL, "queue": POOL}
# KubernetesExecutor makes their pods from this template, with a GPU; other executors do not look at it.
if os.environ.get("EVERGREEN_GPU_POD"):
    GPU["executor_config"] = {"pod_template_file": os.environ["EVERGREEN_GPU_POD"]}
# An Airflow task may die of what is not its step's fault: a lost worker, a service that was away for a moment.
RETRIES = {
    "retries": 1,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=5),
}


def dags(folder: Path, fileloc: str) -> Iterator[DAG]:
    """The DAG of every pipeline file in a folder; a faulty file breaks its own alone.

    fileloc: the DAG file that Airflow parses again on its workers.
    """
    taken: set[str] = set()
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            config = pipeline_file.load(path)
            if f"retrain_{config.name}" in taken:
                raise ValueError(f"name: found {config.name!r}, which another pipeline file of {folder} has already")
            require_providers(config)
            dag = retrain_dag(path, config)
            dag.validate()
        except Exception as error:  # whatever is wrong with one file must not hide the other pipelines
            dag = broken_dag(path, str(error) or type(error).__name__, taken)
        taken.add(dag.dag_id)
        dag.fileloc = fileloc
        yield dag


def retrain_dag(path: Path, config: PipelineConfig) -> DAG:
    """`retrain_NAME`: start >> one Airflow task per step, in the table's order >> finish."""
    given = defaults(config)
    with DAG(
        dag_id=f"retrain_{config.name}",
        description=f"Retrains {config.name} ({config.task})",
        doc_md=_document(path, config),
        schedule=schedule_of(config),
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=WHOLE + timedelta(hours=config.approval_hours),
        default_args=RETRIES,
        tags=["evergreen", config.task],
    ) as dag:
        start = StartOperator(
            task_id=START,
            pipeline_path=str(path.resolve()),
            given=given,
            tuned=config.tune is not None,
            execution_timeout=LIGHT,
            doc_md="Pin everything.",
        )
        tasks = [
            task
            for before, step in pairwise((None, *steps_of(config)))
            for task in _airflow_tasks(step, before, config.name)
        ]
        tasks.append(approval(config.name, config.approval_hours, LIGHT))
        finish = FinishOperator(task_id=FINISH, execution_timeout=LIGHT, doc_md="Reports, MLflow, the summary.")
        # One after the other although evaluate_champion could run beside fine_tune: the memory of one model at a time,
        # and no latency measured while another step takes the cores.
        for one, next_one in pairwise((start, *tasks, finish)):
            one >> next_one
        # However a retrain ends it is written down. on_failure_fail_dagrun would make `finish` the only task that decides
        # the run's state, and a failed retrain whose report was written would be green.
        finish.as_teardown(setups=start, on_failure_fail_dagrun=False)
    # Now, for every Airflow task would copy the whole form when it is made; and past the check of its defaults, which are
    # the pipeline file's own and checked when it was read: it takes longer than all the rest of fifty pipelines.
    object.__setattr__(dag, "params", ParamsDict(trigger_form(config)))
    return dag


def _airflow_tasks(step: Step, before: Step | None, name: str) -> list[Any]:
    """The Airflow tasks of one step; a search has its workers before it."""
    earlier = before.name if before else None
    where = GPU if step.name == "fine_tune" else {}
    task = _OPERATORS.get(step.name, StepOperator)(
        task_id=step.name,
        step_name=step.name,
        before=earlier,
        execution_timeout=HEAVY if step.loads_model else LIGHT,
        doc_md=step.doc,
        outlets=[champion_alias(name)] if step.name == "promote" else [],
        **where,
    )
    if step.name != "tune":
        return [task]
    workers = WorkersOperator(
        task_id="tune_workers",
        before=str(earlier),
        execution_timeout=LIGHT,
        doc_md="How many workers share the trials.",
    )
    trials = TrialsOperator.partial(
        task_id=TRIALS.name, before=earlier, execution_timeout=HEAVY, doc_md=TRIALS.doc, **GPU
    ).expand(worker=workers.output)
    return [workers, trials, task]


def broken_dag(path: Path, faults: str, taken: set[str]) -> DAG:
    """A DAG that says what is wrong with its pipeline file, where people look for the pipeline."""
    dag_id = "retrain_" + re.sub(r"[^A-Za-z0-9_.-]", "-", path.stem)
    dag_id = dag_id if dag_id not in taken else f"{dag_id}_broken"
    doc = f"The pipeline file `{path}` cannot be used:\n\n```\n{faults}\n```\n"
    with DAG(dag_id=dag_id, schedule=None, catchup=False, doc_md=doc, tags=["evergreen", "broken"]) as dag:
        BrokenOperator(task_id="check", faults=faults, execution_timeout=LIGHT)
    return dag


def _watched(config: PipelineConfig) -> str:
    every = config.data.watch
    return f", which new files at the source give (looked for every {every:g} s)" if every else ""


def _document(path: Path, config: PipelineConfig) -> str:
    steps = "\n".join(f"| `{step.name}` | {step.doc} |" for step in steps_of(config))
    source = config.data.source or config.data.splits
    return f"""\
### {config.name}
Keeps a model for **{config.task}** fresh, as `pipelines/{path.name}` says: labelled text from `{source}`, fine-tuned from
`{config.model.base}`. A candidate is registered when {config.gate.metric} reaches {config.gate.floor:g} and is not more than
{config.gate.margin:g} below the champion on the same rows; promotion: {config.promote}.

It starts by hand, by its cron, and by an event of the asset `evergreen://data/{config.name}`{_watched(config)}. A promotion is an
event of `evergreen://champion/{config.name}`.

| step | |
|---|---|
{steps}

Where to look: the value of `finish` (its XCom) is the whole summary with links to the gate report and Data Docs; in MLflow
the experiment and the registered model are both named `{config.name}`.
A step that ends the retrain stays green and the later ones are skipped, unless data or candidate were rejected: then it
fails, with the reason at the end of its log.
"""
