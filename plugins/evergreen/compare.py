"""The DAG `compare`: a form, and one Airflow task that compares two registered versions in a process of its own."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, BaseOperator, Param
from airflow.sdk.exceptions import AirflowFailException

from evergreen.links import ComparisonLink, tell
from evergreen.process import Process, begin_task
from mlops.commands import name_of
from mlops.errors import UserError

log = logging.getLogger("evergreen")

_DOC = """\
### compare
Two registered versions of a model on the same test rows, paired: what B gains over A, with an interval. Nothing is
trained, registered or promoted. The rows are those that both were judged on when they came; with "Data as it is now"
both answer the test rows that the pipeline's next retrain would have.

The value of `compare` (its XCom) is what `mlops compare MODEL A B --json` prints; `report` is the same as Markdown.
"""


class CompareOperator(BaseOperator):
    """Its value is that of `mlops compare --json`, its XCom "report" the same for people. files: pipeline files by
    name."""

    ui_color = "#e0ecec"
    operator_extra_links = (ComparisonLink(),)

    def __init__(self, *, files: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.files = dict(files)
        self._child: Process | None = None

    def execute(self, context: Any) -> dict[str, Any]:
        from mlops.compare import newer, render
        from mlops.reports.comparison import markdown

        begin_task()
        asked = context["params"]
        try:
            name = name_of(asked["model"])
            other = asked["b"] or newer(name, asked["a"])
            found = self._run([name, asked["a"], other, *self._data(name, bool(asked["now"]))])
        except UserError as error:  # trying again would find the same
            raise AirflowFailException(str(error)) from error
        for line in render(found).splitlines():
            log.info("%s", line)
        address = _address(found)
        tell(context["ti"], {ComparisonLink: address})
        context["ti"].xcom_push("report", markdown(found, address))
        return found

    def on_kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    def _data(self, name: str, now: bool) -> list[str]:
        if not now:
            return []
        if name not in self.files:
            raise UserError(f"now: no pipeline file is called {name!r}; there are: {', '.join(self.files) or 'none'}")
        return ["--data", self.files[name]]

    def _run(self, arguments: list[str]) -> dict[str, Any]:
        self._child = Process("compare", "compare", ["--end-with-parent", "compare", "--json", *arguments])
        return self._child.run({})


def _address(found: Mapping[str, Any]) -> str | None:
    from mlops import registry
    from mlops.tracking import compare_versions_url

    runs = {row["version"]: row["run_id"] for row in registry.releases(found["model"])}
    return compare_versions_url(found["model"], {each: runs.get(each) for each in _versions(found)})


def _versions(found: Mapping[str, Any]) -> tuple[str, str]:
    return found["a"]["version"], found["b"]["version"]


def compare_dag(pipelines: Mapping[str, str]) -> DAG:
    """`compare`: triggered by hand alone. pipelines: what the form suggests, with their files; any other model may be
    typed."""
    version = r"^[A-Za-z0-9_-]+$"
    form = {
        "model": Param(
            next(iter(pipelines)) if len(pipelines) == 1 else None,
            type="string",
            minLength=1,
            examples=list(pipelines),
            title="Model",
            description="The registered model: a pipeline's name.",
        ),
        "a": Param(
            "champion",
            type="string",
            pattern=version,
            title="Version A",
            description="A number or an alias: what B is compared with.",
        ),
        "b": Param(
            None,
            type=["null", "string"],
            pattern=version,
            title="Version B",
            description="A number or an alias; empty is the candidate, else the newest version beside A.",
        ),
        "now": Param(
            False,
            type="boolean",
            title="Data as it is now",
            description="Score both again on the test rows of the pipeline's data as it is now.",
        ),
    }
    with DAG(
        dag_id="compare",
        description="Two registered versions on the same test rows",
        doc_md=_DOC,
        schedule=None,
        is_paused_upon_creation=False,  # it runs only when somebody asks
        catchup=False,
        max_active_runs=4,
        dagrun_timeout=timedelta(hours=6),
        params=form,
        tags=["evergreen"],
    ) as dag:
        CompareOperator(task_id="compare", files=pipelines, execution_timeout=timedelta(hours=5), doc_md=_DOC)
    return dag
