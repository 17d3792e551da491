"""fine_tune on a tiny real BERT: it learns, agrees with itself, keeps the best epoch, and says why it cannot."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny import put_prepared, tiny_base, tiny_config, tiny_rows, tiny_run, tiny_snapshot

from mlops.errors import BaseModelError, EvergreenError, UserError
from mlops.steps.fine_tune import fine_tune
from mlops.store import digest_file, open_store
from mlops.training.base import pin
from mlops.types import ModelArtifact, Snapshot


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("models") / "base")


def tune(base: Path, snapshot: Snapshot, **sections: object) -> ModelArtifact:
    return fine_tune(tiny_config(base, **sections), snapshot, pin(str(base)), tiny_run(base))


def history(model: ModelArtifact) -> dict:
    return json.loads((open_store().fetch(model.files) / "training.json").read_text())


def weights(model: ModelArtifact) -> Path:
    return open_store().fetch(model.files) / "model.safetensors"


def test_it_learns_and_writes_a_model_folder(base: Path) -> None:
    snapshot = tiny_snapshot(base)
    model = tune(base, snapshot)
    done = history(model)
    assert done["epochs"][-1]["loss"] < done["epochs"][0]["loss"]
    assert max(epoch["metric"] for epoch in done["epochs"]) > 0.9
    folder = open_store().fetch(model.files)
    names = {"config.json", "model.safetensors", "tokenizer.json", "package.json", "training.json", "manifest.json"}
    assert {path.name for path in folder.iterdir()} == names | {"trained_on.npy", "validated_on.npy"}
    assert np.load(folder / "trained_on.npy").shape == (168,)
    package = json.loads((folder / "package.json").read_text())
    pinned = pin(str(base))
    assert package.pop("temperature") == history(model)["temperature"] > 0
    assert package == {
        "format": 1,
        "task": "text-classification",
        "labels": ["metals", "plants", "waters"],
        "max_length": 24,
        "variant": "torch",
        "pad_id": 0,
        "pad_token": "[PAD]",
        "inputs": ["input_ids", "attention_mask", "token_type_ids"],
        "base_model": f"{pinned.uri}@{pinned.sha256}",
    }
    assert model.variant == "torch"
    assert model.snapshot_sha256 == snapshot.revision
    assert model.config_sha256 == tiny_config(base).fingerprint
    # The base lies somewhere on this machine, and so may not be named in the model's own files.
    assert str(base) not in (folder / "config.json").read_text()


def test_the_same_run_gives_the_same_weights(base: Path) -> None:
    snapshot = tiny_snapshot(base)
    train = {"epochs": 1, "learning_rate": 5e-3, "batch_tokens": 512}
    first, second = (digest_file(weights(tune(base, snapshot, train=train))) for _ in range(2))
    assert first == second
    assert digest_file(weights(tune(base, snapshot, train=train | {"seed": 14}))) != first


def test_a_learning_rate_of_zero_leaves_the_encoder_as_it_was(base: Path) -> None:
    model = tune(base, tiny_snapshot(base), train={"epochs": 1, "learning_rate": 0.0})
    before, after = load_file(base / "model.safetensors"), load_file(weights(model))
    shared = [name for name in before if f"bert.{name}" in after]
    assert len(shared) > 30
    for name in shared:
        np.testing.assert_array_equal(before[name], after[f"bert.{name}"])


def test_the_best_epoch_is_kept_not_the_last(base: Path) -> None:
    # A rate that breaks the model again after it has learned.
    model = tune(
        base, tiny_snapshot(base), train={"epochs": 6, "learning_rate": 3e-2, "batch_tokens": 128, "warmup": 1.0}
    )
    done = history(model)
    standings = [(epoch["metric"], -epoch["validation_loss"]) for epoch in done["epochs"]]
    assert done["best_epoch"] == standings.index(max(standings)) + 1
    from mlops.scoring import score

    snapshot = tiny_snapshot(base)
    kept = score(model, snapshot, "validation").metrics["macro_f1"].value
    assert kept == pytest.approx(max(metric for metric, _ in standings))


def test_a_loss_that_is_not_finite_stops_at_once_and_names_the_rows(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    values = load_file(base / "model.safetensors")
    values["encoder.layer.0.output.dense.bias"][0] = np.nan
    save_file(values, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(EvergreenError, match=r"not finite at epoch 1, step 1, .*row-0\d+ \(nan\)") as caught:
        tune(base, tiny_snapshot(base))
    assert caught.value.exit_code == 1
    assert not list((tmp_path / "home" / "store").glob("model/*"))


def test_a_model_without_token_types(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "distil", "distilbert")
    model = tune(base, tiny_snapshot(base), train={"epochs": 2, "learning_rate": 5e-3, "batch_tokens": 512})
    package = json.loads((open_store().fetch(model.files) / "package.json").read_text())
    assert package["inputs"] == ["input_ids", "attention_mask"]
    assert history(model)["epochs"][-1]["loss"] < history(model)["epochs"][0]["loss"]


def test_a_tuned_model_is_a_base_for_other_labels(base: Path) -> None:
    first = tune(base, tiny_snapshot(base))
    again = open_store().fetch(first.files)
    model = tune(again, tiny_snapshot(again, labels=("x", "y"), name="other"))
    assert json.loads((open_store().fetch(model.files) / "package.json").read_text())["labels"] == ["x", "y"]


@pytest.mark.parametrize(
    ("sections", "error", "reason"),
    [
        ({"gate": {"metric": "f1/stones"}}, UserError, r"gate\.metric: found 'f1/stones'; allowed .*f1/metals"),
        ({"model": {"base": "-", "max_length": 65}}, BaseModelError, r"max_length is 65; base has 64 positions"),
    ],
)
def test_what_cannot_work_is_said_before_training(base: Path, sections: dict, error: type, reason: str) -> None:
    with pytest.raises(error, match=reason):
        tune(base, tiny_snapshot(base), **sections)


def test_ids_that_the_model_does_not_know_are_refused(base: Path, tmp_path: Path) -> None:
    other = tiny_base(tmp_path / "other")
    description = json.loads((other / "tokenizer.json").read_text())
    vocabulary = description["model"]["vocab"]
    vocabulary["unheard"] = len(vocabulary)
    (other / "tokenizer.json").write_text(json.dumps(description))
    snapshot = tiny_snapshot(base)
    rows = [row | {"row_id": str(number)} for number, row in enumerate(tiny_rows(20))]
    rows[3]["text"] += " unheard"
    splits = snapshot.splits | {"train": put_prepared(rows, other)}
    with pytest.raises(BaseModelError, match=r"gives the id (\d+), its model knows \1 tokens"):
        tune(base, snapshot.model_copy(update={"splits": splits}))


def test_without_validation_rows_the_last_epoch_is_kept(base: Path) -> None:
    snapshot = tiny_snapshot(base)
    splits = snapshot.splits | {"validation": put_prepared([], base)}
    none = snapshot.model_copy(update={"splits": splits, "rows": snapshot.rows | {"validation": 0}})
    done = history(tune(base, none))
    assert done["best_epoch"] == 3
    assert [epoch["metric"] for epoch in done["epochs"]] == [None] * 3


def test_code_beside_the_weights_is_not_run(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    witness = tmp_path / "ran"
    (base / "modeling_own.py").write_text(f"open({str(witness)!r}, 'w')\nclass Own: ...\n")
    config = json.loads((base / "config.json").read_text())
    own = {"AutoConfig": "modeling_own.Own", "AutoModelForSequenceClassification": "modeling_own.Own"}
    (base / "config.json").write_text(json.dumps(config | {"model_type": "own", "auto_map": own}))
    with pytest.raises(BaseModelError, match="cannot be loaded as a text-classification model"):
        tune(base, tiny_snapshot(base))
    assert not witness.exists()


def test_one_label_is_no_classification(base: Path) -> None:
    with pytest.raises(UserError, match=r"has the labels \['x'\]"):
        tune(base, tiny_snapshot(base, labels=("x",)))


def test_progress_goes_to_the_log_and_nothing_to_stdout(
    base: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops.training.progress._TALK_SECONDS", 0.0)
    with caplog.at_level(logging.INFO, "evergreen"):
        tune(base, tiny_snapshot(base), train={"epochs": 1, "learning_rate": 1e-3})
    assert "epoch 1/1, step 1/" in caplog.text
    assert "tokens/s" in caplog.text
    assert "validation macro_f1" in caplog.text
    assert capfd.readouterr().out == ""
