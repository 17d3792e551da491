"""The pipeline file: what is accepted, and that every fault is named at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops import config
from mlops.config_data import Columns
from mlops.errors import ConfigError

MINIMAL = "name: t\ntask: text-classification\ndata: {source: rows.jsonl}\nmodel: {base: base}\n"
ROOT = Path(__file__).resolve().parent.parent


def written(folder: Path, text: str) -> Path:
    path = folder / "t.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def faults(path: Path, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        config.load(path, overrides)
    assert caught.value.exit_code == 2
    return caught.value.faults


def test_the_demo_pipeline_loads_with_its_suite() -> None:
    loaded = config.load(ROOT / "pipelines" / "news-topics.yaml")
    assert loaded.name == "news-topics"
    assert loaded.train.learning_rate == 1e-4
    assert {entry.severity for entry in loaded.suite} >= {"fail", "quarantine"}


def test_four_keys_are_enough(tmp_path: Path) -> None:
    loaded = config.load(written(tmp_path, MINIMAL))
    assert loaded.train.epochs >= 1
    assert loaded.promote == "approve-first"
    assert loaded.data.source == str(tmp_path / "rows.jsonl")


def test_it_survives_json(tmp_path: Path) -> None:
    loaded = config.load(ROOT / "pipelines" / "news-topics.yaml", ["data.take=0.6"])
    again = config.PipelineConfig.model_validate_json(loaded.model_dump_json(by_alias=True))
    assert again == loaded


def test_all_faults_at_once_with_path_found_allowed_and_guess(tmp_path: Path) -> None:
    text = MINIMAL.replace("text-classification", "text-clasification")
    text += "trian: {epochs: 2}\ntrain: {epochs: two, learning_rat: 1}\nschedule: every day\n"
    found = faults(written(tmp_path, text))
    assert len(found) == 5
    joined = "\n".join(found)
    for part in (
        "task: found 'text-clasification'",
        "did you mean 'text-classification'",
        "trian: unknown key",
        "did you mean 'train'",
        "train.epochs: found 'two'",
        "train.learning_rat: unknown key",
        "did you mean 'learning_rate'",
        "schedule: found 'every day'",
    ):
        assert part in joined


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("data: {source: x, splits: {train: 0.8, validation: 0.3, test: 0.1}}", "add up to 1.2"),
        ("data: {source: x, splits: {train: 0.8, validtion: 0.1, test: 0.1}}", "did you mean 'validation'"),
        ("data: {format: csv}", "data.source is missing"),
        ("train: {epochs: 0}", "train.epochs: found 0"),
        ("gate: {floor: 1.5}", "gate.floor: found 1.5"),
        ("gate: {metric: f3}", "gate.metric: found 'f3'"),
        ("compress: {variants: []}", "compress.variants"),
        ("compress: {variants: [int4]}", "compress.variants.0: found 'int4'"),
        ("name: Bad Name", "name: found 'Bad Name'"),
        ("expectations: nowhere.yaml", "expectations: found 'nowhere.yaml'"),
        ("train: 3", "train: found 3"),
        ("train: {learning_rate: .nan}", "train.learning_rate"),
        ("train: {epochs: '3'}", "train.epochs: found '3'; should be a number, without quotes"),
        ("train: {batch_tokens: 64.0}", "train.batch_tokens: found 64.0; should be a whole number"),
        ("train: {learning_rate: '0.1'}", "train.learning_rate: found '0.1'; should be a number"),
        ("train: {epochs: true}", "train.epochs: found True; true and false are not allowed"),
        ("compress: {variants: [int8, int8]}", "found int8, int8; allowed: each once"),
        ("data: {source: x, labels: []}", "allowed: two or more different labels"),
        ("data: {source: x, labels: [a, a]}", "found a, a; allowed: two or more different labels"),
        ("data: {source: x, labels: [a, yes]}", "found True; YAML reads yes, no"),
        ("data: {source: x, labels: [a, ' b']}", "found ' b'; labels have no white space"),
        ("data: {source: x, format: text-folders, columns: {group: who}}", "data.columns has group"),
        ("data: {source: x, columns: {text: a, label: a}}", "text and label are both 'a'"),
    ],
)
def test_single_faults(tmp_path: Path, line: str, part: str) -> None:
    import yaml

    raw = yaml.safe_load(MINIMAL) | yaml.safe_load(line)
    assert part in "\n".join(faults(written(tmp_path, yaml.safe_dump(raw))))


def test_a_key_that_stands_twice_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text("- type: expect_x\n  type: expect_y\n")
    text = MINIMAL + "expectations: suite.yaml\ntrain:\n  epochs: 1\n  epochs: 2\nmodel: {base: other, bse: x}\n"
    found = faults(written(tmp_path, text))
    assert "model: stands twice, on lines 4 and 9; keep one of them" in found
    assert "epochs: stands twice, on lines 7 and 8; keep one of them" in found
    assert "suite.yaml: type: stands twice, on lines 1 and 2; keep one of them" in found
    assert any("did you mean 'base'" in fault for fault in found)
    merged = "anchor: &a {epochs: 3, seed: 1}\ntrain: {<<: *a, seed: 2}\n"
    assert faults(written(tmp_path, MINIMAL + merged))[0].startswith("anchor: unknown key")


def test_what_is_written_another_way_is_taken(tmp_path: Path) -> None:
    text = (
        MINIMAL.replace("rows.jsonl", "rows.jsonl, labels: [0, 1, three], columns: ") + "gate:\nverify: {p95_ms: 5}\n"
    )
    loaded = config.load(written(tmp_path, text + "train: {learning_rate: 1e-4, warmup: 0}\nschedule:\n"))
    assert loaded.data.labels == ("0", "1", "three")
    assert (loaded.train.learning_rate, loaded.verify.p95_ms, loaded.train.warmup) == (1e-4, 5, 0)
    assert loaded.data.columns == Columns()
    assert loaded.gate == config.GateSection(metric="macro_f1")
    assert config.load(written(tmp_path, MINIMAL + "prepare: {near_duplicate: null}\n")).prepare.near_duplicate is None
    assert config.load(written(tmp_path, MINIMAL + "train:\n"), ["train.epochs=2"]).train.epochs == 2


@pytest.mark.parametrize("text", ["", "- a\n", "name: [\n", "just words", "schedule: 2024-13-45\n", "[" * 5000])
def test_what_is_no_pipeline_file(tmp_path: Path, text: str) -> None:
    assert len(faults(written(tmp_path, text))) == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "no such file" in faults(tmp_path / "absent.yaml")[0]


def test_overrides(tmp_path: Path) -> None:
    path = written(tmp_path, MINIMAL)
    loaded = config.load(path, ["train.learning_rate=1e-5", "train.epochs=1", "data.columns.text=body"])
    assert (loaded.train.learning_rate, loaded.train.epochs, loaded.data.columns.text) == (1e-5, 1, "body")
    found = "\n".join(faults(path, "train.epochs", "train.epoks=3", "name.x=1"))
    for part in ("found no '='", "did you mean 'epochs'", "not a section"):
        assert part in found


def test_a_fault_in_the_suite_names_the_entry(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text("- {type: expect_x, severity: fatal}\n- {typ: expect_y}\n")
    found = "\n".join(faults(written(tmp_path, MINIMAL + "expectations: suite.yaml\n")))
    assert "suite.yaml[0].severity: found 'fatal'" in found
    assert "suite.yaml[1].typ: unknown key" in found
    (tmp_path / "suite.yaml").write_text("- {type: [\n")
    found = "\n".join(faults(written(tmp_path, MINIMAL + "expectations: suite.yaml\ntrain: {epochs: 0}\n")))
    assert "expectations: suite.yaml cannot be read as YAML" in found
    assert "train.epochs: found 0" in found


def test_the_fingerprint_follows_what_decides_the_model(tmp_path: Path) -> None:
    path = written(tmp_path, MINIMAL)
    base = config.load(path).fingerprint
    assert config.load(path, ["schedule=@daily", "promote=approval"]).fingerprint == base
    assert config.load(path, ["train.seed=14"]).fingerprint != base
    assert config.load(path, ["model.max_length=32"]).fingerprint != base


@pytest.mark.parametrize("path", sorted((ROOT / "pipelines").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_a_pipeline_file(path: Path) -> None:
    loaded = config.load(path)
    assert loaded.gate.metric in config.METRICS[loaded.task_key]


def test_what_a_task_does_not_take_is_said(tmp_path: Path) -> None:
    for change, message in (
        ("gate: {metric: f2}\n", "gate.metric: found 'f2'; allowed for text-classification: macro_f1"),
        ("gate: {metric: mrr}\n", "gate.metric: found 'mrr'"),
    ):
        path = tmp_path / "t.yaml"
        path.write_text(MINIMAL + change)
        with pytest.raises(ConfigError) as caught:
            config.load(path)
        assert message in str(caught.value)
    path.write_text(
        MINIMAL.replace("text-classification", "text-ranking").replace("rows.jsonl", "rows.jsonl, target: multi")
    )
    with pytest.raises(ConfigError, match=r"data\.target: found 'multi'; text-ranking has targets of one kind only"):
        config.load(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [<b>x</b>\nc: 1", r"line 1, column 4: a: \[<b>x</b>"),
        ("[" * 100_000, "cannot be read as YAML: "),
        ("a: \x01", "#x0001"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        config.load(path)
