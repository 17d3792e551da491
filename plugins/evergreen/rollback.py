"""The DAG `rollback`: a form, and one Airflow task that asks the earlier release again before it serves."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, BaseOperator, Param
from airflow.sdk.exceptions import AirflowFailException

from evergreen.links import VersionLink, tell
from evergreen.notify import send
from evergreen.operators import airflow_facts
from evergreen.process import begin_task
from mlops import config as pipeline_file
from mlops.commands import name_of
from mlops.errors import Rejected, UserError

log = logging.getLogger("evergreen")

_DOC = """\
### rollback
Lets a version serve that served before. It is loaded and asked again in a clean process first (infra validation);
where it does not answer as it did when it was judged, nothing is moved. Running servers swap to it within seconds,
between two requests. Newer versions are not looked at: their files may be lost.

The ledger has who asked for it and why: `mlops releases MODEL`. By hand: `mlops rollback MODEL --reason R [--to
VERSION]`.
"""


class RollbackOperator(BaseOperator):
    """Moves a model's champion back. Its value: {"model", "version"}, the version that serves now."""

    ui_color = "#f4ecd8"
    operator_extra_links = (VersionLink(),)

    def __init__(self, *, files: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.files = dict(files)

    def execute(self, context: Any) -> dict[str, str]:
        from mlops.rollback import rollback
        from mlops.tracking import version_url

        begin_task()
        asked = context["params"]
        who = getattr(context.get("dag_run"), "triggering_user_name", None)
        try:
            version = rollback(name_of(asked["model"]), asked["reason"], asked["to"] or None, who)
        except (UserError, Rejected) as error:  # trying again would find the same
            raise AirflowFailException(str(error)) from error
        log.info("%s is back at version %s", asked["model"], version)
        tell(context["ti"], {VersionLink: version_url(asked["model"], version)})
        self._notify(context, asked["model"], version, f"{asked['reason']} ({who or 'nobody named'})")
        return {"model": asked["model"], "version": version}

    def _notify(self, context: Any, name: str, version: str, reason: str) -> None:
        """Whom the model's pipeline file names, where there is one."""
        from mlops import settings
        from mlops.tracking import version_url

        if name not in self.files:
            return
        try:
            config = pipeline_file.load(self.files[name])
        except UserError as error:  # it was changed since; the rollback is done
            log.warning("notify: nobody is told: %s", error)
            return
        release = {"name": name, "version": version}
        links = {
            "this Airflow run": airflow_facts(context)["url"],
            "model card": version_url(name, version),
            "server": settings.current().serve_url,
        }
        send(config, "rolled_back", {"pipeline": name, "reason": reason, "release": release}, links, context)


def rollback_dag(files: Mapping[str, str]) -> DAG:
    """`rollback`: triggered by hand alone. files: pipeline files by name, which the form suggests; any other may be
    typed."""
    models = list(files)
    form = {
        "model": Param(
            models[0] if len(models) == 1 else None,
            type="string",
            minLength=1,
            examples=list(models),
            title="Model",
            description="The registered model: a pipeline's name.",
        ),
        "to": Param(
            None,
            type=["null", "string"],
            pattern=r"^[0-9]+$",
            title="Version",
            description="One that served before; empty is the last of them.",
        ),
        "reason": Param(
            None, type="string", minLength=3, title="Reason", description="Why; it is kept in the ledger for good."
        ),
    }
    with DAG(
        dag_id="rollback",
        description="Lets a version serve again that served before",
        doc_md=_DOC,
        schedule=None,
        is_paused_upon_creation=False,  # nobody should have to look for a switch in an emergency
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(hours=1),
        params=form,
        tags=["evergreen"],
    ) as dag:
        RollbackOperator(task_id="rollback", files=files, execution_timeout=timedelta(minutes=45), doc_md=_DOC)
    return dag
