"""Warm start: a snapshot that grew by 5% trained from the champion's weights against a full retrain of the same rows.

    python benchmarks/warm_start.py [--seeds 3] [--grown 0.05] [--replay 0.15] [--epochs 4] [--set KEY=VALUE …]

Airline tweets in time order: the champion is trained on the oldest rows of train, then the newest 5% come. Both retrains
begin with the same home (the champion, its caches), are whole `mlops run`s, and are judged on the tweets of later days.
Seconds of fine_tune have what a warm start changes; those of the whole run have validation, evaluation and export too, which
cost the same either way.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from runs import ENGLISH, SHARED, retrain, written

METRIC, MARGIN = "macro_f1", 0.01
WAYS = ("full", "warm")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--grown", type=float, default=0.05, help="share of the rows that the champion had")
    parser.add_argument("--replay", type=float, default=0.15, help="share of the old rows that a warm start rehearses")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--set", dest="overrides", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--data", type=Path, default=SHARED / "data")
    options = parser.parse_args()
    if not (options.data / "airline_tweets").is_dir():
        sys.exit(f"{options.data} has no airline_tweets: this needs train, dev and test.jsonl with created_at")
    with tempfile.TemporaryDirectory(prefix="evergreen-warm-") as place:
        runs = compared(Path(place), options)
    print(table(runs))


def compared(place: Path, options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """The summaries of both ways, one of each per seed; they take turns."""
    folder = options.data / "airline_tweets"
    lines = (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()
    lines.sort(key=lambda line: str(json.loads(line)["created_at"]))
    newest = place / "train.jsonl"
    file = written(place / "airline.yaml", pipeline(newest, folder, options))
    newest.write_text("\n".join(lines[: round(len(lines) / (1 + options.grown))]) + "\n", encoding="utf-8")
    champion = retrain(file, place / "home", options.overrides)
    if champion["outcome"] != "promoted":
        sys.exit(f"the first model is {champion['outcome']}: {champion.get('reason', '')}")
    newest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.copytree(place / "home", place / "saved", symlinks=True)
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for seed in range(options.seeds):
        for way in WAYS:
            shutil.rmtree(place / "home")  # the same place again: what lies there knows its own path
            shutil.copytree(place / "saved", place / "home", symlinks=True)
            asked = [f"train.seed={seed}"]
            asked += [f"train.warm_start.replay={options.replay:g}"] if way == "warm" else []
            runs[way].append(retrain(file, place / "home", options.overrides + asked))
    return runs


def pipeline(train: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    return {
        "name": "airline",
        "task": "text-classification",
        "data": {
            "splits": {
                "train": str(train),
                "validation": str(folder / "dev.jsonl"),
                "test": str(folder / "test.jsonl"),
            },
            "columns": {"text": "text", "label": "label", "id": "id", "time": "created_at"},
        },
        "model": {"base": ENGLISH, "max_length": 64},
        "train": {"epochs": options.epochs, "learning_rate": 1.5e-4, "batch_tokens": 1024},
        "gate": {"metric": METRIC, "floor": 0.6, "margin": MARGIN, "baselines": []},
        "promote": "auto",
    }


def table(runs: dict[str, list[dict[str, Any]]]) -> str:
    """Medians over the seeds, the metric of the file that ships with every seed's beside it."""
    out = [
        "| training | fine_tune s | of full | whole run s | of full | macro-F1 over seeds | outcomes |",
        "|---" * 7 + "|",
    ]
    found = {way: [value(run) for run in each] for way, each in runs.items()}
    seconds = {way: statistics.median(run["seconds"]["fine_tune"] for run in each) for way, each in runs.items()}
    whole = {way: statistics.median(run["whole"] for run in each) for way, each in runs.items()}
    for way, each in runs.items():
        shares = [f"{some[way]:.0f} | {some[way] / some['full']:.0%}" for some in (seconds, whole)]
        metrics = f"{statistics.mean(found[way]):.4f} ({', '.join(f'{one:.4f}' for one in found[way])})"
        outcomes = ", ".join(run["outcome"] for run in each)
        out.append(f"| {way} | {' | '.join(shares)} | {metrics} | {outcomes} |")
    difference = statistics.mean(found["warm"]) - statistics.mean(found["full"])
    reached = "within" if difference > -MARGIN else "NOT within"
    return "\n".join([*out, "", f"warm - full: {difference:+.4f}, {reached} the margin of {MARGIN:g}"])


def value(run: dict[str, Any]) -> float:
    candidate = run["candidate"]
    return float(candidate["metrics"][METRIC]["value"]) if candidate else float("nan")


if __name__ == "__main__":
    main()
