"""What an ONNX file may hold, read from its bytes before onnxruntime sees them.

A strict reader of protobuf's wire format (https://protobuf.dev/programming-guides/encoding), with the field numbers of
onnx.proto: it steps over weights without reading them, so it takes milliseconds; importing onnx would take a third of a second.
Where a field stands twice, protobuf lets the last one count; here each has to be allowed.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from pathlib import Path

from mlops.errors import UserError

DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
MOST_BYTES = 2**31 - 1  # protobuf's own limit
_MOST_FIELDS = 1_000_000  # a model of 24 layers has some 50,000
_DEEPEST = 16  # graphs in graphs
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DEFAULT = 0  # TensorProto.DataLocation: in the file itself

Span = tuple[int, int]


class _Fault(Exception):
    """Why a file is refused."""


def check_onnx(path: Path) -> frozenset[str]:
    """The kinds of operators of a file that may be loaded.

    Raises UserError, with the reason, unless the file is one self-contained ONNX model of known operators' domains.

    Refused: data in other files (also in subgraphs and attributes), operators of other domains than DOMAINS, functions of
    the model's own, training graphs, and what is no whole protobuf message with a graph.
    """
    try:
        size = path.stat().st_size
        if not 0 < size <= MOST_BYTES:
            raise _Fault(f"found {size} bytes, allowed are 1 to {MOST_BYTES}")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            reader = _Reader(data)
            reader.model((0, len(data)))
            return frozenset(reader.operators)
    except _Fault as fault:
        raise UserError(f"{path} cannot be loaded: {fault}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from None


class _Reader:
    """Walks the messages of one file; each method takes the span of bytes of a message of its name."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._fields = data, 0
        self.operators: set[str] = set()

    def model(self, span: Span) -> None:
        graphs = 0
        for field, value in self._messages(span):
            if field == 7:
                graphs += 1
                self._graph(value, 0)
            elif field in (20, 25):
                what = "a training graph" if field == 20 else "a function of its own"
                raise _Fault(f"it holds {what}; allowed is a graph of operators of {_allowed()}")
        if not graphs:
            raise _Fault("it holds no graph; it is no ONNX model, or not all of one")

    def _graph(self, span: Span, depth: int) -> None:
        if depth > _DEEPEST:
            raise _Fault(f"its graphs lie in each other {depth} deep, allowed are {_DEEPEST}")
        inside: dict[int, Callable[[Span], None]] = {5: self._tensor, 15: self._sparse}
        for field, value in self._messages(span):
            if field == 1:
                self._node(value, depth)
            elif field in inside:
                inside[field](value)

    def _node(self, span: Span, depth: int) -> None:
        kind, domains = "", []
        for field, value in self._messages(span):
            if field == 4:
                kind = self._text(value)
                self.operators.add(kind)
            elif field == 5:
                self._attribute(value, depth)
            elif field == 7:
                domains.append(self._text(value))
        for domain in domains:
            if domain not in DOMAINS:
                raise _Fault(f"it holds the operator {kind!r} of the domain {domain!r}; allowed are {_allowed()}")

    def _attribute(self, span: Span, depth: int) -> None:
        for field, value in self._messages(span):
            if field in (5, 10):
                self._tensor(value)
            elif field in (6, 11):
                self._graph(value, depth + 1)
            elif field in (22, 23):
                self._sparse(value)

    def _sparse(self, span: Span) -> None:
        for field, value in self._messages(span):
            if field in (1, 2):
                self._tensor(value)

    def _tensor(self, span: Span) -> None:
        name, external = "", False
        for field, wire, value in self._walk(span):
            if field == 8 and wire == _BYTES:
                name = self._text(value)
            external |= (field == 13) or (field == 14 and (wire != _VARINT or value[0] != _DEFAULT))
        if external:
            raise _Fault(
                f"the values of {name!r} are in another file; allowed is one file that holds all of its values"
            )

    def _text(self, span: Span) -> str:
        return self._data[span[0] : min(span[1], span[0] + 100)].decode("utf-8", "replace")

    def _messages(self, span: Span) -> Iterator[tuple[int, Span]]:
        """The fields that hold bytes: messages, texts, packed numbers."""
        for field, wire, value in self._walk(span):
            if wire == _BYTES:
                yield field, value

    def _walk(self, span: Span) -> Iterator[tuple[int, int, Span]]:
        """(field, wire type, span) of each field; of a varint (value, 0)."""
        at, end = span
        data = self._data
        while at < end:
            self._fields += 1
            if self._fields > _MOST_FIELDS:
                raise _Fault(f"it has more than {_MOST_FIELDS} fields; no model has")
            key, at = (data[at], at + 1) if data[at] < 128 else self._varint(at, end)
            field, wire = key >> 3, key & 7
            if not 0 < field < 2**29:
                raise _Fault(f"field {field} at byte {at} is none of protobuf's; the file is damaged or no ONNX model")
            if wire == _VARINT:
                value, at = self._varint(at, end)
                yield field, wire, (value, 0)
                continue
            if wire == _BYTES:
                size, at = self._varint(at, end)
            elif wire in (_FIXED64, _FIXED32):
                size = 8 if wire == _FIXED64 else 4
            else:
                raise _Fault(f"wire type {wire} at byte {at} is not ONNX's; the file is damaged or no ONNX model")
            if at + size > end:
                raise _Fault(
                    f"a field at byte {at} has {size} bytes, {end - at} are left; the file is cut off or damaged"
                )
            yield field, wire, (at, at + size)
            at += size

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """The number at a place, and the place behind it."""
        found = 0
        for shift in range(0, 70, 7):
            if at >= end:
                raise _Fault(f"a number at byte {at} is not whole; the file is cut off or damaged")
            byte = self._data[at]
            at += 1
            found |= (byte & 127) << shift
            if byte < 128:
                return found, at
        raise _Fault(f"a number at byte {at} has more than 10 bytes; the file is damaged or no ONNX model")


def _allowed() -> str:
    return ", ".join(repr(name) for name in DOMAINS)
