"""One compressed file -> the plain file in it, written to disk within limits: what was packed elsewhere is not trusted."""

from __future__ import annotations

import gzip
import shutil
import struct
import tarfile
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from mlops import settings
from mlops.data.uris import SourceFile
from mlops.errors import SourceError

MAX_RATIO = 200  # unpacked bytes for each packed one; deflate reaches 1,032, zstd far more
MAX_BYTES = 64 << 30
MAX_MEMBERS = 100_000  # of an archive

SUFFIXES = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}
CHUNK = 1 << 20

# What the decompressors and parsers raise when they are fed with bytes that make no sense.
DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    ArithmeticError,
    RuntimeError,  # NotImplementedError and RecursionError (headers within headers) too
)


class Limits(NamedTuple):
    """Where unpacking stops. step: the ratio counts beyond that many bytes, and free space is looked at so often."""

    ratio: int = MAX_RATIO
    total: int = MAX_BYTES
    members: int = MAX_MEMBERS
    keep_free: int = 1 << 30
    step: int = 64 << 20  # small files that repeat themselves a thousand times are normal


LIMITS = Limits()


class Stream(Protocol):
    """Bytes that come piece by piece."""

    def read(self, size: int, /) -> bytes: ...


class Budget:
    """Counts the bytes that come out of one packed file; never trusts the sizes that it declares."""

    def __init__(self, file: SourceFile, limits: Limits) -> None:
        self.name, self.limits, self.count = file.name, limits, 0
        with told(file.name, "cannot be read", OSError):
            self.packed = file.path.stat().st_size
        self._next_look = limits.step

    def add(self, count: int) -> None:
        """Takes note of bytes before they are written. Raises SourceError where they are too many."""
        self.count += count
        limits = self.limits
        stopped = f"(stopped after {self.count:,} bytes from {self.packed:,})"
        if self.count > max(limits.step, limits.ratio * self.packed):
            raise SourceError(
                f"{self.name}: unpacks to more than {limits.ratio} times its size {stopped}; "
                "it looks like a decompression bomb; unpack it yourself if you trust it"
            )
        if self.count > limits.total:
            raise SourceError(
                f"{self.name}: unpacks to more than {limits.total:,} bytes, the most that is allowed {stopped}; "
                "split it, or unpack it yourself"
            )
        if self.count >= self._next_look:
            self._next_look = self.count + limits.step
            self._check_free(stopped)

    def _check_free(self, stopped: str) -> None:
        folder = work_folder()
        free = shutil.disk_usage(folder).free
        if free < self.limits.keep_free:
            raise SourceError(
                f"{self.name}: fills the disk {stopped}: {folder} has {free:,} bytes free, "
                f"and {self.limits.keep_free:,} must stay free; make room, or set EVERGREEN_HOME to a larger disk"
            )


def inner_name(name: str) -> str:
    """The name without the ending of its compression: a.jsonl.gz -> a.jsonl; other names as they are."""
    ending = _ending(name)
    return name[: -len(ending)] if ending else name


def is_compressed(name: str) -> bool:
    """True where the name ends like one compressed file. An archive's may too (.tar.gz): ask archives.is_archive first."""
    return bool(_ending(name))


def _ending(name: str) -> str:
    base = name.rpartition("/")[2].lower()
    return next((ending for ending in SUFFIXES if base.endswith(ending) and base != ending), "")


@contextmanager
def unpacked(file: SourceFile, limits: Limits = LIMITS) -> Iterator[SourceFile]:
    """The file itself where its name is not that of a compressed one, else what is in it, on disk until the block ends.

    Raises SourceError when the content is not what the name says, is damaged or cut short, or unpacks beyond the limits.
    """
    ending = _ending(file.name)
    if not ending:
        yield file
        return
    budget = Budget(file, limits)
    path = work_folder() / uuid.uuid4().hex
    try:
        fault = f"cannot be unpacked into {path.parent}"
        with told(file.name, fault, OSError), decompressed(file, SUFFIXES[ending]) as stream:
            copy(stream, path, budget)
        yield SourceFile(inner_name(file.name), path)
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def decompressed(file: SourceFile, kind: str) -> Iterator[Stream]:
    """What is in a file, as a stream; kind: gzip, zstd, or empty for one that is not compressed.

    Raises SourceError when it is of another kind. Damage shows only while reading.
    """
    with told(file.name, "cannot be read", OSError):
        raw = file.path.open("rb")
    with raw:
        found = _kind(raw.peek(4)[:4])
        if found != kind and (kind or found in SUFFIXES.values()):
            raise SourceError(
                f"{file.name}: is not {kind or 'uncompressed'}, as its name says, but {found}; "
                "name it for what it is, or fetch it again"
            )
        if kind == "gzip":
            with gzip.GzipFile(fileobj=raw) as packed:
                yield packed
        elif kind == "zstd":
            import pyarrow as pa

            # The file is opened here and not by its path: names on disk need not be UTF-8.
            with pa.CompressedInputStream(raw, "zstd") as packed:
                yield packed
        else:
            yield raw


def _kind(head: bytes) -> str:
    """What a file's first four bytes say that it is."""
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    # Parallel compressors put a frame to be skipped first: any of sixteen marks.
    if head == b"\x28\xb5\x2f\xfd" or (head[1:] == b"\x2a\x4d\x18" and head[0] >> 4 == 5):
        return "zstd"
    known = {b"PK": "a zip archive", b"BZh": "bzip2", b"\xfd7zX": "xz", b"PAR1": "Parquet"}
    for mark, kind in known.items():
        if head.startswith(mark):
            return kind
    return f"something else (it starts with the bytes {head.hex(' ')})" if head else "an empty file"


def copy(stream: Stream, path: Path, budget: Budget) -> None:
    """Writes a stream to a new file, in small pieces. Raises SourceError for damage and beyond the budget."""
    with path.open("xb") as target:
        while data := read(stream, budget.name):
            budget.add(len(data))
            target.write(data)


def read(stream: Stream, name: str) -> bytes:
    """The next piece of a stream, empty at its end. Raises SourceError where it is damaged or cut short."""
    with told(name, "is damaged or cut short; fetch it again", *DAMAGE):
        return stream.read(CHUNK)


@contextmanager
def told(name: str, fault: str, *kinds: type[Exception]) -> Iterator[None]:
    """Turns the given errors into a SourceError that names the file, with the cause."""
    try:
        yield
    except kinds as error:
        cause = " ".join(str(error).split())[:500]
        raise SourceError(f"{name}: {fault} ({type(error).__name__}: {cause})") from error


def work_folder() -> Path:
    """The folder for what lives no longer than a block."""
    folder = settings.current().cache / "work"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
