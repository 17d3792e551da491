"""The gate section of a pipeline file: what lets a candidate in."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mlops.config_base import Section, Share, SourceUri
from mlops.expressions import Expression

BaselineName = Literal["majority", "tfidf", "most_frequent_tag"]
# What is compared with, by task. A first champion has to beat all of them, or those that its pipeline file names.
BASELINES: dict[str, tuple[BaselineName, ...]] = {
    "text-classification": ("majority", "tfidf"),
    "text-classification:multi": ("majority", "tfidf"),
    "text-classification:ordinal": ("majority", "tfidf"),
    "token-classification": ("majority", "most_frequent_tag"),
    "text-pair-classification": ("majority", "tfidf"),
    "text-ranking": ("majority", "tfidf"),
}


class SliceRule(Section):
    """A part of the test rows that is judged by itself: every value of a column, one label, or what an expression picks.

    column: any column of the source. expression: comparisons of n_tokens, n_chars, label or columns of the source with
    values, joined by and, or, not: "n_tokens > 64 and airline == 'Delta'".
    """

    column: Annotated[str, Field(min_length=1)] | None = None
    label: Annotated[str, Field(min_length=1)] | None = None
    expression: Annotated[str, Field(min_length=1, max_length=1000)] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> SliceRule:
        given = {
            name: value for name in ("column", "label", "expression") if (value := getattr(self, name)) is not None
        }
        if len(given) != 1:
            raise ValueError(
                f"found {', '.join(given) or 'none of them'}; allowed is one of column, label, expression, such as "
                '{column: airline}, {label: negative}, {expression: "n_tokens > 64"}'
            )
        if self.expression is not None:
            Expression(self.expression)  # raises ValueError, which says where it is wrong
        return self

    @property
    def name(self) -> str:
        """As reports say it."""
        return self.expression or (f"label: {self.label}" if self.label is not None else f"{self.column}")

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the source that it needs."""
        if self.expression is not None:
            return Expression(self.expression).columns
        return (self.column,) if self.column else ()


class GoldenSection(Section):
    """Rows that are never trained on and always judged. source: like data.source, with the same columns. floor: share of
    them that has to be answered right."""

    source: SourceUri
    floor: Share = 1.0


class GateSection(Section):
    """What lets a candidate in. Shares are of 1; none is no limit.

    metric: the pipeline file's, or the first of its task's in METRICS. floor: below it a candidate is rejected. margin: how
    much worse than the champion is still as good. alpha: chance that one test set lets a worse one in, over all looks at it.
    resamples: of the bootstrap. slices: parts judged by themselves. max_slice_drop: of the metric, on any of them, against
    the champion. max_ece: expected calibration error. baselines: what a first champion has to beat; none is all of its task,
    the others are reported. min_rows: test rows (units) below which nothing is decided. forgetting: drop on the rows that the
    champion was judged on when it came. golden: rows that are never trained on. min_slice_rows: smaller slices are reported
    and not judged.
    """

    metric: str = ""
    floor: Share = 0.5
    margin: Share = 0.01
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 5000
    slices: tuple[SliceRule, ...] = ()
    max_slice_drop: Share | None = None
    min_slice_rows: Annotated[int, Field(ge=2)] = 30
    max_ece: Share | None = None
    baselines: tuple[BaselineName, ...] | None = None
    min_rows: Annotated[int, Field(ge=1)] = 10
    forgetting: Share | None = None
    golden: GoldenSection | None = None

    @field_validator("golden", mode="before")
    @classmethod
    def _source_alone(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value

    @field_validator("baselines", "slices")
    @classmethod
    def _each_once(cls, value: Any) -> Any:
        if value is not None and len(set(value)) < len(value):
            raise ValueError("one of them stands there twice; allowed: each once")
        return value

    @property
    def slice_columns(self) -> tuple[str, ...]:
        """Columns of the source that the slices need, each once."""
        return tuple(dict.fromkeys(name for rule in self.slices for name in rule.columns))
