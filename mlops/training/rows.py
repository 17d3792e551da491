"""Which rows a model has learned from: digests beside its weights, and choosing rows by them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlops.tasks.base import Examples

Digests = npt.NDArray[np.uint64]

TRAINED_ON, VALIDATED_ON = "trained_on.npy", "validated_on.npy"
_SAYS = ("text", "label", "query")  # what a row teaches; its id and tokens may change


def digests(folder: Path) -> dict[str, int]:
    """{row id: 64 bits of a hash of the row's text and label} of a prepared split."""
    import pyarrow.parquet as pq

    found = {}
    with pq.ParquetFile(folder / "rows.parquet") as file:
        names = ["row_id", *(name for name in _SAYS if name in file.schema_arrow.names)]
        for batch in file.iter_batches(columns=names):  # the texts of all rows may be more than the memory
            columns = [batch.column(name).to_pylist() for name in names]
            found.update({row_id: digest(*cells) for row_id, *cells in zip(*columns, strict=True)})
    return found


def digest(*cells: object) -> int:
    """64 bits of a hash of what a row says: its text, its label, what it is ranked within."""
    data = b"\0".join(str(cell).encode("utf-8", "surrogatepass") for cell in cells)
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def write(path: Path, values: Collection[int]) -> None:
    """Sorted and each once, uint64: 8 bytes per row, the same bytes for the same rows."""
    np.save(path, np.array(sorted(set(values)), dtype=np.uint64), allow_pickle=False)


def read(path: Path) -> Digests:
    """What `write` wrote; OSError or ValueError where it is not that."""
    found = np.load(path, allow_pickle=False)
    if found.dtype != np.uint64 or found.ndim != 1:
        raise ValueError(f"{path.name} holds {found.dtype} of {found.ndim} axes; allowed: uint64 of one")
    return np.asarray(found, dtype=np.uint64)


def known(rows: Mapping[str, int], of: Digests) -> set[str]:
    """Ids of the rows whose digests are among `of`."""
    found = np.isin(np.array(list(rows.values()), dtype=np.uint64), of)
    return {row_id for row_id, there in zip(rows, found.tolist(), strict=True) if there}


def sample(rows: Mapping[str, int], among: Collection[str], share: float, salt: str) -> set[str]:
    """About this share of the rows `among`; each decided by its own digest and the salt, so that order does not matter."""
    most = share * 2**64
    return {row_id for row_id in among if digest(salt, rows[row_id]) < most}


def subset(examples: Examples, row_ids: Collection[str]) -> Examples:
    """The sequences of those rows, in their order."""
    places = [place for place, row_id in enumerate(examples.row_ids) if row_id in row_ids]
    numbers: dict[int, int] = {}
    for place in places if examples.places else ():
        numbers.setdefault(examples.places[place][0], len(numbers))
    return Examples(
        [examples.row_ids[place] for place in places],
        [examples.input_ids[place] for place in places],
        [examples.targets[place] for place in places],
        None if examples.seconds is None else [examples.seconds[place] for place in places],
        None if examples.groups is None else [examples.groups[place] for place in places],
        [(numbers[examples.places[place][0]], examples.places[place][1]) for place in places]
        if examples.places
        else [],
    )
