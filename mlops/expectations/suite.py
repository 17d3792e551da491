"""The pipeline's suite, run by Great Expectations on a frame of rows, with Data Docs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlops.config import Expectation, PipelineConfig
from mlops.config_data import Columns
from mlops.data.checks import Fault
from mlops.expectations.docs import escape_values, self_contained
from mlops.expectations.entries import ENTRY, build, built_in_suite, place
from mlops.types import Check, Outcome

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("evergreen")

_RESULT = {"result_format": "COMPLETE", "include_unexpected_rows": False, "return_unexpected_index_query": False}
_LISTS = ("evergreen_rows", "unexpected_list", "unexpected_index_list", "unexpected_index_query")


_TURNS = 3  # what one entry sets aside may make another one name more
_Results = Callable[[str, Sequence[int], "pd.DataFrame"], dict[int, Any]]


class Judged(NamedTuple):
    """What the suite found: one check and one summary per entry, in the suite's order, and rows to set aside."""

    checks: list[Check]
    faults: dict[int, Fault]
    summaries: list[dict[str, Any]]


def run_suite(
    frame: pd.DataFrame, config: PipelineConfig, run_name: str, site: Path, known: Mapping[str, Any]
) -> Judged:
    """Runs the entries that may set rows aside, then all others on the rows that remain; builds Data Docs in `site`.

    frame: text columns, an index of distinct integers; may be empty. known: arguments that the pipeline fills in.
    Raises UserError, naming the entry, for an unknown expectation or wrong arguments. What goes wrong inside an
    expectation is a check that did not hold, by the entry's severity, never an error.
    """
    import_quietly()
    entries = config.suite or built_in_suite(config)
    columns = list(frame.columns)

    def built(n: int) -> Any:
        return build(entries[n], place(config, n, entries), columns, config, n, known)

    for n in range(len(entries)):
        built(n)
    context, batch = _context(site)

    def results(name: str, numbers: Sequence[int], rows: pd.DataFrame) -> dict[int, Any]:
        return _run(context, batch, f"{config.name}-{name}", [built(n) for n in numbers], rows, run_name)

    judged = _set_aside(frame, entries, config.data.columns, results)
    rest = [n for n, entry in enumerate(entries) if entry.severity != "quarantine"]
    found = results("set", rest, _without(frame, judged.faults)) if rest else {}
    for n in rest:
        judged.checks[n], _ = _judge(entries[n], found.get(n), config.data.columns)
        judged.summaries[n] = _summary(entries[n], found.get(n), judged.checks[n])
    escape_values(context.validation_results_store)
    context.build_data_docs(site_names=["site"])
    self_contained(site)
    order = range(len(entries))
    checks = _distinct([judged.checks[n] for n in order])
    return Judged(checks, judged.faults, [judged.summaries[n] for n in order])


class _Numbered(NamedTuple):
    """As Judged, by the entry's number."""

    checks: dict[int, Check]
    faults: dict[int, Fault]
    summaries: dict[int, dict[str, Any]]


def _set_aside(frame: pd.DataFrame, entries: Sequence[Expectation], names: Columns, results: _Results) -> _Numbered:
    """Judges the entries that may set rows aside. One that did is judged again on what remains: an entry may say more than
    that about rows, and what it says of the whole must not pass because it named some."""
    judged = _Numbered({}, {}, {})
    pending = [n for n, entry in enumerate(entries) if entry.severity == "quarantine"]
    for turn in range(1, _TURNS + 1):
        if not pending:
            break
        found = results("rows" if turn == 1 else f"rows-{turn}", pending, _without(frame, judged.faults))
        named: dict[int, list[int]] = {}
        for n in pending:
            check, rows = _judge(entries[n], found.get(n), names)
            if turn > 1 and check.outcome != "pass":
                first = judged.checks[n]
                over = "fail" if turn == _TURNS else check.outcome
                detail = f"{first.detail}; on the rows that remain: {check.detail}"
                check = first.model_copy(update={"outcome": over, "detail": detail})
            if turn == 1 or check.outcome != "pass":
                judged.checks[n] = check
                judged.summaries[n] = _summary(entries[n], found.get(n), check)
            if rows and turn < _TURNS:
                named[n] = rows
        for n, rows in named.items():
            for index in rows:
                judged.faults.setdefault(index, _row_fault(entries[n], names))
        pending = list(named)
    return judged


def _without(frame: pd.DataFrame, faults: Mapping[int, Fault]) -> pd.DataFrame:
    return frame[~frame.index.isin(list(faults))] if faults else frame


def import_quietly() -> None:
    """Great Expectations without telemetry, and without a log line for each of its own decorators."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    import great_expectations  # noqa: F401

    import mlops.expectations.classes  # noqa: F401

    # This one sets its own level when it is imported.
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)


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
        result.expectation_config.meta[ENTRY]: result for run in answer.run_results.values() for result in run.results
    }


def _judge(entry: Expectation, result: Any, names: Columns) -> tuple[Check, list[int]]:
    """The entry's check, and the rows to set aside."""
    outcome: Outcome = "pass"
    detail, rows = "", []
    raised = "Great Expectations gave no result" if result is None else _raised(result)
    values = {} if result is None else result.result or {}
    if raised:
        outcome = "warn" if entry.severity == "warn" else "fail"
        detail = f"the expectation could not be computed: {raised}"
    elif not result.success:
        indices = values.get("unexpected_index_list") or values.get("evergreen_rows") or []
        outcome = "warn" if entry.severity == "warn" else "fail"
        if entry.severity == "quarantine" and indices:
            rows = [int(index) for index in indices]
            outcome, detail = "warn", f"{len(rows)} rows set aside as {_row_fault(entry, names).reason}"
        elif entry.severity == "quarantine":
            detail = "it names no rows that could be set aside, so the whole data set fails it"
    if said := values.get("evergreen_detail"):
        detail = f"{said}; {detail}" if detail else said
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
