"""Rows of a prepared split: tokenised once, written to Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.errors import BaseModelError

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 4096  # rows tokenised and written at a time


def open_tokenizer(folder: Path, max_length: int) -> Any:
    """The base model's tokenizer, truncating to max_length tokens, the special ones included; no padding.

    Raises BaseModelError when tokenizer.json is missing or unreadable.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise BaseModelError(f"{folder} has no tokenizer.json; a base model must bring its fast tokenizer")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise BaseModelError(
            f"{path} is no tokenizer that can be read: {' '.join(str(error).split())[:300]}"
        ) from error
    # What the file says about truncation and padding was for somebody else's use.
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer


def write_prepared(columns: dict[str, list[Any]], tokenizer: Any, path: Path) -> None:
    """Writes one split. columns: row_id, text, label, group, and unit and time where there are any, all of one length.

    Adds input_ids (list of int32, special tokens included) and n_tokens (int32). Equal input gives equal bytes.
    """
    import pyarrow.parquet as pq

    schema = _schema([name for name in ("unit", "time") if name in columns])
    with pq.ParquetWriter(path, schema) as writer:
        for batch in _tables(columns, tokenizer, schema):
            writer.write_table(batch)


def _schema(extra: Sequence[str]) -> pa.Schema:
    import pyarrow as pa

    text = pa.string()
    fields = [("row_id", text), ("text", text), ("label", text), ("input_ids", pa.list_(pa.int32()))]
    fields += [("n_tokens", pa.int32()), ("group", text), *((name, text) for name in extra)]
    return pa.schema(fields)


def _tables(columns: dict[str, list[Any]], tokenizer: Any, schema: pa.Schema) -> Iterator[pa.Table]:
    import pyarrow as pa

    for start in range(0, len(columns["text"]), _BATCH):
        part = {name: values[start : start + _BATCH] for name, values in columns.items()}
        # The fast one leaves out offsets, which nobody reads.
        ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(part["text"])]
        part |= {"input_ids": ids, "n_tokens": [len(each) for each in ids]}
        yield pa.table({name: part[name] for name in schema.names}, schema=schema)
