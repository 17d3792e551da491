"""Batches by a budget of tokens, padding counted: rows of similar length together, so that little is padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Rows are sorted within pools of about this many batches: enough to find equals in length, few enough to keep chance.
_POOL_BATCHES = 32


def shuffled(lengths: Sequence[int], budget: int, seed: int, epoch: int = 0) -> list[list[int]]:
    """One epoch's batches as row positions; every row exactly once.

    lengths: tokens per row. budget: most tokens in a batch, rows × its longest; a longer row is a batch of its own.
    Equal arguments give equal batches; another epoch gives another order and other batches.
    """
    _check(budget)
    if not len(lengths):
        return []
    chance = np.random.default_rng([seed, epoch])
    order = chance.permutation(len(lengths))
    mean = max(1.0, float(np.mean(lengths)))
    pool = max(1, round(_POOL_BATCHES * budget / mean))
    batches = []
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        sizes = np.array([lengths[row] for row in rows])
        # A stable sort of shuffled rows: those of one length stay shuffled among themselves.
        batches += _cut(rows[np.argsort(sizes, kind="stable")].tolist(), lengths, budget)
    return [batches[position] for position in chance.permutation(len(batches))]


def optimizer_steps(
    lengths: Sequence[int], budget: int, accumulate: int, seed: int, epoch: int = 0
) -> list[list[list[int]]]:
    """One epoch's optimizer steps, each of up to `accumulate` batches from `shuffled`; every row exactly once."""
    batches = shuffled(lengths, budget, seed, epoch)
    return [batches[start : start + accumulate] for start in range(0, len(batches), accumulate)]


def within(step: Sequence[Sequence[int]], lengths: Sequence[int], budget: int) -> list[list[int]]:
    """The same rows in the same order in batches of a smaller budget: an optimizer step that needs less memory."""
    return [batch for rows in step for batch in _cut(rows, lengths, budget)]


def share(step: Sequence[Sequence[int]], rank: int, world: int) -> list[list[int]]:
    """What one of `world` processes computes of an optimizer step; all of them together have every row once.

    Whole batches where there are enough of them, else each process takes some rows of every batch. All processes get
    equally many batches, as sharded models need it: one that is short has empty ones.
    """
    if world == 1:
        return [list(rows) for rows in step]
    if len(step) < world:
        return [list(rows[rank::world]) for rows in step]
    count = -(-len(step) // world)
    mine = [list(rows) for rows in step[rank::world]]
    return mine + [[]] * (count - len(mine))


def by_length(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Batches for inference: longest rows first, so that the largest memory is asked for at once; every row once."""
    _check(budget)
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    return _cut(order, lengths, budget)


def _cut(rows: Sequence[int], lengths: Sequence[int], budget: int) -> list[list[int]]:
    batches: list[list[int]] = []
    batch: list[int] = []
    longest = 1  # a row without tokens is padded to one
    for row in rows:
        longer = max(longest, lengths[row])
        if batch and longer * (len(batch) + 1) > budget:
            batches.append(batch)
            batch, longer = [], max(1, lengths[row])
        batch.append(row)
        longest = longer
    if batch:
        batches.append(batch)
    return batches


def _check(budget: int) -> None:
    if budget < 1:
        raise ValueError(f"the budget is {budget} tokens; allowed is 1 or more")
