"""Our expectations as Great Expectations classes: they run in any suite once this module is imported.

Each says in a sentence what it expects (`template`, shown in Data Docs) and names the function that looks at a frame.
This module imports Great Expectations at its top, because classes cannot be made before their bases: it is itself only
imported where a suite is run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar

from great_expectations.compatibility.pydantic import validator
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import BatchExpectation
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider
from great_expectations.expectations.registry import get_expectation_impl
from great_expectations.render import (
    LegacyDiagnosticRendererType,
    LegacyRendererType,
    RenderedStringTemplateContent,
    RenderedTableContent,
)
from great_expectations.render.renderer.renderer import renderer
from great_expectations.validator.metric_configuration import MetricConfiguration

from mlops.expectations import copies, shift, texts
from mlops.expectations import labels as label_checks  # A field of an expectation is called labels.
from mlops.expectations.finding import Finding

METRIC = "table.evergreen_finding"


class TextExpectation(BatchExpectation):  # type: ignore[misc]
    """What ours have in common. Subclasses give fields with defaults, `template` with $field in it, and `look`.

    look: a function of a pandas frame and the class's own fields that gives a Finding.
    filled: fields that the pipeline knows and a suite need not name (see `mlops.expectations.suite`).
    """

    template: ClassVar[str]
    look: ClassVar[Callable[..., Finding]]
    filled: ClassVar[tuple[str, ...]] = ()
    domain_keys: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def own_fields(cls) -> list[str]:
        """The arguments that this class adds to those of every expectation."""
        return [name for name in cls.__fields__ if name not in BatchExpectation.__fields__]

    def get_validation_dependencies(self, execution_engine: Any = None, runtime_configuration: Any = None) -> Any:
        dependencies = super().get_validation_dependencies(execution_engine, runtime_configuration)
        arguments = {name: getattr(self, name) for name in self.own_fields()}
        metric = MetricConfiguration(
            metric_name=METRIC,
            metric_domain_kwargs={},
            metric_value_kwargs={"kind": self.expectation_type, "arguments": json.dumps(arguments, sort_keys=True)},
        )
        dependencies.set_metric_configuration(metric_name=METRIC, metric_configuration=metric)
        return dependencies

    def _validate(
        self, metrics: dict[str, Any], runtime_configuration: Any = None, execution_engine: Any = None
    ) -> Any:
        finding: Finding = metrics[METRIC]
        result: dict[str, Any] = {
            "observed_value": finding.observed,
            "evergreen_detail": finding.detail,
            "evergreen_table": [list(finding.header), *map(list, finding.table)] if finding.table else [],
        }
        if finding.rows:
            # Not by the name that column maps use: Data Docs would then ask for counts of unexpected values.
            result |= {"evergreen_rows": list(finding.rows)}
        return {"success": finding.success, "result": result}

    @classmethod
    @renderer(renderer_type=LegacyRendererType.PRESCRIPTIVE)  # type: ignore[untyped-decorator]
    def _prescriptive_renderer(
        cls, configuration: Any = None, result: Any = None, runtime_configuration: Any = None
    ) -> list[RenderedStringTemplateContent]:
        config = configuration or result.expectation_config
        fields = {name: field.default for name, field in cls.__fields__.items()}
        params = {name: _plain(config.kwargs.get(name, fields.get(name))) for name in cls.own_fields()}
        return [_sentence(cls.template, params)]

    @classmethod
    @renderer(renderer_type=LegacyDiagnosticRendererType.OBSERVED_VALUE)  # type: ignore[untyped-decorator]
    def _diagnostic_observed_value_renderer(
        cls, configuration: Any = None, result: Any = None, runtime_configuration: Any = None
    ) -> str:
        values = (result.result if result is not None else None) or {}
        observed, detail = values.get("observed_value"), values.get("evergreen_detail") or ""
        return " — ".join(str(part) for part in (observed, detail) if part not in (None, "")) or "--"

    @classmethod
    @renderer(renderer_type=LegacyDiagnosticRendererType.UNEXPECTED_TABLE)  # type: ignore[untyped-decorator]
    def _diagnostic_unexpected_table_renderer(
        cls, configuration: Any = None, result: Any = None, runtime_configuration: Any = None
    ) -> list[RenderedTableContent] | None:
        rows = ((result.result if result is not None else None) or {}).get("evergreen_table")
        if not rows:
            return None
        styling = {"body": {"classes": ["table-bordered", "table-sm", "mt-3"]}}
        header, *body = rows
        return [
            RenderedTableContent(
                content_block_type="table",
                table=[[_sentence("$cell", {"cell": cell}) for cell in row] for row in body],
                header_row=header,
                styling=styling,
            )
        ]


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)


def _sentence(template: str, params: dict[str, Any]) -> RenderedStringTemplateContent:
    # As params, never as part of the template: a text of the data set may hold a "$".
    string = {"template": template, "params": params, "styling": {"default": {"classes": []}}}
    return RenderedStringTemplateContent(content_block_type="string_template", string_template=string)


def _above_zero(*names: str) -> Any:
    """A check of an expectation's own fields: what is found is divided by them, or is never below them."""

    def check(value: float) -> float:
        if not value > 0:
            raise ValueError(f"found {value}; allowed: a number above 0; leave it out for the default")
        return value

    return validator(*names, allow_reuse=True)(check)


class EvergreenFinding(TableMetricProvider):  # type: ignore[misc]
    """The one metric behind all of ours: the finding of an expectation's `look` at the whole frame."""

    metric_name = METRIC
    value_keys = ("kind", "arguments")

    @metric_value(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(
        cls,
        execution_engine: Any,
        metric_domain_kwargs: Any,
        metric_value_kwargs: Any,
        metrics: Any,
        runtime_configuration: Any,
    ) -> Finding:
        frame = execution_engine.get_domain_records(domain_kwargs=metric_domain_kwargs)
        kind: Any = get_expectation_impl(metric_value_kwargs["kind"])
        finding: Finding = kind.look(frame, **json.loads(metric_value_kwargs["arguments"]))
        return finding


class ExpectLabelsToHaveRows(TextExpectation):
    """Expect every label to have enough rows, and no label outside the set where one is given."""

    column: str = "label"
    min_rows: int = 5
    labels: list[str] | None = None
    template = "Every label in $column must have at least $min_rows rows; allowed labels: $labels."
    look = staticmethod(label_checks.label_rows)


class ExpectLabelSharesToResembleParent(TextExpectation):
    """Expect the label shares to be those of the last retrain's snapshot, by an effect size (Cohen's w)."""

    column: str = "label"
    max_effect: float = 0.3
    min_rows: int = 100
    parent: dict[str, int] | None = None
    _above = _above_zero("max_effect")
    filled = ("parent",)
    template = (
        "The shares of $column must lie within an effect (Cohen's w) of $max_effect of the earlier snapshot's; "
        "judged from $min_rows rows on."
    )
    look = staticmethod(label_checks.label_shift)


class ExpectTextToHaveOneLabel(TextExpectation):
    """Expect no text to stand there with different labels."""

    column: str = "text"
    label: str = "label"
    max_share: float = 0.0
    template = "At most a share of $max_share of the rows may have a text in $column that also has another $label."
    look = staticmethod(label_checks.one_label_per_text)


class ExpectTagsToBeLegal(TextExpectation):
    """Of a sentence's tags every I- goes on with an entity of its own kind, and each is a tag."""

    column: str = "label"
    max_share: float = 0.0
    template = "At most a share of $max_share of the rows may have tags in $column that IOB2 does not allow."
    look = staticmethod(label_checks.legal_tags)


class ExpectTextEncodingToBeIntact(TextExpectation):
    """Expect no mojibake (by ftfy's judgement), replacement, control or bidi override characters."""

    column: str = "text"
    max_share: float = 0.0
    template = (
        "At most a share of $max_share of the texts in $column may have damaged encoding: mojibake, replacement, "
        "control or bidi characters."
    )
    look = staticmethod(texts.encoding_damage)


class ExpectTextToFitModel(TextExpectation):
    """Expect texts to have no more tokens, by the pipeline's own tokenizer, than the model is given."""

    column: str = "text"
    max_share: float = 0.1
    max_length: int = 128
    tokenizer: str | None = None
    task: str = "text-classification"
    filled = ("max_length", "tokenizer", "task")
    template = "At most a share of $max_share of the texts in $column may be cut off at $max_length tokens."
    look = staticmethod(texts.token_lengths)


class ExpectTextLanguageToBeInSet(TextExpectation):
    """Expect most texts to be in the allowed languages."""

    column: str = "text"
    languages: list[str]
    min_share: float = 0.9
    template = "At least a share of $min_share of the texts in $column must be in one of: $languages."
    look = staticmethod(texts.languages)


class ExpectShareOfCopiesToBeAtMost(TextExpectation):
    """Expect few rows to repeat an earlier row's text, whatever its case and white space."""

    column: str = "text"
    max_share: float = 0.2
    template = "At most a share of $max_share of the rows may repeat an earlier text in $column."
    look = staticmethod(copies.exact_copies)


class ExpectShareOfNearDuplicatesToBeAtMost(TextExpectation):
    """Expect few rows to be a copy or near-duplicate of an earlier row."""

    column: str = "text"
    max_share: float = 0.3
    similarity: float = 0.76
    template = (
        "At most a share of $max_share of the rows may resemble an earlier text in $column "
        "(Jaccard similarity of words from $similarity)."
    )
    look = staticmethod(copies.near_duplicates)


class ExpectNewRowsToResembleOldOnes(TextExpectation):
    """Expect the new rows of a label to say what its old rows say: a poisoned batch does not."""

    column: str = "text"
    label: str = "label"
    new: str = "new"
    max_effect: float = 0.1
    max_distance: float = 0.1
    max_novel: float = 0.1
    min_rows: int = 30
    _above = _above_zero("max_effect", "max_distance", "max_novel")
    template = (
        "New rows of each $label must resemble its old rows: effect up to $max_effect (Cohen's h of the share that a "
        "model of the old rows puts elsewhere), distance of the words up to $max_distance, one novel word in a share of "
        "up to $max_novel; judged from $min_rows rows on."
    )
    look = staticmethod(shift.new_rows)
