"""The file that ships against what else serves such a model: throughput, latency, size, quality, in one run.

    python benchmarks/compression.py [--sets airline_tweets wnut17] [--rounds 3] [--rows 2000] [--students]

MiniLM-L6 is fine-tuned and every form is tried and judged on the validation rows (the first table); then `mlops run` with
`compress.variants: auto` chooses one of them, which the test rows confirm or not (the line below it). Then each way of serving
answers the same test rows in a process of its own, in turns: transformers' pipeline() in PyTorch at its default batch size
and at 8 and 32; PyTorch without it; onnxruntime with the plain fp32 export in batches of 32 as rows arrive, padded to the
longest; OpenVINO with the fp32 graph and in int8 (by NNCF), and CTranslate2 in int8, in batches by length side by side as
ours are. Rows a second are medians over the rounds. Latency is one row at a time of about 16 and 128 tokens. "changed" is
the share of answers (of tags) that are not PyTorch's. Peers that are not installed are left out and named
(`pip install openvino nncf ctranslate2`).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from runs import ENGLISH, SHARED, retrain, shown, written

PEERS = ("pipeline", "pipeline 8", "pipeline 32", "pytorch", "onnxruntime")
RIVALS = ("openvino", "openvino-int8", "ctranslate2")
PEERS += (*RIVALS, "fp32", "ours")
PEERS_FILE = Path(__file__).with_name("peers.py")
FORMS = ("int8", "int8-static", "w8", "w4", "fp16")
STUDENTS = ("student+int8", "pruned+int8", "student", "pruned")
SETS: dict[str, tuple[str, str, dict[str, str], dict[str, Any]]] = {
    "airline_tweets": (
        "text-classification",
        "macro_f1",
        {"text": "text", "label": "label"},
        {"epochs": 2, "learning_rate": 1.5e-4, "batch_tokens": 1024},
    ),
    "wnut17": (
        "token-classification",
        "f1",
        {"tokens": "tokens", "tags": "tags"},
        {"epochs": 3, "learning_rate": 3e-4, "batch_tokens": 768},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--students", action="store_true", help="prune and distil too, with max_drop 0.02")
    parser.add_argument("--data", type=Path, default=SHARED / "data")
    parser.add_argument("--survey", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.survey:
        print(json.dumps(survey(Path(options.survey[0]), Path(options.survey[1]), options.students)))
        return
    if not options.data.is_dir():
        sys.exit(f"{options.data} is not here: this needs the data sets, a folder each with train, dev and test.jsonl")
    for name in options.sets:
        with tempfile.TemporaryDirectory(prefix="evergreen-compression-") as place:
            report(name, options, Path(place))


def report(name: str, options: argparse.Namespace, place: Path) -> None:
    task, metric, columns, train = SETS[name]
    folder, home = options.data / name, place / "home"
    splits = {
        split: str(folder / f"{file}.jsonl")
        for split, file in zip(("train", "validation", "test"), ("train", "dev", "test"), strict=True)
    }
    pipeline = {
        "name": "compression",
        "task": task,
        "data": {"splits": splits, "columns": columns},
        "model": {"base": ENGLISH, "max_length": 128},
        "train": train,
        "gate": {"metric": metric, "floor": 0.1, "baselines": []},
        "compress": {
            "variants": "auto",
            "students": options.students,
            "max_drop": 0.02 if options.students else 0.005,
            "max_flip_rate": 0.05 if options.students else 0.01,
            "minutes": 60,
        },
        "promote": "auto",
    }
    file = written(place / "compression.yaml", pipeline)
    tried = child([__file__, "--survey", str(file), str(home), *(["--students"] if options.students else [])])
    summary = retrain(file, home)
    print(f"\n## {name}\n\n{attempts(tried, metric)}\n")
    print(f"On the test rows: {summary['outcome']}; {summary['sentence']} {summary['compression']['reason']}.")
    print(confirmed(summary))
    if not summary["release"]:
        return
    packages = {
        json.loads(path.read_text())["variant"]: str(path.parent) for path in home.glob("store/model/*/package.json")
    }
    chosen, packages["ours"] = summary["release"]["variant"], shipped(home)
    asked, label = list(columns.values())
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    cells = [
        {"asked": row[asked], "label": row[label] if isinstance(row[label], str) else " ".join(row[label])}
        for row in rows[: options.rows]
    ]
    (place / "rows.jsonl").write_text("".join(json.dumps(cell) + "\n" for cell in cells), encoding="utf-8")
    taught = (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()
    calibration = [{"asked": json.loads(line)[asked]} for line in taught[:: max(1, len(taught) // 300)]]
    (place / "calibration.jsonl").write_text("".join(json.dumps(cell) + "\n" for cell in calibration), encoding="utf-8")
    found: dict[str, list[dict[str, Any]]] = {}
    for _ in range(options.rounds):
        for peer in PEERS:
            path = packages[peer if peer in ("fp32", "ours") else "torch"]
            job = {"peer": peer, "task": task, "metric": metric, "folder": path, "place": str(place)}
            if answer := child([str(PEERS_FILE), json.dumps(job | {"rows": str(place / "rows.jsonl")})]):
                found.setdefault(peer, []).append(answer)
    print(f"\n{len(cells):,} test rows, {options.rounds} rounds, {os.cpu_count()} cores; ours is {chosen}\n")
    print(speeds(found, task, metric))


def shipped(home: Path) -> str:
    """The folder of the champion's package: there may be several of its form, with other nodes kept."""
    os.environ["EVERGREEN_HOME"] = str(home)
    from mlops import registry
    from mlops.store import open_store

    release = registry.champion("compression")
    assert release is not None
    return str(open_store().fetch(release.model.files))


def survey(file: Path, home: Path, students: bool) -> dict[str, Any]:
    """Every form of the model that the pipeline fine-tunes, tried."""
    os.environ["EVERGREEN_HOME"] = str(home)
    from mlops.compression.recipes import RECIPES
    from mlops.compression.search import opened, search
    from mlops.config import load
    from mlops.pipeline import run_step, start, steps_of

    config = load(file)
    run, values = start(config), {}
    for step in steps_of(config):
        values[step.output] = run_step(step, config, run, values).output
        if step.name == "fine_tune":
            break
    names = [*(STUDENTS if students else ()), *FORMS]
    with tempfile.TemporaryDirectory(prefix="evergreen-survey-") as place:
        task = opened(config, values["model"], values["snapshot"], Path(place))
        found = search(task, [RECIPES[name] for name in names])
    return {"attempts": [each.model_dump(mode="json") for each in found.attempts]}


def confirmed(summary: dict[str, Any]) -> str:
    """What the judgement on the test rows and the proof in a clean process found of the file that ships."""
    wanted = ("metric_drop", "label_flips", "cold start", "memory")
    lines = [
        f"- {verdict['subject']}: {check['name']} {check['observed']} (allowed {check['allowed']}) {check['detail']}"
        for verdict in summary["verdicts"]
        for check in verdict["checks"]
        if any(name in check["name"] for name in wanted)
    ]
    return "\n".join(lines)


def attempts(found: dict[str, Any], metric: str) -> str:
    head = ("form", f"{metric} on validation", "loss", "answers changed", "× fp32", "p50 ms", "MB", "outcome", "reason")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for each in found["attempts"]:
        cost, drop = each["measured"], each["drop"]
        way = each["recipe"]["calibration"]
        kept = ", smoothed" if each["recipe"]["smooth"] else ""
        kept += f", {way}" if way != "minmax" else ""
        kept += f" ({len(each['recipe']['keep'])} in fp32)" if each["recipe"]["keep"] else ""
        cells = [
            each["name"] + kept,
            shown(each["metrics"].get(metric)),
            f"{drop[0]:+.4f} ({drop[1]:+.4f} to {drop[2]:+.4f})" if drop else "",
        ]
        cells += [f"{each['flips']:.2%}" if each["flips"] is not None else ""]
        cells += [f"{cost[key]:.2f}" if cost else "" for key in ("ratio", "p50", "size_mb")]
        lines.append(f"| {' | '.join([*cells, each['outcome'], each['reason'][:120].replace('|', '/')])} |")
    return "\n".join(lines)


def speeds(found: dict[str, list[dict[str, Any]]], task: str, metric: str) -> str:
    from mlops.judging.answers import flips
    from mlops.tasks import get

    original = found["pytorch"][0]["cells"]
    rate = {peer: statistics.median(each["rows_per_second"] for each in runs) for peer, runs in found.items()}
    best = max((rate[peer] for peer in PEERS[:3] if peer in rate), default=1.0)
    rival = max((rate[peer] for peer in RIVALS if peer in rate), default=float("nan"))
    head = (
        "way",
        "rows/s",
        "× pipeline()",
        "× pipeline at its best",
        "× onnxruntime plain",
        "× best rival",
        "ms at 16 tokens",
        "at 128",
        "MB",
        metric,
        "changed",
    )
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for peer, runs in found.items():
        ratios = [rate[peer] / other for other in (rate["pipeline"], best, rate["onnxruntime"], rival)]
        times = [statistics.median(each[key] for each in runs) for key in ("ms_16", "ms_128")]
        size = runs[0]["megabytes"]
        cells = [peer, f"{rate[peer]:.0f}", *(f"{value:.2f}" for value in (*ratios, *times)), f"{size:.1f}"]
        answers = runs[0]["cells"]
        cells += [f"{runs[0]['metric']:.4f}", f"{flips(get(task), original, answers):.2%}"] if answers else ["-", "-"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def child(options: list[str]) -> Any:
    """What this file answers in a process of its own; none, with the reason, where it ends otherwise."""
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "true", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, *options], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        print(f"left out: {' '.join(options)[:120]}: {last[:200]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
