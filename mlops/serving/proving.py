"""`python -m mlops.serving.proving`: the clean process in which `prove` asks a package; what it asks is asked in both."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.serving.apart import answer_apart

if TYPE_CHECKING:
    from mlops.serving.runtime import Runtime

# None of these is installed where a package serves.
FOREIGN = ("torch", "transformers", "onnx", "mlflow", "pandas", "sklearn", "scipy")
_COMPANY = 8  # rows of a mixed batch: the first of all, the last, the second, …
WAYS = ("alone", "mixed", "together")


def main(question: dict[str, Any]) -> Mapping[str, Any]:
    """Answers {"folder", "asked", "odd", "started"}; started: time.monotonic() before this process was."""
    began = time.monotonic()
    from mlops.serving.runtime import Runtime

    imported = time.monotonic()
    runtime = Runtime.load(Path(question["folder"]))
    loaded = time.monotonic()
    runtime.predict(as_asked(runtime, question["asked"][:1]))
    answered = time.monotonic()
    from mlops.cost.processes import peak

    asked = ask(runtime, as_asked(runtime, question["asked"]), question["odd"])
    return asked | {
        "cold_seconds": answered - question["started"],
        "import_seconds": imported - began,
        "load_seconds": loaded - imported,
        "first_seconds": answered - loaded,
        "memory_mb": peak() / 1e6,
        "foreign": [name for name in FOREIGN if name in sys.modules],
    }


def as_asked(runtime: Runtime, values: Sequence[Any]) -> list[Any]:
    """Values as they were before JSON made lists of pairs."""
    return [tuple(value) for value in values] if runtime.task.kind == "pair" else list(values)


def ask(runtime: Runtime, asked: Sequence[Any], strange: Mapping[str, Any]) -> dict[str, Any]:
    """Logits as lists, of rows and of the odd ones that it can answer: each alone, in mixed batches, all in one call.

    names: of the rows, in order. refused: {name: reason} of the odd ones that raised. milliseconds: of the rows alone.
    """
    names, values, refused = [f"row {number}" for number in range(len(asked))], list(asked), {}
    for name, value in zip(strange, as_asked(runtime, list(strange.values())), strict=True):
        try:
            runtime.predict([value])
        except Exception as error:  # whatever it raises is what the proof is about
            refused[name] = f"{type(error).__name__}: {str(error)[:200]}"
        else:
            names.append(name)
            values.append(value)
    items = [runtime.task.asked(value) for value in values]
    alone, milliseconds = [], []
    for item in items:
        started = time.perf_counter()
        alone += runtime.logits([item])
        milliseconds.append((time.perf_counter() - started) * 1000)
    mixed: list[Any] = [None] * len(items)
    for rows in companies(runtime.lengths(items)):
        for row, values_of in zip(rows, runtime.logits([items[row] for row in rows]), strict=True):
            mixed[row] = values_of
    found = dict(zip(WAYS, (alone, mixed, runtime.logits(items)), strict=True))
    return {
        "names": names,
        "refused": refused,
        "logits": {way: [values_of.tolist() for values_of in rows] for way, rows in found.items()},
        "milliseconds": milliseconds[: len(asked)],
    }


def companies(lengths: Sequence[int]) -> list[list[int]]:
    """Rows in groups of short and long ones together: the shortest, the longest, the second shortest, …"""
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    zigzag = [order[place // 2] if place % 2 == 0 else order[-1 - place // 2] for place in range(len(order))]
    return [zigzag[start : start + _COMPANY] for start in range(0, len(zigzag), _COMPANY)]


if __name__ == "__main__":
    answer_apart(main)
