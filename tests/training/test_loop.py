"""The loop itself: gradients that do not depend on how a step is cut up, early stopping, memory, numbers that break."""

from __future__ import annotations

import itertools
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_base
from trainings import made, plain_base

from mlops.errors import EvergreenError
from mlops.tasks.base import Examples, Rules
from mlops.training.device import Device, pick
from mlops.training.loop import Training, train
from mlops.training.progress import Progress
from mlops.training.ranks import Ranks
from mlops.training.setting import State


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_base(tmp_path_factory.mktemp("models") / "base")


def gradients(training: Training, step: list[list[int]]) -> list[np.ndarray]:
    training.working.train()
    sums = training._gradients(step)
    return [value.grad.numpy() / sums.weight for value in training.weights]


@pytest.mark.parametrize("weights", [None, (0.5, 1.0, 3.0)])
def test_a_step_has_the_same_gradient_however_it_is_cut_up(base: Path, weights: tuple[float, ...] | None) -> None:
    model, rows, validation, setting = made(base)
    setting = replace(setting, rules=Rules(weights, 0.1))
    training = Training(model, rows, validation, setting, Ranks(), None)
    chosen = list(range(23))
    whole = gradients(training, [chosen])
    # Parts of different sizes: the mean of their means would be another gradient.
    cut = gradients(training, [chosen[:3], chosen[3:18], chosen[18:]])
    model.zero_grad()
    inputs = {"input_ids": [], "attention_mask": []}
    for row in chosen:
        ids = torch.tensor(rows.input_ids[row].tolist())
        inputs["input_ids"].append(ids)
        inputs["attention_mask"].append(torch.ones_like(ids))
    padded = {name: torch.nn.utils.rnn.pad_sequence(each, batch_first=True) for name, each in inputs.items()}
    cross_entropy = torch.nn.CrossEntropyLoss(
        weight=None if weights is None else torch.tensor(weights), label_smoothing=0.1
    )
    cross_entropy(model(**padded).logits, torch.tensor([rows.targets[row] for row in chosen])).backward()
    for one, other, value in zip(whole, cut, training.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
        np.testing.assert_allclose(one, value.grad.numpy(), atol=1e-6)


def test_accumulated_batches_train_like_one_of_their_size(base: Path) -> None:
    model, rows, validation, setting = made(base, batch_tokens=100_000, epochs=4)
    together = train(model, rows, validation, setting)
    assert [epoch["steps"] for epoch in together["epochs"]] == [1] * 4
    other, _, _, setting = made(base, batch_tokens=200, accumulate=1000, epochs=4)
    apart = train(other, rows, validation, setting)
    assert [epoch["steps"] for epoch in apart["epochs"]] == [1] * 4
    assert [epoch["loss"] for epoch in apart["epochs"]] == pytest.approx(
        [epoch["loss"] for epoch in together["epochs"]]
    )


def test_every_row_is_seen_once_an_epoch(base: Path) -> None:
    done = train(*made(base, accumulate=3))
    assert [epoch["rows"] for epoch in done["epochs"]] == [168, 168]
    assert done["steps"] == sum(epoch["steps"] for epoch in done["epochs"])


def test_patience_ends_a_training_that_brings_nothing(base: Path) -> None:
    done = train(*made(base, epochs=9, learning_rate=0.0, patience=2))
    assert len(done["epochs"]) == 3
    assert done["best_epoch"] == 1
    assert len(train(*made(base, epochs=4, learning_rate=0.0))["epochs"]) == 4


def test_without_validation_rows_patience_ends_nothing(base: Path) -> None:
    model, rows, _, setting = made(base, epochs=4, patience=1)
    done = train(model, rows, Examples([], [], []), setting)
    assert (len(done["epochs"]), done["best_epoch"]) == (4, 4)


def test_a_constant_rate_and_a_cosine_train_differently(base: Path) -> None:
    curves = {
        name: train(*made(base, schedule=name))["epochs"][-1]["loss"] for name in ("linear", "cosine", "constant")
    }
    assert len(set(curves.values())) == 3


def scarce(model: Any, most: int, times: int = 1_000_000, error: type[Exception] = torch.OutOfMemoryError) -> list[int]:
    """Makes the model raise while training on more than `most` tokens; the sizes that it was asked for."""
    asked: list[int] = []

    def check(module: Any, positional: Any, named: dict[str, Any]) -> None:
        if module.training:
            asked.append(named["input_ids"].numel())
            if asked[-1] > most and sum(size > most for size in asked) <= times:
                raise error("CUDA out of memory. Tried to allocate 20.00 GiB")

    model.register_forward_pre_hook(check, with_kwargs=True)
    return asked


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_memory_that_runs_out_halves_the_batches_once(
    base: Path, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    model, rows, validation, setting = made(base, accumulate=2)
    expected = train(model, rows, validation, setting)
    other, _, _, _ = made(base)
    asked = scarce(other, 130, error=error)
    with caplog.at_level(logging.INFO, "evergreen"):
        done = train(other, rows, validation, setting)
    assert "memory ran out at epoch 1, step 1" in caplog.text
    assert "with batches of 128 tokens" in caplog.text
    assert asked[0] > 130 >= max(asked[1:])
    assert done["batch_tokens"] == 128
    # The same rows in the same steps: the same training up to the order of sums.
    for one, two in zip(done["epochs"], expected["epochs"], strict=True):
        assert (one["steps"], one["rows"]) == (two["steps"], two["rows"])
        assert one["loss"] == pytest.approx(two["loss"], abs=1e-4)


def test_after_memory_ran_out_two_trainings_still_agree(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")  # with dropout
    found = []
    for _ in range(2):
        model, rows, validation, setting = made(base)
        scarce(model, 200)
        train(model, rows, validation, setting)
        found.append(model.state_dict())
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name


def test_memory_that_runs_out_twice_says_what_to_lower(base: Path) -> None:
    model, rows, validation, setting = made(base)
    scarce(model, 60)
    with pytest.raises(
        EvergreenError, match=r"batches of 128 tokens, halved from 256; the longest sequence has 19"
    ) as e:
        train(model, rows, validation, setting)
    assert "Lower train.batch_tokens (256; raise train.accumulate" in str(e.value)
    assert "model.max_length (24)" in str(e.value)


def test_other_errors_are_no_lack_of_memory(base: Path) -> None:
    model, rows, validation, setting = made(base)

    def broken(*_: Any) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    model.register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        train(model, rows, validation, setting)


def test_memory_that_runs_out_in_the_judgement_is_explained(base: Path) -> None:
    model, rows, validation, setting = made(base)

    def judging(module: Any, *_: Any) -> None:
        if not module.training:
            raise torch.OutOfMemoryError("CUDA out of memory")

    model.register_forward_pre_hook(judging)
    with pytest.raises(EvergreenError, match=r"memory ran out at epoch 1.*train\.batch_tokens"):
        train(model, rows, validation, setting)


def test_a_nan_in_an_accumulated_batch_names_its_rows(base: Path) -> None:
    model, rows, validation, setting = made(base, accumulate=3)
    unlucky = rows.input_ids[77].tolist()

    def poison(module: Any, positional: Any, named: dict[str, Any], output: Any) -> Any:
        for place, ids in enumerate(named["input_ids"].tolist()):
            if ids[: len(unlucky)] == unlucky:
                output.logits = output.logits.clone()
                output.logits[place] = float("nan")
        return output

    model.register_forward_hook(poison, with_kwargs=True)
    with pytest.raises(
        EvergreenError, match=rf"not finite at epoch 1, step \d+, on 1 of \d+ rows: {rows.row_ids[77]} \(nan\)"
    ):
        train(model, rows, validation, setting)


def test_a_nan_after_the_backward_pass_changes_no_weight(base: Path) -> None:
    """The losses of a step are looked at behind its backward passes, and before its update."""
    model, rows, validation, setting = made(base, accumulate=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def poison(module: Any, positional: Any, output: Any) -> Any:
        output.logits = output.logits * float("nan")
        return output

    model.register_forward_hook(poison)
    with pytest.raises(EvergreenError, match=r"not finite at epoch 1, step 1, .*row-0\d+ \(nan\)"):
        train(model, rows, validation, setting)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


class Wide(Device):
    """A processor that pads as a GPU does."""

    multiple = 8


def test_padding_to_multiples_changes_no_gradient(base: Path) -> None:
    model, rows, validation, setting = made(base)
    wide = replace(setting, device=Wide("cpu", False))
    limit = setting.package.max_length
    assert [wide.padded(length) for length in (0, 1, 8, 9, limit)] == [
        min(each, limit) for each in (1, 8, 8, 16, limit)
    ]
    assert [setting.padded(length) for length in (0, 1, 9)] == [1, 1, 9]
    lengths: list[int] = []
    model.register_forward_pre_hook(
        lambda module, positional, named: lengths.append(named["input_ids"].shape[1]), with_kwargs=True
    )
    chosen = [row for row in range(len(rows)) if rows.lengths[row] % 8][:9]
    plain = gradients(Training(model, rows, validation, setting, Ranks(), None), [chosen])
    padded = gradients(Training(model, rows, validation, wide, Ranks(), None), [chosen])
    assert lengths[1] > lengths[0]
    assert lengths[1] in (8, 16, limit)
    for one, other in zip(plain, padded, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_nan_on_validation_names_its_rows(base: Path) -> None:
    """The label of a NaN would be the first one: a model that is broken would have a metric like any other."""
    model, rows, validation, setting = made(base)

    def poison(module: Any, positional: Any, named: dict[str, Any], output: Any) -> Any:
        if not module.training:
            output.logits = output.logits.clone()
            output.logits[0] = float("nan")
        return output

    model.register_forward_hook(poison, with_kwargs=True)
    told = r"not finite at the validation after epoch 1, on 1 of 36 rows: row-\d+ \(nan\)"
    with pytest.raises(EvergreenError, match=told):
        train(model, rows, validation, setting)


def test_a_gradient_that_is_not_finite_stops_too(base: Path) -> None:
    model, rows, validation, setting = made(base)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.classifier.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(EvergreenError, match=r"the gradient is not finite at epoch 1, step 1.*row-0"):
        train(model, rows, validation, setting)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_bf16_on_a_processor_is_allowed_with_a_warning(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    device = pick("bf16")
    assert "found bf16 on a processor" in caplog.text  # the tests' own environment keeps the processor from it
    assert (pick().precision, pick("fp32").precision) == ("fp32", "fp32")
    model, rows, validation, setting = made(base)
    done = train(model, rows, validation, replace(setting, device=device))
    assert done["precision"] == "bf16"
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert done["epochs"][-1]["loss"] < done["epochs"][0]["loss"]


def test_the_precision_of_products_is_put_back() -> None:
    before = torch.get_float32_matmul_precision()
    with Device("cpu", False, tf32=True).products():
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before


def test_progress_is_reported_by_optimizer_step(base: Path) -> None:
    model, rows, validation, setting = made(base, accumulate=2)
    told: list[tuple[set[str], int]] = []
    setting = replace(setting, report=lambda values, step: told.append((set(values), step)))
    done = train(model, rows, validation, setting)
    steps = [step for values, step in told if "train/loss" in values]
    assert steps == sorted(set(steps))
    assert steps[-1] == done["steps"]
    ends = [step for values, step in told if values == {"validation/macro_f1", "validation/loss"}]
    assert ends == [done["steps"] // 2, done["steps"]]


def test_a_long_training_gives_signs_of_life_between_its_points(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who keeps to a time would else hear of it 50 times, however many hours a training takes."""
    _, _, _, setting = made(base, epochs=1)
    told: list[set[str]] = []
    clock = itertools.count()
    monkeypatch.setattr("mlops.training.progress.time.perf_counter", lambda: float(next(clock)))
    state = State(256)
    progress = Progress(replace(setting, report=lambda values, step: told.append(set(values))), state, 10_000)
    for _ in range(60):  # a second each
        state.add(1.0, 1.0, 1)
        progress.tick(1.0, 0.1, 10)
    assert len(told) >= 10
    assert set().union(*told) == set()
