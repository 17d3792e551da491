"""Which code runs: the digest of this package, the libraries that compute, the commit of the checkout around it."""

from __future__ import annotations

import functools
import hashlib
import subprocess
from importlib.metadata import version
from pathlib import Path

_HERE = Path(__file__).resolve().parent


@functools.cache
def code_sha256() -> str:
    """sha256 over the package's own sources: an output of other code is not reused."""
    digest = hashlib.sha256()
    for path in sorted(_HERE.rglob("*.py")):
        digest.update(path.relative_to(_HERE).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@functools.cache
def libraries() -> dict[str, str]:
    """Versions of the libraries whose arithmetic an output depends on."""
    return {name: version(name) for name in ("numpy", "onnxruntime", "peft", "tokenizers", "torch", "transformers")}


@functools.cache
def git_commit() -> str | None:
    """The commit of the checkout that this package lies in, with "-dirty" when files differ; none outside of one."""
    try:
        command = ["git", "-C", str(_HERE), "describe", "--always", "--dirty", "--abbrev=40", "--match="]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
