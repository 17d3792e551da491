"""The tune section: what may be tried is what the train section allows, and every fault is told with what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops.config import PipelineConfig, load
from mlops.config_tune import Range, whole
from mlops.errors import ConfigError

PIPELINE = """\
name: tickets
task: text-classification
data: {source: rows.jsonl}
model: {base: "package://some/model"}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tickets.yaml"
    path.write_text(PIPELINE)
    return path


def test_absent_is_no_tuning(file: Path) -> None:
    assert load(file).tune is None


def test_ranges_and_lists_of_the_train_section(file: Path) -> None:
    file.write_text(
        PIPELINE
        + "tune: {trials: 3, timeout: 0.5, bases: [small, hf://ORG/NAME], space: {learning_rate: {low: 1e-5, high: 1e-3, "
        "log: true}, epochs: {low: 1, high: 4}, batch_tokens: [1024, 2048]}}\n"
    )
    tune = load(file).tune
    assert tune is not None
    assert tune.space["learning_rate"] == Range(low=1e-5, high=1e-3, log=True)
    assert tune.space["batch_tokens"] == (1024, 2048)
    assert tune.bases == (str(file.parent / "small"), "hf://ORG/NAME")  # paths start where the file is
    assert (tune.trials, tune.timeout, tune.rows, tune.pruner) == (3, 0.5, 1.0, "median")
    config = load(file)
    again = PipelineConfig.model_validate(config.model_dump(mode="json", by_alias=True))
    assert again == config  # what an XCom brings


def test_which_keys_take_whole_numbers() -> None:
    assert whole("epochs")
    assert not whole("learning_rate")


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("{space: {learning_rat: [0.1]}}", "learning_rat: unknown key.*did you mean 'learning_rate'"),
        ("{trails: 3, space: {epochs: [1]}}", r"tune\.trails: unknown key.*did you mean 'trials'"),
        ("{space: {epochs: {low: 0, high: 2}}}", "epochs.low: found 0; should be greater than or equal to 1"),
        ("{space: {epochs: {low: 1.5, high: 2}}}", "epochs.low: found 1.5; should be a whole number"),
        ("{space: {epochs: {low: 1, high: 3, step: 0.5}}}", "epochs.step: found 0.5; should be a whole number"),
        ("{space: {epochs: {low: 3, high: 2}}}", "low 3 is above high 2"),
        ("{space: {epochs: {low: 3}}}", "epochs.high: is missing"),
        ("{space: {epochs: {low: 1, high: 2, by: 1}}}", "epochs.by: unknown key; allowed: low, high, log, step"),
        ("{space: {learning_rate: {low: 0, high: 1, log: true}}}", "low 0 with log: true; allowed: above 0"),
        ("{space: {epochs: 3}}", "epochs: found 3; allowed: a list of values"),
        ("{space: {epochs: []}}", r"epochs: found \[\]; allowed: a list of values"),
        ("{space: {epochs: [2, 2]}}", r"epochs: found \[2, 2\]; allowed: each value once"),
        ("{space: {warmup: [0.1, 2]}}", "warmup: found 2; should be less than or equal to 1"),
        ("{space: {epochs: [1]}, pruner: medan}", r"tune\.pruner: found 'medan'.*did you mean 'median'"),
        ("{space: {epochs: [1]}, timeout: 0}", r"tune\.timeout: found 0; should be greater than 0"),
        ("{space: {epochs: [1]}, rows: 0}", r"tune\.rows: found 0; should be greater than 0"),
        ("{bases: [a, a]}", "allowed: each once"),
        ("{trials: 3}", "nothing to try: allowed is a space, two or more bases, or both"),
    ],
)
def test_faults_say_what_is_allowed(file: Path, section: str, told: str) -> None:
    file.write_text(PIPELINE + f"tune: {section}\n")
    with pytest.raises(ConfigError, match=told):
        load(file)


def test_more_workers_are_no_other_model(file: Path) -> None:
    file.write_text(PIPELINE + "tune: {space: {epochs: [1, 2]}}\n")
    plain = load(file).fingerprint
    assert load(file, ["tune.workers=4"]).fingerprint == plain
    assert load(file, ["tune.trials=4"]).fingerprint != plain
