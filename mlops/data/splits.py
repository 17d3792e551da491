"""Stable splits: a hash of the near-duplicate group decides once, the split book remembers, nothing leaks from test."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mlops.config import SPLITS, Shares
from mlops.data.book import KEPT_OUT, STRENGTH, Book, Entry, merge

_GUARDED = ("test", "validation", "train")  # rows of a later one that resemble rows of an earlier one are dropped


class Texts(NamedTuple):
    """Distinct texts, one entry per row. keys: text_key. groups: group key. units: value of columns.group, or none."""

    keys: Sequence[str]
    labels: Sequence[str]
    groups: Sequence[str]
    units: Sequence[str | None]


class Assigned(NamedTuple):
    """splits: train, validation, test or KEPT_OUT per row. leaks: rows kept out, by what they resemble. book: the new one."""

    splits: list[str]
    leaks: dict[str, int]
    book: Book


def group_keys(keys: Sequence[str], groups: Sequence[int]) -> list[str]:
    """A name per row for its group: the smallest text key in it, so that it depends on what is in the group alone."""
    smallest: dict[int, str] = {}
    for key, group in zip(keys, groups, strict=True):
        smallest[group] = min(key, smallest.get(group, key))
    return [smallest[group] for group in groups]


def position(group: str) -> float:
    """Where a group stands between 0 and 1, evenly spread and the same for ever."""
    return int.from_bytes(hashlib.sha256(f"split:{group}".encode()).digest()[:8], "big") / 2**64


def split_by_hash(texts: Texts, shares: Shares, book: Book) -> Assigned:
    """Splits texts by their group's hash, but a text seen before by the book.

    In a group with known members the strongest of their splits (test, then validation, then train) rules. Members
    known in it stay. Members known in a weaker one are kept out from now on, and new ones too where test rules: a
    frozen test set neither grows by copies nor meets them in training. Where validation or train rules, new ones join,
    unless a text that was kept out is among them.
    """
    splits = [KEPT_OUT] * len(texts.keys)
    leaks: Counter[str] = Counter()
    fresh: set[str] = set()
    units = _unit_splits(book)
    for group, rows in _members(texts.groups).items():
        known = [book[texts.keys[row]].split if texts.keys[row] in book else None for row in rows]
        votes = {split for split in known if split} | {
            units[unit] for row in rows if (unit := texts.units[row]) in units
        }
        ruling = next((split for split in _GUARDED if split in votes), KEPT_OUT)
        if not votes:
            fresh.add(group)
            ruling = _by_position(group, shares)
        for row, before in zip(rows, known, strict=True):
            joins = before is None and (not votes or (ruling in ("train", "validation") and KEPT_OUT not in votes))
            if joins or (before == ruling != KEPT_OUT):
                splits[row] = ruling
            else:
                leaks["validation" if ruling == "validation" else "test"] += 1
    for name in ("test", "validation"):
        _fill(splits, name, getattr(shares, name), texts, fresh)
    return Assigned(splits, dict(leaks), merge(book, _entries(texts, splits, range(len(splits)))))


def split_as_given(texts: Texts, given: Sequence[str], book: Book) -> Assigned:
    """Keeps splits that the pipeline names by URI, less the rows of train and validation that resemble test rows.

    Train also loses what resembles validation, and both lose what the book knows from an earlier test. Without a
    validation split a stable tenth of train's groups becomes one.
    """
    splits = list(given)
    leaks: Counter[str] = Counter()
    cut = "validation" not in given
    share = Shares().validation
    movable: set[str] = set()
    for group, rows in _members(texts.groups).items():
        present = {given[row] for row in rows}
        known = {entry.split for row in rows if (entry := book.get(texts.keys[row]))}
        ruling = "test" if "test" in known else next(split for split in _GUARDED if split in present)
        if cut and ruling == "train":
            movable |= set() if known else {group}
            if "validation" in known or ("train" not in known and position(group) >= 1 - share):
                for row in rows:
                    splits[row] = "validation"
            continue
        for row in rows:
            if splits[row] not in (ruling, "test"):
                splits[row] = KEPT_OUT
                leaks[ruling] += 1
    if cut:
        _fill(splits, "validation", share, texts, movable)
    # One text may be in several splits here: what was kept out of one says nothing about the other.
    used = [row for row, split in enumerate(splits) if split != KEPT_OUT]
    return Assigned(splits, dict(leaks), merge(book, _entries(texts, splits, used)))


def _members(groups: Sequence[str]) -> dict[str, list[int]]:
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    return members


def _unit_splits(book: Mapping[str, Entry]) -> dict[str | None, str]:
    """The strongest split that each unit ever was in."""
    found: dict[str | None, str] = {}
    for entry in book.values():
        if entry.unit is not None:
            before = found.get(entry.unit, entry.split)
            found[entry.unit] = max(before, entry.split, key=STRENGTH.__getitem__)
    return found


def _by_position(group: str, shares: Shares) -> str:
    place = position(group)
    if place < shares.train:
        return "train"
    return "validation" if place < shares.train + shares.validation else "test"


def _fill(splits: list[str], name: str, share: float, texts: Texts, movable: set[str]) -> None:
    """Moves train's groups with the highest positions into a split that would be empty, as happens to a few rows.

    Only groups that were never trained on move (`movable`), and no label loses its last row of train.
    """
    if name in splits:
        return
    members = _members(texts.groups)
    wanted = max(1, round(share * len(splits)))
    left = Counter(label for label, split in zip(texts.labels, splits, strict=True) if split == "train")
    for group in sorted(movable, key=position, reverse=True):
        rows = [row for row in members[group] if splits[row] == "train"]
        moved = Counter(texts.labels[row] for row in rows)
        if not rows or len(rows) > wanted or any(left[label] <= count for label, count in moved.items()):
            continue
        left -= moved
        wanted -= len(rows)
        for row in rows:
            splits[row] = name
        if wanted <= 0:
            return


def _entries(texts: Texts, splits: Sequence[str], rows: Sequence[int]) -> Book:
    """The book of this snapshot's rows; for one text in several splits, the strongest."""
    entries: Book = {}
    for row in rows:
        key, split = texts.keys[row], splits[row]
        if key not in entries or STRENGTH[split] > STRENGTH[entries[key].split]:
            entries[key] = Entry(split, texts.groups[row], texts.units[row])
    return entries


def rows_per_split(splits: Sequence[str]) -> dict[str, int]:
    """How many rows each of train, validation and test has."""
    counts = Counter(splits)
    return {name: counts[name] for name in SPLITS}
