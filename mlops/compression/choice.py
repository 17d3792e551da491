"""Which of the files that were tried ships: the fastest that keeps the quality and reaches the targets."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from mlops.config_compress import CompressSection
from mlops.types import Attempt


def reaches(section: CompressSection, attempt: Attempt) -> bool:
    """Whether it was accepted and reaches every target."""
    return attempt.outcome == "accepted" and not missed(section, attempt)


def missed(section: CompressSection, attempt: Attempt) -> list[str]:
    """The targets that an attempt misses, in words; what was not measured reaches none."""
    target, found = section.target, attempt.measured
    rules = (
        ("p95_ms", found.get("p95"), target.p95_ms, operator.le),
        ("throughput", found.get("throughput"), target.throughput, operator.ge),
        ("size_mb", found.get("size_mb"), target.size_mb, operator.le),
        ("memory_mb", found.get("memory_mb"), target.memory_mb, operator.le),
    )
    return [
        f"{name} {'not measured' if value is None else format(value, '.4g')}, wanted {wanted:g}"
        for name, value, wanted, holds in rules
        if wanted is not None and (value is None or not holds(value, wanted))
    ]


def choose(section: CompressSection, attempts: Sequence[Attempt]) -> tuple[Attempt, str]:
    """What ships and why, of fp32 (first) and what else was tried: the fastest of what keeps the quality and reaches the
    targets, else of what keeps the quality."""
    original, others = attempts[0], attempts[1:]
    kept = [original, *(each for each in others if each.outcome == "accepted")]
    able = [each for each in kept if not missed(section, each)]
    # One that is slower than fp32 was accepted because something small was wished for: it has to bring what fp32 does not.
    if original in able or not able:
        able = [each for each in able or kept if not slower(each)]
    # What is no slower than fp32 is smaller too: fp32 is for want of anything else.
    best = max([each for each in able if each is not original] or able, key=_speed)
    if best.name == original.name:
        tried = "; ".join(f"{each.name}: {each.reason}" for each in others if each.reason)
        return best, f"fp32 ships: {tried or 'nothing else was tried'}"
    told = f"{best.name} ships"
    if best.measured:
        told += f": {best.measured['ratio']:.2f} times the throughput of fp32"
    misses = missed(section, best)
    return best, told + (f"; no form reaches the target: {', '.join(misses)}" if misses else "")


def slower(attempt: Attempt) -> bool:
    """Whether its throughput was surely below that of fp32."""
    return float(attempt.measured.get("ratio_high", 1.0)) < 1


def _speed(attempt: Attempt) -> tuple[float, int]:
    return float(attempt.measured.get("ratio", 1.0)), -(attempt.files.size_bytes if attempt.files else 0)
