"""What several processes compute together, in forks of this one: gradients, shares of a model, going on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from killing import after_calls, in_ranks
from tiny import tiny_base
from trainings import made, plain_base, same_training

from mlops.errors import EvergreenError
from mlops.tasks.base import Rules
from mlops.training import adapters
from mlops.training.batches import share
from mlops.training.checkpoints import Checkpoints
from mlops.training.device import seed_all
from mlops.training.loop import Training, train
from mlops.training.ranks import Ranks, whole


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_base(tmp_path_factory.mktemp("models") / "base")


def test_shares_have_every_row_once() -> None:
    step = [[1, 2, 3], [4], [5, 6], [7, 8, 9, 10], [11]]
    for world in (1, 2, 3, 7):
        for size in range(1, 6):
            shares = [share(step[:size], rank, world) for rank in range(world)]
            assert len({len(each) for each in shares}) == 1, "sharded models need equally many batches"
            found = sorted(row for each in shares for batch in each for row in batch)
            assert found == [row for batch in step[:size] for row in batch]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_gradients_are_those_of_one_process(base: Path, strategy: str) -> None:
    step = [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]]

    def gradients(ranks: Ranks, step: list[list[int]]) -> list[np.ndarray]:
        model, rows, validation, setting = made(base)
        setting = replace(setting, rules=Rules((0.2, 1.0, 4.0)))
        training = Training(model, rows, validation, setting, ranks, None)
        training.working.train()
        sums = training._gradients(step)
        ranks.sum_gradients(training.weights)
        return [whole(value.grad).numpy() * ranks.divisor / sums.weight for value in training.weights]

    for cut in (step, [[row for batch in step for row in batch]], [[3]]):  # [[3]]: one has nothing to do
        expected = gradients(Ranks(), cut)
        for found in in_ranks(strategy, lambda ranks, cut=cut: gradients(ranks, cut)):
            for one, other in zip(expected, found, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-6)


def trained(base: Path, ranks: Ranks, checkpoints: Checkpoints | None = None, **changes: object) -> tuple[Any, Any]:
    """(history, best weights) of a training in this process, which may be one of several."""
    model, rows, validation, setting = made(base, **changes)
    adapters.prepare(model, setting.train)
    seed_all(13 + ranks.rank)
    history = train(model, rows, validation, setting, ranks, checkpoints)
    return history, {name: value.numpy() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize(
    "changes",
    [{"accumulate": 3, "schedule": "cosine"}, {"layer_decay": 0.8, "freeze_embeddings": True}, {"lora": {"rank": 2}}],
    ids=["accumulate", "layers", "lora"],
)
def test_a_training_is_that_of_one_process(base: Path, strategy: str, changes: dict) -> None:
    one, expected = trained(base, Ranks(), **changes)
    two, weights = in_ranks(strategy, lambda ranks: trained(base, ranks, **changes))[0]
    same_training(one, two)
    for name, value in expected.items():
        np.testing.assert_allclose(weights[name], value, atol=2e-3, err_msg=name)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_it_goes_on_from_a_checkpoint_bit_for_bit(tmp_path: Path, strategy: str) -> None:
    base = tiny_base(tmp_path / "base")  # with dropout
    undisturbed, expected = in_ranks(strategy, lambda ranks: trained(base, ranks, accumulate=2))[0]
    made = Checkpoints(tmp_path / "checkpoints", 0)

    def stop() -> None:
        raise EvergreenError("stopped")

    def halted(ranks: Ranks) -> None:
        after_calls(Training, "_step", 9, end=stop)
        trained(base, ranks, made, accumulate=2)

    with pytest.raises(EvergreenError, match="stopped"):
        in_ranks(strategy, halted)
    assert len(list(made.folder.iterdir())) == 2
    resumed, weights = in_ranks(strategy, lambda ranks: trained(base, ranks, made, accumulate=2))[0]
    assert resumed == undisturbed
    for name, value in expected.items():
        np.testing.assert_array_equal(weights[name], value)


def test_memory_that_runs_out_in_one_process_halves_the_batches_of_all(base: Path) -> None:
    def scarce(ranks: Ranks) -> Any:
        model, rows, validation, setting = made(base, accumulate=2)

        def check(module: Any, positional: Any, named: dict[str, Any]) -> None:
            if module.training and ranks.rank == 1 and named["input_ids"].numel() > 130:
                raise torch.OutOfMemoryError("CUDA out of memory")

        model.register_forward_pre_hook(check, with_kwargs=True)
        return train(model, rows, validation, setting, ranks)

    first, second = in_ranks("ddp", scarce)
    assert first == second
    assert first["batch_tokens"] == 128
    one, _ = trained(base, Ranks(), accumulate=2)
    same_training(one, first)
