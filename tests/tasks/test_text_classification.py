"""One label per text: reading, collating, losses, metrics, answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_base, tiny_snapshot

from mlops.errors import NotFound, UserError
from mlops.store import open_store
from mlops.tasks import get
from mlops.tasks.base import Examples, Rules
from mlops.tasks.text_classification import probabilities

TASK = get("text-classification")


def test_an_unknown_task_lists_those_that_there_are() -> None:
    with pytest.raises(NotFound, match=r"no task 'translation'; there are: .*text-classification"):
        get("translation")


def test_rows_become_examples(tmp_path: Path) -> None:
    snapshot = tiny_snapshot(tiny_base(tmp_path / "base"), n=40)
    folder = open_store().fetch(snapshot.splits["test"])
    examples = TASK.read(folder, snapshot.labels)
    assert len(examples) == snapshot.rows["test"] == 6
    assert examples.row_ids[0] == "row-00034"
    assert examples.targets == [1, 2, 0, 1, 2, 0]
    assert examples.lengths == [len(ids) for ids in examples.input_ids]
    with pytest.raises(UserError, match=r"2 rows have labels that are not among metals, plants; such as row-00035"):
        TASK.read(folder, ("metals", "plants"))


def test_losses_are_cross_entropy_per_row() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]], dtype=torch.bfloat16)
    losses, weights = TASK.losses(logits, torch.from_numpy(TASK.collate([0, 1], 8)), Rules())
    assert losses.dtype == torch.float32
    assert weights.tolist() == [1, 1]
    np.testing.assert_allclose(losses.numpy(), [np.log(1 + np.exp(-2)), np.log(2)], rtol=1e-5)


def test_metrics_of_an_epoch() -> None:
    logits = np.eye(3, dtype=np.float32)[[0, 1, 2, 2]]
    examples = Examples([*"wxyz"], [], [0, 1, 2, 1])
    values = TASK.metrics(logits, examples, ("a", "b", "c"))
    assert set(values) == set(TASK.metric_names(("a", "b", "c")))
    assert values["accuracy"] == 0.75
    assert values["macro_f1"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)


def test_answers_add_up_to_one_however_large_the_logits() -> None:
    answers = TASK.decode(np.array([[1e4, -1e4, 0], [0.1, 0.2, 0.3]], dtype=np.float32), ["", ""], ("a", "b", "c"))
    assert [answer["label"] for answer in answers] == ["a", "c"]
    for answer in answers:
        assert sum(answer["scores"].values()) == pytest.approx(1)
        assert answer["score"] == answer["scores"][answer["label"]] == max(answer["scores"].values())


def test_probabilities_do_not_touch_the_logits() -> None:
    logits = np.array([[1.0, 3.0]], dtype=np.float32)
    probabilities(logits)
    np.testing.assert_array_equal(logits, [[1.0, 3.0]])
