"""The pretrained model: named by URI, pinned to a digest, read as safetensors only.

package://MODULE/PATH   files inside an installed package
/a/folder, file://…     a folder on this disk
s3://bucket/prefix      brought into the cache; AWS_ENDPOINT_URL is honoured
hf://ORG/NAME           the hub, ?revision=… for another than main
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from mlops.data.uris import package_path
from mlops.errors import BaseModelError, SourceError
from mlops.store import digest_file
from mlops.types import Base

# All that is ever brought from elsewhere: no code, no pickles.
FILES = (
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
_DECIDE = ("config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer.json")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
_SCHEMES = "a local folder, package://MODULE/PATH, s3://bucket/prefix, hf://ORG/NAME"


def pin(uri: str) -> Base:
    """The model that the URI names now, with the digest of its files. Raises BaseModelError like `resolve`."""
    return Base(uri=uri, sha256=digest(resolve(uri)))


def resolve(uri: str) -> Path:
    """A local folder with config.json, safetensors weights and tokenizer.json.

    Raises BaseModelError, with the cause and what to do, when it cannot be reached or lacks one of them.
    """
    folder = _locate(uri)
    _check(uri, folder)
    return folder


def resolve_pinned(base: Base) -> Path:
    """Like `resolve`; BaseModelError as well when the files are no longer those that were pinned."""
    folder = resolve(base.uri)
    found = digest(folder)
    if found != base.sha256:
        raise BaseModelError(
            f"{base.uri}: its files have sha256 {found}, pinned at the start of this run was {base.sha256}; start a new run"
        )
    return folder


def digest(folder: Path) -> str:
    """sha256 over the names and contents of the files that decide what the model is; in hex."""
    lines = [f"{path.name} {digest_file(path)}" for path in _matching(folder, _DECIDE)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def allowed(name: str) -> bool:
    """Whether a file of a remote model is brought at all."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in FILES)


def _matching(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def _locate(uri: str) -> Path:
    parts = urlparse(uri)
    if "://" not in uri:
        return Path(uri).expanduser()
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if parts.scheme == "package":
        try:
            return package_path(uri)
        except SourceError as error:
            raise BaseModelError(str(error)) from None
    if parts.scheme == "s3":
        from mlops.training.remote import s3_folder

        return s3_folder(uri)
    if parts.scheme == "hf":
        from mlops.training.remote import hub_folder

        return hub_folder(uri)
    raise BaseModelError(f"{uri}: found the scheme {parts.scheme!r}; allowed: {_SCHEMES}")


def _check(uri: str, folder: Path) -> None:
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "there is no such folder"
        raise BaseModelError(f"{uri}: {what} (looked for {folder.absolute()}); allowed: {_SCHEMES}")
    missing = []
    if not (folder / "config.json").is_file():
        missing.append("config.json")
    if not _matching(folder, ("*.safetensors",)):
        pickles = ", ".join(path.name for path in _matching(folder, _PICKLES))
        hint = f" (found {pickles}: pickled weights are refused, they can run code; convert them)" if pickles else ""
        missing.append(f"*.safetensors{hint}")
    if not (folder / "tokenizer.json").is_file():
        missing.append("tokenizer.json (the tokenizer's other files are not read; save it with a fast tokenizer)")
    if missing:
        raise BaseModelError(f"{uri}: is no usable pretrained model, it lacks {' and '.join(missing)}")
    read_config(folder, uri)


def read_config(folder: Path, uri: str = "") -> dict[str, Any]:
    """config.json as a mapping with a model_type; BaseModelError otherwise."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BaseModelError(f"{uri or folder}: config.json cannot be read: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise BaseModelError(f"{uri or folder}: config.json names no model_type; it is not a transformers model's")
    return config
