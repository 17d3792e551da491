"""Retrains in processes of their own that cost a fork, not twenty seconds of imports; each may end with SIGKILL at a point.

As a program: a process that has imported what a retrain needs, computed nothing, and forks once per line of its input.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

MODULES = [
    "great_expectations",
    "torch",
    "transformers.models.bert.modeling_bert",
    "transformers.models.auto.modeling_auto",
]
MODULES += [
    "accelerate",
    "git",
    "ftfy",
    "tokenizers.implementations",
    "onnxruntime.transformers.optimizer",
    "scipy.stats",
]
MODULES += ["mlflow.pyfunc", "mlflow.store.tracking.sqlalchemy_store", "alembic.command", "matplotlib.pyplot"]
MODULES += [
    f"mlops.steps.{step}" for step in ("source", "validate", "prepare", "fine_tune", "evaluate", "gate", "compress")
]
MODULES += ["mlops.steps.verify", "mlops.steps.register", "mlops.steps.promote", "mlops.summary", "mlops.reports.files"]


class Ended(NamedTuple):
    """code: negative for a signal. said: the log. outcome: of a retrain that came to its end."""

    code: int
    said: str
    outcome: str


class Zygote:
    """`run` is `mlops run` of a pipeline file in a home."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with (folder / "zygote.txt").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )  # fmt: skip
        self._runs = 0

    def run(self, file: Path, home: Path, kill: str = "", overrides: tuple[str, ...] = ()) -> Ended:
        """kill: "log TEXT", or a call of the store or of MLflow, as in "before upload KEY" or "after api METHOD ARGUMENTS"."""
        self._runs += 1
        log = self._folder / f"run-{self._runs}.txt"
        wish = {"file": str(file), "home": str(home), "kill": kill, "overrides": overrides, "log": str(log)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, (self._folder / "zygote.txt").read_text()[-3000:]
        said = log.read_text(errors="replace")
        found = re.search(r"^OUTCOME (\w+)$", said, re.MULTILINE)
        return Ended(int(answer), said, found.group(1) if found else "")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(kill: str) -> None:
    """Makes this process end at the point."""
    when, what, pattern = [*kill.split(" ", 2), "", ""][:3] if not kill.startswith("log ") else ("log", "", kill[4:])
    if when == "log":

        class Ear(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if pattern in record.getMessage():
                    die()

        logging.getLogger("evergreen").addHandler(Ear())
    elif what == "api":
        import mlflow

        method, _, pattern = pattern.partition(" ")
        wrap(mlflow.MlflowClient, method, when, pattern)
    else:
        from mlops.blobs import LocalBlobs

        wrap(LocalBlobs, what, when, pattern)


def wrap(owner: Any, name: str, when: str, pattern: str) -> None:
    real = getattr(owner, name)

    def wrapped(self: Any, *arguments: Any, **named: Any) -> Any:
        meets = re.search(pattern, " ".join(map(str, arguments)))
        if meets and when == "before":
            die()
        found = real(self, *arguments, **named)
        if meets:
            die()
        return found

    setattr(owner, name, wrapped)


def keep_proofs(folder: Path, patch: Callable[[Any, str, Any], None] = setattr) -> None:
    """The clean process that `verify` asks is asked once and its answer kept: it takes most of the time of a tiny retrain."""
    from mlops.serving import prove

    real = prove.ask_apart

    def kept(module: str, question: dict[str, Any], seconds: float) -> dict[str, Any]:
        path = folder / f"proof-{Path(question['folder']).name}.json"
        if not path.exists():
            path.write_text(json.dumps(real(module, question, seconds)))
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    patch(prove, "ask_apart", kept)


def child(wish: dict[str, Any]) -> None:
    log = os.open(wish["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ |= {"EVERGREEN_HOME": wish["home"]}
    from mlops import config, pipeline
    from mlops.cli import _prepare_process

    _prepare_process()
    keep_proofs(Path(wish["log"]).parent)
    if wish["kill"]:
        arm(wish["kill"])
    summary = pipeline.run(config.load(wish["file"], wish["overrides"]))
    print(f"OUTCOME {summary['outcome']}", flush=True)


def main() -> None:
    import importlib
    import traceback

    for name in MODULES:
        importlib.import_module(name)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                child(json.loads(line))
                code = 0
            except BaseException:
                traceback.print_exc()
            os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
