"""Stable splits: a hash of the near-duplicate group decides once, the split book remembers, nothing leaks from test."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from mlops.config import SPLITS
from mlops.config_data import Shares
from mlops.data.book import (
    CODES,
    KEPT_OUT,
    TEST,
    TRAIN,
    UNSEEN,
    VALIDATION,
    Codes,
    book_schema,
    has_unit,
    known_splits,
    merge,
    unit_splits,
)
from mlops.data.words import Hashes, Indices, mix

if TYPE_CHECKING:
    import pyarrow as pa

Flags = npt.NDArray[np.bool_]


class Texts(NamedTuple):
    """Distinct texts, one entry per row [n].

    keys: digests whatever the case. labels: any numbers that tell labels apart. units: value of columns.group, missing
    where there is none. groups [n + m]: group numbers below n + m, those of the m frozen test texts, which are in the
    book and not in the source any more, behind those of the rows.
    """

    texts: pa.Array
    keys: pa.Array
    labels: Indices
    units: pa.Array
    near: Indices
    groups: Indices


class Assigned(NamedTuple):
    """splits [n]: codes of `mlops.data.book`. leaks: rows kept out, by the split that they resemble; under "unit" those
    that resemble no test row, but are of a unit that has some. book: the new one."""

    splits: Codes
    leaks: dict[str, int]
    book: pa.Table


def group_names(keys: pa.Array, groups: Indices) -> Hashes:
    """A number per row [n] for its group: the smallest start of a text key in it, so that only its content decides."""
    import pyarrow as pa

    n = len(keys)
    if not n:
        return np.zeros(0, dtype=np.uint64)
    data = np.frombuffer(pa.array(keys, pa.binary(16)).buffers()[1], dtype=">u8")
    starts = data[2 * keys.offset : 2 * (keys.offset + n) : 2].astype(np.uint64)
    smallest = np.full(len(groups), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(smallest, groups[:n], starts)
    return smallest[groups[:n]]


def positions(names: Hashes) -> npt.NDArray[np.float64]:
    """Where groups [n] stand between 0 and 1, evenly spread and the same for ever."""
    return mix(names + np.uint64(0x9E3779B97F4A7C15)).astype(np.float64) / 2.0**64


class _Rules(NamedTuple):
    """What decides over each row [n], as codes of `mlops.data.book`, UNSEEN where nothing does.

    known: the split of the text itself. before: the strongest split of a known text that it resembles, or is. near: the
    same, or where no text is known the strongest split of a unit that wrote such a text now. unit: that of its unit,
    KEPT_OUT where all that it wrote was.
    """

    known: Codes
    before: Codes
    near: Codes
    unit: Codes


def split_by_hash(texts: Texts, shares: Shares, book: pa.Table) -> Assigned:
    """Splits texts by their group's hash, but what was seen before, text or unit, by the book.

    A known text stays, unless it resembles one of a stronger split (test, then validation, then train) or its unit is
    in another one: then it is kept out from now on. A new text of a known unit joins that unit's split, also test; one
    without a unit joins what it resembles; those of a new unit go to one split, that of a relative if they have one.
    Kept out is a new text that resembles something of another split than its own, or a known test text: a frozen test
    set neither grows by copies nor meets them in training. Only such texts are lost, never all others of their unit: or
    every user would be, one after another, who says what somebody in test has said.
    """
    rules = _rules(texts, book)
    kept = np.where((rules.known == rules.before) | (rules.known == UNSEEN), rules.known, KEPT_OUT).astype(np.int8)
    votes = _votes(texts.groups, kept, rules.unit)
    fresh = votes == 0
    place = positions(group_names(texts.keys, texts.groups))
    joint = np.select(
        [
            _has(votes, VALIDATION),
            _has(votes, TRAIN),
            place < shares.train,
            place < shares.train + shares.validation,
            # What was kept out may have trained before: nothing of that unit is fit for a test.
            _has(votes, KEPT_OUT),
        ],
        [VALIDATION, TRAIN, TRAIN, VALIDATION, TRAIN],
        TEST,
    ).astype(np.int8)
    of_unit = texts.units.is_valid().to_numpy(zero_copy_only=False)
    own = np.where(of_unit & (rules.unit != KEPT_OUT), rules.unit, np.where(of_unit, UNSEEN, rules.near))
    ruling = np.where(own == UNSEEN, joint, own)
    agrees = (rules.near == UNSEEN) | (rules.near == ruling)
    joins = (rules.known == UNSEEN) & agrees & (ruling != KEPT_OUT) & (rules.before != TEST)
    stays = (rules.known == rules.before) & (rules.known != KEPT_OUT) & (~of_unit | (rules.known == ruling))
    stays &= rules.known != UNSEEN
    splits = np.where(stays, rules.known, np.where(joins, ruling, KEPT_OUT)).astype(np.int8)
    leaks = _leaks(rules, splits == KEPT_OUT)
    for code, share in ((TEST, shares.test), (VALIDATION, shares.validation)):
        splits = _filled(splits, code, share, texts, fresh, place)
    # A known text that comes with somebody of another split for once is left out now, and stays what it is to its own unit.
    borrowed = (splits == KEPT_OUT) & (rules.known == rules.before)
    borrowed &= (rules.unit != TEST) | has_unit(book, texts.keys)
    return Assigned(splits, leaks, merge(book, _entries(texts, splits, ~borrowed)))


def _rules(texts: Texts, book: pa.Table) -> _Rules:
    known = known_splits(book, texts.keys)
    before = _strongest(_votes(texts.near, known))
    unit = _unit_rules(texts, np.where(known == before, known, UNSEEN).astype(np.int8), book)
    claimed = _strongest(_votes(texts.near, np.where(unit == KEPT_OUT, UNSEEN, unit)))
    return _Rules(known, before, np.where(before == UNSEEN, claimed, before).astype(np.int8), unit)


def _unit_rules(texts: Texts, known: Codes, book: pa.Table) -> Codes:
    """The split of each row's unit [n]: that of the book. A unit that it does not know has the strongest split of its
    texts that the book has without any unit, as they were there before `columns.group` was.

    known: the splits of texts that keep theirs.
    """
    units = unit_splits(book, texts.units)
    codes = texts.units.dictionary_encode()
    rows = np.flatnonzero(codes.is_valid().to_numpy(zero_copy_only=False))
    numbers = codes.indices.drop_null().to_numpy()
    mine = np.where(has_unit(book, texts.keys) | (known == KEPT_OUT), UNSEEN, known)
    strongest = np.full(len(codes.dictionary), UNSEEN, dtype=np.int8)
    np.maximum.at(strongest, numbers, mine[rows].astype(np.int8))
    units[rows] = np.where(units[rows] == UNSEEN, strongest[numbers], units[rows])
    return units


def _leaks(rules: _Rules, out: Flags) -> dict[str, int]:
    """How many rows are kept out, by why."""
    near = out & (rules.near == TEST)
    unit = out & ~near & (rules.unit == TEST)
    validation = out & ~near & ~unit & (np.isin(rules.near, [TRAIN, VALIDATION]) | (rules.unit == VALIDATION))
    # What is left was kept out before, and what it resembled then is not here any more.
    test = out & ~unit & ~validation
    return _counted({"test": int(test.sum()), "unit": int(unit.sum()), "validation": int(validation.sum())})


def newest(times: npt.NDArray[np.datetime64], row_ids: pa.Array, units: pa.Array, share: float) -> Codes:
    """TEST for the newest share of the rows [n], TRAIN for the others; rows without a time are never among them.

    Rows of one unit go together, where the newest of them stands: cut apart, most would be lost, for train may not have
    those of a unit that has test rows. Of equal times the row with the later id is the newer one, so that the order of the
    rows does not matter.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    n = len(times)
    ranked = pc.sort_indices(
        pa.table({"time": pa.array(times), "id": row_ids}), [("time", "descending"), ("id", "descending")]
    ).to_numpy()
    order = ranked[~np.isnat(times[ranked])]
    named = units.dictionary_encode()
    # A row of no unit is one by itself.
    mates = np.where(
        units.is_valid().to_numpy(zero_copy_only=False),
        pc.fill_null(named.indices, 0).to_numpy().astype(np.int64),
        np.arange(n) + len(named.dictionary),
    )
    _, first, numbers, counts = np.unique(mates[order], return_index=True, return_inverse=True, return_counts=True)
    by_age = np.argsort(first)
    before = np.cumsum(counts[by_age]) - counts[by_age]
    taken = np.zeros(len(first), dtype=bool)
    taken[by_age] = before < max(1, round(share * n))
    codes = np.full(n, TRAIN, dtype=np.int8)
    codes[order[taken[numbers]]] = TEST
    return codes


def split_as_given(texts: Texts, given: Codes, book: pa.Table, share: float = Shares().validation) -> Assigned:
    """Keeps splits that the pipeline names by URI, less the rows of train and validation that resemble test rows.

    Train also loses what resembles validation, and both lose what the book knows from an earlier test. Without a
    validation split a stable share of train's groups becomes one.
    """
    known = known_splits(book, texts.keys)
    before, now = _votes(texts.groups, known), _votes(texts.groups, given)
    place = positions(group_names(texts.keys, texts.groups))
    ruling = np.select([_has(before, TEST) | _has(now, TEST), _has(now, VALIDATION)], [TEST, VALIDATION], TRAIN)
    splits = given.copy()
    movable = np.zeros(len(splits), dtype=bool)
    cut = not (given == VALIDATION).any()
    if cut:
        movable = (ruling == TRAIN) & (before == 0)
        moved = _has(before, VALIDATION) | (~_has(before, TRAIN) & (place >= 1 - share))
        splits[(ruling == TRAIN) & moved] = VALIDATION
    out = (given != ruling) & (given != TEST)
    splits[out] = KEPT_OUT
    leaks = {name: int((out & (ruling == CODES[name])).sum()) for name in ("test", "validation")}
    if cut:
        splits = _filled(splits, VALIDATION, share, texts, movable, place)
    # One text may be in several splits here: what was kept out of one says nothing about the other.
    used = splits != KEPT_OUT
    return Assigned(splits, _counted(leaks), merge(book, _entries(texts, splits, used)))


def _counted(leaks: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in leaks.items() if count}


def _votes(groups: Indices, *splits: Codes) -> npt.NDArray[np.uint8]:
    """Per row [n] one bit for each split that a member of its group is in; frozen test texts behind the rows vote for test.

    groups [n + m]: group numbers below n + m. splits: of the rows, [n] each.
    """
    n = len(splits[0])
    bits = np.zeros(len(groups), dtype=np.uint8)
    bits[n:] = 1 << TEST
    for codes in splits:
        bits[:n] |= np.where(codes == UNSEEN, 0, 1 << np.maximum(codes, 0)).astype(np.uint8)
    votes = np.zeros(len(groups), dtype=np.uint8)
    np.bitwise_or.at(votes, groups, bits)
    return np.asarray(votes[groups[:n]])


def _strongest(votes: npt.NDArray[np.uint8]) -> Codes:
    """The split that rules where several are voted for: nothing may be trained on that is judged with."""
    order = (TEST, VALIDATION, TRAIN, KEPT_OUT)
    return np.select([_has(votes, code) for code in order], order, UNSEEN).astype(np.int8)


def _has(votes: npt.NDArray[np.uint8], code: int) -> Flags:
    return np.asarray((votes >> code) & 1, dtype=bool)


def _filled(
    splits: Codes, code: int, share: float, texts: Texts, movable: Flags, place: npt.NDArray[np.float64]
) -> Codes:
    """Moves train's groups with the highest positions into a split that would be empty, as happens to a few rows.

    Only groups that were never trained on move (`movable`), and no label loses its last row of train.
    """
    if (splits == code).any() or not len(splits):
        return splits
    splits = splits.copy()
    wanted = max(1, round(share * len(splits)))
    left = np.bincount(texts.labels[splits == TRAIN], minlength=int(texts.labels.max()) + 1)
    rows = np.flatnonzero(movable & (splits == TRAIN))
    for group in np.unique(texts.groups[rows])[np.argsort(-_first(place, texts.groups, rows), kind="stable")]:
        members = rows[texts.groups[rows] == group]
        moved = np.bincount(texts.labels[members], minlength=len(left))
        if len(members) > wanted or ((moved > 0) & (left <= moved)).any():
            continue
        left -= moved
        wanted -= len(members)
        splits[members] = code
        if wanted <= 0:
            break
    return splits


def _first(place: npt.NDArray[np.float64], groups: Indices, rows: Indices) -> npt.NDArray[np.float64]:
    """The position of each distinct group among the rows."""
    return np.asarray(place[rows[np.unique(groups[rows], return_index=True)[1]]])


def _entries(texts: Texts, splits: Codes, used: Flags | None = None) -> pa.Table:
    """The book of this snapshot's rows; where `used` is given, of those alone."""
    import pyarrow as pa
    import pyarrow.compute as pc

    frozen = pc.if_else(pa.array(splits == TEST), texts.texts, pa.scalar(None, texts.texts.type))
    columns = [texts.keys, pa.array(splits, pa.int8()), texts.units, frozen.cast(pa.string())]
    table = pa.Table.from_arrays(columns, schema=book_schema())
    return table if used is None else table.filter(pa.array(used))


def rows_per_split(splits: Codes) -> dict[str, int]:
    """How many rows each of train, validation and test has."""
    return {name: int((splits == CODES[name]).sum()) for name in SPLITS}
