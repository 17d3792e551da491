"""One archive -> the plain files in it. Members are read one by one; no name of a member ever becomes a path on disk."""

from __future__ import annotations

import io
import logging
import re
import shutil
import stat
import tarfile
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops.data.packed import (
    CHUNK,
    DAMAGE,
    LIMITS,
    Budget,
    Limits,
    Stream,
    copy,
    decompressed,
    read,
    told,
    work_folder,
)
from mlops.data.uris import SourceFile
from mlops.errors import SourceError

log = logging.getLogger("evergreen")

# Ending -> how the tar inside is compressed; longer endings are asked first.
TARS = {".tar.gz": "gzip", ".tgz": "gzip", ".tar.zst": "zstd", ".tar.zstd": "zstd", ".tar": ""}
SUFFIXES = (".zip", *TARS)

_NAME = 4096  # characters of a member's name, as many as a path has on Linux
_HEADER = 1 << 20  # bytes of all headers of one tar member
_DIRECTORY = 64 << 20  # bytes of a zip's table of contents
_DAMAGED = "is damaged or cut short; fetch it again"
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # flag bits: encrypted, strongly encrypted, table of contents encrypted
_UTF8 = 0x800


def is_archive(name: str) -> bool:
    """True where the name ends like an archive that can be opened."""
    return name.lower().endswith(SUFFIXES)


@contextmanager
def opened(file: SourceFile, limits: Limits = LIMITS) -> Iterator[list[SourceFile]]:
    """The plain files in an archive, sorted by name, on disk until the block ends.

    Hidden names, folders and archives within the archive are skipped. A common top folder above CLASS/FILE goes.
    Raises SourceError, naming the member, for whatever is not a plain file at a path below the archive, and when the
    archive is damaged, empty or unpacks beyond the limits.
    """
    budget = Budget(file, limits)
    folder = work_folder() / uuid.uuid4().hex
    folder.mkdir()
    try:
        target = _Target(file.name, folder, limits.members)
        with told(file.name, f"cannot be unpacked into {folder.parent}", OSError):
            if file.name.lower().endswith(".zip"):
                _unzip(file, target, budget)
            else:
                _untar(file, target, budget)
        yield target.files()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Target:
    """Decides about each member, and where it is written."""

    def __init__(self, archive: str, folder: Path, members: int) -> None:
        self.archive, self.folder, self.members = archive, folder, members
        self._count = 0
        self._paths: dict[str, Path] = {}
        self._nested: list[str] = []

    def place(self, raw: str, *, is_folder: bool, fault: str) -> Path | None:
        """The path for a member's bytes; none where it is skipped. fault: why it cannot be taken, if so.

        Raises SourceError where it must not be taken, or is one too many.
        """
        self._count += 1
        if self._count > self.members:
            raise SourceError(f"{self.archive}: holds more than {self.members:,} members, the most allowed; split it")
        parts = self._parts(raw)
        if is_folder or any(part.startswith(".") or part == "__MACOSX" for part in parts):
            return None
        if fault:
            raise self.refused(raw, fault)
        if not parts:
            raise self.refused(raw, "has no name")
        name = "/".join(parts)
        if is_archive(name):
            self._nested.append(name)
            return None
        if name in self._paths:
            raise self.refused(raw, "stands twice")
        return self._paths.setdefault(name, self.folder / f"{len(self._paths) + 1:06d}")

    def _parts(self, raw: str) -> list[str]:
        """A member's path, part by part; backslashes divide as on Windows, where many zips are made."""
        if "\0" in raw:
            raise self.refused(raw, "has a NUL in its name")
        if len(raw) > _NAME:
            raise self.refused(raw, f"has a name of {len(raw):,} characters, above {_NAME:,}")
        slashed = raw.replace("\\", "/")
        if slashed.startswith("/") or re.match(r"(\./)*[A-Za-z]:", slashed):
            raise self.refused(raw, "is an absolute path")
        parts = [_writable(part) for part in slashed.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self.refused(raw, "leads out of the archive")
        return parts

    def refused(self, member: str, why: str) -> SourceError:
        """The error that names a member."""
        return SourceError(
            f"{self.archive}: the member {member[:200]!r} {why}; "
            "allowed are plain files, each once, at relative paths; pack it anew without it"
        )

    def files(self) -> list[SourceFile]:
        """What was written, sorted by name. Raises SourceError where there is nothing."""
        if self._nested:
            log.warning(
                "%s: skipped %d archives in it, unpack them yourself: %s",
                self.archive,
                len(self._nested),
                ", ".join(sorted(self._nested)[:5]),
            )
        if not self._paths:
            raise SourceError(f"{self.archive}: is empty, found no plain file in {self._count:,} members")
        cut = _common_top(self._paths)
        return sorted(SourceFile(name[cut:], path) for name, path in self._paths.items())


def _common_top(names: dict[str, Path]) -> int:
    """The length of "bbc/" where all names are like bbc/business/001.txt, else 0."""
    top = next(iter(names)).partition("/")[0] + "/"
    return len(top) if all(name.startswith(top) and name.count("/") > 1 for name in names) else 0


def _unzip(file: SourceFile, target: _Target, budget: Budget) -> None:
    with _Directory(file, target.members) as raw:
        with told(file.name, _DAMAGED, *DAMAGE):
            archive = zipfile.ZipFile(raw)
        with archive:
            raw.opening = False
            for member in archive.infolist():
                name = _zip_name(member)
                path = target.place(name, is_folder=name.endswith(("/", "\\")), fault=_zip_fault(member))
                if path is not None:
                    with told(f"{file.name}: {name}", _DAMAGED, *DAMAGE):
                        stream = archive.open(member)
                    with stream:
                        copy(stream, path, budget)


class _Directory(io.FileIO):
    """A zip file whose table of contents is looked at before zipfile makes objects of it: they take ten times as much."""

    def __init__(self, file: SourceFile, members: int) -> None:
        super().__init__(file.path, "rb")
        self.opening, self._name, self._members = True, file.name, members

    def read(self, size: int | None = -1, /) -> bytes:
        if not self.opening:
            return super().read(size) or b""
        data = super().read(_DIRECTORY + 1 if size is None or size < 0 else min(size, _DIRECTORY + 1)) or b""
        if len(data) > _DIRECTORY:
            raise SourceError(f"{self._name}: its table of contents is above {_DIRECTORY:,} bytes; split it")
        if data.count(b"PK\x01\x02") > self._members:
            raise SourceError(f"{self._name}: holds more than {self._members:,} members, the most allowed; split it")
        return data


def _zip_name(member: zipfile.ZipInfo) -> str:
    """A member's name, with the NULs that zipfile cuts it at; UTF-8 also where the flag for it was not set (macOS)."""
    if member.flag_bits & _UTF8:
        return member.orig_filename
    try:
        return member.orig_filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return member.orig_filename


def _zip_fault(member: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a symbolic link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a device or a pipe"
    if member.flag_bits & _ENCRYPTED:
        return "is encrypted"
    # zipfile unpacks bzip2 and LZMA into memory without a limit.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"is compressed by the method {member.compress_type}, not stored (0) or deflated (8)"
    return ""


def _untar(file: SourceFile, target: _Target, budget: Budget) -> None:
    kind = next((TARS[ending] for ending in TARS if file.name.lower().endswith(ending)), "")
    with decompressed(file, kind) as stream:
        forward = _Forward(stream, budget)
        with told(file.name, _DAMAGED, *DAMAGE):
            archive = tarfile.TarFile(fileobj=forward)  # type: ignore[arg-type]
        while (member := _next(archive, forward)) is not None:
            path = target.place(member.name, is_folder=member.isdir(), fault=_tar_fault(member))
            if path is not None:
                forward.write_member(member, path)
        forward.finish()


def _next(archive: tarfile.TarFile, forward: _Forward) -> tarfile.TarInfo | None:
    """The next member, none at the end mark. Raises SourceError where the archive stops without one."""
    forward.left = _HEADER
    # tarfile keeps all that it saw: members by the hundred thousand, each with headers as large as it likes.
    archive.members.clear()  # type: ignore[attr-defined]
    archive.pax_headers = {}
    with told(forward.budget.name, _DAMAGED, *DAMAGE):
        member = archive.next()
        if member is None and forward.last != bytes(tarfile.BLOCKSIZE):
            # tarfile takes a header that makes no sense for the end, and says nothing.
            raise tarfile.ReadError("no end mark")
        return member


def _tar_fault(member: tarfile.TarInfo) -> str:
    if member.issym():
        return "is a symbolic link"
    if member.islnk():
        return "is a hard link"
    if member.isdev():
        return "is a device or a pipe"
    if not member.isreg() or member.issparse():
        return "is of a special kind (sparse, in several volumes or unknown)"
    return "has a size below zero" if member.size < 0 else ""


class _Forward:
    """A stream that tarfile reads its headers from: forward only, counted, and never much at once.

    left: bytes that tarfile may still read for the next member; last: what it read last.
    """

    def __init__(self, stream: Stream, budget: Budget) -> None:
        self.stream, self.budget = stream, budget
        self.left, self.last = _HEADER, b""
        self._position, self._buffer, self._used = 0, b"", 0

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        if position < self._position:
            raise tarfile.ReadError("a header points back")
        while self._position < position and self._take(position - self._position):
            pass
        return self._position

    def read(self, size: int) -> bytes:
        self.left -= size
        if size < 0 or self.left < 0:
            raise SourceError(f"{self.budget.name}: has a member with headers above {_HEADER:,} bytes; pack it anew")
        pieces = []
        while size and (piece := self._take(size)):
            pieces.append(piece)
            size -= len(piece)
        self.last = b"".join(pieces)
        return self.last

    def write_member(self, member: tarfile.TarInfo, path: Path) -> None:
        """Writes a member's bytes to a new file. Raises SourceError where they end too early."""
        with told(self.budget.name, _DAMAGED, *DAMAGE):
            self.seek(member.offset_data)
        size = member.size
        with path.open("xb") as target:
            while size:
                piece = self._take(size)
                if not piece:
                    raise SourceError(f"{self.budget.name}: {_DAMAGED} (it ends within {member.name[:200]!r})")
                target.write(piece)
                size -= len(piece)

    def finish(self) -> None:
        """Reads on to the end, where the checksums are. Raises SourceError where more than padding follows.

        A wrong size of a member can make the zeros behind it look like the end mark: what follows must not be lost.
        """
        while piece := self._take(CHUNK):
            if any(piece):
                raise SourceError(
                    f"{self.budget.name}: goes on after its end mark; it is damaged, or made of several archives joined, "
                    "which are not read: fetch it again, or pack it anew"
                )

    def _take(self, most: int) -> bytes:
        """Up to `most` of the next bytes, empty at the end."""
        if self._used == len(self._buffer):
            self._buffer, self._used = read(self.stream, self.budget.name), 0
            self.budget.add(len(self._buffer))
        piece = self._buffer[self._used : self._used + most]
        self._used += len(piece)
        self._position += len(piece)
        return piece


def _writable(name: str) -> str:
    """Bytes of a name that are not UTF-8 came in as lone surrogates, which cannot be written."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
