"""`mlops explain`: the record of a real retrain, and judging again from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import TRAINED, tiny_file

from mlops import config, explain, pipeline, records
from mlops.cli import main
from mlops.errors import NotFound


@pytest.fixture
def summary(tmp_path: Path) -> dict:
    golden = tmp_path / "golden.jsonl"
    gate = TRAINED["gate"] | {
        "golden": {"source": str(golden), "floor": 0.0},
        "slices": [{"label": "metals"}, {"expression": "n_tokens > 5"}],
        "max_ece": 0.9,
        "min_slice_rows": 5,
    }
    path = tiny_file(tmp_path, gate=gate)
    rows = [line for line in (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines() if line.strip()]
    golden.write_text("\n".join(rows[:4]) + "\n", encoding="utf-8")
    return pipeline.run(config.load(path))


def test_the_record_of_a_run(summary: dict, capsys: pytest.CaptureFixture[str]) -> None:
    assert summary["outcome"] == "promoted", summary["reason"]
    assert summary["sentence"].startswith(f"The {summary['release']['variant']} file is the first that is good enough")
    shipped = summary["release"]["variant"]
    found = explain.find(summary["mlflow_run_id"])
    assert found["subject"] == shipped
    assert found == explain.find(summary["retrain_id"]) == explain.find("tiny")
    candidate = explain.find("tiny", "candidate")
    assert {check["name"] for check in candidate["checks"]} >= {
        "floor",
        "looks",
        "golden",
        "calibration",
        "majority_baseline",
        "baseline:tfidf",
    }
    assert candidate["golden"]["rows"] == 4
    assert [one["name"] for one in candidate["slices"][:2]] == ["label: metals", "n_tokens > 5"]
    assert candidate["look"]["number"] == found["look"]["number"] == 1
    assert candidate["calibration"]["temperature"] > 0
    for subject in ("candidate", shipped):
        judged, differs = records.again(explain.find("tiny", subject))
        assert differs == []
        assert judged.sentence == explain.find("tiny", subject)["sentence"]
    changed = found | {"outcome": "fail", "sentence": "No.", "checks": found["checks"][1:]}
    assert [each.split(":")[0] for each in records.again(changed)[1]] == ["outcome", "sentence", "checks"]
    assert main(["explain", "tiny"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"the run: promoted\n{summary['sentence']}")
    assert "majority_baseline" in told
    assert main(["explain", summary["retrain_id"], "--again"]) == 0
    assert "the same, to the last bit" in capsys.readouterr().out
    assert main(["explain", "tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["format"] == 1
    report = Path(summary["links"]["gate_report.html"]).read_text(encoding="utf-8")
    assert found["sentence"].split(":")[0] in report
    with pytest.raises(NotFound, match="no judgement of 'fp16'"):
        explain.find("tiny", "fp16")


def test_a_run_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "nothing"]) == 2
    assert "no run 'nothing'" in capsys.readouterr().err
