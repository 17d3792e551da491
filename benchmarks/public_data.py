"""`mlops run` on real public data sets, each in an empty home: the metric beside what is known of the data.

    python benchmarks/public_data.py [--sets banking77 wnut17 …] [--set train.epochs=3 …] [--data FOLDER] [--models FOLDER]

Every set has a whole pipeline here, which is written to a file and run as a user runs it. The metric is that of the file
that ships, on the test rows as they come, with its 95% interval; a floor is what a TF-IDF with logistic regression (or
BM25) reaches on the same rows.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from runs import ENGLISH, SHARED, retrain, shown, written

CHINESE = "{models}/e5-small-zh-en"
PAIRS = {"text_a": "text_a", "text_b": "text_b", "label": "label"}


class Set(NamedTuple):
    """One data set: its task, the deciding metric, what the metric has to beat, what else is known of it."""

    task: str
    metric: str
    floor: float
    reference: str
    base: str
    train: dict[str, Any]
    data: dict[str, Any] | None = None
    max_length: int = 64


SETS = {
    "banking77": Set(
        "text-classification",
        "accuracy",
        0.891,
        "BERT-base ~.93",
        ENGLISH,
        {"epochs": 10, "learning_rate": 3e-4, "batch_tokens": 1024},
    ),
    "airline_tweets": Set(
        "text-classification",
        "macro_f1",
        0.693,
        "TF-IDF accuracy .793",
        ENGLISH,
        {"epochs": 4, "learning_rate": 1.5e-4, "batch_tokens": 1024},
        {"columns": {"text": "text", "label": "label", "id": "id", "time": "created_at"}},
    ),
    "waimai_10k": Set(
        "text-classification",
        "macro_f1",
        0.880,
        "TF-IDF accuracy .893",
        CHINESE,
        {"epochs": 4, "learning_rate": 1e-4, "batch_tokens": 1024, "label_smoothing": 0.1, "layer_decay": 0.9},
    ),
    "wnut17": Set(
        "token-classification",
        "f1",
        0.3,
        "BERT-base ~.45 to .50",
        ENGLISH,
        {"epochs": 4, "learning_rate": 1e-4},
        {"columns": {"tokens": "tokens", "tags": "tags"}},
        128,
    ),
    "cluener2020": Set(
        "token-classification",
        "f1",
        0.6,
        "BERT-base .788 (hidden test), BiLSTM-CRF .700",
        CHINESE,
        {"epochs": 3, "learning_rate": 4e-4, "batch_tokens": 1024},
        {"columns": {"tokens": "tokens", "tags": "tags"}},
        128,
    ),
    "trecqa_answer_selection": Set(
        "text-ranking",
        "mrr",
        0.765,
        "BM25: MAP .630, MRR .765",
        ENGLISH,
        {"epochs": 2, "learning_rate": 1e-4, "batch_tokens": 1024},
        {"columns": PAIRS},
        96,
    ),
    "movielens_pairs": Set(
        "text-pair-classification",
        "macro_f1",
        0.5,
        "",
        ENGLISH,
        {"epochs": 1, "learning_rate": 2e-4, "batch_tokens": 1024},
        {"columns": {**PAIRS, "time": "timestamp"}, "take": 0.4},
        128,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--set", dest="overrides", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--data", type=Path, default=SHARED / "data")
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.exit(f"{options.data} is not here: this needs the data sets, a folder each with train, dev and test.jsonl")
    print(
        "| data | metric | on test, as the file that ships | fp32 | floor | known | outcome | train s | all s | peak GB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in options.sets:
        print(row(name, options), flush=True)


def row(name: str, options: argparse.Namespace) -> str:
    """One data set's line of the table."""
    chosen = SETS[name]
    with tempfile.TemporaryDirectory(prefix="evergreen-data-") as place:
        file = written(Path(place) / f"{name.replace('_', '-')}.yaml", pipeline(name, chosen, options))
        summary = retrain(file, Path(place) / "home", options.overrides)
    candidate = summary["candidate"] or {"metrics": {}, "variant": "none"}
    metrics = {variant: found["metrics"] for variant, found in summary["variants"].items()}
    parts = [name, chosen.metric, shown(candidate["metrics"].get(chosen.metric)) + f" ({candidate['variant']})"]
    parts += [shown(metrics.get("fp32", {}).get(chosen.metric)), f"{chosen.floor:g}", chosen.reference]
    parts += [summary["outcome"], f"{summary['seconds'].get('fine_tune', 0):.0f}", f"{summary['whole']:.0f}"]
    peak = summary["cost"]["total"]["peak_mb"] / 1000
    return "| " + " | ".join([*parts, f"{peak:.2f}"]) + " |"


def pipeline(name: str, chosen: Set, options: argparse.Namespace) -> dict[str, Any]:
    """The pipeline file's content."""
    folder = options.data / name
    splits = {"train": "train.jsonl", "validation": "dev.jsonl", "test": "test.jsonl"}
    return {
        "name": name.replace("_", "-"),
        "task": chosen.task,
        "data": {"splits": {split: str(folder / file) for split, file in splits.items()}} | (chosen.data or {}),
        "model": {"base": chosen.base.format(models=options.models), "max_length": chosen.max_length},
        "train": chosen.train,
        "gate": {"metric": chosen.metric, "floor": chosen.floor},
        "promote": "auto",
    }


if __name__ == "__main__":
    main()
