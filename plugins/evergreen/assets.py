"""What starts a retrain and what it gives, as Airflow's assets: a pipeline's data and its champion."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, AssetAlias, AssetOrTimeSchedule, AssetWatcher, CronTriggerTimetable

from mlops.config import PipelineConfig
from mlops.config_data import SplitSources
from mlops.types import Promotion, Run


def data_asset(config: PipelineConfig) -> Asset:
    """`evergreen://data/NAME`: an event of it, by a watcher, another DAG or `POST /assets/events`, starts a retrain."""
    watchers = []
    if config.data.watch is not None:
        from evergreen.watch import SourceTrigger

        trigger = SourceTrigger(sources(config), config.data.watch)
        watchers = [AssetWatcher(name=f"evergreen_watch_{config.name}", trigger=trigger)]
    return Asset(name=f"evergreen_data_{config.name}", uri=f"evergreen://data/{config.name}", watchers=watchers)


def sources(config: PipelineConfig) -> list[str]:
    """Where new rows may come: the source, or train where each split has one."""
    splits = config.data.splits
    return [splits.train] if isinstance(splits, SplitSources) else [str(config.data.source)]


def schedule_of(config: PipelineConfig) -> Any:
    """The data asset, and the pipeline's cron in UTC where it has one, whichever comes first.

    Without a start date and with nothing to run at once, unpausing a DAG never starts a surprise run.
    """
    data = data_asset(config)
    if config.schedule is None:
        return [data]
    if config.schedule == "@once":
        return config.schedule
    cron = CronTriggerTimetable(config.schedule, timezone="UTC", run_immediately=timedelta(0))
    return AssetOrTimeSchedule(timetable=cron, assets=[data])


def champion_alias(name: str) -> AssetAlias:
    """What the Airflow task `promote` may give: only a promotion is an event."""
    return AssetAlias(name=f"evergreen_champion_{name}")


def promoted_facts(run: Run, promotion: Promotion) -> dict[str, Any]:
    """The lineage of a promotion: what serves, what it replaces, the data that it learned from."""
    release = promotion.release
    return {
        "model": release.name,
        "version": release.version,
        "variant": release.variant,
        "replaces": release.replaces,
        "snapshot": release.model.snapshot_sha256,
        "sha256": release.model.files.sha256,
        "retrain": run.retrain_id,
        "mlflow_run": run.mlflow_run_id,
        "metrics": {name: metric.value for name, metric in release.evaluation.metrics.items()},
    }


def tell_promotion(context: Any, name: str, facts: Mapping[str, Any]) -> None:
    """An event of `evergreen://champion/NAME` with the lineage of what serves now."""
    champion = Asset(name=f"evergreen_model_{name}", uri=f"evergreen://champion/{name}")
    context["outlet_events"][champion_alias(name)].add(champion, extra=dict(facts))
