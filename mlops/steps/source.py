"""source: pins what a pipeline's source holds now to an immutable raw snapshot. The only step that may say "latest"."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlops.config import PipelineConfig
from mlops.config_data import GOLDEN, SplitSources
from mlops.data.garbage import paused
from mlops.data.parents import last_retrained, new_rows, parent_of
from mlops.data.readers import read_tables, source_columns
from mlops.data.snapshots import ROWS, keep_rows, read_table, revision, share, write_raw
from mlops.data.window import Chosen, choose
from mlops.store import Store, open_store
from mlops.tasks import get
from mlops.types import ArtifactRef, Snapshot

log = logging.getLogger("evergreen")


class _Part(NamedTuple):
    ref: ArtifactRef
    rows: int
    labels: set[str]
    chosen: Chosen | None


def source(config: PipelineConfig) -> Snapshot:
    """A raw snapshot of the source as it is now, with the split book as it is now.

    Splits: "all", or those that the pipeline names by URI; `data.window` and `data.take` then shorten train alone, so
    that a learning curve is drawn on one test set. Raises SourceError when the source cannot be read, is empty or lacks
    a column.
    """
    store = open_store()
    parts = {name: _pinned(config, store, name, uri) for name, uri in _sources(config).items()}
    splits = {name: part.ref for name, part in parts.items()}
    grown = parts["all" if "all" in parts else "train"]
    book = store.read_document(f"splits/{config.name}")
    raw = Snapshot(
        pipeline=config.name,
        revision=revision(splits),
        splits=splits,
        rows={name: part.rows for name, part in parts.items()},
        labels=tuple(sorted(set().union(*(part.labels for name, part in parts.items() if name != GOLDEN)))),
        window=grown.chosen.window if grown.chosen else None,
        watermark=grown.chosen.watermark if grown.chosen else None,
        split_book=ArtifactRef.model_validate(book) if book else None,
    )
    last = last_retrained(store, config.name)
    if last is None:
        return raw
    fresh, parent = new_rows(store, raw, last), parent_of(store, raw, last)
    log.info("source: %s rows are new since the last retrain", f"{fresh:,}")
    return raw.model_copy(update={"parent_sha256": parent.revision if parent else None, "new_rows": fresh})


def _pinned(config: PipelineConfig, store: Store, name: str, uri: str) -> _Part:
    with store.workspace() as folder:
        with paused():
            names = get(config.task_key).label_names
            count, labels = write_raw(read_tables(uri, config), folder / ROWS, source_columns(config), names)
        chosen = None
        if name in ("all", "train"):
            chosen, count, labels = _narrowed(config, folder / ROWS, count, labels)
        log.info("source: %s rows of %s from %s", f"{count:,}", name, uri)
        return _Part(store.put(folder, "snapshot"), count, labels, chosen)


def _narrowed(config: PipelineConfig, path: Path, count: int, labels: set[str]) -> tuple[Chosen | None, int, set[str]]:
    """Leaves in the file the rows of data.window and of them those of data.take."""
    take, data = config.data.take, config.data
    chosen = choose(path, data, np.datetime64("now")) if data.window or data.columns.time else None
    kept = chosen.kept.copy() if chosen else np.ones(count, dtype=bool)
    if take < 1:
        places = np.flatnonzero(kept)
        ids = read_table(path.parent, ["row_id"])["row_id"].take(places)
        kept[places] = share(ids.to_pylist(), take)
    if kept.all() and not (chosen and chosen.problems):
        return chosen, count, labels
    full = path.with_name("all-rows.parquet")
    path.rename(full)
    labels = keep_rows(full, path, kept, chosen.problems if chosen else {}, get(config.task_key).label_names)
    full.unlink()
    return chosen, int(kept.sum()), labels


def _sources(config: PipelineConfig) -> dict[str, str]:
    splits = config.data.splits
    golden = {GOLDEN: config.gate.golden.source} if config.gate.golden else {}
    if isinstance(splits, SplitSources):
        if config.data.source is not None:
            log.warning("data.source %r is not read: data.splits names what is", config.data.source)
        named = {"train": splits.train, "validation": splits.validation, "test": splits.test}
        return {name: uri for name, uri in named.items() if uri is not None} | golden
    assert config.data.source is not None  # the pipeline file is checked for one of the two
    return {"all": config.data.source} | golden
