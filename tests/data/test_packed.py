from __future__ import annotations

import contextlib
import gzip
import io
import logging
import os
import random
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from mlops.data import archives, packed
from mlops.data.archives import is_archive, opened
from mlops.data.packed import Limits, inner_name, is_compressed, unpacked
from mlops.data.uris import SourceFile
from mlops.errors import SourceError

SMALL = Limits(step=1 << 16)  # the ratio counts from 64 KiB on
ROWS = b'{"text": "a", "label": "b"}\n' * 500
FILES = {"bbc/business/001.txt": b"money", "bbc/sport/001.txt": b"goal", "bbc/sport/002.txt": ROWS}
STRIPPED = {"business/001.txt": b"money", "sport/001.txt": b"goal", "sport/002.txt": ROWS}


def zstd(data: bytes) -> bytes:
    stream = pa.BufferOutputStream()
    with pa.CompressedOutputStream(stream, "zstd") as target:
        target.write(data)
    return bytes(stream.getvalue())


def source(path: Path, data: bytes) -> SourceFile:
    path.write_bytes(data)
    return SourceFile(path.name, path)


def content(file: SourceFile, limits: Limits = packed.LIMITS) -> bytes:
    with unpacked(file, limits) as plain:
        return plain.path.read_bytes()


def members(file: SourceFile, limits: Limits = packed.LIMITS) -> dict[str, bytes]:
    with opened(file, limits) as files:
        assert files == sorted(files)
        return {member.name: member.path.read_bytes() for member in files}


@pytest.fixture(autouse=True)
def nothing_left(home: Path) -> object:
    """No test leaves anything in the work folder, whether it went well or not."""
    yield
    work = home / "cache" / "work"
    assert not work.exists() or not list(work.iterdir())


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def make_tar(files: dict[str, bytes], *extra: tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in files.items():
            info = entry(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in extra:
            archive.addfile(info)
    return stream.getvalue()


def make_zip(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


PACKERS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "a.zip": make_zip,
    "a.tar": make_tar,
    "a.tar.gz": lambda files: gzip.compress(make_tar(files)),
    "a.TGZ": lambda files: gzip.compress(make_tar(files)),
    "a.tar.zst": lambda files: zstd(make_tar(files)),
    "a.tar.zstd": lambda files: zstd(make_tar(files)),
}
every_kind = pytest.mark.parametrize("kind", PACKERS)


def test_names() -> None:
    names = ["a.jsonl.gz", "a.csv.zst", "b/a.CSV.ZSTD", "a.csv", ".gz", "b/.zst", "gz"]
    assert [inner_name(name) for name in names] == ["a.jsonl", "a.csv", "b/a.CSV", "a.csv", ".gz", "b/.zst", "gz"]
    assert [is_compressed(name) for name in names] == [True, True, True, False, False, False, False]
    assert all(map(is_archive, PACKERS))
    assert not any(map(is_archive, ["a.gz", "a.csv.zst", "a.7z", "zip", "a.zip.txt"]))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("rows.jsonl.gz", gzip.compress(ROWS)),
        ("rows.jsonl.gz", gzip.compress(ROWS[:280]) + gzip.compress(ROWS[280:])),
        ("rows.jsonl.zst", zstd(ROWS)),
        ("rows.jsonl.ZSTD", zstd(ROWS[:280]) + pa.compress(ROWS[280:], codec="zstd", asbytes=True)),
        ("rows.jsonl.zst", struct.pack("<II", 0x184D2A55, 3) + b"abc" + zstd(ROWS)),
    ],
    ids=["gzip", "members", "zstd", "frames", "skipped-frame"],
)
def test_a_compressed_file_is_unpacked_for_the_block(tmp_path: Path, name: str, data: bytes) -> None:
    file = source(tmp_path / name, data)
    with unpacked(file) as plain:
        assert plain.name == "rows.jsonl"
        assert plain.path.read_bytes() == ROWS
        assert plain.path.parent == tmp_path / "home" / "cache" / "work"
    assert not plain.path.exists()
    assert content(source(tmp_path / "empty.csv.gz", gzip.compress(b""))) == b""


def test_what_is_not_named_as_compressed_is_left_alone(tmp_path: Path) -> None:
    file = source(tmp_path / "rows.jsonl", gzip.compress(ROWS))
    with unpacked(file) as plain:
        assert plain is file
    assert file.path.exists()


def test_a_path_need_not_be_utf8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.csv.zst")
    path.write_bytes(zstd(ROWS))
    assert content(SourceFile("caf.csv.zst", path)) == ROWS


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.csv.gz", b"text,label\n", r"a.csv.gz: is not gzip, as its name says, but something else .*74 65 78 74"),
        ("a.csv.gz", b"", "but an empty file"),
        ("a.csv.gz", zstd(ROWS), "is not gzip, as its name says, but zstd"),
        ("a.csv.zst", gzip.compress(ROWS), "is not zstd, as its name says, but gzip"),
        ("a.csv.gz", make_zip(FILES), "but a zip archive"),
        ("a.csv.gz", gzip.compress(ROWS)[:-1], "damaged or cut short"),
        ("a.csv.gz", gzip.compress(ROWS)[:5], "damaged or cut short"),
        ("a.csv.gz", gzip.compress(ROWS) + b"more", "damaged or cut short"),
        ("a.csv.gz", gzip.compress(ROWS)[:-8] + bytes(8), "damaged or cut short.*CRC"),
        ("a.csv.gz", gzip.compress(ROWS)[:30] + bytes(30), "damaged or cut short"),
        ("a.csv.zst", zstd(ROWS)[:-1], "damaged or cut short.*Truncated"),
        ("a.csv.zst", zstd(ROWS) + zstd(ROWS)[:3], "damaged or cut short"),
        ("a.csv.zst", zstd(ROWS) + b"more", "damaged or cut short"),
        # a window of 2 GiB, which would have to be held in memory
        ("a.csv.zst", b"\x28\xb5\x2f\xfd\x00\xa8\x03\x00\x00A", "too much memory"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_compressed_file_that_is_none(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    with pytest.raises(SourceError, match=said) as caught:
        content(source(tmp_path / name, data))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("name", "pack"), [("bomb.csv.gz", gzip.compress), ("bomb.csv.zst", zstd)])
def test_a_bomb_is_stopped(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    file = source(tmp_path / name, pack(bytes(4 << 20)))
    assert len(content(file)) == 4 << 20  # below 64 MiB any ratio is allowed
    with pytest.raises(
        SourceError, match=rf"{name}: unpacks to more than 200 times its size \(stopped after 1,048,576"
    ):
        content(file, SMALL)
    with pytest.raises(SourceError, match="more than 3,000,000 bytes, the most that is allowed"):
        content(file, Limits(total=3_000_000))
    assert len(content(file, Limits(total=4 << 20))) == 4 << 20


def test_the_disk_is_not_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = source(tmp_path / "rows.csv.gz", gzip.compress(random.Random(1).randbytes(3 << 20)))
    usage = shutil.disk_usage(tmp_path)._replace(free=(1 << 30) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert len(content(file)) == 3 << 20  # not looked at before 64 MiB
    with pytest.raises(SourceError, match=r"fills the disk \(stopped after 1,048,576 .* 1,073,741,824 must stay free"):
        content(file, SMALL)


def test_a_disk_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packed, "copy", full)
    with pytest.raises(SourceError, match=r"rows.csv.gz: cannot be unpacked into .*work .*No space left"):
        content(source(tmp_path / "rows.csv.gz", gzip.compress(ROWS)))
    with pytest.raises(SourceError, match="cannot be read"):
        content(SourceFile("gone.csv.gz", tmp_path / "gone.csv.gz"))


def test_a_fault_of_the_caller_stays_its_own(tmp_path: Path) -> None:
    file = source(tmp_path / "rows.csv.gz", gzip.compress(ROWS))
    with pytest.raises(OSError, match="mine"), unpacked(file):
        raise OSError("mine")
    with pytest.raises(OSError, match="mine"), opened(source(tmp_path / "a.zip", make_zip(FILES))):
        raise OSError("mine")


@every_kind
def test_an_archive_is_unpacked_for_the_block(tmp_path: Path, kind: str) -> None:
    file = source(tmp_path / kind, PACKERS[kind](FILES))
    assert members(file) == STRIPPED
    with opened(file) as files:
        folder = files[0].path.parent
        assert sorted(path.name for path in folder.iterdir()) == ["000001", "000002", "000003"]
    assert not folder.exists()


@every_kind
def test_the_common_top_goes_only_above_classes(tmp_path: Path, kind: str) -> None:
    for number, files in enumerate(
        [
            {"sport/1.txt": b"a", "sport/2.txt": b"b"},
            {"bbc/README": b"a", "bbc/sport/2.txt": b"b"},
            {"bbc/sport/1.txt": b"a", "cnn/sport/1.txt": b"b"},
            {"rows.csv": b"a"},
        ]
    ):
        file = source(tmp_path / f"{number}{kind}", PACKERS[kind](files))
        assert members(file) == files


@every_kind
def test_hidden_names_and_archives_within_are_skipped(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    extra = {
        "./top/./a.csv": b"a",
        "__MACOSX/top/a.csv": b"x",
        "top/.git/x": b"x",
        ".DS_Store": b"x",
        "top/b.zip": b"x",
    }
    with caplog.at_level(logging.WARNING, "evergreen"):
        assert members(source(tmp_path / kind, PACKERS[kind](extra))) == {"top/a.csv": b"a"}
    assert caplog.messages == [f"{kind}: skipped 1 archives in it, unpack them yourself: top/b.zip"]
    with pytest.raises(SourceError, match="is empty, found no plain file in 1 members"):
        members(source(tmp_path / kind, PACKERS[kind]({".hidden": b""})))
    with pytest.raises(SourceError, match="is empty, found no plain file in 0 members"):
        members(source(tmp_path / kind, PACKERS[kind]({})))


@every_kind
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../x", "leads out"),
        ("a/../../x", "leads out"),
        ("a/../x", "leads out"),
        ("a\\..\\..\\x", "leads out"),
        (".hidden/../../x", "leads out"),
        ("/etc/x", "absolute path"),
        ("\\\\host\\x", "absolute path"),
        ("C:\\x", "absolute path"),
        ("./c:x", "absolute path"),
        ("a/" * 2048 + "x", "a name of 4,097 characters"),
    ],
)
def test_a_path_that_escapes_is_refused(tmp_path: Path, kind: str, name: str, said: str) -> None:
    file = source(tmp_path / kind, PACKERS[kind]({"good.txt": b"good", name: b"bad"}))
    with pytest.raises(SourceError, match=said) as caught:
        members(file)
    assert f"{kind}: the member {name[:200]!r}" in str(caught.value)
    assert not (tmp_path / "x").exists()


@every_kind
def test_odd_names_come_through(tmp_path: Path, kind: str) -> None:
    files = {"Ünï/a b\n.txt": b"1", "win\\dows.txt": b"2", "ends./x..y": b"3"}
    assert members(source(tmp_path / kind, PACKERS[kind](files))) == {
        "Ünï/a b\n.txt": b"1",
        "win/dows.txt": b"2",
        "ends./x..y": b"3",
    }


@every_kind
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice_is_refused(tmp_path: Path, kind: str) -> None:
    file = source(tmp_path / kind, PACKERS[kind]({"a/x.txt": b"1", "a//x.txt": b"2"}))
    with pytest.raises(SourceError, match=r"the member 'a//x\.txt' stands twice"):
        members(file)


@every_kind
def test_too_many_members_are_refused(tmp_path: Path, kind: str) -> None:
    file = source(tmp_path / kind, PACKERS[kind]({f"{number}.txt": b"" for number in range(11)}))
    assert len(members(file, Limits(members=11))) == 11
    with pytest.raises(SourceError, match="holds more than 10 members"):
        members(file, Limits(members=10))


@every_kind
def test_an_archive_that_is_a_bomb_is_stopped(tmp_path: Path, kind: str) -> None:
    file = source(tmp_path / kind, PACKERS[kind]({f"{number}.txt": bytes(2 << 20) for number in range(3)}))
    assert len(members(file)) == 3
    with pytest.raises(SourceError, match="more than 5,000,000 bytes, the most that is allowed"):
        members(file, Limits(total=5_000_000))
    if kind != "a.tar":
        with pytest.raises(SourceError, match="more than 200 times its size"):
            members(file, SMALL)


@every_kind
def test_a_member_that_is_skipped_counts_where_it_must_be_unpacked(tmp_path: Path, kind: str) -> None:
    file = source(tmp_path / kind, PACKERS[kind]({".hidden": bytes(4 << 20), "a.txt": b"a"}))
    if kind in ("a.zip", "a.tar"):
        assert members(file, SMALL) == {"a.txt": b"a"}
    else:
        with pytest.raises(SourceError, match="more than 200 times its size"):
            members(file, SMALL)


@every_kind
def test_a_damaged_archive_is_never_read_as_a_shorter_one(tmp_path: Path, kind: str) -> None:
    data = PACKERS[kind]({f"{number}.txt": random.Random(number).randbytes(700) for number in range(5)})
    # A tar is padded with zeros, which may be cut but for the end mark's first block.
    end = 5 * (512 + 1024) + 512 if kind == "a.tar" else len(data)
    for cut in range(0, end, 97):
        with pytest.raises(SourceError, match=kind):
            members(source(tmp_path / kind, data[:cut]))
    with pytest.raises(SourceError, match=r"a\.tar: is not uncompressed, as its name says, but gzip"):
        members(source(tmp_path / "a.tar", gzip.compress(make_tar(FILES))))
    with pytest.raises(SourceError, match=r"a\.tar: is damaged or cut short"):
        members(source(tmp_path / "a.tar", b"text,label\n" * 500))


@every_kind
def test_damaged_bytes_raise_nothing_else(tmp_path: Path, kind: str) -> None:
    chance = random.Random(7)
    data = PACKERS[kind]({**FILES, "long" * 60 + "/x.txt": b"x"})
    for _ in range(150):
        broken = bytearray(data)
        for _ in range(chance.randint(1, 8)):
            broken[chance.randrange(min(len(data), 6000))] = chance.randrange(256)
        with contextlib.suppress(SourceError):
            members(source(tmp_path / kind, bytes(broken)))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.FIFOTYPE, "device or a pipe"),
        (tarfile.CHRTYPE, "device or a pipe"),
        (tarfile.BLKTYPE, "device or a pipe"),
        (tarfile.GNUTYPE_SPARSE, "special kind"),
        (b"M", "special kind"),
    ],
)
def test_only_plain_files_of_a_tar_are_taken(tmp_path: Path, kind: bytes, said: str) -> None:
    data = make_tar({"a.txt": b"a"}, entry("folder", tarfile.DIRTYPE), entry("odd", kind, "/etc/passwd"))
    with pytest.raises(SourceError, match=f"the member 'odd' is .*{said}"):
        members(source(tmp_path / "a.tar", data))
    hidden = make_tar({"a.txt": b"a"}, entry(".venv/python", kind, "/etc/passwd"))
    assert members(source(tmp_path / "a.tar", hidden)) == {"a.txt": b"a"}


def test_a_file_is_not_written_through_a_link(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(entry("sub", tarfile.SYMTYPE, str(tmp_path)))
        archive.addfile(entry("sub/x"))
    with pytest.raises(SourceError, match="the member 'sub' is a symbolic link"):
        members(source(tmp_path / "a.tar", stream.getvalue()))
    assert not (tmp_path / "x").exists()


def test_large_and_nested_headers_of_a_tar_are_refused(tmp_path: Path) -> None:
    long = entry("x", tarfile.GNUTYPE_LONGNAME)
    long.size = 8 << 20
    data = long.tobuf() + b"n" * (8 << 20) + make_tar({"a.txt": b"a"})
    with pytest.raises(SourceError, match="headers above 1,048,576 bytes"):
        members(source(tmp_path / "a.tar", data))
    pax = entry("x", tarfile.XHDTYPE)
    pax.size = 512
    chain = (pax.tobuf() + b"9 a=bcde\n".ljust(512, b"\0")) * 900 + make_tar({"a.txt": b"a"})
    with pytest.raises(SourceError, match="damaged or cut short"):
        members(source(tmp_path / "a.tar", chain))
    below = entry("a.txt")
    below.size = -512
    with pytest.raises(SourceError, match=r"'a\.txt' has a size below zero|damaged"):
        members(source(tmp_path / "a.tar", below.tobuf(tarfile.GNU_FORMAT) + bytes(1024)))


def test_what_follows_the_end_of_a_tar_is_not_lost(tmp_path: Path) -> None:
    data = make_tar({"a.txt": b"a"}) + make_tar({"b.txt": b"b"})
    with pytest.raises(SourceError, match="goes on after its end mark"):
        members(source(tmp_path / "a.tar", data))
    with pytest.raises(SourceError, match="goes on after its end mark"):
        members(source(tmp_path / "a.tar.gz", gzip.compress(data)))


def test_every_format_of_tar_is_read(tmp_path: Path) -> None:
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        stream = io.BytesIO()
        name = f"{'d' * 90}/{'e' * 60}é.txt"
        with tarfile.open(fileobj=stream, mode="w", format=form, pax_headers={"comment": "x"}) as archive:
            info = entry(name)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"abc"))
        assert members(source(tmp_path / "a.tar", stream.getvalue())) == {name: b"abc"}


def test_a_nul_in_a_name_is_refused(tmp_path: Path) -> None:
    data = make_zip({"a.txt@.exe": b"a"}).replace(b"a.txt@.exe", b"a.txt\0.exe")
    with pytest.raises(SourceError, match="has a NUL in its name"):
        members(source(tmp_path / "a.zip", data))
    tar = entry("x")
    tar.pax_headers = {"path": "a.txt\0.exe"}
    with pytest.raises(SourceError, match="has a NUL in its name"):
        members(source(tmp_path / "a.tar", tar.tobuf(tarfile.PAX_FORMAT) + bytes(1024)))


def zip_entry(mode: int = 0o100644, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo("odd.txt")
        info.external_attr, info.compress_type = mode << 16, method
        archive.writestr(info, "/etc/passwd")
    return stream.getvalue()


def encrypted(data: bytes) -> bytes:
    broken = bytearray(data)
    broken[data.index(b"PK\x03\x04") + 6] |= 1
    broken[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(broken)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (zip_entry(0o120777), "is a symbolic link"),
        (zip_entry(0o010644), "is a device or a pipe"),
        (zip_entry(0o020644), "is a device or a pipe"),
        (encrypted(zip_entry()), "is encrypted"),
        (zip_entry(method=zipfile.ZIP_BZIP2), "the method 12"),
        (zip_entry(method=zipfile.ZIP_LZMA), "the method 14"),
        (zip_entry().replace(b"\x08\0\0\0!\0", b"\x09\0\0\0!\0"), "the method 9"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_only_plain_files_of_a_zip_are_taken(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(SourceError, match=f"a.zip: the member 'odd.txt' is .*{said}|'odd.txt' {said}"):
        members(source(tmp_path / "a.zip", data))


def test_a_zip_that_lies_about_its_sizes(tmp_path: Path) -> None:
    data = make_zip({"a.txt": bytes(4 << 20)})
    real, less = struct.pack("<I", 4 << 20), struct.pack("<I", 10)
    with pytest.raises(SourceError, match=r"a.zip: a.txt|a.zip: is damaged"):
        members(source(tmp_path / "a.zip", data.replace(real, less)), SMALL)
    more = struct.pack("<I", 0xFFFFFFF0)
    with pytest.raises(SourceError, match="more than 200 times"):
        members(source(tmp_path / "a.zip", data.replace(real, more)), SMALL)


def overlapping(count: int, size: int) -> bytes:
    """A zip whose members all lead into the same deflated bytes: each one quotes the local headers of those behind it."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    plain, body, places = bytes(size), deflate.compress(bytes(size)) + deflate.flush(), []
    for number in reversed(range(count)):
        name = f"{number:05d}".encode()
        fields = struct.pack("<5H3I", 20, 0, 8, 0, 33, zlib.crc32(plain), len(body), len(plain))
        header = b"PK\x03\x04" + fields + struct.pack("<2H", len(name), 0) + name
        places.append((fields, name, len(body)))
        block = struct.pack("<B2H", 0, len(header), len(header) ^ 0xFFFF)  # the next member's first block: as it is
        plain, body = header + plain, block + header + body
    body = body[5:]  # nothing quotes the first header
    directory = b"".join(
        b"PK\x01\x02" + struct.pack("<H", 20) + fields + struct.pack("<5H2I", 5, 0, 0, 0, 0, 0, len(body) - rest - 35)
        + name
        for fields, name, rest in places
    )  # fmt: skip
    return body + directory + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(directory), len(body), 0)


def test_overlapping_members_of_a_zip_end_by_the_cap(tmp_path: Path) -> None:
    file = source(tmp_path / "a.zip", overlapping(200, 100_000))
    assert sum(map(len, members(file).values())) > 20_000_000 > 500 * file.path.stat().st_size
    with pytest.raises(SourceError, match="more than 200 times its size"):
        members(file, SMALL)


def test_a_large_table_of_contents_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = source(tmp_path / "a.zip", make_zip({f"{number}.txt": b"" for number in range(2000)}))
    monkeypatch.setattr(archives, "_DIRECTORY", 70_000)
    with pytest.raises(SourceError, match="table of contents is above 70,000 bytes"):
        members(file)


def test_names_without_the_flag_for_utf8(tmp_path: Path) -> None:
    data = make_zip({"técnica/1.txt": b"a"})
    flagged, plain = struct.pack("<H", 0x800), struct.pack("<H", 0)
    mac = data.replace(b"\x14\0" + flagged, b"\x14\0" + plain)
    assert mac != data
    assert members(source(tmp_path / "a.zip", mac)) == {"técnica/1.txt": b"a"}
    dos = mac.replace("técnica".encode(), b"t\x82cnicas")
    assert members(source(tmp_path / "a.zip", dos)) == {"técnicas/1.txt": b"a"}


def test_names_that_are_not_utf8_are_written_as_text(tmp_path: Path) -> None:
    data = make_tar({os.fsdecode(b"caf\xe9/1.txt"): b"a"})
    assert members(source(tmp_path / "a.tar", data)) == {"caf\\xe9/1.txt": b"a"}
