"""Columns of Arrow tables: as single arrays, and ids that tell rows apart."""

from __future__ import annotations

from collections.abc import Collection
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


def with_unique_ids(table: pa.Table, others: Collection[str] = ()) -> pa.Table:
    """Ids that tell rows apart, as pairing their scores needs: the second "a" becomes "a#2". others: ids that are taken."""
    import pyarrow as pa

    ids = table["row_id"].to_pylist()
    taken = set(ids)
    if len(taken) == len(ids) and taken.isdisjoint(others):
        return table
    seen: dict[str, int] = dict.fromkeys(others, 1)
    taken |= seen.keys()
    unique = []
    for name in ids:
        seen[name] = seen.get(name, 0) + 1
        fresh = name
        while seen[name] > 1 and (fresh := f"{name}#{seen[name]}") in taken:
            seen[name] += 1
        taken.add(fresh)
        unique.append(fresh)
    return table.set_column(0, "row_id", pa.array(unique, pa.string()))
