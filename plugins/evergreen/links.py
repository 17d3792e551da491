"""Links from an Airflow task to what a person reads next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import BaseOperatorLink


class ToldLink(BaseOperatorLink):
    """An address that the Airflow task has pushed as XCom under `key`; none where it has pushed none.

    Airflow calls it on the worker when the Airflow task ends, and keeps the address under a key of its own: so it is read
    from another one.
    """

    name = "a link"
    key = ""

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        return str(ti_key.xcom_pull(task_ids=operator.task_id, key=self.key) or "")


class DataDocsLink(ToldLink):
    """From `validate` to the pages that say what was found in the data."""

    name, key = "Data Docs", "data_docs"


class MlflowRunLink(ToldLink):
    """To the retrain's run in MLflow."""

    name, key = "MLflow run", "mlflow_run"


class GateReportLink(ToldLink):
    """To the report that says why a candidate was let in or not."""

    name, key = "Gate report", "gate_report"


class VersionLink(ToldLink):
    """From `promote` to the registered version with its model card."""

    name, key = "Registered version", "version"


class ComparisonLink(ToldLink):
    """To MLflow's page that shows two versions side by side."""

    name, key = "MLflow comparison", "comparison"


def tell(ti: Any, addresses: Mapping[type[ToldLink], str | None]) -> None:
    """Pushes what the links lead to; those without an address lead nowhere and are left out."""
    for link, address in addresses.items():
        if address:
            ti.xcom_push(link.key, address)
