"""Links from an Airflow task to what a person reads next."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperatorLink

DATA_DOCS = "data_docs"  # the XCom that holds the address


class DataDocsLink(BaseOperatorLink):
    """From `validate` to the pages that say what was found in the data.

    Airflow calls it on the worker when the Airflow task ends, and keeps the address under a key of its own: so it is read
    from another one.
    """

    name = "Data Docs"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        return str(ti_key.xcom_pull(task_ids=operator.task_id, key=DATA_DOCS) or "")
