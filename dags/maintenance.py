"""The Airflow DAG `maintenance`: removes what no release, ledger entry or recent retrain needs, daily and by a form."""

from __future__ import annotations

from evergreen.maintenance import maintenance_dag

dag = maintenance_dag()
