"""How many times a pipeline has looked at the same test rows: kept in the store, counted before each judgement.

A look at other rows is another look at another set, so what is counted is overlap: an earlier look counts when more than
half of today's rows were in it. It is told from the 4,096 smallest hashes of either's rows (bottom-k sketches; Cohen and
Kaplan, "Summarizing data using bottom-k sketches", PODC 2007).
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Sequence
from typing import Any

from mlops.judging.answers import Rows
from mlops.store import open_store
from mlops.types import Evaluation, identity

log = logging.getLogger("evergreen")

_SKETCH = 4096
_SAME = 0.5  # share of today's rows that an earlier look had, from which it was a look at the same set


def take(pipeline: str, rows: Rows, candidate: Evaluation, champion: Evaluation | None) -> int:
    """The number of this look, from 1. Judging the same two models on the same rows again is the same look."""
    store = open_store()
    sketch = sorted(set(rows.digests))[:_SKETCH]
    key = identity([candidate.model_sha256, champion.model_sha256 if champion else None, sketch, len(rows.ids)])
    while True:
        names = store.list_documents(f"looks/{pipeline}")
        earlier: list[dict[str, Any]] = [store.read_document(name) for name in names]
        for number, look in enumerate(earlier):
            if look["key"] == key:
                return 1 + sum(_same(sketch, rows, before) for before in earlier[:number])
        entry = {
            "key": key,
            "sketch": sketch,
            "rows": len(rows.ids),
            "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        # After the last one, not by their number: one that got lost must not stop the next.
        last = int(names[-1].rsplit("/", 1)[-1]) if names else 0
        if store.create_document(f"looks/{pipeline}/{last + 1:06}", entry):
            return 1 + sum(_same(sketch, rows, before) for before in earlier)
        log.info("another judgement of %s was counted first; counting again", pipeline)


def _same(sketch: Sequence[int], rows: Rows, before: dict[str, Any]) -> bool:
    return _shared(sketch, len(rows.ids), before["sketch"], before["rows"]) > _SAME


def _shared(ours: Sequence[int], our_rows: int, theirs: Sequence[int], their_rows: int) -> float:
    """About which share of our rows are among theirs: exact for sets that fit into their sketches."""
    if not ours or not theirs:
        return 0.0
    both = sorted({*ours, *theirs})[:_SKETCH]
    alike = len(set(ours) & set(theirs) & set(both)) / len(both)  # of the union
    return alike * (our_rows + their_rows) / (1 + alike) / our_rows
