"""`python -m mlops.compression.measuring`: the process in which `measure` measures; no torch in it."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mlops.cost.processes import peak
from mlops.serving.apart import answer_apart
from mlops.serving.compute import SHARED_TOKENS
from mlops.serving.cpu import threads
from mlops.serving.runtime import Runtime
from mlops.tasks.base import Item
from mlops.training.batches import by_length

CLASSES = {"short": 5, "median": 50, "long": 95}  # percentiles of the rows by tokens
_ROUNDS = 3  # at least
_WANTED_ROUNDS = 9
_FEWEST_ROWS = 8  # of the batch that warms up
_BATCHES = 2  # of a group, for each thread
_FEWEST_GROUPS = 3  # of a lap: short, median and long rows, so that laps are alike
_GOLDEN = (5**0.5 - 1) / 2
_MOST_REPEATS = 8  # of a row of each length, in a round; of rows as they come four times as many
_CONFIDENCE = 0.95


def main(question: dict[str, Any]) -> Mapping[str, Any]:
    """Answers {"alone": folder, "items"} or {"race": folders, "items", "seconds", "seed"}."""
    if "alone" in question:
        return alone(Path(question["alone"]), question["items"])
    folders = [Path(folder) for folder in question["race"]]
    return race(folders, question["items"], question["seconds"], question["seed"])


def alone(folder: Path, items: Sequence[Any]) -> dict[str, float]:
    """Memory and load time of one package that no other shares the process with."""
    import onnxruntime  # noqa: F401
    import tokenizers  # noqa: F401

    before = resident()
    started = time.perf_counter()
    runtime = Runtime.load(folder)
    loaded = time.perf_counter() - started
    runtime.logits(as_asked(runtime, items))
    return {"memory_mb": peak() / 1e6, "model_mb": max(0.0, (resident() - before) / 1e6), "load_seconds": loaded}


def resident() -> int:
    """Bytes of this process in memory now (Linux, else 0)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    import resource

    return pages * resource.getpagesize()


def as_asked(runtime: Runtime, items: Sequence[Any]) -> list[Item]:
    """Items as they were before JSON made lists of pairs."""
    return [tuple(item) for item in items] if runtime.task.kind == "pair" else list(items)


def race(folders: Sequence[Path], items: Sequence[Any], seconds: float, seed: int) -> dict[str, Any]:
    """Rounds over all packages until the time is over; what each one took."""
    ends, chance = time.perf_counter() + seconds, random.Random(seed)
    racers = [Racer(Runtime.load(folder)) for folder in folders]
    asked = as_asked(racers[0].runtime, items)
    course = Course(asked, racers[0].runtime.lengths(asked))
    speeds = [racer.warm_up(course) for racer in racers]
    left = max(0.0, ends - time.perf_counter())
    course.fit(sum(row for row, _ in speeds), sum(single for _, single in speeds), left / _WANTED_ROUNDS)
    order, rounds, longest = list(racers), 0, 0.0
    gc.disable()  # a collection would be counted to whoever runs
    while rounds < _ROUNDS or time.perf_counter() + longest < ends:
        started = time.perf_counter()
        chance.shuffle(order)
        run(course.lap(), order)
        longest = max(longest, time.perf_counter() - started)
        rounds += 1
    return {"rounds": rounds, "packages": [racer.found(course, racers[0]) for racer in racers]}


def run(lap: Lap, racers: list[Racer]) -> None:
    """One round: group by group all packages in turn, there and back again, so that what drifts meets all alike."""
    for racer in racers:
        racer.start_round()
    for rows in lap.groups:
        for racer in racers:
            racer.batch(rows)
        racers.reverse()
    for name, rows in lap.singles.items():
        for racer in racers:
            racer.single(name, rows)
        racers.reverse()


class Lap(NamedTuple):
    """What every package is asked in one round. groups: rows of similar length. singles: rows of each length, and as they
    come under the name ""."""

    groups: list[list[Item]]
    singles: dict[str, list[Item]]


class Course:
    """Groups of rows of similar length, each as much as keeps the runtime's threads busy, and single rows."""

    def __init__(self, items: Sequence[Item], lengths: Sequence[int]) -> None:
        order = sorted(range(len(items)), key=lambda row: lengths[row])
        places = {name: order[round(part / 100 * (len(items) - 1))] for name, part in CLASSES.items()}
        self.classes = {name: items[place] for name, place in places.items()}
        self.tokens = {name: lengths[place] for name, place in places.items()}
        self.items, self._groups = items, by_length(lengths, _BATCHES * SHARED_TOKENS * threads())
        self._laps, self._count, self._repeats = 0, 1, 1

    def fit(self, seconds_per_row: float, seconds_per_single: float, seconds: float) -> None:
        """Half of a lap's seconds are for groups, half for single rows."""
        rows = seconds / 2 / seconds_per_row
        wanted = round(rows * len(self._groups) / len(self.items))
        self._count = min(len(self._groups), max(_FEWEST_GROUPS, wanted))
        repeats = round(seconds / 2 / seconds_per_single / (len(CLASSES) + 4))
        self._repeats = min(_MOST_REPEATS, max(1, repeats))

    def lap(self) -> Lap:
        """The next rows: whole groups, evenly spread over the lengths. Over the laps every group comes equally often, so that
        short rows, of which a group has many, and long ones count as often as they are there."""
        size, count = len(self._groups), self._count
        # From lap to lap by the golden ratio: the groups of few laps too are spread over all.
        first = int(self._laps * _GOLDEN * size)
        chosen = [self._groups[(first + number * size // count) % size] for number in range(count)]
        step = 4 * self._repeats
        came = [self.items[place % len(self.items)] for place in range(self._laps * step, (self._laps + 1) * step)]
        self._laps += 1
        groups = [[self.items[row] for row in rows] for rows in chosen]
        return Lap(groups, {"": came} | {name: [item] * self._repeats for name, item in self.classes.items()})


class Racer:
    """One package and the seconds that it took."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._rows = 0
        self._rounds: list[float] = []  # seconds in groups
        self._singles: dict[str, list[float]] = {name: [] for name in ("", *CLASSES)}

    def warm_up(self, course: Course) -> tuple[float, float]:
        """Every length once, so that memory is there; then a first idea of its speed: seconds of a row, of a single one."""
        rows = list(course.classes.values())
        for item in rows:
            self.runtime.predict([item])
        single = _seconds(self.runtime.predict, [course.classes["median"]])
        batch = rows * (_FEWEST_ROWS // len(rows) + 1)
        self.runtime.logits(batch)
        return _seconds(self.runtime.logits, batch) / len(batch), single

    def start_round(self) -> None:
        self._rounds.append(0.0)

    def batch(self, rows: list[Item]) -> None:
        """Rows at once. One goes before that does not count: the other package's threads may still spin."""
        self.runtime.logits(rows[:1])
        self._rounds[-1] += _seconds(self.runtime.logits, rows)
        self._rows += len(rows)

    def single(self, name: str, rows: list[Item]) -> None:
        """Rows one by one, behind one that does not count."""
        self.runtime.predict(rows[:1])
        self._singles[name] += [_seconds(self.runtime.predict, [row]) for row in rows]

    def found(self, course: Course, first: Racer) -> dict[str, Any]:
        """The fields of Measured that time gives."""
        ratios = [other / own for own, other in zip(self._rounds, first._rounds, strict=True)]
        low, high = median_interval(ratios)
        classes = {name: {"tokens": course.tokens[name], **_percentiles(self._singles[name])} for name in CLASSES}
        return _percentiles(self._singles[""]) | {
            "p50_ratio": float(np.median(self._singles[""]) / np.median(first._singles[""])),
            "by_length": classes,
            "throughput": self._rows / sum(self._rounds),
            "ratio": float(np.median(ratios)),
            "ratio_low": low,
            "ratio_high": high,
        }


def _seconds(call: Callable[[list[Item]], Any], rows: list[Item]) -> float:
    started = time.perf_counter()
    call(rows)
    return time.perf_counter() - started


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """The narrowest pair of order statistics that holds the median of what was sampled with 95%, else lowest and highest.

    The number of values below the median is binomial with one half, whatever they are distributed as (the sign test's
    interval). Fewer than 6 values cannot give 95%.
    """
    ordered, n, rank = sorted(values), len(values), 1
    while rank < (n + 1) // 2 and _coverage(rank + 1, n) >= _CONFIDENCE:
        rank += 1
    return float(ordered[rank - 1]), float(ordered[n - rank])


def _coverage(rank: int, n: int) -> float:
    """How often the values of that rank from below and from above hold the median between them."""
    return 1 - 2 * sum(math.comb(n, below) for below in range(rank)) / float(2**n)


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(seconds, [50, 95, 99]) * 1000
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99)}


if __name__ == "__main__":
    answer_apart(main)
