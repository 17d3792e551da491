"""A question answered in a fresh interpreter: what this process has imported, holds or does has no part in it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlops import errors
from mlops.errors import EvergreenError
from mlops.process import die_with_parent

_ROOT = Path(__file__).resolve().parents[2]


def ask_apart(module: str, question: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """What `python -m module` answers to a JSON question; it ends with this process, and after `seconds` at the latest.

    module: one that ends with `answer_apart`. Its log lines go to our stderr.
    Raises its error as our own, EvergreenError where it ended without an answer.
    """
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH", ""))))
    own = {"EVERGREEN_PARENT_PID": str(os.getpid()), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env=dict(os.environ) | own,
    )
    try:
        out, _ = process.communicate(json.dumps(question).encode(), timeout=seconds)
    except subprocess.TimeoutExpired:
        raise EvergreenError(f"{module}: no answer within {seconds:.0f} s") from None
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return _answer(module, out, process.returncode)


def _answer(module: str, out: bytes, code: int) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(out)
    except ValueError:
        how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        hint = "; the kernel does that where memory runs out" if code == -signal.SIGKILL else ""
        raise EvergreenError(f"{module}: no answer, {how}{hint}; its reason is in the log, if it said one") from None
    if "error" in found:
        kind = getattr(errors, found["error"], EvergreenError)
        known = kind in (errors.UserError, errors.StoreError, errors.NotFound)
        raise (kind if known else EvergreenError)(found["message"])
    return found


def answer_apart(answer: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """The other side: reads the question, prints the answer, or the error that stood in its way."""
    die_with_parent()
    # stdout is for the answer alone: what a library prints goes where the log goes.
    out = os.dup(1)
    os.dup2(2, 1)
    found: Mapping[str, Any]
    try:
        found = answer(json.load(sys.stdin))
    except Exception as error:
        message = str(error) if isinstance(error, EvergreenError) else f"{type(error).__name__}: {error}"
        found = {"error": type(error).__name__, "message": message}
    with os.fdopen(out, "w", encoding="utf-8") as file:
        json.dump(found, file)
