"""Expectations on labels: which there are, how many rows each has, whether texts contradict themselves, how shares moved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mlops.data.tags import illegal
from mlops.data.text import digests, normalise_all
from mlops.expectations.finding import Finding, arrow, not_judged, share_finding, shorten

if TYPE_CHECKING:
    import pandas as pd


def label_rows(frame: pd.DataFrame, column: str, min_rows: int, labels: Sequence[str] | None) -> Finding:
    """The smallest class; rows of classes that are too small, or that are not among `labels`, are named."""
    values = frame[column]
    counts = {str(label): int(count) for label, count in values.value_counts().items()}
    strange = sorted(set(counts) - set(labels)) if labels else []
    wanted = {label: counts.get(label, 0) for label in labels} if labels else counts
    few = {label: count for label, count in wanted.items() if count < min_rows}
    rows = tuple(frame.index[values.isin([*few, *strange]).to_numpy(dtype=bool)].tolist())
    detail = [f"{label!r} has {count} rows" for label, count in sorted(few.items(), key=lambda pair: pair[1])[:5]]
    detail += [f"{label!r} is not among the labels" for label in strange[:5]]
    table = tuple((label, str(count)) for label, count in sorted(counts.items(), key=lambda pair: pair[1]))
    success = not few and not strange
    return Finding(min(wanted.values(), default=0), success, "; ".join(detail), rows, ("label", "rows"), table[:50])


def one_label_per_text(frame: pd.DataFrame, column: str, label: str, max_share: float) -> Finding:
    """The share of rows whose text, whatever its case and white space, also stands there with another label."""
    keys = digests(normalise_all(arrow(frame, column)), folded=True).dictionary_encode()
    of = keys.indices.fill_null(-1).to_numpy().astype(np.int64)
    names = arrow(frame, label).dictionary_encode().indices.fill_null(-1).to_numpy().astype(np.int64)
    lowest = np.full(len(keys.dictionary) + 1, np.iinfo(np.int64).max)
    highest = np.full(len(keys.dictionary) + 1, -1)
    np.minimum.at(lowest, of, names)
    np.maximum.at(highest, of, names)
    bad = (lowest != highest)[of] & (of >= 0)
    order = np.flatnonzero(bad)
    # Rows of one text beside each other, so that the contradiction is seen.
    finding = share_finding(frame, bad, column, max_share)
    shown = frame.iloc[order[np.argsort(of[order], kind="stable")][:10]]
    table = tuple((str(name), shorten(text)) for name, text in zip(shown[label], shown[column], strict=True))
    return finding._replace(header=("label", "text"), table=table)


def legal_tags(frame: pd.DataFrame, column: str, max_share: float) -> Finding:
    """The share of rows whose tags are no legal IOB2: an I- that goes on with nothing of its kind, or no tag at all."""
    cells = [str(cell).split(" ") for cell in frame[column].tolist()]
    wrong = [illegal(tags) for tags in cells]
    whats = [f"{cells[row][places[0]]!r} as tag {places[0] + 1}" for row, places in enumerate(wrong) if places]
    return share_finding(frame, np.array([bool(places) for places in wrong]), column, max_share, whats[:10])


def label_shift(
    frame: pd.DataFrame, column: str, parent: Mapping[str, int] | None, max_effect: float, min_rows: int
) -> Finding:
    """Cohen's w between the label shares of the parent snapshot and of this one (Cohen 1988, chapter 7).

    w = sqrt(sum((p1 - p0)^2 / p0)), with half a row added to each count, so that a new label does not divide by zero.
    An effect size, unlike a p-value, does not grow with the number of rows: .1 is small, .3 medium, .5 large.
    """
    now = {str(label): int(count) for label, count in frame[column].value_counts().items()}
    if parent is None:
        return not_judged("there is no earlier snapshot")
    if min(sum(now.values()), sum(parent.values())) < min_rows:
        return not_judged(f"{sum(now.values())} rows now and {sum(parent.values())} before; needed: {min_rows} each")
    names = sorted(set(now) | set(parent))
    shares = [[(count.get(name, 0) + 0.5) for name in names] for count in (parent, now)]
    before, after = ([value / sum(part) for value in part] for part in shares)
    effect = math.sqrt(sum((b - a) ** 2 / a for a, b in zip(before, after, strict=True)))
    moved = sorted(zip(names, before, after, strict=True), key=lambda entry: -abs(entry[2] - entry[1]))
    table = tuple((name, f"{a:.1%}", f"{b:.1%}") for name, a, b in moved[:20])
    detail = ", ".join(f"{name} {a:.1%} to {b:.1%}" for name, a, b in moved[:3])
    return Finding(round(effect, 4), effect <= max_effect, detail, (), ("label", "before", "now"), table)
