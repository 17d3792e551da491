"""Ways of serving one fine-tuned model, each measured in a process of its own: `python benchmarks/peers.py JOB`.

JOB is {"peer", "task", "metric", "folder", "rows", "place"} in JSON: a package folder with the weights, a file of rows {"asked",
"label"}, a folder for what is made once. Prints a JSON line: rows a second over all rows, milliseconds of one row of about
16 and of 128 tokens, bytes of the file, the answer to each row and the metric over them.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

BATCH_TOKENS = 1024  # of the peers that are given batches by length


class Way(NamedTuple):
    """answer: from rows to what this way gives for each, in their order. labels: from that to one cell per row, as a
    snapshot writes it, with its score; none where its answers are not of the rows' own tokens."""

    answer: Callable[[Sequence[Any]], list[Any]]
    labels: Callable[[list[Any], Sequence[Any]], tuple[list[str], list[float]]] | None
    size: int


def measure(job: dict[str, Any]) -> dict[str, Any]:
    rows = [json.loads(line) for line in Path(job["rows"]).read_text(encoding="utf-8").splitlines()]
    asked = [row["asked"] for row in rows]
    name, _, batch = job["peer"].partition(" ")
    way = WAYS[name](Path(job["folder"]), job["task"], int(batch or 1), Path(job["place"]))
    way.answer(asked[:64])
    started = time.perf_counter()
    answers = way.answer(asked)
    seconds = time.perf_counter() - started
    found: dict[str, Any] = {
        "rows_per_second": len(rows) / seconds,
        "megabytes": way.size / 1e6,
        "cells": None,
        "metric": None,
    }
    found |= {"ms_16": latency(way.answer, job["task"], 14), "ms_128": latency(way.answer, job["task"], 126)}
    if way.labels:
        cells, scores = way.labels(answers, asked)
        found |= {"cells": cells, "metric": quality(job, [row["label"] for row in rows], cells, scores)}
    return found


def quality(job: dict[str, Any], labels: list[str], cells: list[str], scores: list[float]) -> float:
    """The task's metric of all rows."""
    from mlops.serving.package import read_package
    from mlops.tasks import get
    from mlops.tasks.base import Judged

    task, outputs = get(job["task"]), read_package(Path(job["folder"])).labels
    totals = task.statistics(Judged(labels, cells, scores, [str(row) for row in range(len(labels))]), outputs).sum(
        axis=0
    )
    return float(np.asarray(task.values(totals[None, :], outputs)[job["metric"]])[0])


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


def runtime(folder: Path, task: str, batch: int, place: Path) -> Way:
    """Ours, as it serves: to the answers that a user gets."""
    from mlops.serving.runtime import Runtime

    served = Runtime.load(folder)

    def labels(_: list[Any], asked: Sequence[Any]) -> tuple[list[str], list[float]]:
        items = [served.task.asked(each) for each in asked]
        found = served.task.answers(served.logits(items), served.labels)
        return list(found.predicted), found.scores.tolist()

    return Way(served.predict, labels, (folder / "model.onnx").stat().st_size)


def pipeline(folder: Path, task: str, batch: int, place: Path) -> Way:
    """transformers' own, of the same weights; tokens as one text."""
    from transformers import (
        AutoModelForSequenceClassification,
        AutoModelForTokenClassification,
        PreTrainedTokenizerFast,
    )
    from transformers import pipeline as build

    tokens = task == "token-classification"
    kind = AutoModelForTokenClassification if tokens else AutoModelForSequenceClassification
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]", model_max_length=128
    )
    found = build(task, model=kind.from_pretrained(folder), tokenizer=tokenizer, device="cpu")
    more = {} if tokens else {"truncation": True}

    def answer(rows: Sequence[Any]) -> list[Any]:
        texts = [row if isinstance(row, str) else " ".join(row) for row in rows]
        return list(found(texts, batch_size=batch, **more))

    def labels(answers: list[Any], _: Sequence[Any]) -> tuple[list[str], list[float]]:
        return [each["label"] for each in answers], [each["score"] for each in answers]

    return Way(answer, None if tokens else labels, (folder / "model.safetensors").stat().st_size)


def torch_eager(folder: Path, task: str, batch: int, place: Path) -> Way:
    """PyTorch without pipeline(): tokenizer and model called as the model's card shows, batches of 32 as rows arrive."""
    import torch

    from mlops.serving.inputs import pad
    from mlops.serving.package import read_package
    from mlops.tasks import get
    from mlops.training.models import load_model

    package = read_package(folder)
    model = load_model(folder, get(package.task), package.labels).eval()

    def forward(ids: list[Any]) -> Any:
        arrays = {name: torch.from_numpy(each) for name, each in pad(ids, package.pad_id, package.inputs).items()}
        with torch.inference_mode():
            return model(**arrays).logits.numpy()

    return _of_logits(folder, folder / "model.safetensors", lambda ids: _as_they_come(ids, forward))


def plain(folder: Path, task: str, batch: int, place: Path) -> Way:
    """onnxruntime as tutorials use it: the export as torch writes it, batches of 32 as rows arrive."""
    import onnxruntime

    from mlops.serving.inputs import pad
    from mlops.serving.package import read_package

    path, package = exported(folder, place), read_package(folder)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def forward(ids: list[Any]) -> Any:
        return session.run(["logits"], pad(ids, package.pad_id, package.inputs))[0]

    return _of_logits(folder, path, lambda ids: _as_they_come(ids, forward))


def openvino(folder: Path, task: str, batch: int, place: Path) -> Way:
    """OpenVINO's fp32 graph."""
    return _openvino(folder, exported(folder, place))


def openvino_int8(folder: Path, task: str, batch: int, place: Path) -> Way:
    """OpenVINO's int8 graph: quantized by NNCF for transformers with 300 training rows, as its guide has it."""
    import nncf
    import openvino as ov

    from mlops.compression.build import calibration

    path = place / "openvino-int8.xml"
    if not path.exists():
        texts = [json.loads(line)["asked"] for line in (place / "calibration.jsonl").read_text("utf-8").splitlines()]
        batches = list(calibration(folder, texts, rows=300))
        plain_model = ov.convert_model(str(exported(folder, place)))
        model = nncf.quantize(plain_model, nncf.Dataset(batches), model_type=nncf.ModelType.TRANSFORMER)
        ov.save_model(model, str(path), compress_to_fp16=False)
    return _openvino(folder, path, path.with_suffix(".bin"))


def _openvino(folder: Path, path: Path, weights: Path | None = None) -> Way:
    """Batches by length side by side in a queue of requests, which is its way to throughput; one row for latency."""
    import openvino as ov

    from mlops.serving.inputs import in_order, padded
    from mlops.serving.package import read_package
    from mlops.training.batches import by_length

    package, core = read_package(folder), ov.Core()
    single = core.compile_model(str(path), "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    many = ov.AsyncInferQueue(core.compile_model(str(path), "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"}))

    def sequences(ids: list[Any]) -> list[Any]:
        batches = by_length([len(each) for each in ids], BATCH_TOKENS)
        if len(batches) == 1:
            return in_order(ids, batches, [single(padded(ids, package, batches[0]))["logits"]])
        found: list[Any] = [None] * len(batches)
        many.set_callback(lambda request, number: found.__setitem__(number, request.get_tensor("logits").data.copy()))
        for number, rows in enumerate(batches):
            many.start_async(padded(ids, package, rows), number)
        many.wait_all()
        return in_order(ids, batches, found)

    return _of_logits(folder, weights or path, sequences)


def ctranslate(folder: Path, task: str, batch: int, place: Path) -> Way:
    """CTranslate2's int8 encoder, which unpads by itself, with the head in numpy; batches by length side by side, one row by
    all threads."""
    import ctranslate2
    from ctranslate2.converters import TransformersConverter
    from safetensors.numpy import load_file

    from mlops.serving.inputs import in_order

    target = place / "ctranslate2"
    if not target.exists():
        base = place / "encoder"
        encoder_alone(folder, base)
        TransformersConverter(str(base)).convert(str(target), quantization="int8")
    cores = os.cpu_count() or 1
    single = ctranslate2.Encoder(str(target), device="cpu", inter_threads=1, intra_threads=cores)
    many = ctranslate2.Encoder(str(target), device="cpu", inter_threads=cores, intra_threads=1)
    pool = ThreadPoolExecutor(cores)
    weights = load_file(folder / "model.safetensors")
    head, bias = weights["classifier.weight"].T, weights["classifier.bias"]

    def forward(model: Any, rows: list[int], ids: list[Any]) -> Any:
        output = model.forward_batch([ids[row].tolist() for row in rows])
        state = output.last_hidden_state if task == "token-classification" else output.pooler_output
        return np.asarray(state) @ head + bias

    def sequences(ids: list[Any]) -> list[Any]:
        order = np.argsort([-len(each) for each in ids], kind="stable").tolist()
        batches = [order[start : start + 32] for start in range(0, len(order), 32)]
        if len(batches) == 1:
            return in_order(ids, batches, [forward(single, batches[0], ids)])
        return in_order(ids, batches, list(pool.map(lambda rows: forward(many, rows, ids), batches)))

    way = _of_logits(folder, folder / "model.safetensors", sequences)
    return way._replace(size=sum(path.stat().st_size for path in target.iterdir()))


def _as_they_come(ids: list[Any], forward: Callable[[list[Any]], Any]) -> list[Any]:
    """32 sequences at once, padded to their longest."""
    found: list[Any] = []
    for start in range(0, len(ids), 32):
        batch = ids[start : start + 32]
        for own, values in zip(batch, forward(batch), strict=True):
            found.append(values[: len(own)] if values.ndim == 2 else values)
    return found


def _of_logits(folder: Path, file: Path, sequences: Callable[[list[Any]], list[Any]]) -> Way:
    """A way that stops at logits per sequence; token ids as the serving runtime makes them."""
    from mlops.serving.inputs import Encoder, by_item
    from mlops.serving.package import read_package
    from mlops.tasks import get

    package = read_package(folder)
    task = get(package.task)
    encoder = Encoder(folder, package, task)

    def labels(answers: list[Any], asked: Sequence[Any]) -> tuple[list[str], list[float]]:
        found = task.answers(by_item(encoder.encode(asked), answers), package.labels)
        return list(found.predicted), found.scores.tolist()

    return Way(lambda asked: sequences(encoder.encode(asked).input_ids), labels, file.stat().st_size)


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


WAYS: dict[str, Callable[[Path, str, int, Path], Way]] = {
    "pipeline": pipeline,
    "pytorch": torch_eager,
    "onnxruntime": plain,
    "openvino": openvino,
    "openvino-int8": openvino_int8,
    "ctranslate2": ctranslate,
    "fp32": runtime,
    "ours": runtime,
}


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
