"""Gate reports of real candidates: a champion from a part of the rows, then a candidate from more of them.

    python benchmarks/reports.py FOLDER [--sets airline_tweets wnut17] [--data FOLDER]

FOLDER gets one HTML file per set, with a slice per airline and per kind of entity, and a picture of its top where a Chromium
is on the PATH.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from runs import ENGLISH, SHARED, retrain, written

ENTITIES = ("person", "location", "corporation", "product", "creative-work", "group")
SETS: dict[str, dict[str, Any]] = {
    "airline_tweets": {
        "task": "text-classification",
        "data": {"columns": {"text": "text", "label": "label", "id": "id", "time": "created_at"}},
        "train": {"epochs": 2, "learning_rate": 1.5e-4, "batch_tokens": 1024},
        "gate": {
            "metric": "macro_f1",
            "floor": 0.6,
            "slices": [{"column": "airline"}, {"label": "negative"}, {"expression": "n_tokens > 30"}],
        },
    },
    "wnut17": {
        "task": "token-classification",
        "data": {"columns": {"tokens": "tokens", "tags": "tags"}},
        "train": {"epochs": 4, "learning_rate": 3e-4, "batch_tokens": 768},
        "gate": {"metric": "f1", "floor": 0.05, "slices": [{"label": kind} for kind in ENTITIES]},
    },
}
CHAMPION_ROWS = 1500
WIDTH, HEIGHT = 1100, 3000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--data", type=Path, default=SHARED / "data")
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.exit(f"{options.data} is not here: this needs the data sets, a folder each with train, dev and test.jsonl")
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.sets:
        with tempfile.TemporaryDirectory(prefix="evergreen-reports-") as place:
            report = second_report(name, options.data / name, Path(place))
            target = Path(shutil.copy(report, options.folder / f"{name}.html"))
        print(target)
        picture(target)


def second_report(name: str, source: Path, place: Path) -> Path:
    """The report of the candidate that saw all rows."""
    for file in ("train", "dev", "test"):
        shutil.copy(source / f"{file}.jsonl", place / f"{file}.jsonl")
    rows = (place / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (place / "train.jsonl").write_text("".join(rows[:CHAMPION_ROWS]), encoding="utf-8")
    own = SETS[name]
    splits = {"train": "train.jsonl", "validation": "dev.jsonl", "test": "test.jsonl"}
    pipeline = own | {
        "name": name.replace("_", "-"),
        "data": own["data"] | {"splits": {split: str(place / file) for split, file in splits.items()}},
        "model": {"base": ENGLISH, "max_length": 128},
        "promote": "auto",
    }
    file = written(place / "pipeline.yaml", pipeline)
    first = retrain(file, place / "home")
    (place / "train.jsonl").write_text("".join(rows), encoding="utf-8")
    second = retrain(file, place / "home")
    for summary in (first, second):
        print(f"{name}: {summary['outcome']}: {summary['sentence']}")
    return newest(place / "home", second)


def newest(home: Path, summary: dict[str, Any]) -> Path:
    found = max(home.rglob("gate_report.html"), key=lambda path: path.stat().st_mtime, default=None)
    if found is None:
        sys.exit(f"no report below {home}: {json.dumps(summary)[:500]}")
    return found


def picture(page: Path) -> None:
    """A PNG beside it."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("no picture: there is no chromium or google-chrome on the PATH", file=sys.stderr)
        return
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--window-size={WIDTH},{HEIGHT}",
    ]
    command += [
        "--blink-settings=preferredColorScheme=1",
        f"--screenshot={page.with_suffix('.png')}",
        page.resolve().as_uri(),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    print(page.with_suffix(".png"))


if __name__ == "__main__":
    main()
