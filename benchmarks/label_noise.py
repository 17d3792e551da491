"""Wrong labels found: ours against cleanlab's default, on real texts with a share of the labels changed at random.

    python benchmarks/label_noise.py [--data FILE.jsonl] [--rates 0 0.05 0.1 0.2] [--seeds 3]

The peer: cleanlab's find_label_issues as it comes, on out-of-fold probabilities of scikit-learn's LogisticRegression and
TfidfVectorizer with their defaults. Both see the same rows; medians over the seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mlops.data.mislabelled import label_issues

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "banking77" / "train.jsonl"
Found = tuple[set[int], float]


def ours(texts: Sequence[str], labels: Sequence[str]) -> Found:
    found = label_issues(texts, labels)
    return set(found.rows.tolist()), found.noise_rate


def cleanlab(texts: Sequence[str], labels: Sequence[str]) -> Found:
    from cleanlab.filter import find_label_issues
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    codes = np.unique(labels, return_inverse=True)[1]
    words = TfidfVectorizer().fit_transform(texts)
    chances = cross_val_predict(LogisticRegression(max_iter=1000), words, codes, method="predict_proba")
    flags = find_label_issues(codes, chances, n_jobs=1)
    return set(np.flatnonzero(flags).tolist()), float(flags.mean())


def changed(labels: Sequence[str], rate: float, seed: int) -> tuple[list[str], set[int]]:
    """Labels of which a share is another one, uniformly; which."""
    chance = np.random.default_rng(seed)
    names = sorted(set(labels))
    flipped = set(np.flatnonzero(chance.random(len(labels)) < rate).tolist())
    return [
        str(chance.choice([n for n in names if n != label])) if row in flipped else label
        for row, label in enumerate(labels)
    ], flipped


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="JSON lines with text and label")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.0, 0.05, 0.1, 0.2])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    if not options.data.exists():
        sys.exit(f"{options.data} is not here: name JSON lines with text and label by --data")
    warnings.simplefilter("ignore")
    rows = [json.loads(line) for line in options.data.read_text(encoding="utf-8").splitlines()]
    texts, labels = [row["text"] for row in rows], [str(row["label"]) for row in rows]
    print(f"{len(texts):,} rows, {len(set(labels))} labels; medians of {options.seeds}\n")
    print("| labels changed | by | precision | recall | F1 | share of wrong labels, estimated | seconds |")
    print("|---|---|---|---|---|---|---|")
    for rate in options.rates:
        for name, find in (("ours", ours), ("cleanlab", cleanlab)):
            print(
                line(rate, name, [measured(find, texts, labels, rate, seed) for seed in range(options.seeds)]),
                flush=True,
            )


def measured(
    find: Callable[..., Found], texts: Sequence[str], labels: Sequence[str], rate: float, seed: int
) -> list[float]:
    given, flipped = changed(labels, rate, seed)
    started = time.perf_counter()
    named, estimate = find(texts, given)
    seconds = time.perf_counter() - started
    right = len(named & flipped)
    precision, recall = right / max(1, len(named)), right / max(1, len(flipped))
    return [precision, recall, 2 * precision * recall / max(1e-9, precision + recall), estimate, seconds]


def line(rate: float, name: str, runs: list[list[float]]) -> str:
    values = [statistics.median(column) for column in zip(*runs, strict=True)]
    shown = ["-" if rate == 0 else f"{value:.2f}" for value in values[:3]]
    return f"| {rate:.0%} | {name} | {' | '.join(shown)} | {values[3]:.1%} | {values[4]:.1f} |"


if __name__ == "__main__":
    main()
