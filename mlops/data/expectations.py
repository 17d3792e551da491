"""The pipeline's suite, run by Great Expectations on a frame of rows, with Data Docs."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlops.config import Columns, Expectation, PipelineConfig
from mlops.data.checks import Fault
from mlops.data.rows import label_cell
from mlops.errors import UserError
from mlops.types import Check, Outcome

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("evergreen")

_SEVERITY = {"fail": "critical", "quarantine": "warning", "warn": "info"}
_ENTRY = "evergreen_entry"  # Great Expectations sorts its results: this tells which entry one belongs to
_RESULT = {"result_format": "COMPLETE", "include_unexpected_rows": False, "return_unexpected_index_query": False}
_LISTS = ("unexpected_list", "unexpected_index_list", "unexpected_index_query")


class Judged(NamedTuple):
    """What the suite found: one check and one summary per entry, in the suite's order, and rows to set aside."""

    checks: list[Check]
    faults: dict[int, Fault]
    summaries: list[dict[str, Any]]


def built_in_suite(min_rows: int) -> tuple[Expectation, ...]:
    """What holds for every labelled text data set; for a pipeline without a suite."""
    return (
        Expectation(type="expect_column_values_to_not_be_null", kwargs={"column": "text"}),
        Expectation(type="expect_column_values_to_not_be_null", kwargs={"column": "label"}),
        Expectation(type="expect_table_row_count_to_be_between", kwargs={"min_value": min_rows}),
    )


def declared_labels(config: PipelineConfig) -> tuple[str, ...]:
    """The labels that the pipeline file, or a set in its suite, allows; empty where neither says."""
    if config.data.labels:
        return config.data.labels
    types = ("expect_column_values_to_be_in_set", "expect_column_distinct_values_to_be_in_set")
    for number, entry in enumerate(config.suite):
        if entry.type in types and entry.kwargs.get("column") in ("label", config.data.columns.label):
            where = _place(config, number)
            return tuple(_label(label, where) for label in entry.kwargs.get("value_set") or ())
    return ()


def _place(config: PipelineConfig, number: int, entries: Sequence[Expectation] = ()) -> str:
    return f"{config.expectations or 'the built-in suite'}[{number}] {(entries or config.suite)[number].type}"


def run_suite(frame: pd.DataFrame, config: PipelineConfig, run_name: str, site: Path) -> Judged:
    """Runs the entries that may set rows aside, then all others on the rows that remain; builds Data Docs in `site`.

    frame: object columns, an index of distinct integers; may be empty. Raises UserError, naming the entry, for an
    unknown expectation or wrong arguments. What goes wrong inside an expectation is a failed check, never an error.
    """
    _import_quietly()
    entries = config.suite or built_in_suite(config.validate_.min_rows)
    built = [_build(entry, _place(config, n, entries), frame, config, n) for n, entry in enumerate(entries)]
    context, batch = _context(site)
    first = [n for n, entry in enumerate(entries) if entry.severity == "quarantine"]
    rest = [n for n in range(len(entries)) if n not in first]
    checks: dict[int, Check] = {}
    faults: dict[int, Fault] = {}
    summaries: dict[int, dict[str, Any]] = {}
    for name, numbers in ((f"{config.name}-rows", first), (f"{config.name}-set", rest)):
        remaining = frame[~frame.index.isin(list(faults))]
        results = _run(context, batch, name, [built[n] for n in numbers], remaining, run_name) if numbers else {}
        for n in numbers:
            checks[n], found = _judge(entries[n], results.get(n), config.data.columns)
            for index in found:
                faults.setdefault(index, _row_fault(entries[n], config.data.columns))
            summaries[n] = _summary(entries[n], results.get(n), checks[n])
    _publish(context)
    order = range(len(entries))
    return Judged(_distinct([checks[n] for n in order]), faults, [summaries[n] for n in order])


def _import_quietly() -> None:
    """Great Expectations without telemetry, and without a log line for each of its own decorators."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    import great_expectations  # noqa: F401

    # This one sets its own level when it is imported.
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)


def _build(entry: Expectation, where: str, frame: pd.DataFrame, config: PipelineConfig, number: int) -> Any:
    """The entry as an expectation object; UserError, with what is allowed, when it is none."""
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
    kwargs = _translate(entry.kwargs, where, list(frame.columns), config.data.columns)
    meta = {**entry.meta, _ENTRY: number}
    try:
        return kind(**kwargs, severity=_SEVERITY[entry.severity], meta=meta)
    except Exception as error:  # pydantic's errors of either version, and whatever an expectation's own checks raise
        faults: list[dict[str, Any]] = getattr(error, "errors", list)()
        lines = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults] or [str(error)]
        raise UserError(f"{where}: wrong arguments: {'; '.join(lines)}; allowed: {', '.join(allowed)}") from None


_NOT_KWARGS = {
    "batch_id", "catch_exceptions", "condition_parser", "description", "id", "meta", "notes", "rendered_content",
    "result_format", "severity", "windows",
}  # fmt: skip


def _translate(kwargs: dict[str, Any], where: str, columns: Sequence[str], names: Columns) -> dict[str, Any]:
    """The arguments with the source's column names replaced by a snapshot's (text, label, …)."""
    canonical = {getattr(names, key): key for key in ("text", "label", "group", "time") if getattr(names, key)}
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
        if key in ("column", "column_A", "column_B"):
            translated[key] = one(value)
        elif key == "column_list" and isinstance(value, list | tuple):
            translated[key] = [one(name) for name in value]
    if translated.get("column") == "label" and isinstance(kwargs.get("value_set"), list | tuple):
        translated["value_set"] = [_label(value, where) for value in kwargs["value_set"]]
    return translated


def _label(value: Any, where: str) -> str:
    """A label of a suite as the snapshot writes it: 3 and 3.0 are "3"; UserError for what YAML took for a truth value."""
    if isinstance(value, bool):
        raise UserError(
            f"{where}: value_set: found {value}; YAML reads yes, no, on and off so: put the label in quotes"
        )
    label, problem = label_cell(value, 10_000)
    if label is None or problem:
        raise UserError(f"{where}: value_set: found {value!r}; allowed: labels as text or numbers")
    return label


def _guess(found: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(found, names, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def _context(site: Path) -> tuple[Any, Any]:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    # Ephemeral: a context in a folder writes random ids into reviewed files.
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    context.add_data_docs_site(
        "site",
        {
            "class_name": "SiteBuilder",
            "show_how_to_buttons": False,
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(site)},
        },
    )
    asset = context.data_sources.add_pandas("snapshot").add_dataframe_asset("rows")
    return context, asset.add_batch_definition_whole_dataframe("all")


def _run(
    context: Any, batch: Any, name: str, built: Sequence[Any], frame: pd.DataFrame, run_name: str
) -> dict[int, Any]:
    """Results by the entry's number."""
    import great_expectations as gx
    from great_expectations.core.run_identifier import RunIdentifier

    suite = gx.ExpectationSuite(name=name)
    suite.expectations = list(built)
    suite = context.suites.add(suite)
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(name=name, validation_definitions=[definition], result_format=_RESULT)
    )
    answer = checkpoint.run(batch_parameters={"dataframe": frame}, run_id=RunIdentifier(run_name=run_name))
    return {
        result.expectation_config.meta[_ENTRY]: result for run in answer.run_results.values() for result in run.results
    }


def _publish(context: Any) -> None:
    context.build_data_docs(site_names=["site"])


def _judge(entry: Expectation, result: Any, names: Columns) -> tuple[Check, list[int]]:
    """The entry's check, and the rows to set aside."""
    outcome: Outcome = "pass"
    detail, rows = "", []
    raised = "Great Expectations gave no result" if result is None else _raised(result)
    values = {} if result is None else result.result or {}
    if raised:
        outcome, detail = "fail", f"the expectation could not be computed: {raised}"
    elif not result.success:
        indices = values.get("unexpected_index_list") or []
        outcome = "warn" if entry.severity == "warn" else "fail"
        if entry.severity == "quarantine" and indices:
            rows = [int(index) for index in indices]
            outcome, detail = "warn", f"{len(rows)} rows set aside as {_row_fault(entry, names).reason}"
        elif entry.severity == "quarantine":
            detail = "it names no rows that could be set aside, so the whole data set fails it"
    column = entry.kwargs.get("column")
    name = f"{entry.type}:{column}" if column else entry.type
    observed = None if raised else _observed(values)
    return Check(name=name, observed=observed, allowed=_rule(entry), outcome=outcome, detail=detail), rows


def _row_fault(entry: Expectation, names: Columns) -> Fault:
    of_label = entry.kwargs.get("column") in ("label", names.label)
    in_set = entry.type == "expect_column_values_to_be_in_set"
    return Fault("unknown_label" if in_set and of_label else entry.type, f"the rule: {_rule(entry)}")


def _raised(result: Any) -> str:
    """What an expectation raised, in one line; empty when it raised nothing."""
    info = result.exception_info or {}
    parts = [info] if "raised_exception" in info else list(info.values())
    messages = [str(part.get("exception_message")) for part in parts if part.get("raised_exception")]
    return " ".join(" ".join(dict.fromkeys(messages)).split())[:500]


def _observed(values: dict[str, Any]) -> float | int | str | None:
    if values.get("unexpected_count") is not None:
        count, percent = values["unexpected_count"], values.get("unexpected_percent") or 0.0
        return f"{count} unexpected ({percent:.3g}%)"
    value = values.get("observed_value")
    if isinstance(value, int | float) or value is None:
        absent = values.get("partial_missing_list")
        if value is None and "missing_count" in values:
            return f"missing: {_short(absent)}" if absent else "none missing"
        return value
    return _short(value)


def _rule(entry: Expectation) -> str:
    rule = ", ".join(f"{key}={_short(value)}" for key, value in entry.kwargs.items() if key != "column")
    return rule or entry.type.removeprefix("expect_").replace("_", " ")


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple | set) else str(value)
    return text if len(text) <= 200 else text[:199] + "…"


def _distinct(checks: Sequence[Check]) -> list[Check]:
    """Checks under names of their own: the second of a name becomes "name#2"."""
    seen: dict[str, int] = {}
    named = []
    for check in checks:
        seen[check.name] = count = seen.get(check.name, 0) + 1
        named.append(check if count == 1 else check.model_copy(update={"name": f"{check.name}#{count}"}))
    return named


def _summary(entry: Expectation, result: Any, check: Check) -> dict[str, Any]:
    """What validation.json keeps of an entry: all but the long lists."""
    values = {} if result is None else result.to_json_dict().get("result") or {}
    return {
        **entry.model_dump(mode="json"),
        "success": bool(result is not None and result.success),
        "outcome": check.outcome,
        "detail": check.detail,
        "result": {key: value for key, value in values.items() if key not in _LISTS},
    }
