"""The pool that trainings wait in, made where it is missing: Airflow never starts a task whose pool is not there."""

from __future__ import annotations

import logging
from typing import Any

from airflow.listeners import hookimpl

log = logging.getLogger("evergreen")

POOL, SLOTS = "gpu", 1
_TOLD = "Trainings at once: as many as there are GPUs for them."


@hookimpl
def on_starting(component: Any) -> None:
    """When a component with Airflow's database starts; how many slots the pool has by then is left as it is."""
    from airflow.jobs.job import Job

    if not isinstance(component, Job):  # a task, which has no database
        return
    from airflow.models.pool import Pool
    from sqlalchemy.exc import IntegrityError

    if Pool.get_pool(POOL) is not None:
        return
    try:
        Pool.create_or_update_pool(POOL, SLOTS, _TOLD, include_deferred=False)
    except IntegrityError:  # two components at once
        return
    log.info("made the pool %s with %d slot", POOL, SLOTS)
