"""Distillation: the losses by hand, what each row learns from, and students that come nearer to their teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from teachers import examples, logits, loss, opened, set_up, teacher
from tiny import tiny_rows

from mlops.compression.distil import Distillation, Mix, asked, distance, distil, divergence, joined
from mlops.compression.droplayers import drop_layers
from mlops.compression.teacher import Teacher
from mlops.serving.package import read_package
from mlops.tasks.base import IGNORED, Examples
from mlops.training.device import seed_all
from mlops.training.losses import losses_of, tensors

LAYERS = [1, 3]
KEYS = ("text-classification", "text-classification:multi", "text-classification:ordinal", "token-classification")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("distilled")


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_the_divergence_of_one_label() -> None:
    ours, theirs = np.random.default_rng(0).normal(size=(2, 5, 3))
    p, q = softmax(theirs / 3), softmax(ours / 3)
    expected = (p * np.log(p / q)).sum(axis=1)
    found = divergence(torch.tensor(ours), torch.tensor(theirs), torch.zeros(5, dtype=torch.int64), 3.0)
    np.testing.assert_allclose(found.numpy(), expected)
    assert (
        divergence(torch.tensor(theirs), torch.tensor(theirs), torch.zeros(5, dtype=torch.int64), 3.0).abs().max()
        < 1e-9
    )


def test_the_divergence_of_labels_that_are_judged_each_by_itself() -> None:
    ours, theirs = np.random.default_rng(1).normal(size=(2, 5, 3))
    p, q = 1 / (1 + np.exp(-theirs / 2)), 1 / (1 + np.exp(-ours / 2))
    expected = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean(axis=1)
    found = divergence(torch.tensor(ours), torch.tensor(theirs), torch.zeros(5, 3), 2.0)
    np.testing.assert_allclose(found.numpy(), expected)


def test_tokens_that_are_not_asked_do_not_count() -> None:
    ours, theirs = torch.randn(2, 1, 4, 3, generator=torch.manual_seed(2), dtype=torch.float64)
    targets = torch.tensor([[IGNORED, 0, 2, IGNORED]])
    found = divergence(ours, theirs, targets, 1.0)
    plain = divergence(ours[0, 1:3], theirs[0, 1:3], torch.tensor([0, 2]), 1.0)
    assert found.item() == pytest.approx(plain.mean().item())
    ours[0, 0] += 9
    assert divergence(ours, theirs, targets, 1.0).item() == pytest.approx(found.item())


def test_the_distance_of_states_is_relative_and_leaves_padding_out() -> None:
    theirs = torch.randn(2, 3, 4, generator=torch.manual_seed(3))
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    ours = theirs * 1.5
    ours[1, 1:] = 99
    assert distance([ours, theirs], [theirs, theirs], mask).tolist() == pytest.approx([0.125, 0.125])


@pytest.mark.parametrize("key", KEYS)
def test_kept_answers_are_those_of_the_batch(place: Path, key: str) -> None:
    source = teacher(place, "bert", key)
    setting, rows, _ = set_up(source, read_package(source))
    kept, fresh = (Teacher(opened(source), rows, setting, LAYERS, most) for most in (1 << 30, 0))
    assert (kept.kept, fresh.kept) == (True, False)
    chosen = [3, 50, 7]
    inputs, _ = tensors(rows, chosen, setting)
    one, other = kept.answers(chosen, inputs), fresh.answers(chosen, inputs)
    real = inputs["attention_mask"].bool()
    logits_one, logits_other = (each[0][real] if each[0].ndim == 3 else each[0] for each in (one, other))
    torch.testing.assert_close(logits_one, logits_other, rtol=0, atol=1e-4)
    for mine, theirs in zip(one[1], other[1], strict=True):
        torch.testing.assert_close(mine[real], theirs[real], rtol=2e-3, atol=2e-3)  # kept in half precision
    alone = Teacher(opened(source), rows, setting, ()).answers(chosen, inputs)
    assert alone[1] == []


def test_a_row_has_the_same_loss_in_any_batch(place: Path) -> None:
    source = teacher(place, "bert", "token-classification")
    setting, rows, _ = set_up(source, read_package(source))
    small = opened(source)
    drop_layers(small, 2)
    objective = Distillation(Teacher(opened(source), rows, setting, LAYERS), setting, len(rows), Mix())
    setting = replace(setting, objective=objective)
    together, weights = losses_of(small, rows, [3, 50, 7], setting)
    for place_, row in enumerate((3, 50, 7)):
        alone, weight = losses_of(small, rows, [row], setting)
        assert alone.item() == pytest.approx(together[place_].item(), rel=1e-4)
        assert weight.item() == weights[place_].item() == (rows.targets[row] != IGNORED).sum()


def test_the_parts_of_a_loss_add_up(place: Path) -> None:
    source = teacher(place)
    setting, rows, _ = set_up(source, read_package(source))
    small = opened(source)
    drop_layers(small, 2)
    known = Teacher(opened(source), rows, setting, LAYERS)

    def of(mix: Mix, labelled: int = len(rows)) -> Any:
        objective = Distillation(known, setting, labelled, mix)
        return losses_of(small, rows, [0, 1, 2], replace(setting, objective=objective))[0].detach()

    hard, soft, hidden = of(Mix(1, 0, 0)), of(Mix(0, 1, 0, 2.0)), of(Mix(0, 0, 1))
    torch.testing.assert_close(hard, losses_of(small, rows, [0, 1, 2], setting)[0].detach())
    torch.testing.assert_close(of(Mix(0.3, 0.7, 2.0)), 0.3 * hard + 0.7 * soft + 2 * hidden)
    # The third row has no label of its own.
    torch.testing.assert_close(of(Mix(0.3, 0.7, 2.0), 2)[2], 0.7 * soft[2] + 2 * hidden[2])


@pytest.mark.parametrize("key", [*KEYS, "text-pair-classification", "text-ranking"])
def test_a_student_comes_nearer_to_its_teacher(place: Path, key: str) -> None:
    source = teacher(place, "bert", key)
    setting, rows, validation = set_up(source, read_package(source))
    wanted = logits(opened(source), validation, setting)
    cut = opened(source)
    drop_layers(cut, 2)
    before, off = loss(cut, validation, setting), np.mean((logits(cut, validation, setting) - wanted) ** 2)
    seed_all(1)
    history = distil(opened(source), cut, rows, validation, setting, LAYERS)
    assert loss(cut, validation, setting) < before
    assert np.mean((logits(cut, validation, setting) - wanted) ** 2) < off
    best = history["epochs"][history["best_epoch"] - 1]
    assert loss(cut, validation, setting) == pytest.approx(best["validation_loss"], rel=1e-3)


def apart(small: Any, source: Path, rows: Examples, setting: Any) -> float:
    """The mean distance of the student's states from its teacher's."""
    inputs, _ = tensors(rows, list(range(len(rows))), setting)
    with torch.no_grad():
        theirs = opened(source)(**inputs, output_hidden_states=True).hidden_states
        ours = small.eval()(**inputs, output_hidden_states=True).hidden_states
    pairs = [ours[1:], [theirs[layer + 1] for layer in LAYERS]]
    return float(distance(*pairs, inputs["attention_mask"]).mean())


def test_hidden_states_come_nearer_where_they_are_learned(place: Path) -> None:
    source = teacher(place)
    setting, rows, validation = set_up(source, read_package(source))
    found = {}
    for weight in (0.0, 1.0):
        small = opened(source)
        drop_layers(small, 2)
        raw = apart(small, source, validation, setting)
        seed_all(1)
        distil(opened(source), small, rows, validation, setting, LAYERS, mix=Mix(hidden=weight))
        found[weight] = apart(small, source, validation, setting)
    assert found[1.0] < 0.8 * raw
    assert found[1.0] < found[0.0]


@pytest.mark.parametrize("key", [*KEYS, "text-pair-classification"])
def test_unlabelled_text_has_the_teachers_answers_as_targets(place: Path, key: str) -> None:
    source = teacher(place, "bert", key)
    package = read_package(source)
    setting, rows, validation = set_up(source, package)
    task, model = setting.task, opened(source)
    texts = [row["text"] for row in tiny_rows(8, seed=9)]
    items = {"text": texts, "pair": [(text[:20], text[20:]) for text in texts], "tokens": [t.split(" ") for t in texts]}
    more = asked(items[task.kind], model, source, setting)
    assert len(more) == 8
    every = joined(rows, more)
    assert (len(every), every.row_ids[-1]) == (len(rows) + 8, "unlabelled-7")
    assert (every.seconds is None) == (task.kind != "pair")
    given = logits(model, more, setting)
    if task.kind == "tokens":
        places = np.concatenate(more.targets)
        assert (places != IGNORED).sum() == sum(min(len(item), 22) for item in items["tokens"])
        np.testing.assert_array_equal(places[places != IGNORED], given.argmax(axis=1)[places != IGNORED])
    elif task.one_label:
        assert more.targets == given.argmax(axis=1).tolist()
    else:
        np.testing.assert_array_equal(np.stack(more.targets), given > 0)
    small = opened(source)
    drop_layers(small, 2)
    history = distil(model, small, rows, validation, setting, LAYERS, more)
    assert {epoch["rows"] for epoch in history["epochs"]} == {len(rows) + 8}


def test_what_is_unlabelled_helps_where_labels_are_few(place: Path) -> None:
    """From 12 labelled rows and 300 texts a student answers more like its teacher than from the rows alone."""
    source = teacher(place)
    package = read_package(source)
    setting, _, validation = set_up(source, package)
    wanted = logits(opened(source), validation, setting)
    few = examples(source, package, 12, 0)
    texts = [row["text"] for row in tiny_rows(300, seed=5)]
    off = {}
    for name in ("alone", "more"):
        small = opened(source)
        drop_layers(small, 1)
        more = asked(texts, opened(source), source, setting) if name == "more" else None
        seed_all(1)
        distil(opened(source), small, few, validation, setting, [3], more)
        off[name] = np.mean((logits(small, validation, setting) - wanted) ** 2)
    assert off["more"] < off["alone"]
