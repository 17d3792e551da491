"""Where the rows lie: a URI becomes a list of local files with stable names."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlparse

from mlops.data.globs import first_sign, leads_on, matches
from mlops.errors import SourceError

log = logging.getLogger("evergreen")

SCHEMES = ("package", "s3", "hf", "sql", "file")


class SourceFile(NamedTuple):
    """name: relative POSIX path below the source, the same wherever the source lies; path: the file on this disk."""

    name: str
    path: Path


def locate(uri: str, label: str = "label") -> list[SourceFile]:
    """The files that a URI names, sorted by name: a path, glob or folder, package://, s3:// or hf://.

    label: the label column; a hub data set's class numbers become their names there.
    Raises SourceError, with the cause and what to do, when there is nothing there or it cannot be reached.
    """
    parts = urlparse(uri)
    if "://" not in uri:
        return _local(uri, Path(uri).expanduser())
    if parts.scheme == "file":
        # Not urlparse's path: to it a "?" starts a query, here it is a glob sign. A host before the path is this one.
        return _local(uri, Path("/" + unquote(uri.partition("://")[2].partition("/")[2])))
    if parts.scheme == "package":
        return _local(uri, package_path(uri))
    if parts.scheme == "s3":
        from mlops.data.s3 import s3_files

        return s3_files(uri)
    if parts.scheme == "hf":
        from mlops.data.remote import hub_files

        return hub_files(uri, label)
    raise SourceError(f"{uri}: found the scheme {parts.scheme!r}; allowed: a local path, {', '.join(SCHEMES)}")


def package_path(uri: str) -> Path:
    """The path of package://MODULE/PATH inside an installed package; nothing of the package is imported.

    Raises SourceError when it is not installed, the path is not there, or the path leads out of the package.
    """
    module, _, inside = uri.removeprefix("package://").partition("/")
    top, *rest = module.split(".")
    try:
        # Only the top-level name: finding a submodule would import its parents.
        spec = importlib.util.find_spec(top) if top.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise SourceError(f"{uri}: there is no installed package {module!r}; install it into this environment")
    roots = [Path(place) for place in spec.submodule_search_locations or ()]
    if not roots:
        raise SourceError(f"{uri}: {top} is a single module without files of its own")
    relative = Path(*rest, *unquote(inside).split("/")) if inside or rest else Path()
    for root in roots:
        path = root / relative
        if ".." in relative.parts or relative.is_absolute() or not path.resolve().is_relative_to(root.resolve()):
            raise SourceError(f"{uri}: the path leads out of the package; allowed are files inside {top}")
        if path.exists():
            return path
    raise SourceError(f"{uri}: {top} is installed, but has no {relative}; it is at {roots[0]}")


def _local(uri: str, path: Path) -> list[SourceFile]:
    if path.is_dir():
        files = _walk(path)
    elif path.exists():
        if not path.is_file():
            raise SourceError(f"{uri}: is neither a file nor a folder")
        files = [SourceFile(_name(path.name), path)]
    elif first_sign(str(path)) < len(str(path)):
        files = _matching(path)
    else:
        raise SourceError(f"{uri}: there is no such file or folder (looked for {path.absolute()})")
    if not files:
        raise SourceError(f"{uri}: is empty, found no file in {path}")
    for file in files:
        if not os.access(file.path, os.R_OK):
            raise SourceError(f"{uri}: {file.path} cannot be read; check its permissions")
    return sorted(files)


def _matching(pattern: Path) -> list[SourceFile]:
    parts = pattern.parts
    first = next(position for position, part in enumerate(parts) if first_sign(part) < len(part))
    root = Path(*parts[:first])
    return _walk(root, parts[first:]) if root.is_dir() else []


def _walk(root: Path, pattern: Sequence[str] = ()) -> list[SourceFile]:
    """The plain files below a folder, with a pattern those that match it.

    Links are skipped, they may lead anywhere, also back to where they lie; hidden names are skipped too.
    """
    files, links = [], []
    stack: list[tuple[str, list[str]]] = [(str(root), [])]
    while stack:
        folder, parents = stack.pop()
        for entry in _entries(folder):
            parts = [*parents, entry.name]
            if not leads_on(pattern, parts):
                continue
            if entry.is_symlink():
                links.append("/".join(parts))
            elif entry.is_dir():
                stack.append((entry.path, parts))
            elif entry.is_file() and matches(pattern, parts):
                files.append(SourceFile(_name("/".join(parts)), Path(entry.path)))
    if links:
        log.warning("%s: skipped %d symbolic links: %s", root, len(links), ", ".join(map(_name, sorted(links)[:5])))
    return files


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        # Going on without it would train on less than was named, and say nothing.
        raise SourceError(f"{_name(folder)}: cannot be listed: {error.strerror}; check its permissions") from error


def _name(name: str) -> str:
    """A file's name as text that can be written: names on disk are bytes and need not be UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
