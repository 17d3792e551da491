from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sources import BASE, BBC, pipeline, sentences, table, write_jsonl

from mlops.config import PipelineConfig
from mlops.data.book import KEPT_OUT, read_book
from mlops.data.text import normalise
from mlops.errors import BaseModelError, Rejected, StoreError
from mlops.steps.prepare import prepare
from mlops.steps.source import source
from mlops.steps.validate import validate
from mlops.store import open_store
from mlops.types import ArtifactRef, Base, Snapshot

SPLITS = ("train", "validation", "test")
ROWS: list[dict[str, Any]] = [{"text": text, "label": ("sun", "rain")[n % 2]} for n, text in enumerate(sentences(120))]


def run(config: PipelineConfig) -> Snapshot:
    raw = source(config)
    return prepare(config, raw, validate(config, raw), BASE)


def over(tmp_path: Path, rows: list[Any], **sections: Any) -> Snapshot:
    return run(pipeline(write_jsonl(tmp_path / "rows.jsonl", rows), **sections))


def by_split(snapshot: Snapshot) -> dict[str, set[str]]:
    return {name: {row["text"] for row in table(snapshot.splits[name])} for name in SPLITS}


def pointer() -> ArtifactRef:
    return ArtifactRef.model_validate(open_store().read_document("splits/tiny"))


def test_the_corpus_grows_without_a_leak() -> None:
    config = pipeline(BBC, data={"take": 0.3})
    raw = source(config)
    verdict = validate(config, raw)
    small = prepare(config, raw, verdict, BASE)
    again = prepare(config, source(config), verdict, BASE)
    # Equal rows, and a book that knows them: an equal snapshot, so that the run can be skipped.
    assert (again.revision, again.splits, again.split_book) == (small.revision, small.splits, small.split_book)
    large = run(pipeline(BBC))
    assert large.quarantined == 1
    # 98 of the files are byte for byte copies of others; more differ by white space or case alone.
    assert 98 <= large.deduplicated < 130
    assert sum(large.rows.values()) == 2225 - 1 - large.deduplicated
    assert large.verdict is not None
    assert large.verdict.outcome == "pass"
    assert large.labels == ("business", "entertainment", "politics", "sports", "tech")
    before, after = by_split(small), by_split(large)
    for name in SPLITS:
        assert not before[name] & set().union(*(after[other] for other in SPLITS if other != name))
    assert before["test"] == before["test"] & after["test"]
    groups = {name: {row["group"] for row in table(large.splits[name])} for name in SPLITS}
    assert not groups["train"] & groups["test"]
    assert not groups["validation"] & groups["test"]
    texts = [text.casefold() for name in SPLITS for text in after[name]]
    assert len(texts) == len(set(texts)) == sum(large.rows.values())


def test_rows_are_tokenised_as_the_base_model_does(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    from mlops.training.base import resolve

    snapshot = over(tmp_path, [*ROWS, {"text": " Two\r\n lines\u200b ", "label": "sun"}])
    tokenizer = Tokenizer.from_file(str(resolve(BASE.uri) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    rows = [row for name in SPLITS for row in table(snapshot.splits[name])]
    assert list(rows[0]) == ["row_id", "text", "label", "input_ids", "n_tokens", "group"]
    assert "Two lines" in {row["text"] for row in rows}
    for row in rows:
        assert row["text"] == normalise(row["text"])
        assert row["n_tokens"] == len(row["input_ids"]) <= 16
        assert (row["input_ids"][0], row["input_ids"][-1]) == (101, 102)
        assert row["input_ids"][:-1] == tokenizer.encode(row["text"]).ids[: row["n_tokens"] - 1]
    assert max(row["n_tokens"] for row in rows) == 16


def test_copies_and_contradictions_go_and_the_order_of_the_rows_does_not_matter(tmp_path: Path) -> None:
    rows = [
        *({**row, "key": f"k{n:03}"} for n, row in enumerate(ROWS)),
        {"text": ROWS[5]["text"].upper(), "label": ROWS[5]["label"], "key": "z-copy"},
        {"text": ROWS[6]["text"], "label": "rain", "key": "z-other-label"},
        {"text": "set aside", "label": None, "key": "z-bad"},
    ]
    shuffled = list(rows)
    random.Random(4).shuffle(shuffled)
    columns = {"columns": {"id": "key"}}
    one = over(tmp_path, rows, data=columns)
    other = over(tmp_path, shuffled, data=columns, name="other")
    assert (one.quarantined, one.deduplicated) == (1, 3)
    for name in SPLITS:
        ids = [{row["row_id"]: row["text"] for row in table(each.splits[name])} for each in (one, other)]
        assert ids[0] == ids[1]
        assert not {"z-copy", "k006", "z-other-label", "z-bad"} & set(ids[0])


def test_rows_with_one_id_stay_apart(tmp_path: Path) -> None:
    snapshot = over(tmp_path, [{**row, "key": "same"} for row in ROWS], data={"columns": {"id": "key"}})
    for name in SPLITS:
        ids = [row["row_id"] for row in table(snapshot.splits[name])]
        assert len(ids) == len(set(ids)) > 1
        assert ids[:2] == ["same", "same#2"]


def test_over_many_growing_snapshots_nothing_from_test_trains(tmp_path: Path) -> None:
    chance = random.Random(7)
    long = [f"{text} {other}" for text, other in zip(sentences(80), sentences(80, 80), strict=True)]
    rows: list[dict[str, Any]] = []
    ever_test: set[str] = set()
    kept_out = 0
    for step in range(4):
        rows += [
            {"text": text, "label": ("sun", "rain")[n % 2]} for n, text in enumerate(long[step * 20 : step * 20 + 20])
        ]
        # Near-copies of earlier texts, one word more or less.
        for row in chance.sample(rows, 10):
            rows.append({"text": f"{row['text']} update {step}", "label": row["label"]})
        snapshot = over(tmp_path, rows, prepare={"near_duplicate": 0.6})
        texts = by_split(snapshot)
        assert ever_test <= texts["test"]
        ever_test |= texts["test"]
        assert not ever_test & (texts["train"] | texts["validation"])
        kept_out += read_book(open_store(), snapshot.split_book)["split"].to_pylist().count(KEPT_OUT)
    assert kept_out > 0


def test_splits_by_uri_lose_copies_of_test_and_validation_is_cut(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", ROWS[:100])
    write_jsonl(tmp_path / "test.jsonl", [*ROWS[90:], {"text": ROWS[3]["text"] + " more", "label": "sun"}])
    splits = {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "test")}
    snapshot = run(pipeline("unused", data={"splits": splits}, prepare={"near_duplicate": 0.5}))
    assert snapshot.rows["test"] == 31
    assert snapshot.rows["train"] + snapshot.rows["validation"] == 100 - 10 - 1
    assert snapshot.rows["validation"] >= 1
    assert snapshot.deduplicated == 11
    texts = by_split(snapshot)
    assert not texts["test"] & (texts["train"] | texts["validation"])
    assert ROWS[3]["text"] not in texts["train"] | texts["validation"]


def test_rows_of_one_unit_share_a_split(tmp_path: Path) -> None:
    rows = [{**row, "author": f"a{n // 4}" if n < 100 else None, "day": f"d{n}"} for n, row in enumerate(ROWS)]
    snapshot = over(tmp_path, rows, data={"columns": {"group": "author", "time": "day"}})
    where: dict[str, set[str]] = {}
    for name in SPLITS:
        for row in table(snapshot.splits[name]):
            assert row["time"].startswith("d")
            if row["unit"] is not None:
                where.setdefault(row["unit"], set()).add(name)
    assert len(where) == 25
    assert all(len(names) == 1 for names in where.values())
    assert Counter(name for names in where.values() for name in names)["train"] >= 15


def test_a_label_without_a_row_in_train_is_rejected(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", ROWS[:60])
    write_jsonl(tmp_path / "test.jsonl", [*ROWS[60:], {"text": "a white blanket of snow", "label": "snow"}])
    splits = {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "test")}
    with pytest.raises(Rejected) as caught:
        run(pipeline("unused", data={"splits": splits}))
    assert "labels:train observed 2, allowed 3 (no row in train of: snow)" in str(caught.value)
    assert caught.value.exit_code == 3
    assert open_store().read_document("splits/tiny") is None


def test_a_split_without_rows_is_rejected(tmp_path: Path) -> None:
    near = [{"text": f"{' '.join(sentences(4))} {n}", "label": ("sun", "rain")[n % 2]} for n in range(10)]
    with pytest.raises(Rejected) as caught:
        over(tmp_path, near)
    failed = {check.name for check in caught.value.verdict.checks if check.outcome == "fail"}
    assert len(failed & {"rows:train", "rows:validation", "rows:test"}) == 2
    assert caught.value.verdict.subject == "snapshot"


def test_only_an_approved_snapshot_is_prepared(tmp_path: Path) -> None:
    config = pipeline(write_jsonl(tmp_path / "rows.jsonl", ROWS))
    raw = source(config)
    strict = config.model_copy(update={"validate_": config.validate_.model_copy(update={"min_rows": 1000})})
    with pytest.raises(Rejected, match="rows observed 120, allowed 1000 or more"):
        prepare(config, raw, validate(strict, raw), BASE)
    verdict = validate(config, raw)
    changed = source(pipeline(write_jsonl(tmp_path / "more.jsonl", ROWS[:50])))
    with pytest.raises(StoreError, match="the verdict is about snapshot"):
        prepare(config, changed, verdict, BASE)
    with pytest.raises(StoreError, match="has no report"):
        prepare(config, raw, verdict.model_copy(update={"report": None}), BASE)
    with pytest.raises(BaseModelError):
        prepare(config, raw, verdict, Base(uri=str(tmp_path / "nothing"), sha256="0"))


def test_preparing_again_after_a_crash_changes_nothing(tmp_path: Path) -> None:
    config = pipeline(write_jsonl(tmp_path / "rows.jsonl", ROWS))
    raw = source(config)
    verdict = validate(config, raw)
    first = prepare(config, raw, verdict, BASE)
    assert pointer() == first.split_book
    assert prepare(config, raw, verdict, BASE) == first
    assert pointer() == first.split_book
