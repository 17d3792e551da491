"""What starts a retrain: the data asset, its watcher, the events of promotions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlops.config import load
from mlops.data.listing import digest
from mlops.errors import ConfigError, SourceError

PIPELINE = """\
name: tickets
task: text-classification
data: {source: DATA, watch: 1}
model: {base: "package://some/model"}
"""


class Store:
    """An asset's state, as Airflow's triggerer gives it."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    async def aget(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    async def aset(self, key: str, value: Any) -> None:
        self.values[key] = value


def events(trigger: Any, doings: list[Callable[[], Any]]) -> list[Any]:
    """What a trigger tells while things are done, each with time for several looks."""

    async def watched() -> list[Any]:
        told: list[Any] = []

        async def follow() -> None:
            async for event in trigger.run():
                told.append(event.payload)

        task = asyncio.create_task(follow())
        for do in doings:
            await asyncio.sleep(0.3)
            do()
        await asyncio.sleep(0.3)
        task.cancel()
        return told

    return asyncio.run(watched())


def test_new_files_are_told_once_and_survive_a_restart(tmp_path: Path) -> None:
    from evergreen.watch import SourceTrigger

    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_text("{}\n")
    store = Store()

    def trigger() -> Any:
        made = SourceTrigger([str(folder)], 0.05)
        made.asset_state_store = store
        return made

    assert events(trigger(), []) == []  # the first look ever only remembers
    told = events(trigger(), [lambda: (folder / "b.jsonl").write_text("{}\n"), lambda: None])
    assert [each["uris"] for each in told] == [[str(folder)]]
    assert events(trigger(), [lambda: None]) == []
    (folder / "c.jsonl").write_text("{}\n")  # while nobody looked
    assert len(events(trigger(), [])) == 1

    def away() -> None:
        folder.rename(tmp_path / "away")

    assert events(trigger(), [away, lambda: (tmp_path / "away").rename(folder)]) != []  # gone and back are changes
    assert trigger().serialize() == ("evergreen.watch.SourceTrigger", {"uris": [str(folder)], "seconds": 0.05})


def test_a_file_that_is_being_written_is_not_told_halfway(tmp_path: Path) -> None:
    from evergreen.watch import SourceTrigger

    file = tmp_path / "rows.jsonl"
    file.write_text("{}\n")
    trigger = SourceTrigger([str(file)], 0.05)
    trigger.asset_state_store = Store()  # type: ignore[assignment]
    looks = iter(["a", "a", "b", "c", "d", "d", "d", "d", *["d"] * 1000])
    trigger._look = lambda: next(looks)  # type: ignore[method-assign]
    assert [each["listing"] for each in events(trigger, [lambda: None])] == ["d"]


def test_a_listing_is_of_names_sizes_and_times(tmp_path: Path) -> None:
    assert digest([str(tmp_path / "absent")]) == digest([str(tmp_path / "absent")])
    file = tmp_path / "a.jsonl"
    file.write_text("1")
    first = digest([str(tmp_path)])
    assert first == digest([str(tmp_path)]) != digest([str(tmp_path / "*.csv")])
    os.utime(file, ns=(1, 1))
    assert first != digest([str(tmp_path)])
    with pytest.raises(SourceError, match="sql://x: cannot be watched; allowed: a path, file://, s3://"):
        digest(["sql://x"])


def test_what_cannot_be_watched_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tickets.yaml"
    path.write_text(PIPELINE.replace("DATA", "hf://org/name"))
    with pytest.raises(ConfigError, match=r"data.watch: found 1 for hf://org/name; allowed for a path"):
        load(path)


def test_the_watcher_is_the_assets(pipelines: Path, load_dags: Callable[[], dict[str, Any]]) -> None:
    (pipelines / "tickets.yaml").write_text(PIPELINE.replace("DATA", "s3://bucket/in/"))
    dag = load_dags()["retrain_tickets"]
    (asset,) = dag.timetable.asset_condition.objects
    (watcher,) = asset.watchers
    assert watcher.name == "evergreen_watch_tickets"
    assert watcher.trigger.serialize()[1] == {"uris": ["s3://bucket/in/"], "seconds": 1.0}
    assert "looked for every 1 s" in dag.doc_md
