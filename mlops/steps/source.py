"""source: pins what a pipeline's source holds now to an immutable raw snapshot. The only step that may say "latest"."""

from __future__ import annotations

import logging

from mlops.config import PipelineConfig, SplitSources
from mlops.data.readers import read_rows
from mlops.data.snapshots import ROWS, revision, write_raw
from mlops.store import open_store
from mlops.types import ArtifactRef, Snapshot

log = logging.getLogger("evergreen")


def source(config: PipelineConfig) -> Snapshot:
    """A raw snapshot of the source as it is now, with the split book as it is now.

    Splits: "all", or those that the pipeline names by URI; `data.take` then shortens train alone, so that a learning
    curve is drawn on one test set. Raises SourceError when the source cannot be read, is empty or lacks a column.
    """
    store = open_store()
    splits: dict[str, ArtifactRef] = {}
    rows: dict[str, int] = {}
    labels: set[str] = set()
    for name, uri in _sources(config).items():
        take = config.data.take if name in ("all", "train") else 1.0
        with store.workspace() as folder:
            read = read_rows(uri, config.data.format, config.data.columns, config.validate_.max_text_bytes)
            rows[name], found = write_raw(read, folder / ROWS, config.data.columns, take)
            splits[name] = store.put(folder, "snapshot")
        labels.update(found)
        log.info("source: %s rows of %s from %s", f"{rows[name]:,}", name, uri)
    book = store.read_document(f"splits/{config.name}")
    return Snapshot(
        pipeline=config.name,
        revision=revision(splits),
        splits=splits,
        rows=rows,
        labels=tuple(sorted(labels)),
        split_book=ArtifactRef.model_validate(book) if book else None,
    )


def _sources(config: PipelineConfig) -> dict[str, str]:
    splits = config.data.splits
    if isinstance(splits, SplitSources):
        if config.data.source is not None:
            log.warning("data.source %r is not read: data.splits names what is", config.data.source)
        named = {"train": splits.train, "validation": splits.validation, "test": splits.test}
        return {name: uri for name, uri in named.items() if uri is not None}
    assert config.data.source is not None  # the pipeline file is checked for one of the two
    return {"all": config.data.source}
