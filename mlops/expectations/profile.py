"""A first suite from a look at the data: what holds today, with room, and beside each entry what was found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import yaml

from mlops.config import PipelineConfig
from mlops.data.forms import form_of
from mlops.data.text import normalise_all
from mlops.expectations import copies, labels, texts
from mlops.expectations.finding import arrow
from mlops.tasks import get

if TYPE_CHECKING:
    import pandas as pd

_HEAD = """\
# Expectations for the pipeline {name}, written from {rows:,} rows: read them, change them, review them like code.
# severity: fail rejects the data set, quarantine sets the rows aside with the reason, warn only reports.
"""


class _Entry(NamedTuple):
    found: str
    type: str
    kwargs: dict[str, Any]
    severity: str


def first_suite(frame: pd.DataFrame, config: PipelineConfig, known: Mapping[str, Any]) -> str:
    """A suite as YAML text with comments. frame: usable rows as the suite sees them; known: see `entries.build`.

    Columns are named as the source names them.
    """
    text, *_, label = form_of(config).wanted(config.data.columns)
    one = get(config.task_key).one_label
    entries = [
        _Entry("no row without a text", "expect_column_values_to_not_be_null", {"column": text}, "quarantine"),
        *_lengths(frame, text),
        *(_labels(frame, label) if one else ()),
        *(_tags(frame, label) if config.task == "token-classification" else ()),
        _rows(frame),
        *_texts(frame, text, label, known),
        *(_shifts(label) if one else ()),
    ]
    parts = [_HEAD.format(name=config.name, rows=len(frame))]
    for entry in entries:
        body = {"type": entry.type, "kwargs": entry.kwargs, "severity": entry.severity}
        written = yaml.safe_dump([body], sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
        parts.append(f"# {entry.found}\n{written}")
    return "\n".join(parts)


def _lengths(frame: pd.DataFrame, text: str) -> list[_Entry]:
    import pyarrow.compute as pc

    sizes = pc.utf8_length(normalise_all(arrow(frame, "text"))).to_numpy()
    low, middle, high = (int(value) for value in np.percentile(sizes, [0.5, 50, 99.5]))
    found = f"characters per text: median {middle}, 99% lie between {low} and {high}"
    limits = {"column": text, "min_value": max(1, low // 4), "max_value": _round_up(4 * high)}
    return [_Entry(found, "expect_column_value_lengths_to_be_between", limits, "quarantine")]


def _labels(frame: pd.DataFrame, label: str) -> list[_Entry]:
    counts = frame["label"].value_counts()
    names = sorted(str(name) for name in counts.index)
    smallest, largest = int(counts.min()), int(counts.max())
    found = f"{len(names)} labels, from {smallest} to {largest} rows each"
    kwargs = {"column": label, "value_set": names}
    few = {"column": label, "labels": names, "min_rows": max(1, smallest // 2)}
    return [
        _Entry(
            "a label that nobody has reviewed is set aside", "expect_column_values_to_be_in_set", kwargs, "quarantine"
        ),
        _Entry(found, "expect_labels_to_have_rows", few, "fail"),
    ]


def _tags(frame: pd.DataFrame, label: str) -> list[_Entry]:
    found = labels.legal_tags(frame, "label", 1.0)
    return [
        _Entry(
            f"tags that IOB2 does not allow: {found.detail}", "expect_tags_to_be_legal", {"column": label}, "quarantine"
        )
    ]


def _rows(frame: pd.DataFrame) -> _Entry:
    least = {"min_value": max(1, len(frame) // 2)}
    return _Entry(f"{len(frame)} usable rows", "expect_table_row_count_to_be_between", least, "fail")


def _texts(frame: pd.DataFrame, text: str, label: str, known: Mapping[str, Any]) -> list[_Entry]:
    column = {"column": text}
    damage = texts.encoding_damage(frame, "text", 1.0)
    contradicting = labels.one_label_per_text(frame, "text", "label", 1.0)
    cut = texts.token_lengths(frame, "text", known.get("tokenizer"), known["max_length"], 1.0, known["task"])
    exact = copies.exact_copies(frame, "text", 1.0)
    near = copies.near_duplicates(frame, "text", 1.0, 0.76)
    spoken = texts.languages(frame, "text", [], 0.0)
    entries = [
        # Few damaged rows are set aside; many are a source that somebody has to mend.
        _Entry(f"damaged encoding: {damage.detail}", "expect_text_encoding_to_be_intact",
               column | {"max_share": _room(damage.observed) if _share(damage) > 0.01 else 0.0},
               "warn" if _share(damage) > 0.01 else "quarantine"),
        _Entry(f"longer than the model reads: {cut.detail}", "expect_text_to_fit_model",
               column | {"max_share": _room(cut.observed)}, "warn"),
        _Entry(f"texts with several labels: {contradicting.detail}", "expect_text_to_have_one_label",
               column | {"label": label, "max_share": _room(contradicting.observed)}, "warn"),
        _Entry(f"copies: {exact.detail}", "expect_share_of_copies_to_be_at_most",
               column | {"max_share": _room(exact.observed)}, "warn"),
        _Entry(f"copies and near-duplicates: {near.detail}", "expect_share_of_near_duplicates_to_be_at_most",
               column | {"max_share": _room(near.observed)}, "warn"),
    ]  # fmt: skip
    main = spoken.table and _languages(frame)
    if main:
        kwargs = column | {"languages": main, "min_share": 0.8}
        entries.append(_Entry("the texts' language", "expect_text_language_to_be_in_set", kwargs, "warn"))
    return entries


def _languages(frame: pd.DataFrame) -> list[str]:
    """The language of nearly all texts; nothing where no few have them."""
    import py3langid

    sample = [text for text in frame["text"].iloc[:: max(1, len(frame) // 1000)].tolist() if text and len(text) >= 20]
    found = [str(py3langid.classify(text)[0]) for text in sample]
    names, counts = np.unique(found, return_counts=True)
    order = np.argsort(-counts)[:3]
    for size in range(1, len(order) + 1):
        if counts[order[:size]].sum() >= 0.9 * len(found):
            return [str(name) for name in names[order[:size]]]
    return []


def _shifts(label: str) -> list[_Entry]:
    return [
        _Entry("against the snapshot of the last retrain: .1 is a small effect, .3 a medium one, .5 a large one",
               "expect_label_shares_to_resemble_parent", {"column": label, "max_effect": 0.3, "min_rows": 100}, "warn"),
        _Entry("a batch whose texts do not say what its labels say", "expect_new_rows_to_resemble_old_ones",
               {"max_effect": 0.1, "max_distance": 0.1, "max_novel": 0.1, "min_rows": 30}, "warn"),
    ]  # fmt: skip


def _share(finding: Any) -> float:
    return float(finding.observed or 0.0)


def _room(share: Any) -> float:
    """Twice what was found and two points more, in whole per cent."""
    return min(1.0, math.ceil(100 * (2 * float(share or 0.0) + 0.02)) / 100)


def _round_up(number: int) -> int:
    """To two digits that count."""
    step: int = 10 ** max(0, len(str(number)) - 2)
    return -(-number // step) * step


def suite_path(config: PipelineConfig, named: str | None) -> Path:
    """Where the pipeline's suite lies or would lie."""
    return Path(config.root) / (named or f"expectations/{config.name}.yaml")
