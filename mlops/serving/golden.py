"""A few questions with the answers that a package gave where it was judged; a server asks them before it swaps.

They lie beside the package in the store, under the package's digest, and are copied with it: the package itself stays the
bytes that were judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlops.serving.runtime import Runtime
from mlops.store import Store
from mlops.tasks.base import Item, Logits

CASES = 8
# Of a probability, asked one by one: another processor has other 8-bit instructions, which moves an answer by less.
SAME = 0.05


def make(runtime: Runtime, items: Sequence[Item]) -> dict[str, Any]:
    """Up to 8 of the items, spread over them, with their logits, each asked alone."""
    places = np.unique(np.linspace(0, max(0, len(items) - 1), min(CASES, len(items))).round().astype(int))
    chosen = [items[place] for place in places]
    logits = [runtime.logits([item])[0].tolist() for item in chosen]
    return {"asked": [list(item) if isinstance(item, tuple) else item for item in chosen], "logits": logits}


def write(store: Store, sha256: str, cases: dict[str, Any]) -> None:
    """Beside the package of this digest."""
    store.write_document(_name(sha256), cases)


def read(store: Store, sha256: str) -> dict[str, Any] | None:
    """The cases of a package, none where it was judged before there were any."""
    found: dict[str, Any] | None = store.read_document(_name(sha256))
    return found


def _name(sha256: str) -> str:
    return f"golden/{sha256}"


def differs(runtime: Runtime, cases: dict[str, Any]) -> str:
    """What a runtime answers otherwise than it should; nothing where all is as it was."""
    expected = [np.array(row, dtype=np.float32) for row in cases["logits"]]
    found = [runtime.logits([item])[0] for item in items(runtime, cases)]
    wrong = []
    for number, (mine, its) in enumerate(zip(found, expected, strict=True)):
        apart = _apart(runtime, mine, its.reshape(mine.shape) if its.size == mine.size else its)
        if not apart <= SAME:  # also not-a-number
            wrong.append(f"case {number} by {apart:.3g}")
    told = (
        f"{len(wrong)} of {len(found)} golden cases are answered otherwise ({', '.join(wrong[:3])}), allowed is {SAME}"
    )
    return told if wrong else ""


def items(runtime: Runtime, cases: dict[str, Any]) -> list[Any]:
    """What the cases ask, as it was before JSON made lists of pairs."""
    return [tuple(item) if runtime.task.kind == "pair" else item for item in cases["asked"]]


def _apart(runtime: Runtime, one: Logits, other: Logits) -> float:
    """The largest change of a probability."""
    if one.shape != other.shape:
        return 1.0
    mine, its = (runtime.task.answers([values], runtime.labels).chances[0] for values in (one, other))
    return float(np.abs(np.asarray(mine, dtype=np.float64) - np.asarray(its, dtype=np.float64)).max(initial=0.0))
