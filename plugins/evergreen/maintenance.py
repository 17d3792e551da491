"""The DAG `maintenance`: what no release, no ledger entry and no recent retrain needs is removed, daily."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, BaseOperator, CronTriggerTimetable, Param
from airflow.sdk.exceptions import AirflowFailException

from evergreen.process import begin_task
from mlops.errors import UserError

log = logging.getLogger("evergreen")

_DOC = """\
### maintenance
Removes old versions with their files, MLflow runs, the store's artifacts and this machine's copies that nothing needs
any more. The champion, the version before it, the candidate, what served within the days and the last versions of
each model stay, with the snapshots, judgements and weights that they need; so does what any step made or asked for
within the days, and the ledger whole.

It may run beside a retrain, and a run that was killed is finished by the next. By hand: `mlops gc --dry-run`.
"""


class CollectOperator(BaseOperator):
    """Its value: {"rule", "dry_run", "freed": {kind: {"count", "bytes"}}, "bytes", "stays"}; each removal is in its
    log."""

    ui_color = "#ece8e0"

    def execute(self, context: Any) -> dict[str, Any]:
        from mlops.reports.table import grid
        from mlops.retention.collect import collect, render
        from mlops.retention.rule import Rule

        begin_task()
        asked = context["params"]
        try:
            found = collect(Rule(int(asked["keep"]), float(asked["days"])), bool(asked["dry_run"]))
        except UserError as error:
            raise AirflowFailException(str(error)) from error
        for line in render(found, grid).splitlines():
            log.info("%s", line)
        # Thousands of names would be an XCom of megabytes; they are in the log.
        return {key: value for key, value in found.items() if key != "removed"} | {"removed": len(found["removed"])}


def maintenance_dag() -> DAG:
    """`maintenance`: daily at 04:17 UTC once somebody has unpaused it, and by hand."""
    form = {
        "keep": Param(
            5, type="integer", minimum=1, title="Keep", description="The last so many versions of each model."
        ),
        "days": Param(
            90,
            type="number",
            minimum=1,
            title="Days",
            description="What served, was made or was used within so many days stays.",
        ),
        "dry_run": Param(False, type="boolean", title="Only tell", description="Say what would go; remove nothing."),
    }
    with DAG(
        dag_id="maintenance",
        description="Removes what nothing needs any more",
        doc_md=_DOC,
        schedule=CronTriggerTimetable("17 4 * * *", timezone="UTC", run_immediately=timedelta(0)),
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(hours=12),
        params=form,
        tags=["evergreen"],
    ) as dag:
        CollectOperator(task_id="collect", execution_timeout=timedelta(hours=11), retries=1, doc_md=_DOC)
    return dag
