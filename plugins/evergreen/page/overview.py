"""What the page shows of every pipeline, from its file, the registry, the ledger and the last retrain's MLflow run.

What Airflow knows (the next run, whether one runs) the browser asks Airflow itself.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from mlops import config as pipeline_file
from mlops.config import PipelineConfig
from mlops.errors import EvergreenError
from mlops.types import Release, Value

log = logging.getLogger("evergreen")

SHOWN = 30  # versions in the chart, the newest
AT_ONCE = 4  # pipelines that are looked up at the same time
_making_dags = threading.Lock()  # Airflow keeps the DAG that is being made in one place for all threads


class Point(Value):
    """A registered version. registered: ISO time. low, high: the interval of value, the gate's metric; none without one."""

    version: str
    variant: str
    registered: str
    value: float | None
    low: float | None
    high: float | None
    size_mb: float
    p95_ms: float | None
    address: str | None


class Move(Value):
    """The newest entry of the ledger about what serves. version: what it was about, none for a retrain without one."""

    action: str
    version: str | None
    who: str
    when: str
    reason: str


class Retrain(Value):
    """The last one that ended. words: what its outcome means; sentence: of the judgement that decided, none where there was
    none; money: none without rates.
    """

    outcome: str
    words: str
    sentence: str | None
    reason: str
    ended: str | None
    seconds: float | None
    money: float | None
    currency: str
    address: str | None


class Row(Value):
    """One pipeline. fault: of its file, in words; away: why what follows is missing. history: oldest first. champion and
    candidate: versions. serves_since: ISO time. earlier: versions that a rollback can go to, the last one first.
    """

    name: str
    dag_id: str
    fault: str | None = None
    task: str | None = None
    metric: str | None = None
    away: str | None = None
    champion: Point | None = None
    serves_since: str | None = None
    candidate: str | None = None
    history: tuple[Point, ...] = ()
    earlier: tuple[str, ...] = ()
    moved: Move | None = None
    last: Retrain | None = None


class Overview(Value):
    """pipelines: by name, those with a fault in their file last. mlflow: where a browser finds it."""

    pipelines: tuple[Row, ...]
    mlflow: str | None


class File(NamedTuple):
    """A pipeline file with the DAG that Airflow has for it; either its content or its faults."""

    name: str
    dag_id: str
    config: PipelineConfig | None
    fault: str | None


def folder() -> Path:
    """The folder that the DAGs are made from, as dags/retrain.py has it."""
    return Path(os.environ.get("EVERGREEN_PIPELINES") or Path(__file__).resolve().parents[3] / "pipelines")


def gather(place: Path, readable: Collection[str]) -> Overview:
    """Rows of the pipelines whose DAG is among the readable ones. Never raises for what is wrong with one of them."""
    from mlops import settings

    mine = [file for file in files(place) if file.dag_id in readable]
    away = _mlflow_away() if any(file.config for file in mine) else None
    with ThreadPoolExecutor(AT_ONCE) as pool:
        rows = list(pool.map(lambda file: _row(file, away), mine))
    rows.sort(key=lambda row: (row.fault is not None, row.name))
    return Overview(pipelines=tuple(rows), mlflow=settings.current().mlflow_url)


def files(place: Path) -> Iterator[File]:
    """Every pipeline file of a folder with the id of its DAG; a faulty one with the words that its DAG has."""
    taken: set[str] = set()
    for path in sorted([*place.glob("*.yaml"), *place.glob("*.yml")]):
        try:
            config = pipeline_file.load(path)
            dag_id = f"retrain_{config.name}"
            if dag_id in taken:
                raise ValueError(f"name: found {config.name!r}, which another pipeline file has already")
            file = File(config.name, dag_id, config, None)
        except Exception as error:  # whatever is wrong with one file must not hide the others
            fault = str(error) or type(error).__name__
            file = File(path.stem, _broken_id(path, fault, taken), None, fault)
        taken.add(file.dag_id)
        yield file


def _broken_id(path: Path, fault: str, taken: set[str]) -> str:
    from evergreen.dags import broken_dag

    with _making_dags:
        return broken_dag(path, fault, taken).dag_id


def _mlflow_away() -> str | None:
    """Asked once and in vain once: MLflow's client would go on trying for minutes, for every pipeline anew."""
    from mlops import registry

    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    try:
        registry.names()
    except Exception as error:
        return _in_words("MLflow", error)
    return None


def _in_words(what: str, error: Exception) -> str:
    """Our own errors are made to be read; a library's may hold addresses and keys, which only the log may have."""
    if isinstance(error, EvergreenError):
        return str(error)
    log.warning("the page: %s: %s: %s", what, type(error).__name__, error)
    return f"{what} does not answer ({type(error).__name__}); the log of Airflow's API server has the rest."


def _row(file: File, away: str | None) -> Row:
    config = file.config
    if config is None:
        return Row(name=file.name, dag_id=file.dag_id, fault=file.fault)
    found: dict[str, Any] = {"away": away}
    parts: tuple[Callable[[PipelineConfig], dict[str, Any]], ...] = () if away else (_served, _retrained)
    for part in parts:
        try:
            found |= part(config)
        except Exception as error:
            found["away"] = _in_words("MLflow or the store", error)
            break
    return Row(name=config.name, dag_id=file.dag_id, task=config.task, metric=config.gate.metric, **found)


def _served(config: PipelineConfig) -> dict[str, Any]:
    """Versions, aliases and the ledger."""
    from mlops import ledger, registry
    from mlops.tracking import client

    aliases = {alias: each["version"] for each in registry.releases(config.name) for alias in each["aliases"]}
    whole = [entry for entry in registry.versions(client(), config.name) if registry.complete(entry)]
    points = {str(entry.version): _point(config, entry) for entry in _shown(whole, aliases.get("champion"))}
    known = ledger.entries(config.name)
    there = {str(entry.version) for entry in whole}
    moves = [entry for entry in known if entry["action"] != "retire"]
    serves = aliases.get("champion")
    put = ("promote", "rollback", "repair")
    since = [entry["when"] for entry in known if entry["to"] == serves and entry["action"] in put]
    return {
        "champion": points.get(serves) if serves else None,
        "serves_since": since[-1] if serves and since else None,
        "candidate": aliases.get("candidate"),
        "history": tuple(points.values()),
        "earlier": tuple(version for version in reversed(ledger.serving(known)[:-1]) if version in there),
        "moved": _move(moves[-1]) if moves else None,
    }


def _shown(whole: list[Any], champion: str | None) -> list[Any]:
    """The newest versions, and the champion however old it is."""
    return [entry for entry in whole[:-SHOWN] if str(entry.version) == champion] + whole[-SHOWN:]


def _point(config: PipelineConfig, entry: Any) -> Point:
    from mlops import registry
    from mlops.tracking import version_url

    version = str(entry.version)
    release = _release(config.name, version, entry.tags[registry.RECORD])
    metric, latency = release.evaluation.metrics.get(config.gate.metric), release.evaluation.latency
    return Point(
        version=version,
        variant=release.variant,
        registered=_time(entry.creation_timestamp),
        value=metric.value if metric else None,
        low=metric.low if metric else None,
        high=metric.high if metric else None,
        size_mb=release.evaluation.size / 1e6,
        p95_ms=latency.p95 if latency else None,
        address=version_url(config.name, version),
    )


@lru_cache(maxsize=1000)
def _release(name: str, version: str, record: str) -> Release:
    """record: where the release is written down; what is behind it never changes."""
    from mlops import registry

    return registry.at(name, version)


def _move(entry: dict[str, Any]) -> Move:
    return Move(version=entry["to"], **{key: entry[key] for key in ("action", "who", "when", "reason")})


def _retrained(config: PipelineConfig) -> dict[str, Any]:
    """The last retrain that ended, with the sentence of its judgement as `mlops explain` tells it."""
    from mlops import explain
    from mlops.cost.value import rates
    from mlops.reports.table import OUTCOMES
    from mlops.tracking import client, run_url

    api = client()
    home = api.get_experiment_by_name(config.name)
    ended = "tags.`evergreen.retrain_id` != '' AND attributes.status != 'RUNNING'"
    order = ["attributes.start_time DESC"]
    runs = api.search_runs([home.experiment_id], ended, max_results=1, order_by=order) if home else []
    if not runs:
        return {}
    run, tags, metrics = runs[0], runs[0].data.tags, runs[0].data.metrics
    outcome = tags.get("evergreen.outcome") or "failed"
    judged = any(tag.startswith(explain.TAG) for tag in tags)
    last = Retrain(
        outcome=outcome,
        words=OUTCOMES.get(outcome, outcome),
        sentence=explain.find(run.info.run_id)["sentence"] if judged else None,
        reason=tags.get("evergreen.reason", ""),
        ended=_time(run.info.end_time) if run.info.end_time else None,
        seconds=metrics.get("cost/total/seconds"),
        money=metrics.get("cost/total/money"),
        currency=rates().currency,
        address=run_url(run.info.run_id),
    )
    return {"last": last}


def _time(milliseconds: int) -> str:
    import datetime

    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC).isoformat(timespec="seconds")
