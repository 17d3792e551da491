"""The order of the steps, where a retrain stops, and running all of it without Airflow.

One retrain, top to bottom: `start` pins the champion and the base model; each step of `mlops.flow` takes values by name and
gives one; `stop` says after which step it ends early and why; `mlops.summary.finish` writes down what happened. The DAG
walks the same table and calls the same functions.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlops import types
from mlops.code import code_sha256, libraries
from mlops.config import PipelineConfig
from mlops.cost.meter import Meter
from mlops.cost.value import Cost
from mlops.errors import EvergreenError, NotFound, Rejected
from mlops.flow import Step, steps_of
from mlops.store import open_store
from mlops.tuning.choice import as_tuned
from mlops.types import Release, Run, RunOutcome, Selection, Snapshot, Verdict

log = logging.getLogger("evergreen")

Values = dict[str, Any]


@dataclass
class Result:
    """A step's output with what it cost; reused: taken from an earlier run with equal inputs, at no cost."""

    output: Any
    seconds: float
    reused: bool = False
    cost: Cost | None = None


@dataclass
class Stop:
    """Why a retrain ends after a step."""

    outcome: RunOutcome
    reason: str
    verdicts: tuple[Verdict, ...] = field(default=())


def start(config: PipelineConfig, force: bool = False, airflow: Mapping[str, str] | None = None) -> Run:
    """Opens a retrain: repairs what a crash left, pins the champion and the base model, opens the MLflow run."""
    from mlops import registry, tracking
    from mlops.reconcile import reconcile
    from mlops.training.base import pin

    base = pin(config.model.base)
    for uri in config.tune.bases if config.tune else ():
        pin(uri)  # one that cannot be used is told before there is work to lose
    reconcile(config.name)
    retrain_id = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:6]}"
    tags = {"evergreen.retrain_id": retrain_id} | {f"airflow.{key}": value for key, value in (airflow or {}).items()}
    return Run(
        retrain_id=retrain_id,
        pipeline=config.name,
        champion=registry.champion(config.name),
        base=base,
        force=force,
        mlflow_run_id=tracking.start_run(config, retrain_id, tags),
        airflow=dict(airflow or {}),
    )


def _input(name: str, run: Run, values: Mapping[str, Any]) -> Any:
    head, _, attribute = name.partition(".")
    if head != "run" and head not in values:
        raise NotFound(f"the value {head!r} was not handed over; there are: {', '.join(values) or 'none'}")
    value = run if head == "run" else values[head]
    return getattr(value, attribute) if attribute else value


def run_step(
    step: Step, config: PipelineConfig, run: Run, values: Mapping[str, Any], spent: dict[str, Cost] | None = None
) -> Result:
    """Runs one step on values that have their types, or gives the earlier output for equal inputs and equal code.

    spent: takes the cost by the step's name, also of a step that raises.
    """
    inputs = {parameter: _input(name, run, values) for parameter, name in step.inputs.items()}
    if "tuned" in step.optional:
        config, inputs = as_tuned(config, inputs, values.get(step.optional["tuned"]))
    started = time.perf_counter()
    store = open_store()
    # The run itself says when and where, not what: it is no part of what decides the output.
    decisive = {parameter: value for parameter, value in inputs.items() if step.inputs[parameter] != "run"}
    if step.name == "fine_tune" and config.train.warm_start and run.champion:
        decisive["start"] = run.champion.model.parent_sha256
    sections = config.model_dump(mode="json", by_alias=True, include=_fields(step.sections))
    key = types.identity(
        {
            "step": step.name,
            "code": code_sha256(),
            "task": config.task_key,
            "sections": sections,
            "inputs": decisive,
        }
        | _platform(step)
    )
    document = f"steps/{step.name}/{key}"
    if step.memo and not run.force and (earlier := _recall(store.read_document(document), step.type)):
        log.info("%s: reused, its inputs are those of an earlier run", step.name)
        seconds = time.perf_counter() - started
        free = Cost(seconds=round(seconds, 3), cpu_seconds=0.0)
        return Result(earlier["output"], seconds, reused=True, cost=free)
    log.info("%s: started", step.name)
    meter = Meter(step.name)
    try:
        with meter:
            output = step.function(config, **inputs)
    finally:
        if spent is not None and meter.cost:
            spent[step.name] = meter.cost
    if step.memo:
        dumped = output.model_dump(mode="json") if output is not None else None
        store.write_document(document, {"output": dumped})
    seconds = time.perf_counter() - started
    log.info("%s: done in %.1f s", step.name, seconds)
    return Result(output, seconds, cost=meter.cost)


def _platform(step: Step) -> dict[str, Any]:
    """What else decides the output of a step that computes with a model: libraries, and how the processor computes."""
    from mlops.serving.cpu import computes_bf16, saturates

    found = {"libraries": libraries(), "saturates": saturates(), "bf16": computes_bf16()}
    return found if step.loads_model else {}


def _fields(sections: tuple[str, ...]) -> set[str]:
    return {"validate_" if name == "validate" else name for name in sections}


def _recall(document: Any, type_name: str) -> dict[str, Any] | None:
    """An earlier output, unless an artifact that it names has gone."""
    if document is None:
        return None
    output = typed(type_name, document["output"])
    store = open_store()
    return {"output": output} if all(store.exists(ref) for ref in types.artifacts(output)) else None


def typed(type_name: str, value: Any) -> Any:
    """JSON back into the design's type; none stays none."""
    if value is None:
        return None
    kind = getattr(types, type_name)
    return value if isinstance(value, kind) else kind.model_validate(value)


def stop(step: Step, config: PipelineConfig, run: Run, values: Mapping[str, Any]) -> Stop | None:
    """Whether the retrain ends after this step, and why."""
    output: Any = values.get(step.output)
    if step.name == "source" and not run.force and output.new_rows is not None:
        return _too_few(config, output)
    if step.name == "validate" and output.outcome != "pass":
        return Stop("rejected", output.explain())
    if step.name == "prepare" and not run.force and run.champion:
        return _unchanged(config, run, run.champion, output)
    if step.name == "gate" and output.outcome != "pass":
        return Stop(_missed(output), output.explain())
    if step.name == "verify" and output.chosen is None:
        return _nothing_ships(output)
    if step.name == "promote":
        return Stop(output.outcome, output.reason)
    return None


def _too_few(config: PipelineConfig, raw: Snapshot) -> Stop | None:
    least = config.data.min_new_rows
    if raw.new_rows is None or raw.new_rows >= least:
        return None
    return Stop(
        "skipped",
        f"{raw.new_rows} new rows since the last retrain; data.min_new_rows is {least}; --force retrains anyway",
    )


def _unchanged(config: PipelineConfig, run: Run, champion: Release, snapshot: Snapshot) -> Stop | None:
    model = champion.model
    ours = (snapshot.revision, config.fingerprint)
    theirs = (model.snapshot_sha256, model.config_sha256)
    if ours != theirs or model.base_model.rpartition("@")[2] not in _bases(config, run):
        return None
    return Stop("skipped", f"snapshot, config and base model equal those of the champion, version {champion.version}")


def _bases(config: PipelineConfig, run: Run) -> set[str]:
    """Digests of the base models that a candidate may come from: after a search it is one of several."""
    from mlops.training.base import pin

    others = config.tune.bases if config.tune else ()
    return {pin(uri).sha256 for uri in others if uri != run.base.uri} | (
        {run.base.sha256} if not others or run.base.uri in others else set()
    )


def _missed(verdict: Verdict) -> RunOutcome:
    """rejected where an absolute rule failed, held where the comparison with the champion did, else inconclusive."""
    from mlops.judgement import RELATIVE

    failed = [check.name for check in verdict.checks if check.outcome == "fail"]
    if not failed:
        return "inconclusive"
    return "held" if all(name in RELATIVE for name in failed) else "rejected"


def _nothing_ships(selection: Selection) -> Stop:
    every = (*selection.verdicts.values(), *selection.proofs.values())
    judged = [verdict for verdict in every if verdict.outcome != "pass"]
    outcomes = [_missed(verdict) for verdict in judged]
    # A file that only the comparison kept out says more about the candidate than one that broke a limit.
    outcome: RunOutcome = next((name for name in ("inconclusive", "held") if name in outcomes), "rejected")
    text = "\n".join(verdict.explain() for verdict in judged)
    return Stop(outcome, f"no file may ship\n{text}")


def run(config: PipelineConfig, force: bool = False) -> dict[str, Any]:
    """One whole retrain in this process; the summary as `mlops run --json` prints it.

    Raises UserError and EvergreenError; a rejected data set or candidate is an outcome, not an exception.
    """
    from mlops.summary import finish

    this = start(config, force)
    values: Values = {}
    seconds: dict[str, float] = {}
    costs: dict[str, Cost] = {}
    ending: Stop | None = None
    try:
        for step in steps_of(config):
            result = run_step(step, config, this, values, costs)
            values[step.output], seconds[step.name] = result.output, result.seconds
            costs |= {step.name: result.cost} if result.cost else {}
            ending = stop(step, config, this, values)
            if ending:
                break
    except Rejected as error:
        ending = Stop("rejected", str(error), (error.verdict,))
        seconds = timed(seconds, costs)
    except BaseException as error:
        _abandon(config, this, timed(seconds, costs), costs, error)
        raise
    if ending is None:
        raise EvergreenError("the last step ended without an outcome")
    return finish(config, this, values, seconds, ending, costs)


def timed(seconds: Mapping[str, float], costs: Mapping[str, Cost]) -> dict[str, float]:
    """Seconds of the steps that ended, then of the one that raised: it has a cost and no result."""
    return {**seconds, **{name: cost.seconds for name, cost in costs.items() if name not in seconds}}


def _abandon(
    config: PipelineConfig, this: Run, seconds: Mapping[str, float], costs: Mapping[str, Cost], error: BaseException
) -> None:
    """Ends the MLflow run as failed, so that nobody takes it for one still running, and says what it cost."""
    from mlops.summary import fail

    try:
        fail(config, this, seconds, f"{type(error).__name__}: {error}", costs)
    except Exception as second:  # a full disk, say; the first error is the one to tell
        log.warning("the end of the retrain %s was not written down: %s", this.retrain_id, second)
