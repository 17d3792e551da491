"""The file that ships against what else serves such a model: throughput, latency, size, quality, in one run.

    python benchmarks/compression.py [--sets airline_tweets wnut17] [--rounds 3] [--rows 2000] [--students]

MiniLM-L6 is fine-tuned and every form is tried and judged on the validation rows (the first table); then `mlops run` with
`compress.variants: auto` chooses one of them, which the test rows confirm or not (the line below it). Then each way of serving
answers the same test rows in a process of its own, in turns: transformers' pipeline() in PyTorch at its default batch size
and at 8 and 32; onnxruntime with the plain fp32 export in batches of 32 as rows arrive, padded to the longest; OpenVINO with
the fp32 graph, and CTranslate2 in int8, both in batches by length as ours are. Rows a second are medians over the rounds.
Latency is one row at a time of about 16 and 128 tokens. Peers that are not installed are left out and named
(`pip install openvino ctranslate2`).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from runs import ENGLISH, SHARED, retrain, shown, written

PEERS = ("pipeline", "pipeline 8", "pipeline 32", "onnxruntime", "openvino", "ctranslate2", "fp32", "ours")
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
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--survey", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.survey:
        print(json.dumps(survey(Path(options.survey[0]), Path(options.survey[1]), options.students)))
        return
    if options.measure:
        print(json.dumps(measure(json.loads(options.measure))))
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
            "minutes": 60,
        },
        "promote": "auto",
    }
    file = written(place / "compression.yaml", pipeline)
    tried = child(["--survey", str(file), str(home), *(["--students"] if options.students else [])])
    summary = retrain(file, home)
    print(f"\n## {name}\n\n{attempts(tried, metric)}\n")
    print(f"On the test rows: {summary['outcome']}; {summary['sentence']} {summary['compression']['reason']}.")
    print(confirmed(summary))
    if not summary["release"]:
        return
    packages = {
        json.loads(path.read_text())["variant"]: str(path.parent) for path in home.glob("store/model/*/package.json")
    }
    chosen = summary["release"]["variant"]
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text(encoding="utf-8").splitlines()][
        : options.rows
    ]
    (place / "rows.json").write_text(json.dumps([row.get("text", row.get("tokens")) for row in rows]), encoding="utf-8")
    found: dict[str, list[dict[str, Any]]] = {}
    for _ in range(options.rounds):
        for peer in PEERS:
            path = packages[{"fp32": "fp32", "ours": chosen, "onnxruntime": "torch"}.get(peer, "torch")]
            job = {"peer": peer, "task": task, "folder": path, "rows": str(place / "rows.json"), "place": str(place)}
            if answer := child(["--measure", json.dumps(job)]):
                found.setdefault(peer, []).append(answer)
    print(f"\n{len(rows):,} test rows, {options.rounds} rounds, {os.cpu_count()} cores; ours is {chosen}\n")
    print(speeds(found))


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
    wanted = ("drop_to_original", "flips", "cold start", "memory")
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
        kept = f" ({len(each['recipe']['keep'])} in fp32)" if each["recipe"]["keep"] else ""
        cells = [each["name"] + kept, shown(each["metrics"].get(metric)), f"{drop[0]:+.4f}" if drop else ""]
        cells += [f"{each['flips']:.2%}" if each["flips"] is not None else ""]
        cells += [f"{cost[key]:.2f}" if cost else "" for key in ("ratio", "p50", "size_mb")]
        lines.append(f"| {' | '.join([*cells, each['outcome'], each['reason'][:120].replace('|', '/')])} |")
    return "\n".join(lines)


def speeds(found: dict[str, list[dict[str, Any]]]) -> str:
    rate = {peer: statistics.median(each["rows_per_second"] for each in runs) for peer, runs in found.items()}
    best = max((rate[peer] for peer in PEERS[:3] if peer in rate), default=1.0)
    head = (
        "way",
        "rows/s",
        "× pipeline()",
        "× pipeline at its best",
        "× onnxruntime plain",
        "ms at 16 tokens",
        "at 128",
        "MB",
    )
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for peer, runs in found.items():
        ratios = [rate[peer] / rate["pipeline"], rate[peer] / best, rate[peer] / rate["onnxruntime"]]
        times = [statistics.median(each[key] for each in runs) for key in ("ms_16", "ms_128")]
        size = runs[0]["megabytes"]
        cells = [peer, f"{rate[peer]:.0f}", *(f"{value:.2f}" for value in (*ratios, *times)), f"{size:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def child(options: list[str]) -> Any:
    """What this file answers in a process of its own; none, with the reason, where it ends otherwise."""
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "true", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, __file__, *options], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        print(f"left out: {' '.join(options)[:120]}: {last[:200]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """One way in this process: rows a second over all rows, milliseconds of one row of 16 and of 128 tokens."""
    rows = json.loads(Path(job["rows"]).read_text(encoding="utf-8"))
    ways: dict[str, Callable[..., Any]] = {"onnxruntime": plain, "openvino": openvino, "ctranslate2": ctranslate}
    name, _, batch = job["peer"].partition(" ")
    make = ways.get(name, pipeline if name == "pipeline" else runtime)
    answer, size = make(Path(job["folder"]), job["task"], int(batch or 1), Path(job["place"]))
    answer(rows[:64])
    started = time.perf_counter()
    answer(rows)
    seconds = time.perf_counter() - started
    return {
        "rows_per_second": len(rows) / seconds,
        "megabytes": size / 1e6,
        "ms_16": latency(answer, job["task"], 14),
        "ms_128": latency(answer, job["task"], 126),
    }


def latency(answer: Callable[[Any], Any], task: str, tokens: int, times: int = 40) -> float:
    """Median milliseconds of a row of so many one-piece words."""
    words = (["the", "plane", "was", "late", "and", "we", "had", "to", "wait"] * 20)[:tokens]
    row = words if task == "token-classification" else " ".join(words)
    for _ in range(5):
        answer([row])
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        answer([row])
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1000


def runtime(folder: Path, task: str, batch: int, place: Path) -> Any:
    """Ours, as it serves."""
    from mlops.serving.runtime import Runtime

    return Runtime.load(folder).predict, (folder / "model.onnx").stat().st_size


def pipeline(folder: Path, task: str, batch: int, place: Path) -> Any:
    """transformers' own, of the same weights; tokens as one text."""
    from transformers import (
        AutoModelForSequenceClassification,
        AutoModelForTokenClassification,
        PreTrainedTokenizerFast,
    )
    from transformers import pipeline as build

    kind = AutoModelForTokenClassification if task == "token-classification" else AutoModelForSequenceClassification
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]", model_max_length=128
    )
    found = build(task, model=kind.from_pretrained(folder), tokenizer=tokenizer, device="cpu")
    more = {} if task == "token-classification" else {"truncation": True}

    def answer(rows: Sequence[Any]) -> Any:
        return found([row if isinstance(row, str) else " ".join(row) for row in rows], batch_size=batch, **more)

    return answer, (folder / "model.safetensors").stat().st_size


def plain(folder: Path, task: str, batch: int, place: Path) -> Any:
    """onnxruntime as tutorials use it: the export as torch writes it, batches of 32 as rows arrive."""
    import onnxruntime

    from mlops.serving.inputs import pad

    path = exported(folder, place)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    encode, package = encoder(folder)

    def answer(rows: Sequence[Any]) -> Any:
        ids = encode(rows)
        return [
            session.run(["logits"], pad(ids[start : start + 32], package.pad_id, package.inputs))[0]
            for start in range(0, len(ids), 32)
        ]

    return answer, path.stat().st_size


def openvino(folder: Path, task: str, batch: int, place: Path) -> Any:
    """OpenVINO with its defaults for this processor, batches by length."""
    import openvino as ov

    from mlops.serving.inputs import in_batches

    path = exported(folder, place)
    compiled = ov.compile_model(
        ov.convert_model(str(path)), "CPU", {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": 1}
    )
    encode, package = encoder(folder)

    def answer(rows: Sequence[Any]) -> Any:
        return in_batches(encode(rows), package, 2048, lambda arrays: compiled(arrays)["logits"])

    return answer, path.stat().st_size


def ctranslate(folder: Path, task: str, batch: int, place: Path) -> Any:
    """CTranslate2's int8 encoder, which unpads by itself, with the head in numpy; batches by length."""
    import ctranslate2
    from ctranslate2.converters import TransformersConverter
    from safetensors.numpy import load_file

    target = place / "ctranslate2"
    if not target.exists():
        base = place / "encoder"
        encoder_alone(folder, base)
        TransformersConverter(str(base)).convert(str(target), quantization="int8")
    model = ctranslate2.Encoder(str(target), device="cpu", inter_threads=1, intra_threads=os.cpu_count() or 1)
    weights = load_file(folder / "model.safetensors")
    head, bias = weights["classifier.weight"].T, weights["classifier.bias"]
    encode, _ = encoder(folder)

    def answer(rows: Sequence[Any]) -> Any:
        ids = [each.tolist() for each in encode(rows)]
        order = np.argsort([len(each) for each in ids], kind="stable")
        found = []
        for start in range(0, len(order), 32):
            output = model.forward_batch([ids[place] for place in order[start : start + 32]])
            state = output.last_hidden_state if task == "token-classification" else output.pooler_output
            found.append(np.asarray(state) @ head + bias)
        return found

    return answer, sum(path.stat().st_size for path in target.iterdir())


def exported(folder: Path, place: Path) -> Path:
    """The plain export, made once."""
    from mlops.compression.export import trace
    from mlops.serving.package import read_package
    from mlops.tasks import get
    from mlops.training.models import load_model

    path = place / "plain.onnx"
    if not path.exists():
        package = read_package(folder)
        trace(load_model(folder, get(package.task), package.labels, attention="eager").eval(), path, package.inputs)
    return path


def encoder_alone(folder: Path, target: Path) -> None:
    """The network without its head, as CTranslate2's converter takes it."""
    from transformers import BertModel, PreTrainedTokenizerFast

    BertModel.from_pretrained(folder).save_pretrained(target)
    PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(target)


def encoder(folder: Path) -> tuple[Callable[[Sequence[Any]], list[Any]], Any]:
    """Token ids as the serving runtime makes them."""
    from mlops.serving.inputs import Encoder
    from mlops.serving.package import read_package
    from mlops.tasks import get

    package = read_package(folder)
    own = Encoder(folder, package, get(package.task))
    return lambda rows: own.encode(rows).input_ids, package


if __name__ == "__main__":
    main()
