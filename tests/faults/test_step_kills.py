"""SIGKILL of a retrain at the start of each step, in its middle and between its commit points; then it is run again.

One retrain is killed at one point after the other, each time further on: what was finished before is taken over from the
store, what was not is done again, and at the end there is what an undisturbed retrain leaves.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from outcomes import empty_registry, end, row, short_retrain
from zygote import Zygote

from mlops import ledger, registry
from mlops.flow import STEPS

# (where, how the table says it): in the order in which a retrain comes by.
FIRST = [
    ("log source: started", "source, at its start"),
    ("after upload snapshot/", "source, before the manifest"),
    ("after write snapshot/.*manifest", "source, at its end"),
    ("after upload validation/", "validate, in the middle"),
    ("before write documents/steps/validate", "validate, before it is remembered"),
    ("after write documents/splits/", "prepare, after the book of splits"),
    ("log prepare: done", "prepare, at its end"),
    ("log fine_tune: epoch 1/", "fine_tune, in the middle"),
    ("before write documents/steps/fine_tune", "fine_tune, before it is remembered"),
    ("before write documents/steps/evaluate/", "evaluate, before it is remembered"),
    ("after create documents/looks/", "gate, after the look was counted"),
    ("log compress: started", "compress, at its start"),
    ("before write documents/steps/compress", "compress, before it is remembered"),
    ("log verify: fp32: pass", "verify, in the middle"),
    ("log register: started", "register, at its start"),
    ("before api create_model_version .*", "register, after the upload"),
    ("after api create_model_version .*", "register, after the version"),
    ("before api set_model_version_tag evergreen.state complete", "register, before it counts"),
    ("log register: done", "register, at its end"),
    ("before create documents/ledger/", "promote, before the ledger"),
]
AFTER_LEDGER = [
    ("after create documents/ledger/", "promote, between ledger and alias"),
    ("after api set_registered_model_alias champion", "promote, between two aliases"),
    ("before api set_registered_model_tag evergreen.ledger", "promote, before the registry knows the ledger"),
    ("before write documents/snapshots/", "finish, before the rows are remembered"),
]
QUICK = {
    "after upload snapshot/", "after write documents/splits/",
    "log fine_tune: epoch 1/", "before write documents/steps/fine_tune", "after create documents/looks/",
    "before api create_model_version .*",
    "after api create_model_version .*", "before api set_model_version_tag evergreen.state complete",
}  # fmt: skip


@pytest.fixture
def zygote(tmp_path: Path) -> Iterator[Zygote]:
    found = Zygote(tmp_path)
    yield found
    found.close()


@pytest.fixture
def file(zygote: Zygote, tmp_path: Path) -> Path:
    """Made while the zygote still imports."""
    empty_registry()
    return short_retrain(tmp_path)


def check_standing(champion: str | None) -> None:
    """What holds right after a kill, before anything is mended."""
    found = registry.champion("tiny")
    assert (found.version if found else None) == champion
    if found:
        registry.require_verdicts(found)
    assert len([each for each in registry.releases("tiny") if each["state"] == "complete"]) <= 2
    ledger.entries("tiny")  # raises where the chain is broken


def killed_along(zygote: Zygote, file: Path, home: Path, points: list[tuple[str, str]]) -> None:
    """One retrain, killed at each point in turn: no step that was remembered runs again."""
    remembered: set[str] = set()
    memo = {step.name for step in STEPS if step.memo}
    for point, _told in points:
        ended = zygote.run(file, home, point)
        assert ended.code == -signal.SIGKILL, (point, ended.said[-3000:])
        again = remembered & set(re.findall(r"(\w+): started", ended.said))
        assert not again, (point, again)
        remembered |= memo & set(re.findall(r"(\w+): (?:done|reused)", ended.said))
        check_standing(None)


def finished(zygote: Zygote, file: Path, home: Path, outcome: str, *overrides: str) -> str:
    ended = zygote.run(file, home, overrides=overrides)
    assert (ended.code, ended.outcome) == (0, outcome), ended.said[-3000:]
    return ended.said


def killed(zygote: Zygote, file: Path, home: Path, point: tuple[str, str], *overrides: str) -> None:
    ended = zygote.run(file, home, point[0], overrides)
    assert ended.code == -signal.SIGKILL, (point, ended.said[-3000:])


def told(points: list[tuple[str, str]], ends: str, left: int) -> None:
    for _point, what in points:
        step, _, where = what.partition(", ")
        row(f"SIGKILL {where}", f"`{step}`", ends, f"{left} in all")


def test_killed_at_one_point_after_the_other_it_ends_with_one_version(zygote: Zygote, file: Path, home: Path) -> None:
    points = [each for each in FIRST if each[0] in QUICK]
    assert len(points) == len(QUICK)
    killed_along(zygote, file, home, points)
    killed(zygote, file, home, AFTER_LEDGER[0])  # all is done but the alias
    check_standing(None)
    said = finished(zygote, file, home, "skipped")
    (version,) = [each["version"] for each in registry.releases("tiny")]
    assert f"champion is version none, the ledger says {version}" in said
    left = end("tiny", [version], version, [("promote", version)])
    told(points, "promoted when run again", left)
    told(AFTER_LEDGER[:1], "promoted by the next run, which has nothing else to do", left)


def made(home: Path) -> set[str]:
    """The artifacts of a home that do not depend on how long things took, and what is remembered of steps."""
    store = home / "store"
    found = {
        path.relative_to(store).parts[:2] for path in store.glob("*/*/manifest.json") if path.parts[-3] not in TIMED
    }
    return {"/".join(parts) for parts in found}


TIMED = ("judgement", "release", "validation")


@pytest.mark.stack
def test_killed_at_every_point_it_leaves_what_an_undisturbed_retrain_leaves(
    zygote: Zygote, file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of `make faults`, with the long ones."""
    other = home.with_name("undisturbed")
    with monkeypatch.context() as patch:
        patch.setenv("EVERGREEN_HOME", str(other))
        empty_registry()
        finished(zygote, file, other, "promoted")
    killed_along(zygote, file, home, FIRST)
    finished(zygote, file, home, "promoted")
    versions = [each["version"] for each in registry.releases("tiny")]
    assert len(versions) == 1
    told(FIRST, "promoted when run again", end("tiny", versions, versions[0], [("promote", versions[0])]))
    assert made(home) == made(other)
    for number, point in enumerate(AFTER_LEDGER, 2):  # each in a retrain of its own, beside a champion
        limit = f"verify.max_flips=0.5{number}"  # the same weights, to be judged and registered anew
        killed(zygote, file, home, point, limit)
        ledger.entries("tiny")
        finished(zygote, file, home, "skipped", limit)
        versions = [each["version"] for each in registry.releases("tiny")]
        assert len(versions) == number
        moves = [("promote", version) for version in versions]
        told(
            [point],
            "promoted by the next run, which has nothing else to do",
            end("tiny", versions, versions[-1], moves),
        )
