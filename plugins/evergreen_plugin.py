"""What Airflow finds of Evergreen in its folder of plugins."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin
from evergreen import pool


class EvergreenPlugin(AirflowPlugin):
    """The pool `gpu`."""

    name = "evergreen"
    listeners = [pool]  # noqa: RUF012 - as Airflow declares it
