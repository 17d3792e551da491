"""The prediction log: every answer and later label is found again, and a store that is gone costs no request anything."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from served import release, still
from starlette.testclient import TestClient

from mlops.blobs import LocalBlobs
from mlops.serving.app import create_app
from mlops.serving.predictions import Mode, PredictionLog, labelled, read
from mlops.store import Store, open_store


def asked(log: PredictionLog, *requests: list[str]) -> list[str]:
    """Their request ids, after the server has stopped."""
    with TestClient(create_app(still(release()), predictions=log)) as server:
        answers = [server.post("/v1/predict", json={"inputs": texts}) for texts in requests]
        assert [answer.status_code for answer in answers] == [200] * len(requests)
        return [answer.json()["request_id"] for answer in answers]


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("mode", ["hash", "text", "off"])
def test_every_answer_is_found_again(mode: Mode) -> None:
    log = PredictionLog(open_store(), "tiny", mode)
    ids = asked(log, ["ba do", "ki " * 200], ["ba do"])
    rows = read(open_store(), "tiny").to_pylist()
    assert len(rows) == (0 if mode == "off" else 3) == log.written
    if mode == "off":
        return
    assert [(row["request_id"], row["item"]) for row in rows] == [(ids[0], 0), (ids[0], 1), (ids[1], 0)]
    assert [row["text"] for row in rows] == (["ba do", "ki " * 200, "ba do"] if mode == "text" else [None] * 3)
    assert rows[0]["text_sha256"] == rows[2]["text_sha256"] != rows[1]["text_sha256"]
    assert [row["truncated"] for row in rows] == [False, True, False]
    expected = release().runtime.predict(["ba do"])[0]
    assert (rows[0]["label"], rows[0]["version"], rows[0]["variant"], rows[0]["role"]) == (
        expected["label"], "1", "fp32", "champion",
    )  # fmt: skip
    assert rows[0]["score"] == pytest.approx(expected["score"], abs=1e-5)
    assert rows[0]["milliseconds"] > 0


def test_a_hashed_log_has_no_words_of_an_entity() -> None:
    from mlops.serving.predictions import _without_texts

    assert _without_texts([{"start": 0, "end": 3, "text": "Ada"}]) == [{"start": 0, "end": 3}]


def test_labels_that_come_later_are_joined() -> None:
    log = PredictionLog(open_store(), "tiny", part_seconds=0.05)
    with TestClient(create_app(still(release()), predictions=log)) as server:
        own = server.post("/v1/predict", json={"inputs": ["ba do", "ki lu"]}).json()["request_id"]
        server.post("/v1/predict", json={"inputs": ["never labelled"]})
        for label in ("plants", "waters"):  # the last one counts
            answer = server.post("/v1/feedback", json={"request_id": own, "item": 1, "label": label})
            assert answer.status_code == 202
            until(lambda: not log._waiting)
        assert server.post("/v1/feedback", json={"request_id": "unknown", "label": "plants"}).status_code == 202
        for body in (
            {},
            {"request_id": own},
            {"request_id": own, "label": 3},
            {"request_id": own, "label": "x", "item": -1},
        ):
            assert server.post("/v1/feedback", json=body).status_code == 422
    (row,) = labelled(open_store(), "tiny").to_pylist()
    assert (row["request_id"], row["item"], row["right"]) == (own, 1, "waters")
    assert labelled(open_store(), "tiny", ["1999-01-01"]).num_rows == 0
    assert labelled(open_store(), "another").num_rows == 0


def test_without_a_log_feedback_is_refused() -> None:
    with TestClient(create_app(still(release()))) as server:
        assert server.post("/v1/feedback", json={"request_id": "x", "label": "y"}).status_code == 503


def test_a_store_that_is_gone_costs_nothing_and_is_counted(tmp_path: Path) -> None:
    place = tmp_path / "store"
    place.write_text("a file where the folder was")
    log = PredictionLog(Store(LocalBlobs(place), tmp_path), "tiny", part_rows=2, part_seconds=0.05, most_rows=6)
    with TestClient(create_app(still(release()), predictions=log)) as server:
        for _ in range(5):
            assert server.post("/v1/predict", json={"inputs": ["ba", "do"]}).status_code == 200
        until(lambda: log.failed > 0)
        assert log.dropped == 4
        numbers = server.get("/metrics").text
        assert 'evergreen_prediction_log{outcome="dropped"} 4.0' in numbers
        place.unlink()  # it is back: what was kept is written, in order
        until(lambda: log.written == 6)
    assert read(Store(LocalBlobs(place), tmp_path), "tiny").num_rows == 6
    assert log.dropped == 4


def test_what_could_not_be_written_at_the_end_is_counted(tmp_path: Path) -> None:
    place = tmp_path / "store"
    place.write_text("a file where the folder was")
    log = PredictionLog(Store(LocalBlobs(place), tmp_path), "tiny")
    asked(log, ["ba", "do"])
    assert (log.written, log.dropped) == (0, 2)
