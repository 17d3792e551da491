"""The gate on real data: what becomes of a clearly better, an equal, a slightly worse and a broken candidate.

    python benchmarks/verdicts.py [--sets sst2 airline_tweets …] [--rows N] [--data FOLDER]

Each set starts with a champion trained on a third of the rows. Then come, each a whole `mlops run` against the
champion of its time: better (three times as many), equal (them once more with another seed), slightly worse (them with 30% of
the labels of train dealt out at random), broken (with all of them dealt out). A candidate may only be let in where the
lower bound of its difference to the champion is above -gate.margin; the sentence of the judgement says both.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from runs import ENGLISH, SHARED, retrain, shown, written

WORSE = 0.3  # share of train whose labels a slightly worse candidate gets at random

ALLOWED = {
    "champion": {"promoted"},
    "better": {"promoted"},
    "equal": {"promoted", "held", "inconclusive"},
    "slightly worse": {"held", "inconclusive"},
    "broken": {"rejected"},
}


class Set(NamedTuple):
    """task, metric, floor of the gate, margin, epochs, learning rate, columns; rows: most of training."""

    task: str
    metric: str
    floor: float
    margin: float
    epochs: int
    rate: float
    columns: dict[str, str]
    rows: int = 1600


TEXT = {"text": "text", "label": "label"}
SETS = {
    "sst2": Set("text-classification", "accuracy", 0.6, 0.02, 2, 2e-4, TEXT),
    "airline_tweets": Set("text-classification", "macro_f1", 0.45, 0.02, 2, 2e-4, TEXT),
    "banking77": Set("text-classification", "accuracy", 0.1, 0.02, 4, 4e-4, TEXT, 6000),
    "wnut17": Set("token-classification", "f1", 0.05, 0.03, 4, 3e-4, {"tokens": "tokens", "tags": "tags"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--rows", type=int, help="most of training, instead of each set's own")
    parser.add_argument("--data", type=Path, default=SHARED / "data")
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.exit(f"{options.data} is not here: this needs the data sets, a folder each with train, dev and test.jsonl")
    print("| data | candidate | metric | margin | verdict | as it should be | in words |")
    print("|---" * 7 + "|")
    for name in options.sets:
        with tempfile.TemporaryDirectory(prefix="evergreen-verdicts-") as place:
            judged(name, SETS[name], options.data / name, Path(place), options.rows or SETS[name].rows)


def judged(name: str, chosen: Set, folder: Path, place: Path, most: int) -> None:
    """One data set's lines of the table."""
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    random.Random(0).shuffle(rows)
    rows = rows[:most]
    target = chosen.columns.get("label", "tags")
    many = chosen.epochs
    ways: dict[str, tuple[list[dict[str, Any]], int, int]] = {
        "champion": (rows[: len(rows) // 3], many, 1),
        "better": (rows, many, 1),
        "equal": (rows, many, 2),
        "slightly worse": (dealt(rows, target, WORSE), many, 1),
        "broken": (dealt(rows, target), many, 1),
    }
    train = place / "train.jsonl"
    file = written(place / "verdicts.yaml", pipeline(train, folder, chosen))
    for kind, (some, epochs, seed) in ways.items():
        train.write_text("".join(f"{json.dumps(row)}\n" for row in some), encoding="utf-8")
        print(
            row_of(name, kind, chosen, retrain(file, place / "home", [f"train.epochs={epochs}", f"train.seed={seed}"]))
        )


def dealt(rows: list[dict[str, Any]], target: str, share: float = 1.0) -> list[dict[str, Any]]:
    """The rows, a share of them with their labels dealt out at random; tags stay with a row of as many tokens."""
    out = [dict(row) for row in rows]
    random_ = random.Random(1)
    by_size: dict[int, list[int]] = {}
    for place in sorted(random_.sample(range(len(rows)), round(share * len(rows)))):
        row = rows[place]
        by_size.setdefault(len(row[target]) if isinstance(row[target], list) else 0, []).append(place)
    for places in by_size.values():
        others = random_.sample(places, len(places))
        for place, other in zip(places, others, strict=True):
            out[place][target] = rows[other][target]
    return out


def pipeline(train: Path, folder: Path, chosen: Set) -> dict[str, Any]:
    return {
        "name": "verdicts",
        "task": chosen.task,
        "data": {
            "splits": {
                "train": str(train),
                "validation": str(folder / "dev.jsonl"),
                "test": str(folder / "test.jsonl"),
            },
            "columns": chosen.columns,
        },
        "model": {"base": ENGLISH, "max_length": 64},
        "train": {"learning_rate": chosen.rate, "batch_tokens": 1024},
        "gate": {"metric": chosen.metric, "floor": chosen.floor, "margin": chosen.margin, "baselines": ["majority"]},
        "promote": "auto",
    }


def row_of(name: str, kind: str, chosen: Set, summary: dict[str, Any]) -> str:
    candidate = summary["candidate"]
    metric = shown(candidate["metrics"].get(chosen.metric)) if candidate else "-"
    right = "yes" if summary["outcome"] in ALLOWED[kind] else "NO"
    why = " ".join(str(summary["sentence"] or summary["reason"]).replace("|", "/").split())
    cells = [name, kind, metric, f"{chosen.margin:g}", summary["outcome"], right, why]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
