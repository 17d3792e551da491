"""tune: base model and hyper-parameters by trials on the validation rows; the test rows are not looked at."""

from __future__ import annotations

import logging
from typing import Any

from mlops.config import PipelineConfig
from mlops.config_tune import TuneSection
from mlops.errors import UserError
from mlops.tasks import get
from mlops.training.base import pin
from mlops.tuning import runs
from mlops.tuning.choice import no_choice
from mlops.tuning.rows import part_of, read_by
from mlops.tuning.space import chosen
from mlops.tuning.study import Search, Ticket
from mlops.tuning.trial import Ended, attempt
from mlops.types import Base, Run, Snapshot, Study, Tuned

log = logging.getLogger("evergreen")


def tune(config: PipelineConfig, snapshot: Snapshot, base: Base, run: Run) -> Tuned | None:
    """Runs the trials that are left and gives the best; none without a tune section.

    base: that of model.base, as pinned for this run. Raises UserError where no trial was completed, BaseModelError for a
    base that cannot be used.
    """
    if config.tune is None:
        return None
    tune_trials(config, snapshot, base, run)
    bases = _pinned(config.tune, base)
    search = Search(config, config.tune, snapshot, bases, run)
    best, standing = search.best(), search.standing()
    if best is None:
        ends = [trial for trial in search.trials() if not trial.user_attrs.get("void")]
        failed = [trial.user_attrs.get("reason", "") for trial in ends if trial.state.name == "FAIL"]
        raise no_choice(search.name, config.tune.timeout, failed, standing.pruned)
    own, train = chosen(config.tune, bases, best.params)
    log.info("tune: trial %d is the best of %d: %s %.4f", best.number, len(search.trials()), train, best.value)
    return Tuned(
        base=own,
        train=train,
        metric=config.gate.metric,
        value=best.value,
        trial=best.number,
        study=standing,
        snapshot=read_by(snapshot, base, own, config.model.max_length, get(config.task_key)),
    )


def tune_trials(config: PipelineConfig, snapshot: Snapshot, base: Base, run: Run) -> Study:
    """One worker of a study: takes trials until there are no more to take or the minutes are over.

    As many of them as one likes share a study. Raises UserError without a tune section or without validation rows.
    """
    if config.tune is None:
        raise UserError("tune_trials: the pipeline file has no tune section")
    if not snapshot.rows.get("validation"):
        raise UserError(
            f"tune: the snapshot has no rows in validation, by which trials are judged; it has {snapshot.rows}"
        )
    bases = _pinned(config.tune, base)
    rows = {
        each.uri: part_of(
            read_by(snapshot, base, each, config.model.max_length, get(config.task_key)), config.tune.rows
        )
        for each in bases
    }
    search = Search(config, config.tune, snapshot, bases, run)
    while True:
        with search.next() as ticket:
            if ticket is None:
                return search.standing()
            _trial(config, config.tune, search, ticket, bases, rows, run)


def _trial(
    config: PipelineConfig,
    tune: TuneSection,
    search: Search,
    ticket: Ticket,
    bases: tuple[Base, ...],
    rows: dict[str, Snapshot],
    run: Run,
) -> None:
    """Runs one trial and tells the study and MLflow how it ended."""
    own, train = chosen(tune, bases, ticket.trial.params)
    params: dict[str, Any] = {f"train.{key}": value for key, value in train.items()} | {"base": own.uri}
    run_id = runs.open_run(run.mlflow_run_id, search.name, ticket.trial.number, params)
    ticket.trial.set_user_attr("run", run_id)
    log.info("tune: trial %d: %s on %s", ticket.trial.number, train, own.uri)
    ended = attempt(config, rows[own.uri], own, train, run.model_copy(update={"mlflow_run_id": run_id}), ticket)
    _tell(search, ticket, ended)
    runs.close_run(run_id, ended.state, ended.reason, ended.value)
    said = f"{config.gate.metric} {ended.value:.4f}" if ended.value is not None else ended.reason
    log.info("tune: trial %d %s: %s", ticket.trial.number, ended.state, said)


def _tell(search: Search, ticket: Ticket, ended: Ended) -> None:
    from optuna.trial import TrialState

    if ended.reason:
        ticket.trial.set_user_attr("reason", ended.reason[:2000])
    if ended.state == "complete":
        search.study.tell(ticket.trial, ended.value)
    else:
        search.study.tell(ticket.trial, state=TrialState.PRUNED if ended.state == "pruned" else TrialState.FAIL)


def _pinned(tune: TuneSection, base: Base) -> tuple[Base, ...]:
    """The bases that are tried, that of the run among them as it was pinned."""
    return tuple(base if uri == base.uri else pin(uri) for uri in tune.bases) or (base,)
