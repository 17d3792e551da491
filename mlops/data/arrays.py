"""Columns of Arrow tables as single arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def column(table: pa.Table, name: str) -> pa.Array:
    """One array of all chunks; a single one is not copied: of a large column that takes longer than what is done with it."""
    import pyarrow as pa

    chunks = [chunk for chunk in table[name].chunks if len(chunk)]
    if len(chunks) == 1:
        return chunks[0]
    return pa.concat_arrays(chunks) if chunks else pa.array([], table.schema.field(name).type)
