"""A suite's entries: from what a person wrote to expectation objects, with what is wrong said in their words."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from mlops.config import Expectation, PipelineConfig
from mlops.data.forms import form_of
from mlops.data.rows import label_cell
from mlops.errors import UserError
from mlops.tasks import get

SEVERITY = {"fail": "critical", "quarantine": "warning", "warn": "info"}
ENTRY = "evergreen_entry"  # Great Expectations sorts its results: this tells which entry one belongs to


def built_in_suite(config: PipelineConfig) -> tuple[Expectation, ...]:
    """What holds for every labelled text data set; for a pipeline without a suite."""
    entries = (
        Expectation(type="expect_column_values_to_not_be_null", kwargs={"column": "text"}),
        Expectation(type="expect_column_values_to_not_be_null", kwargs={"column": "label"}),
        Expectation(type="expect_table_row_count_to_be_between", kwargs={"min_value": config.validate_.min_rows}),
        Expectation(type="expect_text_encoding_to_be_intact", severity="warn"),
    )
    task = get(config.task_key)
    if task.kind == "tokens":
        return (*entries, Expectation(type="expect_tags_to_be_legal", severity="quarantine"))
    if not task.one_label:
        return entries
    return (
        *entries,
        Expectation(type="expect_label_shares_to_resemble_parent", severity="warn"),
        Expectation(type="expect_new_rows_to_resemble_old_ones", severity="warn"),
    )


def declared_labels(config: PipelineConfig) -> tuple[str, ...]:
    """The labels that the pipeline file, or a set in its suite, allows; empty where neither says."""
    if config.data.labels:
        return config.data.labels
    types = ("expect_column_values_to_be_in_set", "expect_column_distinct_values_to_be_in_set")
    for number, entry in enumerate(config.suite):
        if entry.type in types and entry.kwargs.get("column") in ("label", config.data.columns.label):
            where = place(config, number)
            return tuple(_label(label, where) for label in entry.kwargs.get("value_set") or ())
    return ()


def place(config: PipelineConfig, number: int, entries: Sequence[Expectation] = ()) -> str:
    return f"{config.expectations or 'the built-in suite'}[{number}] {(entries or config.suite)[number].type}"


def build(
    entry: Expectation,
    where: str,
    columns: Sequence[str],
    config: PipelineConfig,
    number: int,
    known: Mapping[str, Any],
) -> Any:
    """The entry as an expectation object; UserError, with what is allowed, when it is none.

    columns: of the frame that it will see. known: arguments that the pipeline fills in where the entry does not.
    """
    from great_expectations.exceptions import ExpectationNotFoundError
    from great_expectations.expectations.registry import (
        get_expectation_impl,
        list_registered_expectation_implementations,
    )

    try:
        kind = get_expectation_impl(entry.type)
    except ExpectationNotFoundError:
        names = list_registered_expectation_implementations()
        raise UserError(f"{where}: Great Expectations has no such type{_guess(entry.type, names)}") from None
    allowed = sorted(set(kind.__fields__) - _NOT_KWARGS)
    for key in entry.kwargs:
        if key not in allowed:
            raise UserError(f"{where}: found the argument {key!r}; allowed: {', '.join(allowed)}{_guess(key, allowed)}")
    kwargs = _translate(entry.kwargs, where, columns, config)
    kwargs = {name: known[name] for name in getattr(kind, "filled", ()) if name in known} | kwargs
    meta = {**entry.meta, ENTRY: number}
    try:
        return kind(**kwargs, severity=SEVERITY[entry.severity], meta=meta)
    except Exception as error:  # pydantic's errors of either version, and whatever an expectation's own checks raise
        faults: list[dict[str, Any]] = getattr(error, "errors", list)()
        lines = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults] or [str(error)]
        raise UserError(f"{where}: wrong arguments: {'; '.join(lines)}; allowed: {', '.join(allowed)}") from None


_NOT_KWARGS = {
    "batch_id", "catch_exceptions", "condition_parser", "description", "id", "meta", "notes", "rendered_content",
    "result_format", "severity", "windows",
}  # fmt: skip


def _translate(kwargs: dict[str, Any], where: str, columns: Sequence[str], config: PipelineConfig) -> dict[str, Any]:
    """The arguments with the source's column names replaced by a snapshot's (text, label, …)."""
    names = config.data.columns
    canonical = {getattr(names, key): key for key in ("group", "time") if getattr(names, key)}
    *asked, target = form_of(config).wanted(names)
    canonical |= {target: "label"} | dict.fromkeys(asked, "text")
    canonical |= {names.id: "row_id"} if names.id else {}
    known = [*columns, *(name for name in canonical if name not in columns)]

    def one(name: Any) -> Any:
        if name in columns:
            return name
        if name in canonical:
            return canonical[name]
        raise UserError(f"{where}: found the column {name!r}; allowed: {', '.join(known)}{_guess(str(name), known)}")

    translated = dict(kwargs)
    for key, value in kwargs.items():
        if key in ("column", "column_A", "column_B", "label"):
            translated[key] = one(value)
        elif key == "column_list" and isinstance(value, list | tuple):
            translated[key] = [one(name) for name in value]
    for key in ("value_set", "labels"):
        if translated.get("column", "label") == "label" and isinstance(kwargs.get(key), list | tuple):
            translated[key] = [_label(value, f"{where}: {key}") for value in kwargs[key]]
    return translated


def _label(value: Any, where: str) -> str:
    """A label of a suite as the snapshot writes it: 3 and 3.0 are "3"; UserError for what YAML took for a truth value."""
    if isinstance(value, bool):
        raise UserError(f"{where}: found {value}; YAML reads yes, no, on and off so: put the label in quotes")
    label, problem = label_cell(value, 10_000)
    if label is None or problem:
        raise UserError(f"{where}: found {value!r}; allowed: labels as text or numbers")
    return label


def _guess(found: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(found, names, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
