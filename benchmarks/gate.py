"""The gate's error rates: pairs of models with a known true difference, on the label distributions of real data sets.

    python benchmarks/gate.py [--simulations 2000] [--sequences 400] [--data FOLDER]

A population of rows has the labels of a data set's test split; of every row the answers of a champion and a candidate are
drawn, so that the true difference of the metric between them is known: it is that of the whole population. Each simulation
draws n rows of it and asks the gate (its comparison with the champion, at the first look). Wrong is to promote a
candidate that is worse by more than the margin; beside it stands what `new > old` does with the same rows. Then 50 retrains
in a row against one frozen test set, with alpha spent over the looks, with alpha the same each time, and with `new > old`.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mlops.statistics.classification import counts, scores
from mlops.statistics.paired import Extremes, difference
from mlops.statistics.spending import level

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
SETS = {"airline_tweets": "macro_f1", "sms_spam": "macro_f1", "banking77": "accuracy"}
SIZES = (200, 1000, 5000)
ALPHA, MARGIN, ERRORS = 0.05, 0.02, 0.15
POPULATION = 400_000
RESAMPLES = 1000
Codes = npt.NDArray[np.int64]


class Pair(NamedTuple):
    """A population [n]: labels, the answers of champion and candidate, and the true difference of the metric."""

    labels: Codes
    champion: Codes
    candidate: Codes
    names: list[str]
    metric: str
    true: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--sequences", type=int, default=400)
    parser.add_argument("--data", type=Path, default=SHARED)
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.exit(
            f"{options.data} is not here: the benchmark takes label distributions from the data sets of its README"
        )
    started = time.perf_counter()
    promotions(options)
    sequences(options)
    speed()
    print(f"\n{time.perf_counter() - started:.0f} s")


def promotions(options: argparse.Namespace) -> None:
    """How often the gate and the naive rule promote, by the true difference."""
    print(
        f"margin {MARGIN}, alpha {ALPHA}, first look (level {level(ALPHA, 1):g}); {options.simulations} simulations a cell\n"
    )
    print("| labels of | metric | rows | true difference | promoted | allowed | new > old promotes |")
    print("|---|---|---|---|---|---|---|")
    for name, metric in SETS.items():
        labels, names = population(options.data / name / "test.jsonl")
        cases = [(name, pair_of(labels, names, metric, wanted)) for wanted in (-2 * MARGIN, -MARGIN, 0.0, MARGIN)]
        if len(names) < 10:
            cases.append((f"{name}, errors in its rarest label", rare_pair(labels, names, metric, -MARGIN)))
        for where, pair in cases:
            for n in SIZES:
                gate, naive = simulated(pair, n, options.simulations)
                bad = pair.true <= -MARGIN
                allowed = f"<= {level(ALPHA, 1):g}" if bad else ""
                cells = [where, metric, f"{n:,}", f"{pair.true:+.4f}", rate(gate), allowed, rate(naive)]
                print(f"| {' | '.join(cells)} |", flush=True)


def rate(found: Codes) -> str:
    """A share with its 95% Monte-Carlo interval."""
    share = float(np.mean(found))
    return f"{share:.4f} ± {1.96 * (share * (1 - share) / len(found)) ** 0.5:.4f}"


def population(path: Path) -> tuple[Codes, list[str]]:
    """Labels [POPULATION] drawn from a file's, and their names."""
    found = [json.loads(line)["label"] for line in path.read_text(encoding="utf-8").splitlines()]
    names, codes = np.unique(np.array([str(label) for label in found]), return_inverse=True)
    return np.random.default_rng(0).choice(codes, POPULATION), names.tolist()


def pair_of(labels: Codes, names: list[str], metric: str, wanted: float) -> Pair:
    """Both models err on ERRORS of the rows, half of it the same rows; then the candidate's errors grow or shrink until the
    true difference is the wanted one (at or just beyond it)."""
    random = np.random.default_rng(1)
    n, kinds = len(labels), len(names)
    other = (labels + random.integers(1, kinds, n)) % kinds
    chance = random.random(n)
    champion = np.where(chance < ERRORS, other, labels)
    own = random.random(n)

    def answers(errors: float) -> Codes:
        mine = np.where(chance < ERRORS / 2, 0.0, own)  # half of the champion's errors are everybody's
        return np.where(mine < errors, other, labels)

    def gap(errors: float) -> float:
        ours, theirs = (totals(labels, found, names)[metric] for found in (answers(errors), champion))
        return ours - theirs

    low, high = 0.0, 0.6
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if gap(middle) > wanted else (low, middle)
    candidate = answers(high)
    return Pair(labels, champion, candidate, names, metric, gap(high))


def rare_pair(labels: Codes, names: list[str], metric: str, wanted: float) -> Pair:
    """A candidate that answers as the champion does, but for some rows of the rarest label, which it takes for the most
    frequent one: the hardest to see in a sample."""
    random = np.random.default_rng(2)
    counted = np.bincount(labels)
    rare, often = int(counted.argmin()), int(counted.argmax())
    wrong = (labels + random.integers(1, len(names), len(labels))) % len(names)
    champion = np.where(random.random(len(labels)) < ERRORS / 3, wrong, labels)
    own = random.random(len(labels))

    def answers(errors: float) -> Codes:
        return np.where((labels == rare) & (own < errors), often, champion)

    low, high = 0.0, 1.0
    before = totals(labels, champion, names)[metric]
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if totals(labels, answers(middle), names)[metric] - before > wanted else (low, middle)
        )
    candidate = answers(high)
    return Pair(labels, champion, candidate, names, metric, totals(labels, candidate, names)[metric] - before)


def totals(labels: Codes, found: Codes, names: list[str]) -> dict[str, float]:
    kinds = len(names)
    matrix = np.bincount(labels * kinds + found, minlength=kinds * kinds).reshape(kinds, kinds)
    tp = np.diag(matrix)
    summed = np.concatenate([tp, matrix.sum(axis=0) - tp, matrix.sum(axis=1) - tp, [len(labels)]])
    return {name: float(value[0]) for name, value in scores(summed[None].astype(np.float64), names).items()}


def simulated(pair: Pair, n: int, times: int) -> tuple[Codes, Codes]:
    """Whether the gate, and whether the naive rule, promotes in each of `times` draws of n rows."""
    random = np.random.default_rng(n)
    gate, naive = [], []
    for _ in range(times):
        rows = random.integers(0, len(pair.labels), n)
        low, value = bounds(pair.labels[rows], pair.candidate[rows], pair.champion[rows], pair, level(ALPHA, 1))
        gate.append(low > -MARGIN)
        naive.append(value > 0)
    return np.array(gate, dtype=np.int64), np.array(naive, dtype=np.int64)


def bounds(labels: Codes, candidate: Codes, champion: Codes, pair: Pair, alpha: float) -> tuple[float, float]:
    """(lower bound, difference) as the gate has them."""
    kinds = len(pair.names)
    wrong = (labels + 1) % kinds
    ours, theirs, right, bad = (counts(labels, found, kinds) for found in (candidate, champion, labels, wrong))
    found = difference(
        ours,
        theirs,
        lambda summed: scores(summed, pair.names),
        pair.metric,
        alpha,
        RESAMPLES,
        extremes=Extremes(right, bad),
    )
    return found.low, found.value


def sequences(options: argparse.Namespace, looks: int = 50, n: int = 1000) -> None:
    """Retrains against one frozen test set: at least one wrong promotion among 50, and what `new > old` does to the score."""
    labels, names = population(options.data / "airline_tweets" / "test.jsonl")
    print(f"\n{looks} retrains against one frozen test set of {n:,} rows ({options.sequences} sequences), accuracy\n")
    print(
        "| candidates | rule | at least one wrong claim | claims per sequence | champion's score on the set rose by |"
    )
    print("|---|---|---|---|---|")
    for what, worse in (("worse by the margin: promoted", MARGIN), ("the same model retrained: called better", 0.0)):
        for rule in ("alpha spent", "alpha each time", "new > old"):
            wrong, claims, drift = run_sequences(labels, names, worse, rule, looks, n, options.sequences)
            print(f"| {what} | {rule} | {rate(wrong)} | {claims:.2f} | {drift:+.4f} |", flush=True)


def run_sequences(
    labels: Codes, names: list[str], worse: float, rule: str, looks: int, n: int, times: int
) -> tuple[Codes, float, float]:
    """(whether each sequence has a wrong claim, claims per sequence, how much the champion's score on the set rose).

    Every candidate errs by itself, truly `worse` than the first champion; what is promoted becomes the champion. Wrong is to
    let one in that is worse by the margin, or to call one better that is the same.
    """
    random = np.random.default_rng(7)
    normal_claims, wrong, drift = 0, [], 0.0
    for _ in range(times):
        truth = random.choice(labels, n)
        shared = random.random(n)

        def answers(errors: float, truth: Codes = truth, shared: npt.NDArray[np.float64] = shared) -> Codes:
            own = np.where(shared < ERRORS / 2, 0.0, random.random(n))
            share = (errors - ERRORS / 2) / (1 - ERRORS / 2)
            return np.where(own < share, (truth + 1) % len(names), truth)

        champion = answers(ERRORS)
        first = float((champion == truth).mean())
        claims = 0
        for look in range(1, looks + 1):
            candidate = answers(ERRORS + worse)
            right, before = candidate == truth, champion == truth
            claimed = claim(right, before, rule, look, bool(worse))
            claims += claimed
            if claimed and not worse:
                champion = candidate
        normal_claims += claims
        wrong.append(claims > 0)
        drift += float((champion == truth).mean()) - first
    return np.array(wrong, dtype=np.int64), normal_claims / times, drift / times


def claim(right: npt.NDArray[np.bool_], before: npt.NDArray[np.bool_], rule: str, look: int, margin: bool) -> bool:
    """Whether the rule promotes (margin) or calls the candidate better, of accuracies."""
    if rule == "new > old":
        return bool(right.sum() > before.sum())
    alpha = level(ALPHA, look) if rule == "alpha spent" else ALPHA
    fixed, broken = int((right & ~before).sum()), int((~right & before).sum())
    return accuracy_bound(len(right), fixed, broken, alpha) > (-MARGIN if margin else 0.0)


@functools.cache
def accuracy_bound(n: int, fixed: int, broken: int, alpha: float) -> float:
    """The gate's own lower bound of a difference in accuracy, which depends on what changed hands alone."""
    ours, theirs = np.ones((n, 2)), np.ones((n, 2))
    theirs[:fixed, 0] = 0
    ours[fixed : fixed + broken, 0] = 0
    extremes = Extremes(np.array([[1.0, 1.0]]), np.array([[0.0, 1.0]]))
    return difference(ours, theirs, _accuracy, "accuracy", alpha, RESAMPLES, extremes=extremes).low


def _accuracy(totals: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
    return {"accuracy": totals[:, 0] / totals[:, 1]}


def speed() -> None:
    """10,000 resamples of 10,000 rows."""
    from mlops.statistics.bootstrap import intervals
    from mlops.statistics.entities import entity_counts, entity_scores

    random = np.random.default_rng(0)
    names = [str(name) for name in range(20)]
    labels = random.integers(0, 20, 10_000)
    found = np.where(random.random(10_000) < 0.8, labels, random.integers(0, 20, 10_000))
    kinds = ["a", "b", "c", "d", "e", "f"]

    def entities() -> list[set[tuple[str, int, int]]]:
        return [
            {
                (kinds[random.integers(6)], int(start), int(start) + 1)
                for start in random.integers(0, 20, random.integers(4))
            }
            for _ in range(10_000)
        ]

    truth, guessed = entities(), entities()
    print("\n| 10,000 resamples of 10,000 rows | seconds |\n|---|---|")
    for what, units, values in (
        ("macro-F1 of 20 labels", counts(labels, found, 20), lambda summed: scores(summed, names)),
        ("entity F1 of 6 types", entity_counts(truth, guessed, kinds), lambda summed: entity_scores(summed, kinds)),
    ):
        started = time.perf_counter()
        intervals(units, values, 10_000)
        print(f"| {what} | {time.perf_counter() - started:.2f} |")


if __name__ == "__main__":
    main()
