"""The Airflow task that asks a person whether a release may serve, and does what was answered."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from evergreen.assets import champion_alias, promoted_facts, tell_promotion
from evergreen.notify import links_of, send
from evergreen.process import begin_task
from mlops.config import PipelineConfig
from mlops.errors import Rejected, UserError
from mlops.types import Promotion, Run

log = logging.getLogger("evergreen")

APPROVAL, APPROVE, REJECT = "approval", "Approve", "Reject"


class ApprovalOperator(HITLOperator):
    """Waits for a person, without a worker, where the retrain asks for one; after hours without an answer the release is held.

    Its value: {"outcome": promoted or held, "reason", "who"}; both answers are in the ledger.
    """

    ui_color = "#f4ecd8"

    def __init__(self, *, hours: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hours = hours

    def execute(self, context: Any) -> Any:
        begin_task()
        promotion = _promotion(context["ti"])
        if promotion is None or promotion.outcome != "awaiting_approval":
            raise AirflowSkipException("nobody needs to be asked")
        config, run = _opened(context["ti"])
        release = promotion.release
        self.subject = f"May {release.name} version {release.version} serve?"
        self.body = _body(config, run, promotion)
        # The gate report is written when the retrain has ended.
        links = links_of(run, (release.name, release.version)) | {"gate report": None}
        send(config, "awaiting_approval", _asked(config, promotion), links, context)
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        begin_task()
        answer = super().execute_complete(context, event)
        promotion = _promotion(context["ti"])
        assert promotion is not None
        person = answer["responded_by_user"]
        who = person["name"] if person else None
        reason = str(answer["params_input"].get("reason") or "").strip()
        decision = decide(promotion, APPROVE in answer["chosen_options"], who, reason, self.hours)
        if decision["outcome"] == "promoted":
            config, run = _opened(context["ti"])
            tell_promotion(context, config.name, promoted_facts(run, promotion))
        return decision


def approval(name: str, hours: float, execution_timeout: timedelta) -> ApprovalOperator:
    """The Airflow task. name: of the pipeline. hours: until no answer counts as no."""
    title = "Kept in the ledger for good."
    return ApprovalOperator(
        task_id=APPROVAL,
        subject="May this release serve?",
        options=[APPROVE, REJECT],
        defaults=[REJECT],
        params={"reason": Param("", type="string", title="Reason", description=title)},
        response_timeout=timedelta(hours=hours),
        hours=hours,
        execution_timeout=execution_timeout,
        outlets=[champion_alias(name)],
        doc_md="A person's yes or no, where `promote: approval` asks for one.",
    )


def decide(promotion: Promotion, approved: bool, who: str | None, reason: str, hours: float) -> dict[str, str | None]:
    """Moves the champion or writes a hold. who: none where nobody answered in time."""
    from mlops import promotion as moves

    release = promotion.release
    if not approved:
        why = f"rejected: {reason or 'no reason given'}" if who else f"nobody answered within {hours:g} hours"
        moves.hold(release.name, release.version, f"{why} (version {release.version})", who=who)
        if who:  # what nobody looked at goes on waiting
            moves.unset_candidate(release.name, release.version)
        return {"outcome": "held", "reason": why, "who": who}
    try:
        moves.promote(release.name, release.version, reason or "approved in Airflow", who=who)
    except (UserError, Rejected) as error:
        raise AirflowFailException(str(error)) from error
    return {"outcome": "promoted", "reason": f"approved by {who}: {reason or 'no reason given'}", "who": who}


def _asked(config: PipelineConfig, promotion: Promotion) -> dict[str, Any]:
    """As much of a retrain's summary as there is before its end."""
    from mlops.summary import evaluated

    release = promotion.release
    return {
        "pipeline": config.name,
        "reason": f"{promotion.reason}; without an answer within {config.approval_hours:g} hours it does not serve",
        "candidate": evaluated(release.evaluation, release.variant),
        "release": {"name": release.name, "version": release.version, "variant": release.variant},
    }


def _promotion(ti: Any) -> Promotion | None:
    value = ti.xcom_pull(task_ids="promote")
    return Promotion.model_validate(value) if value else None


def _opened(ti: Any) -> tuple[PipelineConfig, Run]:
    value = ti.xcom_pull(task_ids="start")
    return PipelineConfig.model_validate(value["config"]), Run.model_validate(value["run"])


def _body(config: PipelineConfig, run: Run, promotion: Promotion) -> str:
    """What a person needs to decide, in Markdown: the sentence of each verdict, the metric beside the champion's, links."""
    from mlops.tracking import artifact_url, run_url, version_url

    release = promotion.release
    metric = release.evaluation.metrics.get(config.gate.metric)
    measured = (
        f"{metric.value:.4f} [{metric.low:.4f}, {metric.high:.4f}] on {metric.n} test rows" if metric else "unknown"
    )
    lines = [
        f"**{config.gate.metric}**: {measured}; file `{release.variant}`, {release.evaluation.size / 1e6:.1f} MB, "
        f"p95 {release.evaluation.latency.p95:.1f} ms. Beside: "
        + (f"version {release.replaces}." if release.replaces else "no champion yet."),
        "",
        "| judged | outcome | checks |",
        "|---|---|---|",
    ]
    for verdict in release.verdicts:
        told = "; ".join(f"{check.name}: {check.observed} (allowed {check.allowed})" for check in verdict.checks[:6])
        lines.append(f"| {verdict.subject} | {verdict.outcome} | {told.replace('|', '/')} |")
    links = {
        "model card": version_url(release.name, release.version),
        "MLflow run": run_url(run.mlflow_run_id),
        "Data Docs": artifact_url(run.mlflow_run_id, "data_docs/index.html"),
        "this Airflow run": run.airflow.get("url"),
    }
    named = [f"[{name}]({address})" for name, address in links.items() if address]
    return "\n".join([*lines, "", " · ".join(named) or f"`mlops explain {config.name}` shows the whole record."])
