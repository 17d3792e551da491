"""Studies of a tiny real model in one process: the best is found, bad trials end early or alone, limits are kept."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny import tiny_base, tiny_config, tiny_run, tiny_snapshot

from mlops import tracking
from mlops.config import PipelineConfig
from mlops.errors import UserError
from mlops.pipeline import run_step
from mlops.steps.tune import tune, tune_trials
from mlops.store import open_store
from mlops.tasks import get
from mlops.training.base import pin
from mlops.tuning import runs
from mlops.tuning import trial as trial_file
from mlops.tuning.rows import part_of, read_by
from mlops.tuning.study import Search, Ticket, spent
from mlops.types import Snapshot, Tuned

SPACE = {"learning_rate": [0.0, 0.01], "batch_tokens": [256, 512]}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("models") / "base")


def pipeline(base: Path, train: dict[str, Any] | None = None, **section: Any) -> PipelineConfig:
    tune = {"trials": 5, "timeout": 5, "space": SPACE, "pruner": "none"} | section
    fixed = {"epochs": 3, "learning_rate": 0.001, "batch_tokens": 512} | (train or {})
    return tiny_config(base, tune=tune, train=fixed)


def search(config: PipelineConfig, snapshot: Snapshot, base: Path) -> Search:
    assert config.tune is not None
    bases = [pin(uri) for uri in config.tune.bases or (str(base),)]
    return Search(config, config.tune, snapshot, bases, tiny_run(base))


def go(config: PipelineConfig, snapshot: Snapshot, base: Path) -> Tuned:
    found = tune(config, snapshot, pin(str(base)), tiny_run(base))
    assert found is not None
    return found


def test_the_best_trial_beats_one_that_learns_nothing(base: Path, home: Path) -> None:
    # Without test rows: a trial that looked at them would not find any.
    snapshot = tiny_snapshot(base)
    gone = snapshot.splits["test"].model_copy(update={"sha256": "0" * 64})
    snapshot = snapshot.model_copy(update={"splits": snapshot.splits | {"test": gone}})
    config = pipeline(base)
    best = go(config, snapshot, base)
    assert best.train["learning_rate"] == 0.01
    assert best.value > 0.8
    assert (best.study.complete, best.study.pruned, best.study.failed) == (5, 0, 0)
    values = {each.params["learning_rate"]: each.value for each in search(config, snapshot, base).trials()}
    assert values[0.01] > values[0.0] + 0.3
    assert not (home / "store" / "model").exists()  # nobody keeps the weights of a trial
    assert Tuned.model_validate_json(best.model_dump_json()) == best


def test_the_chosen_is_trained_on_all_rows_by_the_fine_tune_step(base: Path) -> None:
    from mlops.flow import step_named

    snapshot = tiny_snapshot(base)
    config = pipeline(base, {"epochs": 8}, trials=4, rows=0.5)
    run = tiny_run(base)
    choice = run_step(step_named("tune"), config, run, {"snapshot": snapshot}).output
    model = run_step(step_named("fine_tune"), config, run, {"snapshot": snapshot, "tuned": choice}).output
    history = json.loads((open_store().fetch(model.files) / "training.json").read_text())
    assert history["rows"]["train"] == snapshot.rows["train"]
    assert max(epoch["metric"] for epoch in history["epochs"]) > 0.8
    plain = run_step(step_named("fine_tune"), config, run, {"snapshot": snapshot}).output
    assert plain.files.sha256 != model.files.sha256  # without a choice the train section is taken as it is


def test_the_same_seed_gives_the_same_study(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    space = {
        "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
        "batch_tokens": {"low": 128, "high": 512, "step": 64},
    }
    for place in ("one", "two"):
        monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / place))
        config, snapshot = pipeline(base, {"epochs": 1}, trials=6, space=space), tiny_snapshot(base)
        go(config, snapshot, base)
        seen.append([(each.params, each.value) for each in search(config, snapshot, base).trials()])
    assert seen[0] == seen[1]
    assert len({str(params) for params, _ in seen[0]}) == 6
    # The pipeline file's own train section is the first: a study never ends below it.
    assert seen[0][0][0] == {"learning_rate": 0.001, "batch_tokens": 512}


def test_more_trials_go_on_with_the_same_study(base: Path) -> None:
    snapshot = tiny_snapshot(base)
    two, four = (pipeline(base, {"epochs": 1}, trials=trials) for trials in (2, 4))
    first = tune_trials(two, snapshot, pin(str(base)), tiny_run(base))
    assert first.complete == 2
    assert tune_trials(two, snapshot, pin(str(base)), tiny_run(base)).complete == 2
    second = tune_trials(four, snapshot, pin(str(base)), tiny_run(base))
    assert (second.name, second.complete) == (first.name, 4)
    forced = tiny_run(base).model_copy(update={"force": True})
    assert tune_trials(two, snapshot, pin(str(base)), forced).name != first.name
    other = pipeline(base, {"epochs": 2}, trials=2)
    assert search(other, snapshot, base).name != first.name


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_hopeless_trials_are_pruned(base: Path, pruner: str) -> None:
    space = {"learning_rate": [0.01, 0.0, 0.00001], "seed": {"low": 1, "high": 100}}
    config = pipeline(base, {"epochs": 9, "learning_rate": 0.01}, trials=8, space=space, pruner=pruner)
    snapshot = tiny_snapshot(base)
    best = go(config, snapshot, base)
    assert best.study.pruned > 0
    assert best.study.complete + best.study.pruned == 8
    trials = search(config, snapshot, base).trials()
    for trial in trials:
        if trial.state.name == "PRUNED":
            assert len(trial.intermediate_values) < 9
            assert "after epoch" in trial.user_attrs["reason"]
    assert best.value == max(value for trial in trials for value in trial.intermediate_values.values())


def broken(folder: Path) -> Path:
    """A base whose losses are not numbers."""
    base = tiny_base(folder)
    values = load_file(base / "model.safetensors")
    values["encoder.layer.0.output.dense.bias"][0] = np.nan
    save_file(values, base / "model.safetensors", {"format": "pt"})
    return base


def test_a_failing_trial_fails_alone(base: Path, tmp_path: Path) -> None:
    bad = broken(tmp_path / "bad")
    config = pipeline(
        base, {"epochs": 1}, bases=[str(base), str(bad)], trials=6, space={"seed": {"low": 1, "high": 99}}
    )
    snapshot = tiny_snapshot(base)
    best = go(config, snapshot, base)
    assert best.base == pin(str(base))
    assert best.study.failed > 0
    assert best.study.complete > 0
    failed = [each for each in search(config, snapshot, base).trials() if each.state.name == "FAIL"]
    assert all("not finite" in each.user_attrs["reason"] for each in failed)


def test_all_failing_is_a_users_mistake(tmp_path: Path) -> None:
    bad = broken(tmp_path / "bad")
    with pytest.raises(UserError, match=r"no trial .* 3 failed, the first one: .*not finite.*another tune\.space"):
        go(pipeline(bad, trials=3), tiny_snapshot(bad), bad)


def test_the_minutes_are_kept_over_restarts(base: Path) -> None:
    config = pipeline(base, {"epochs": 500}, trials=50, timeout=0.01)
    snapshot = tiny_snapshot(base)
    for _ in range(2):
        with pytest.raises(UserError, match=r"within tune\.timeout \(0\.01 minutes\): 1 were stopped before their end"):
            go(config, snapshot, base)
    (trial,) = search(config, snapshot, base).trials()
    assert len(trial.intermediate_values) < 500


def test_trials_in_several_processes_keep_to_the_minutes_and_are_told_by_epoch(base: Path) -> None:
    together = {"launch": {"processes": 2}}
    config = pipeline(base, {"epochs": 500} | together, trials=50, timeout=0.2)
    snapshot = tiny_snapshot(base)
    with pytest.raises(UserError, match=r"within tune\.timeout \(0\.2 minutes\): 1 were stopped before their end"):
        go(config, snapshot, base)
    (trial,) = search(config, snapshot, base).trials()
    assert len(trial.intermediate_values) < 500

    config = pipeline(base, {"epochs": 2} | together, trials=1, timeout=5)
    assert go(config, snapshot, base).study.complete == 1
    (trial,) = search(config, snapshot, base).trials()
    assert list(trial.intermediate_values) == [1, 2]


def test_a_trial_notes_that_it_lives_within_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it spent would else be nobody's minutes when its process is killed before the first epoch ends."""
    monkeypatch.setattr(trial_file, "SEEN", -1.0)
    noted: dict[str, str] = {}
    ticket = Ticket(SimpleNamespace(set_user_attr=noted.__setitem__), 1.0)
    trial_file.Watch(ticket, "macro_f1", 3, None)({}, 7)
    assert datetime.now() - datetime.fromisoformat(noted["seen"]) < timedelta(minutes=1)


def test_a_journal_whose_last_line_is_torn_goes_on(base: Path, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    config, snapshot = pipeline(base, trials=1), tiny_snapshot(base)
    go(config, snapshot, base)
    (journal,) = (home / "tune").glob("*.journal")
    with journal.open("ab") as file:
        file.write(b'{"op_code": 4, "wor')  # a disk that was full
    for count in (2, 3):
        assert go(pipeline(base, trials=count), snapshot, base).study.complete == count
    assert caplog.text.count("was torn and is left out") == 1


def test_time_is_counted_once_however_many_work() -> None:
    noon = datetime(2026, 1, 1, 12)

    def trial(start: int, end: int, **attributes: Any) -> Any:
        at, to = (noon + timedelta(minutes=minutes) for minutes in (start, end))
        return SimpleNamespace(datetime_start=at, datetime_complete=to, user_attrs=attributes)

    beside = [trial(0, 10), trial(5, 12), trial(6, 7)]
    assert spent(beside) == timedelta(minutes=12)
    assert spent([*beside, trial(100, 103)]) == timedelta(minutes=15)  # a pause is nobody's time
    killed = trial(200, 900, reason="its process was killed", seen=(noon + timedelta(minutes=201)).isoformat())
    assert spent([killed]) == timedelta(minutes=1)


def test_a_base_with_another_tokenizer_reads_the_same_rows(base: Path, tmp_path: Path) -> None:
    other = tiny_base(tmp_path / "other", "distilbert")
    description = json.loads((other / "tokenizer.json").read_text())
    words = list(description["model"]["vocab"])
    description["model"]["vocab"] = {word: place for place, word in enumerate(words[:5] + words[5:][::-1])}
    (other / "tokenizer.json").write_text(json.dumps(description))
    snapshot = tiny_snapshot(base)
    read = read_by(snapshot, pin(str(base)), pin(str(other)), 24, get("text-classification"))
    assert read.revision == snapshot.revision
    assert read.splits["test"] == snapshot.splits["test"]
    from mlops.data.snapshots import read_table

    before, after = (read_table(open_store().fetch(each.splits["train"])) for each in (snapshot, read))
    assert before["text"] == after["text"]
    assert before["input_ids"] != after["input_ids"]
    assert before["n_tokens"] == after["n_tokens"]
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(other / "tokenizer.json"))
    assert after["input_ids"][7].as_py() == tokenizer.encode(after["text"][7].as_py()).ids
    assert read_by(snapshot, pin(str(base)), pin(str(base)), 24, get("text-classification")) is snapshot

    config = pipeline(base, {"epochs": 8}, bases=[str(other)], trials=2, space={"learning_rate": [0.01]})
    best = go(config, snapshot, base)
    assert best.base == pin(str(other))
    assert best.value > 0.8
    assert best.snapshot.splits["train"] == read.splits["train"]


def test_a_share_of_the_rows_has_every_label(base: Path) -> None:
    from mlops.data.snapshots import read_table

    snapshot = tiny_snapshot(base)
    part = part_of(snapshot, 0.1)
    assert part_of(snapshot, 0.1) == part
    table = read_table(open_store().fetch(part.splits["train"]))
    assert 17 <= table.num_rows == part.rows["train"] <= 20  # a tenth, and one more of each label
    assert set(table["label"].to_pylist()) == set(snapshot.labels)
    assert part.splits["validation"] == snapshot.splits["validation"]


def test_without_validation_rows_nothing_can_be_chosen(base: Path) -> None:
    snapshot = tiny_snapshot(base)
    none = snapshot.model_copy(update={"rows": snapshot.rows | {"validation": 0}})
    with pytest.raises(UserError, match="no rows in validation"):
        go(pipeline(base), none, base)


def test_without_a_section_there_is_no_choice(base: Path) -> None:
    assert tune(tiny_config(base), tiny_snapshot(base), pin(str(base)), tiny_run(base)) is None


def test_the_run_of_a_trial_says_how_it_ended(base: Path) -> None:
    parent = tracking.start_run(tiny_config(base), "parent", {})
    api = tracking.client()
    for state, status in (("complete", "FINISHED"), ("pruned", "KILLED"), ("failed", "FAILED"), ("killed", "KILLED")):
        run_id = runs.open_run(parent, "study", 7, {"train.learning_rate": 0.1, "base": "hf://ORG/NAME"})
        assert run_id is not None
        runs.close_run(run_id, state, "why", 0.5 if state == "complete" else None)
        found = api.get_run(run_id)
        assert found.info.status == status
        assert found.data.tags["mlflow.parentRunId"] == parent
        assert (found.data.tags["evergreen.trial.state"], found.data.tags["evergreen.reason"]) == (state, "why")
        assert found.data.params == {"train.learning_rate": "0.1", "base": "hf://ORG/NAME"}
        assert found.data.metrics == ({"value": 0.5} if state == "complete" else {})
    assert runs.open_run(None, "study", 1, {}) is None
    runs.close_run(None, "failed")


def test_tracking_that_is_away_ends_no_trial(caplog: pytest.LogCaptureFixture) -> None:
    assert runs.open_run("no such run", "study", 3, {}) is None
    runs.close_run("no such run", "failed")
    assert "trial 3 is not tracked" in caplog.text
    assert "no such run" in caplog.text


def test_a_study_in_a_database_file(base: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_TUNE_STORAGE", f"sqlite:///{tmp_path}/studies.db")
    config, snapshot = pipeline(base, {"epochs": 1}, trials=2), tiny_snapshot(base)
    assert go(config, snapshot, base).study.complete == 2
    assert go(config, snapshot, base).study.complete == 2
    assert not (home / "tune").exists()
