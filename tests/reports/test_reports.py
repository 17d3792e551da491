"""What people look at: the table, the HTML report and the plots."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops import config
from mlops.reports import gate_report, plots, table, words

ROOT = Path(__file__).resolve().parent.parent.parent


def metric(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.02, "high": value + 0.02, "n": 213}


def model(value: float, variant: str) -> dict[str, Any]:
    latency = {"p50": 2.5, "p95": 3.75}
    return {
        "metrics": {"macro_f1": metric(value), "f1/<b>": metric(0.9)},
        "variant": variant,
        "size_bytes": 23_500_000,
        "latency_ms": latency,
    }


@pytest.fixture
def summary() -> dict[str, Any]:
    check = {"name": "floor", "observed": 0.97, "allowed": ">= 0.85", "outcome": "pass", "detail": "ok"}
    missed = {"name": "against_champion", "observed": -0.02, "allowed": "> -0.01", "outcome": "fail", "detail": "worse"}
    return {
        "pipeline": "news-topics",
        "outcome": "held",
        "reason": "candidate: fail\n  <script>alert(1)</script>",
        "candidate": model(0.97, "int8"),
        "champion_before": model(0.98, "fp32") | {"name": "news-topics", "version": "3"},
        "release": {"name": "news-topics", "version": "4", "variant": "int8"},
        "verdicts": [{"subject": "candidate", "outcome": "fail", "checks": [check, missed]}],
        "snapshot": {"rows": {"train": 1700, "test": 213}, "quarantined": 1, "deduplicated": 98, "sha256": "ab" * 32},
        "variants": {"int8": model(0.97, "int8"), "fp32": model(0.971, "fp32")},
        "seconds": {"source": 1.0, "fine_tune": 21.5},
        "mlflow_run_id": "f" * 32,
        "retrain_id": "r1",
        "links": {},
    }


def test_the_table_has_what_a_person_asks_for(summary: dict[str, Any]) -> None:
    text = table.render(summary)
    for part in (
        "news-topics: held",
        "train 1700, test 213; quarantined 1, duplicates dropped 98",
        "macro_f1",
        "0.9700 [0.9500, 0.9900]",
        "champion before (v3, fp32)",
        "23.5 MB",
        "3.8 ms",
        "1 of 2 checks passed",
        "against_champion: observed -0.02, allowed > -0.01",
        "fine_tune 21.5",
        "version 4 (int8)",
    ):
        assert part in text, part


def test_the_table_of_a_run_that_ended_early(summary: dict[str, Any]) -> None:
    empty = {
        "candidate": None,
        "champion_before": None,
        "release": None,
        "verdicts": [],
        "variants": {},
        "snapshot": None,
    }
    text = table.render(summary | empty | {"outcome": "rejected", "seconds": {}})
    assert text.startswith("news-topics: rejected\nreason")


def test_the_table_says_the_judgement_in_one_sentence_first(summary: dict[str, Any]) -> None:
    text = table.render(summary | {"sentence": "The candidate is\n\x1b[31mworse."})
    assert text.splitlines()[1] == "The candidate is \ufffd[31mworse."
    assert text.splitlines()[2].startswith("reason")
    assert table.render(summary | {"sentence": None}) == table.render(summary)


def test_the_report_escapes_and_loads_nothing(summary: dict[str, Any], tmp_path: Path) -> None:
    image = tmp_path / "plot.png"
    plots.confusion_matrix(["a", "b"], ["a", "a"], ["a", "b"], image)
    page = gate_report.render(config.load(ROOT / "pipelines" / "news-topics.yaml"), summary, {"plot": image})
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "f1/&lt;b&gt;" in page
    assert "data:image/png;base64," in page
    assert not re.findall(r'(?:src|href)="(?!data:)[^"]*"', page)
    assert page.index("held: not good enough") < page.index("Candidate and champion")


def test_the_reliability_curve_gives_the_calibration_error(tmp_path: Path) -> None:
    confidence = np.array([0.95] * 100 + [0.55] * 100)
    right = np.array([True] * 75 + [False] * 25 + [True] * 55 + [False] * 45)
    error = plots.reliability_curve(confidence, right, tmp_path / "curve.png")
    assert error == pytest.approx((0.20 + 0.0) / 2, abs=1e-9)
    assert png_size(tmp_path / "curve.png") == (540, 540)


def png_size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])  # type: ignore[return-value]


def test_a_confusion_matrix_of_hundreds_of_labels_stays_a_picture(tmp_path: Path) -> None:
    names = [f"label {number}" for number in range(300)]
    plots.confusion_matrix(names, names[::-1], names, tmp_path / "matrix.png")
    data = (tmp_path / "matrix.png").read_bytes()
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    assert max(width, height) <= 2400


def test_labels_with_dollars_are_labels_and_no_formulas(tmp_path: Path) -> None:
    names = ["$_$", "under $100_or_$200", "cost $% of $"]
    plots.confusion_matrix(names, names[::-1], names, tmp_path / "matrix.png")
    assert (tmp_path / "matrix.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("cell", "text", "said"),
    [
        ("O B-person I-person O B-place", "saw Ed Sheeran in Paris", "person “Ed Sheeran”, place “Paris”"),
        ("O O O", "nobody is here", "no entity"),
        ("negative", "late again", "negative"),
        ("O", "O", "O"),
        ('["a", "b"]', "two words", '["a", "b"]'),
        ("O B-person", "three tokens here", "O B-person"),
        ("B-person O", None, "B-person O"),
    ],
)
def test_tags_are_told_as_the_entities_that_they_are(cell: str, text: str | None, said: str) -> None:
    assert words.answer(cell, text) == said
