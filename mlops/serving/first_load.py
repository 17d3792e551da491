"""`python -m mlops.serving.first_load`: a release is loaded and asked for the first time in a process that may end badly.

A file that loops for ever, takes all memory or crashes its loader ends this process and not the server.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops.errors import EvergreenError, UserError
from mlops.serving.apart import answer_apart, ask_apart

_MODULE = "mlops.serving.first_load"
# Address space, which threads and libraries reserve far more of than they use, and what a file's weights may become.
_BASE_BYTES, _PER_BYTE = 8 << 30, 16


def try_load(folder: Path, cases: dict[str, Any] | None, seconds: float, threads: int | None = None) -> None:
    """Raises UserError, with the reason, for a package that cannot be loaded and asked within so many seconds."""
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    question = {
        "folder": str(folder),
        "cases": cases,
        "threads": threads,
        "bytes": _BASE_BYTES + _PER_BYTE * size,
    }
    try:
        ask_apart(_MODULE, question, seconds)
    except UserError:
        raise
    except EvergreenError as error:
        raise UserError(f"{folder.name} was tried in a process of its own: {error}") from error


def main(question: dict[str, Any]) -> Mapping[str, Any]:
    """Answers {"folder", "cases", "threads", "bytes"}."""
    import resource

    os.nice(10)  # whoever is asked meanwhile goes first
    resource.setrlimit(resource.RLIMIT_AS, (question["bytes"], question["bytes"]))
    from mlops.serving.golden import differs
    from mlops.serving.runtime import Runtime

    try:
        runtime = Runtime.load(Path(question["folder"]), question["threads"])
        runtime.warm_up()
        wrong = differs(runtime, question["cases"]) if question["cases"] else ""
    except (Exception, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the tokenizer
        raise UserError(f"{type(error).__name__}: {str(error)[:300]}") from None
    if wrong:
        raise UserError(wrong)
    return {}


if __name__ == "__main__":
    answer_apart(main)
