"""Tokens of texts, worked out once per distinct text over all runs: a cache in the store, by text and by tokenizer."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlops import settings
from mlops.data.arrays import column
from mlops.data.garbage import paused
from mlops.errors import BaseModelError, StoreError
from mlops.store import Store
from mlops.tasks.base import Task
from mlops.tasks.long_pairs import shortened, tokens_of
from mlops.types import ArtifactRef

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("evergreen")

_BATCH = 4096  # texts tokenised at a time
_MOST_PARTS = 8  # of one cache; then they are written anew as one
_KIND = "tokens"
_FILE = "tokens.arrow"


class TokenizerOf(NamedTuple):
    """A base model's tokenizer, truncating to max_length tokens, the special ones included; digest: of what decides tokens."""

    tokenizer: Any
    max_length: int
    digest: str


class Tokens(NamedTuple):
    """ids: list<int32> [n], truncated, special tokens included. lengths: int32 [n], tokens before truncation."""

    ids: pa.Array
    lengths: pa.Array


def open_tokenizer(folder: Path, max_length: int) -> TokenizerOf:
    """The tokenizer of a base model's folder; no padding.

    Raises BaseModelError when tokenizer.json is missing or unreadable.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise BaseModelError(f"{folder} has no tokenizer.json; a base model must bring its fast tokenizer")
    try:
        data = path.read_bytes()
        tokenizer = Tokenizer.from_buffer(data)
    except Exception as error:  # the library raises plain Exception
        raise BaseModelError(
            f"{path} is no tokenizer that can be read: {' '.join(str(error).split())[:300]}"
        ) from error
    # What the file says about truncation and padding was for somebody else's use.
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    digest = hashlib.sha256(data + f"\n{max_length}".encode()).hexdigest()
    return TokenizerOf(tokenizer, max_length, digest)


def tokenise(store: Store, tokenizer: TokenizerOf, texts: pa.Array, digests: pa.Array, task: Task) -> Tokens:
    """Tokens of normalised texts [n], none missing; digests [n] are those of the texts as they are, case and all.

    A text is tokenised as the task asks it, a pair as a pair; tasks that ask alike share what they know.

    Texts that an earlier run met are looked up, the others join the cache.
    """
    import pyarrow as pa

    tokenizer = tokenizer._replace(digest=f"{tokenizer.digest}-{task.kind}")
    cache = _read(store, tokenizer)
    if not len(texts):
        return Tokens(pa.array([], pa.list_(pa.int32())), pa.array([], pa.int32()))
    places = _places(digests, column(cache, "digest"))
    missing = pa.array(np.flatnonzero(places < 0))
    if len(missing):
        asked = digests.take(missing)
        fresh = _worked_out(tokenizer, texts.take(missing), asked, task)
        log.info("tokenise: %s texts, %s were known", f"{len(missing):,}", f"{len(texts) - len(missing):,}")
        _add(store, tokenizer, fresh)
        places[missing] = cache.num_rows + _places(asked, column(fresh, "digest"))
        cache = pa.concat_tables([cache, fresh])
    return Tokens(column(cache, "ids").take(pa.array(places)), column(cache, "length").take(pa.array(places)))


def _places(asked: pa.Array, known: pa.Array) -> npt.NDArray[np.int64]:
    """Where each digest [n] stands among the known ones; -1 where it does not.

    Looked up by their first half, a number, in a third of the time. Of two that share it only the first is found: the other
    is as good as unknown.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    ours, theirs = _halves(asked), _halves(known)
    found = pc.index_in(pa.array(ours[:, 0]), pa.array(theirs[:, 0]))
    places: npt.NDArray[np.int64] = pc.fill_null(found, -1).to_numpy().astype(np.int64)
    seen = np.flatnonzero(places >= 0)
    places[seen[ours[seen, 1] != theirs[places[seen], 1]]] = -1
    return places


def _halves(digests: pa.Array) -> npt.NDArray[np.int64]:
    """The digests [n] as numbers [n, 2]."""
    if not len(digests):
        return np.zeros((0, 2), dtype=np.int64)
    numbers = np.frombuffer(digests.buffers()[1], dtype=np.int64)
    return np.asarray(numbers[2 * digests.offset : 2 * (digests.offset + len(digests))].reshape(-1, 2))


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema([("digest", pa.binary(16)), ("ids", pa.list_(pa.int32())), ("length", pa.int32())])


def _worked_out(tokenizer: TokenizerOf, texts: pa.Array, digests: pa.Array, task: Task) -> pa.Table:
    import pyarrow as pa

    with paused():
        parts = [
            pa.table([digests.slice(start, _BATCH), *found], schema=_schema())
            for start, found in _encoded(tokenizer, texts, task)
        ]
    # One text may be asked for twice, and is kept once.
    table = pa.concat_tables(parts).combine_chunks()
    if len(table["digest"].unique()) < table.num_rows:
        first = pa.table({"digest": table["digest"], "place": pa.array(range(table.num_rows))})
        table = table.take(first.group_by("digest").aggregate([("place", "min")])["place_min"])
    return table


def _encoded(tokenizer: TokenizerOf, texts: pa.Array, task: Task) -> Iterator[tuple[int, list[pa.Array]]]:
    import pyarrow as pa

    inner, most = tokenizer.tokenizer, tokenizer.max_length
    special, pairs = inner.num_special_tokens_to_add(False), task.kind == "pair"
    for start in range(0, len(texts), _BATCH):
        # The fast one leaves out offsets, which nobody reads.
        items: list[Any] = texts.slice(start, _BATCH).to_pylist()
        if pairs:
            whole: list[Any] = [task.item(text) for text in items]
            items = [shortened(inner, item, most) for item in whole]
        found = inner.encode_batch_fast(items)
        ids = [encoding.ids for encoding in found]
        lengths = [len(each) for each in ids]
        for position, length in enumerate(lengths):
            if length >= most and pairs:
                lengths[position] = tokens_of(inner, whole[position])
            elif length >= most:
                rest = found[position].overflowing
                lengths[position] += sum(len(part) - special for part in rest)
        yield start, [pa.array(ids, pa.list_(pa.int32())), pa.array(lengths, pa.int32())]


def _read(store: Store, tokenizer: TokenizerOf) -> pa.Table:
    """All parts of the cache that can be read; an empty one where there is none."""
    import pyarrow as pa

    found = [_part(store, ref) for ref in _parts(store, tokenizer)]
    return pa.concat_tables([_schema().empty_table(), *(part for part in found if part is not None)])


def _part(store: Store, ref: ArtifactRef) -> pa.Table | None:
    """A part of the cache; none where it is gone or damaged: its texts are tokenised anew."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(store.fetch(ref) / _FILE)) as file:
            table = pa.ipc.open_file(file).read_all()
        if table.schema != _schema():
            raise StoreError(f"{ref.uri} has the columns {table.schema.names}, not {_schema().names}")
        return table
    except (StoreError, OSError, pa.ArrowException) as error:
        log.warning("tokenise: a part of the cache cannot be read, its texts are tokenised anew: %s", error)
        return None


def _name(tokenizer: TokenizerOf) -> str:
    return f"tokens/{tokenizer.digest}"


def _parts(store: Store, tokenizer: TokenizerOf) -> list[ArtifactRef]:
    return [ArtifactRef.model_validate(part) for part in store.read_document(_name(tokenizer)) or ()]


def _add(store: Store, tokenizer: TokenizerOf, fresh: pa.Table) -> None:
    """Adds a part, and drops those that cannot be read; two runs at once lose neither."""
    import pyarrow as pa
    from filelock import FileLock

    locks: Path = settings.current().locks
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"tokens-{tokenizer.digest[:16]}.lock"):
        held = [(ref, _part(store, ref)) for ref in _parts(store, tokenizer)]
        known = {ref: table for ref, table in held if table is not None}
        if len(known) >= _MOST_PARTS:
            fresh, known = pa.concat_tables([*known.values(), fresh]), {}
        parts = [*known, _put(store, fresh)]
        store.write_document(_name(tokenizer), [part.model_dump(mode="json") for part in parts])


def _put(store: Store, table: pa.Table) -> ArtifactRef:
    import pyarrow as pa

    with store.workspace() as folder:
        with pa.OSFile(str(folder / _FILE), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        return store.put(folder, _KIND)
