from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sources import BBC, pipeline, sentences, table, write_jsonl

from mlops.config import PipelineConfig
from mlops.data.parents import record
from mlops.errors import UserError
from mlops.steps.source import source
from mlops.steps.validate import validate
from mlops.store import open_store
from mlops.types import Check, Verdict

GOOD: list[Any] = [{"text": text, "label": "sun" if n % 2 else "rain"} for n, text in enumerate(sentences(40))]
LABELS = {"column": "label", "value_set": ["sun", "rain"]}


def judge(config: PipelineConfig) -> Verdict:
    return validate(config, source(config))


def reasons(verdict: Verdict) -> dict[str, str]:
    assert verdict.report is not None
    return {row["row_id"]: row["reason"] for row in table(verdict.report, "quarantine.parquet")}


def check(verdict: Verdict, name: str) -> Check:
    found = {entry.name: entry for entry in verdict.checks}
    assert name in found, f"no {name} among {', '.join(found)}"
    return found[name]


def over(tmp_path: Path, rows: list[Any], *suite: dict[str, Any], **sections: Any) -> PipelineConfig:
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    return pipeline(path, suite=list(suite), **sections)


def test_the_corpus_passes_its_suite_and_data_docs_are_built(home: Path) -> None:
    suite = [
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "text"}, "severity": "quarantine"},
        {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 200}},
    ]
    config = pipeline(BBC, suite=suite)
    snapshot = source(config)
    validate(config, snapshot)  # the first pays for the import
    started = time.perf_counter()
    verdict = validate(config, snapshot)
    assert time.perf_counter() - started < 8  # half a second where nothing else runs
    assert (verdict.subject, verdict.outcome) == ("snapshot", "pass")
    assert reasons(verdict) == {"sports/199.txt": "invalid_utf8"}
    (line,) = (home / "quarantine" / "tiny" / snapshot.revision[:12] / "rows.jsonl").read_text().splitlines()
    assert json.loads(line) | {"text": ""} == {
        "split": "all", "position": 1511, "row_id": "sports/199.txt", "reason": "invalid_utf8",
        "detail": "bytes that are not UTF-8", "text": "", "label": "sports",
    }  # fmt: skip
    assert check(verdict, "rows:invalid_utf8").observed == 1
    assert check(verdict, "rows:invalid_utf8").outcome == "warn"
    assert check(verdict, "expect_table_row_count_to_be_between").observed == 2224
    assert check(verdict, "quarantined_share").observed == pytest.approx(1 / 2225, abs=1e-6)
    docs = home / "data_docs" / "tiny" / snapshot.revision[:12]
    assert verdict.report is not None
    for folder in (docs, open_store().fetch(verdict.report) / "data_docs"):
        assert "tiny-rows" in (folder / "index.html").read_text(encoding="utf-8")
        pages = list((folder / "validations").rglob("*.html"))
        assert len(pages) == 2
        assert any("must never be null" in page.read_text(encoding="utf-8") for page in pages)
    assert [path.name for path in docs.parent.iterdir()] == [docs.name]


def test_hostile_rows_are_set_aside_with_their_reasons(tmp_path: Path) -> None:
    bad = [
        {"label": "sun"},
        {"text": " \u200b\n", "label": "sun"},
        {"text": "x", "label": None},
        {"text": "x", "label": "snow"},
        {"text": "nul \x00", "label": "sun"},
        {"text": "x" * 10_000_000, "label": "sun"},
        b'{"text": "caf\xe9", "label": "sun"}',
        b"{",
        {"text": ["x"], "label": "sun"},
        {"text": "short", "label": "sun"},
    ]
    verdict = judge(
        over(
            tmp_path,
            [*GOOD, *bad],
            {"type": "expect_column_values_to_be_in_set", "kwargs": LABELS, "severity": "quarantine"},
            {
                "type": "expect_column_value_lengths_to_be_between",
                "kwargs": {"column": "text", "min_value": 10},
                "severity": "quarantine",
            },
        )
    )
    assert verdict.outcome == "pass"
    expected = ["missing_text", "missing_text", "missing_label", "unknown_label", "nul_byte", "too_large"]
    expected += ["invalid_utf8", "malformed", "not_text", "expect_column_value_lengths_to_be_between"]
    assert reasons(verdict) == {f"rows.jsonl:{41 + n}": reason for n, reason in enumerate(expected)}
    assert check(verdict, "rows").observed == 40
    assert check(verdict, "quarantined_share").observed == 0.2
    labels = check(verdict, "expect_column_values_to_be_in_set:label")
    assert (labels.outcome, labels.observed) == ("warn", "1 unexpected (2.38%)")
    assert verdict.report is not None
    kept = table(verdict.report, "quarantine.parquet")
    assert max(len(row["text"] or "") for row in kept) == 200
    assert all(row["detail"] for row in kept)
    report = json.loads((open_store().fetch(verdict.report) / "validation.json").read_text(encoding="utf-8"))
    assert [entry["outcome"] for entry in report["expectations"]] == ["warn", "warn"]
    assert report["quarantined"] == 10


@pytest.mark.parametrize("suite", [(), ({"type": "expect_column_distinct_values_to_contain_set", "kwargs": LABELS},)])
def test_all_rows_bad_is_a_failing_verdict(tmp_path: Path, suite: tuple[dict[str, Any], ...]) -> None:
    verdict = judge(over(tmp_path, [b"{", {"label": "sun"}, {"text": "x\x00"}], *suite))
    assert verdict.outcome == "fail"
    assert Counter(reasons(verdict).values()) == {"malformed": 1, "missing_text": 1, "nul_byte": 1}
    for name in ("quarantined_share", "rows", "labels"):
        assert check(verdict, name).outcome == "fail"
    assert check(verdict, "rows").observed == 0


def test_limits_on_the_whole(tmp_path: Path) -> None:
    too_many = judge(over(tmp_path, [*GOOD, *[{"label": "sun"}] * 20], validate={"max_quarantined": 0.3}))
    assert too_many.outcome == "fail"
    assert check(too_many, "quarantined_share").detail == "missing_text 20"
    few = judge(over(tmp_path, GOOD, validate={"min_rows": 41}))
    assert (few.outcome, check(few, "rows").observed, check(few, "rows").allowed) == ("fail", 40, "41 or more")
    assert check(few, "expect_table_row_count_to_be_between").outcome == "fail"
    one_label = judge(over(tmp_path, [row for row in GOOD if row["label"] == "sun"]))
    assert (one_label.outcome, check(one_label, "labels").observed) == ("fail", 1)


def test_labels_declared_or_often_enough(tmp_path: Path) -> None:
    rows = [*GOOD, {"text": "some snow fell", "label": "snow"}]
    rare = judge(over(tmp_path, rows, validate={"min_rows_per_label": 2}))
    assert reasons(rare) == {"rows.jsonl:41": "rare_label"}
    unknown = judge(over(tmp_path, rows, data={"labels": ["sun", "rain", "fog"]}, validate={"min_rows_per_label": 2}))
    assert reasons(unknown) == {"rows.jsonl:41": "unknown_label"}
    assert (check(unknown, "labels").outcome, check(unknown, "labels").detail) == ("warn", "rain, sun; no row of: fog")
    entry = {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "label", "value_set": ["sun", "snow"]}}
    declared = judge(over(tmp_path, rows, {**entry, "severity": "warn"}, validate={"min_rows_per_label": 30}))
    assert reasons(declared) == {}


def test_numbers_as_labels_are_told_as_the_snapshot_writes_them(tmp_path: Path) -> None:
    rows = [{"text": row["text"], "label": n % 2} for n, row in enumerate(GOOD)]
    entry = {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "label", "value_set": [0, 1.0, "2"]}}
    verdict = judge(over(tmp_path, rows, entry))
    assert (verdict.outcome, reasons(verdict)) == ("pass", {})
    assert check(verdict, "labels").detail == "0, 1"


def test_severities(tmp_path: Path) -> None:
    entry = {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "text", "regex": "^item"}}
    rows = [*GOOD, {"text": "odd one", "label": "sun"}]
    outcomes = {}
    for severity in ("fail", "quarantine", "warn"):
        verdict = judge(over(tmp_path, rows, {**entry, "severity": severity}))
        outcomes[severity] = (verdict.outcome, check(verdict, f"{entry['type']}:text").outcome, len(reasons(verdict)))
    assert outcomes == {"fail": ("fail", "fail", 0), "quarantine": ("pass", "warn", 1), "warn": ("pass", "warn", 0)}
    # `mostly` tolerates: what is tolerated is not set aside.
    kwargs = {**entry["kwargs"], "mostly": 0.9}  # type: ignore[dict-item]
    tolerated = judge(over(tmp_path, rows, {**entry, "kwargs": kwargs, "severity": "quarantine"}))
    assert (tolerated.outcome, reasons(tolerated)) == ("pass", {})


def test_expectations_on_the_whole_judge_what_remains(tmp_path: Path) -> None:
    snow = [{"text": f"snow {n}", "label": "snow"} for n in range(5)]
    verdict = judge(
        over(
            tmp_path,
            [*GOOD, *snow],
            {"type": "expect_column_distinct_values_to_be_in_set", "kwargs": LABELS},
            {"type": "expect_column_values_to_be_in_set", "kwargs": LABELS, "severity": "quarantine"},
            {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 40}},
            {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 40}, "severity": "warn"},
        )
    )
    assert verdict.outcome == "pass", verdict.explain()
    assert len(reasons(verdict)) == 5
    names = [entry.name for entry in verdict.checks]
    assert names[:4] == [
        "expect_column_distinct_values_to_be_in_set:label",
        "expect_column_values_to_be_in_set:label",
        "expect_table_row_count_to_equal",
        "expect_table_row_count_to_equal#2",
    ]


def test_a_quarantine_entry_that_names_no_rows_fails(tmp_path: Path) -> None:
    entry = {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 1}, "severity": "quarantine"}
    verdict = judge(over(tmp_path, GOOD, entry))
    assert verdict.outcome == "fail"
    assert "names no rows" in check(verdict, "expect_table_row_count_to_equal").detail


def test_an_entry_that_sets_rows_aside_is_judged_again_on_what_remains(tmp_path: Path) -> None:
    odd = [{"text": text, "label": "odd"} for text in sentences(3, 900)]
    entry = {"type": "expect_labels_to_have_rows", "severity": "quarantine"}
    kwargs = {"labels": ["sun", "rain"], "min_rows": 5}
    enough = judge(over(tmp_path, [*GOOD, *odd], {**entry, "kwargs": kwargs}))
    found = check(enough, "expect_labels_to_have_rows")
    assert (enough.outcome, found.outcome, len(reasons(enough))) == ("pass", "warn", 3)
    gone = judge(over(tmp_path, [*GOOD, *odd], {**entry, "kwargs": {**kwargs, "labels": ["sun", "rain", "gone"]}}))
    found = check(gone, "expect_labels_to_have_rows")
    assert (gone.outcome, found.outcome, len(reasons(gone))) == ("fail", "fail", 3)
    assert "3 rows set aside" in found.detail
    assert "on the rows that remain: 'gone' has 0 rows" in found.detail
    # What another entry sets aside leaves too few of a label: these go too, and nothing is left to fail.
    few = {"type": "expect_column_values_to_not_match_regex", "kwargs": {"column": "text", "regex": "^item91"}}
    rows = [*GOOD, *odd, *({"text": text, "label": "fog"} for text in sentences(8, 908))]
    both = judge(over(tmp_path, rows, {**few, "severity": "quarantine"}, {**entry, "kwargs": {"min_rows": 7}}))
    assert (both.outcome, len(reasons(both))) == ("pass", 11)


def test_what_an_earlier_suite_set_aside_is_not_shown_with_a_later_one(tmp_path: Path, home: Path) -> None:
    entry = {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "text", "regex": "^item1"}}
    config = over(tmp_path, GOOD, {**entry, "severity": "quarantine"})
    raw = source(config)
    assert reasons(validate(config, raw))
    folder = home / "quarantine" / "tiny" / raw.revision[:12]
    assert (folder / "rows.jsonl").exists()
    later = over(tmp_path, GOOD, {**entry, "severity": "warn"})
    assert reasons(validate(later, source(later))) == {}
    assert not folder.exists()


@pytest.mark.parametrize(("severity", "outcome"), [("fail", "fail"), ("quarantine", "fail"), ("warn", "warn")])
def test_what_is_raised_inside_an_expectation_counts_by_its_severity(
    tmp_path: Path, severity: str, outcome: str
) -> None:
    entry = {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "text", "regex": "("}}
    verdict = judge(over(tmp_path, GOOD, {**entry, "severity": severity}))
    found = check(verdict, "expect_column_values_to_match_regex:text")
    assert (verdict.outcome, found.outcome, found.observed) == (
        "fail" if outcome == "fail" else "pass", outcome, None,
    )  # fmt: skip
    assert "could not be computed" in found.detail
    assert "missing )" in found.detail


def test_a_batch_that_leaves_one_label_among_the_old_rows_is_judged_by_its_words(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [{"text": row["text"], "label": "sun"} for row in GOOD])
    config = pipeline(path)
    record(open_store(), source(config))
    more = [{"text": text, "label": ("sun", "rain")[n % 2]} for n, text in enumerate(sentences(80, 900))]
    write_jsonl(path, [*({"text": row["text"], "label": "sun"} for row in GOOD), *more])
    raw = source(config)
    verdict = validate(config, raw, parent=raw.parent_sha256)
    found = check(verdict, "expect_new_rows_to_resemble_old_ones")
    assert verdict.outcome == "pass", verdict.explain()
    assert found.detail.startswith("sun: effect 0.00, distance ")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"type": "expect_column_values_to_not_be_nul"}, "did you mean 'expect_column_values_to_not_be_null'"),
        (
            {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "label", "values_set": []}},
            "found the argument 'values_set'; .*did you mean 'value_set'",
        ),
        ({"type": "expect_column_values_to_not_be_null"}, "wrong arguments: column: field required"),
        (
            {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "txt"}},
            "found the column 'txt'; .*did you mean 'text'",
        ),
        (
            {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "text", "mostly": 7}},
            "wrong arguments: mostly",
        ),
        ({"type": "expect_table_row_count_to_equal", "kwargs": {"value": 1, "severity": "info"}}, "'severity'"),
        (
            {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "label", "value_set": [True, "sun"]}},
            "found True; .*put the label in quotes",
        ),
        (
            {"type": "expect_new_rows_to_resemble_old_ones", "kwargs": {"max_novel": 0}},
            "wrong arguments: max_novel: found 0.0; allowed: a number above 0",
        ),
        (
            {
                "type": "expect_new_rows_to_resemble_old_ones",
                "kwargs": {"max_effect": -1, "max_distance": float("nan")},
            },
            "max_effect: found -1.0; .*max_distance: found nan; allowed: a number above 0",
        ),
        (
            {"type": "expect_label_shares_to_resemble_parent", "kwargs": {"max_effect": 0}},
            "max_effect: found 0.0; allowed: a number above 0",
        ),
        (
            {"type": "expect_column_values_to_not_be_in_set", "kwargs": {"column": "label", "value_set": [None]}},
            "found None; allowed: labels as text or numbers",
        ),
    ],
)
def test_a_faulty_entry_is_the_users(tmp_path: Path, entry: dict[str, Any], said: str) -> None:
    good = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "label"}}
    config = over(tmp_path, GOOD, good, entry, expectations="expectations/tiny.yaml")
    with pytest.raises(UserError, match=said) as caught:
        judge(config)
    assert str(caught.value).startswith(f"expectations/tiny.yaml[1] {entry['type']}: ")


def test_columns_are_known_by_the_sources_names_too(tmp_path: Path) -> None:
    rows = [{"body": row["text"], "topic": row["label"], "key": n % 39} for n, row in enumerate(GOOD)]
    columns = {"text": "body", "label": "topic", "id": "key"}
    entry = {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "topic", "value_set": ["sun"]}}
    verdict = judge(over(tmp_path, rows, {**entry, "severity": "quarantine"}, data={"columns": columns}))
    assert set(reasons(verdict).values()) == {"unknown_label"}
    assert check(verdict, "rows:duplicate_id").observed == 1
    assert check(verdict, "rows:duplicate_id").outcome == "warn"
    unique = {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "key"}, "severity": "quarantine"}
    assert len(table(judge(over(tmp_path, rows, unique, data={"columns": columns})).report, "quarantine.parquet")) == 2  # type: ignore[arg-type]


def test_splits_by_uri_are_judged_together(tmp_path: Path) -> None:
    for name in ("train", "test"):
        write_jsonl(tmp_path / f"{name}.jsonl", [*GOOD, {"label": "sun"}])
    splits = {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "test")}
    verdict = judge(pipeline("unused", data={"splits": splits}))
    assert verdict.report is not None
    found = [(row["split"], row["position"]) for row in table(verdict.report, "quarantine.parquet")]
    assert found == [("train", 40), ("test", 40)]
