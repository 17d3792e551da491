"""What a package costs beside another, measured in processes of their own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from grafts import heavy
from tiny import tiny_models, tiny_rows

from mlops.compression import measuring
from mlops.compression.measure import measure
from mlops.compression.measuring import CLASSES, Course, median_interval
from mlops.errors import UserError

TEXTS = [row["text"] for row in tiny_rows(60, seed=4)]


def test_packages_are_measured_against_the_first(tmp_path: Path) -> None:
    folders = {"fp32": tiny_models()["fp32"], "int8": tiny_models()["int8"], "heavy": heavy(tmp_path / "heavy")}
    found = measure(folders, TEXTS, 1.5)
    assert list(found) == ["fp32", "int8", "heavy"]
    for name, own in found.items():
        assert own.p50 <= own.p95 <= own.p99
        assert own.ratio_low <= own.ratio <= own.ratio_high
        assert own.throughput > 0
        assert own.rounds >= 3
        assert own.size_mb == (folders[name] / "model.onnx").stat().st_size / 1e6
        assert 0 <= own.model_mb < own.memory_mb
        assert set(own.by_length) == set(CLASSES)
        tokens = [own.by_length[name].tokens for name in CLASSES]
        assert tokens == sorted(tokens)
    assert (found["fp32"].ratio, found["fp32"].ratio_low, found["fp32"].ratio_high) == (1, 1, 1)
    assert found["heavy"].ratio_high < 1
    assert found["heavy"].model_mb > found["fp32"].model_mb


def test_without_items_and_without_a_package_the_reason_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found no items"):
        measure({"fp32": tiny_models()["fp32"]}, [], 1)
    with pytest.raises(UserError, match=r"nowhere is not a folder"):
        measure({"fp32": tmp_path / "nowhere"}, TEXTS, 1)


@pytest.mark.parametrize(("n", "ranks"), [(1, (1, 1)), (3, (1, 3)), (6, (1, 6)), (9, (2, 8)), (20, (6, 15))])
def test_the_interval_of_a_median_is_that_of_the_sign_test(n: int, ranks: tuple[int, int]) -> None:
    """Ranks as in tables of the sign test at 5%, two-sided (Conover, "Practical Nonparametric Statistics")."""
    values = [float(value) for value in range(1, n + 1)]
    assert median_interval(values[::-1]) == (float(ranks[0]), float(ranks[1]))


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    chance = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        low, high = median_interval(chance.exponential(size=9).tolist())
        held += low <= np.log(2) <= high
    assert held / 2000 > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 2000)


def test_rows_of_every_length_come_as_often_as_they_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "threads", lambda: 2)
    monkeypatch.setattr(measuring, "SHARED_TOKENS", 512)
    lengths = [4] * 1024 + [16] * 256 + [64] * 64  # of each length two groups of 2,048 tokens
    items = [f"row {number}" for number in range(len(lengths))]
    of = dict(zip(items, lengths, strict=True))
    for seconds in (1e-9, 2.5):  # three groups a lap; more
        course = Course(items, lengths)
        course.fit(0.001, 0.001, seconds)
        laps = [course.lap() for _ in range(60)]
        assert {len(rows) * of[rows[0]] for lap in laps for rows in lap.groups} == {2048}
        asked = Counter(of[row] for lap in laps for rows in lap.groups for row in rows)
        total = sum(asked.values())
        assert asked[4] / total == pytest.approx(1024 / 1344, abs=0.05)
        assert asked[64] / total == pytest.approx(64 / 1344, abs=0.02)
        few = {of[rows[0]] for lap in laps[:4] for rows in lap.groups}
        assert few == {4, 16, 64}  # the first laps already have all lengths
    singles = {name: of[rows[0]] for name, rows in laps[0].singles.items() if name}
    assert singles == {"short": 4, "median": 4, "long": 16}
