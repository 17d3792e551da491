"""What was answered, and what would have been right, as Parquet parts in the store; written aside, never waited for.

predictions/MODEL/date=YYYY-MM-DD/*.parquet has a row per input, feedback/MODEL/… a row per label that came later; both have
request_id and item. What cannot be written is kept up to a bound and then dropped, and counted: no request fails for it.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import orjson

from mlops.serving.queueing import Job
from mlops.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("evergreen")

Mode = Literal["off", "hash", "text"]
PART_ROWS, PART_SECONDS = 5000, 30.0
MOST_ROWS = 50_000  # that wait to be written

_KINDS = {
    "predictions": {
        "time": "timestamp",
        "request_id": "string",
        "item": "int32",
        "version": "string",
        "variant": "string",
        "role": "string",
        "text": "string",
        "text_sha256": "string",
        "label": "string",
        "score": "float64",
        "answer": "string",
        "truncated": "bool",
        "milliseconds": "float32",
    },
    "feedback": {"time": "timestamp", "request_id": "string", "item": "int32", "label": "string", "key": "string"},
}


class PredictionLog:
    """mode: whether a text is kept, or its sha256 alone. part_rows, part_seconds: when a part is written, whatever is first.

    written, dropped, failed: rows in the store, rows that were given up, parts that could not be written when tried.
    """

    def __init__(
        self,
        store: Store,
        model: str,
        mode: Mode = "hash",
        part_rows: int = PART_ROWS,
        part_seconds: float = PART_SECONDS,
        most_rows: int = MOST_ROWS,
    ) -> None:
        self._store, self._model, self._mode = store, model, mode
        self._part_rows, self._part_seconds, self._most = part_rows, part_seconds, most_rows
        self._waiting: deque[tuple[str, int, Any]] = deque()
        self._count = 0
        self._lock, self._wake, self._stop = threading.Lock(), threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self.written = self.dropped = self.failed = 0

    def start(self) -> None:
        self._thread = threading.Thread(target=self._write_parts, name="prediction-log", daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 10.0) -> None:
        """Writes what waits, for so long at the most."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def answered(self, request_id: str, job: Job, role: str = "champion") -> None:
        """The answers to one request."""
        if self._mode != "off":
            self._put("predictions", len(job.asked), (time.time(), request_id, job, role))

    def right(self, request_id: str, item: int, label: str, key: str | None) -> None:
        """A label that came later."""
        self._put("feedback", 1, [time.time(), request_id, item, label, key])

    def _put(self, kind: str, rows: int, entry: Any) -> None:
        with self._lock:
            if self._count + rows > self._most:
                self.dropped += rows
                return
            self._waiting.append((kind, rows, entry))
            self._count += rows
            due = self._count >= self._part_rows
        if due:
            self._wake.set()

    def _write_parts(self) -> None:
        while True:
            self._wake.wait(self._part_seconds)
            self._wake.clear()
            stopping = self._stop.is_set()
            with self._lock:
                taken, self._waiting = list(self._waiting), deque()
            for kind in _KINDS:
                own = [entry for entry in taken if entry[0] == kind]
                if own and not self._write(kind, own):
                    with self._lock:  # tried again with the next part; the oldest stay first
                        self._waiting.extendleft(reversed(own))
                elif own:
                    with self._lock:
                        self._count -= sum(rows for _, rows, _ in own)
            if stopping:
                self.dropped += self._count
                return
            if self._waiting:
                self._stop.wait(min(self._part_seconds, 5.0))

    def _write(self, kind: str, entries: Sequence[tuple[str, int, Any]]) -> bool:
        try:
            rows = [row for _, _, entry in entries for row in (self._rows(entry) if kind == "predictions" else [entry])]
            day = datetime.datetime.fromtimestamp(rows[0][0], datetime.UTC).date()
            key = f"{kind}/{self._model}/date={day}/{time.time_ns()}-{uuid.uuid4().hex[:8]}.parquet"
            self._store.blobs.write(key, _parquet(kind, rows))
        except Exception as error:
            self.failed += 1
            if self.failed & (self.failed - 1) == 0:  # the first, second, fourth, … time
                log.error(
                    "the prediction log cannot be written (%d times): %s: %s", self.failed, type(error).__name__, error
                )
            return False
        self.written += len(rows)
        return True

    def _rows(self, entry: Any) -> list[list[Any]]:
        when, request_id, job, role = entry
        found = []
        for item, (asked, answer, cut) in enumerate(zip(job.asked, job.answers, job.truncated, strict=True)):
            text = asked if isinstance(asked, str) else orjson.dumps(asked).decode()
            label, score = (answer.get("label"), answer.get("score")) if isinstance(answer, dict) else (None, None)
            kept = text if self._mode == "text" else None
            sha256 = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
            who = (job.served.version, job.served.variant, role)
            told = (
                orjson.dumps(_without_texts(answer)).decode() if self._mode == "hash" else orjson.dumps(answer).decode()
            )
            found.append([when, request_id, item, *who, kept, sha256, label, score, told, cut, job.seconds * 1000])
        return found


def _without_texts(answer: Any) -> Any:
    """Entities without the characters that they are."""
    if isinstance(answer, list):
        return [{name: value for name, value in each.items() if name != "text"} for each in answer]
    return answer


def _schema(kind: str) -> pa.Schema:
    import pyarrow as pa

    types = {"string": pa.string(), "int32": pa.int32(), "float64": pa.float64(), "float32": pa.float32()}
    types |= {"bool": pa.bool_(), "timestamp": pa.timestamp("us", tz="UTC")}
    return pa.schema([(name, types[each]) for name, each in _KINDS[kind].items()])


def _parquet(kind: str, rows: Sequence[Sequence[Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [list(column) for column in zip(*rows, strict=True)]
    columns[0] = [int(when * 1e6) for when in columns[0]]
    schema = _schema(kind)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), sink, compression="zstd")
    return sink.getvalue()


def read(store: Store, model: str, kind: str = "predictions", days: Sequence[str] = ()) -> pa.Table:
    """All rows of a model, or those of some days (YYYY-MM-DD)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    keys = store.blobs.list(f"{kind}/{model}/")
    chosen = [key for key in keys if not days or any(f"/date={day}/" in key for day in days)]
    parts = [pq.read_table(io.BytesIO(store.blobs.read(key))) for key in chosen]
    return pa.concat_tables(parts) if parts else _schema(kind).empty_table()


def labelled(store: Store, model: str, days: Sequence[str] = ()) -> pa.Table:
    """Predictions of these days with the label that came later, as "right": the last one where several came. Rows without
    one are left out."""
    predictions = read(store, model, "predictions", days)
    feedback = read(store, model, "feedback").sort_by("time")
    latest = {
        (row["request_id"], row["item"]): row["label"]
        for row in feedback.select(["request_id", "item", "label"]).to_pylist()
    }
    keys = zip(predictions["request_id"].to_pylist(), predictions["item"].to_pylist(), strict=True)
    right = [latest.get(key) for key in keys]
    import pyarrow as pa

    joined = predictions.append_column("right", pa.array(right, pa.string()))
    return joined.filter(pa.array([label is not None for label in right], pa.bool_()))
