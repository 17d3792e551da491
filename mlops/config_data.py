"""The data section of a pipeline file: source, format, columns, splits, labels, window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mlops.config_base import Section, SourceUri

GOLDEN = "golden"  # the split of rows that are judged and never trained on
SLICE = "slice:"  # before the name of such a column in snapshots and in per-row answers


class Columns(Section):
    """Names of the columns in the source; id, time and group are optional.

    text and label: of classification. text_a, text_b and label: of pairs and rankings. query: what candidates are ranked
    within, by default text_a. tokens and tags: of token-classification. slices: further ones that test rows are looked at by;
    those that gate.slices names are read as well.
    """

    text: str = "text"
    label: str = "label"
    text_a: str = "text_a"
    text_b: str = "text_b"
    query: str | None = None
    tokens: str = "tokens"
    tags: str = "tags"
    id: str | None = None
    time: str | None = None
    group: str | None = None
    slices: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _two_columns(self) -> Columns:
        for one, other in (
            ("text", "label"),
            ("text_a", "text_b"),
            ("text_a", "label"),
            ("text_b", "label"),
            ("tokens", "tags"),
        ):
            if getattr(self, one) == getattr(self, other):
                raise ValueError(f"{one} and {other} are both {getattr(self, one)!r}; they must be two columns")
        return self


class Shares(Section):
    """Shares of the rows per split, by a stable hash of each text's near-duplicate group."""

    train: Annotated[float, Field(gt=0, lt=1)] = 0.8
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    test: Annotated[float, Field(gt=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _sum_to_one(self) -> Shares:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the shares add up to {total:g}; they must add up to 1")
        return self


class SplitSources(Section):
    """Splits given by URI; a validation split that is not given is cut from train."""

    train: SourceUri
    test: SourceUri
    validation: SourceUri | None = None


class Window(Section):
    """Which rows of a growing source are used: those of the last days by a time column, or the newest so many.

    last: a span such as 180d, 26w, 36h, counted back from the newest row. format: how the times are written, in the
    signs of strptime; none takes ISO 8601 and seconds since 1970. rows: the newest by the time column, where there is
    one, else the last read.
    """

    column: Annotated[str, Field(min_length=1)] | None = None
    last: Annotated[str, Field(pattern=r"^[1-9]\d{0,5}[hdw]$")] | None = None
    format: Annotated[str, Field(min_length=2)] | None = None
    rows: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Window:
        if (self.last is None) == (self.rows is None):
            raise ValueError("allowed: {column: NAME, last: 180d}, or {rows: 500000}")
        return self


class DataSection(Section):
    """Where the labelled text comes from.

    source: a path, a glob, or a URI. format: of its files; none goes by their ending. take: only this first share of the
    rows, in a stable order by row id; to rehearse growth or draw a learning curve. window: which rows of a source that grows.
    min_new_rows: with fewer new ones than that a run is skipped. watch: seconds between two looks for new files or objects,
    whose coming starts a retrain in Airflow; none does not look. target: one label a text (single), any number of them
    (multi: a list in JSON and Parquet, a JSON list or labels parted by | in a text cell), or one of labels that have an order
    (ordinal). test: frozen keeps every row of test there for ever; rolling takes the newest rows by the time column each
    time, and lets them be trained on when they are older. labels: the allowed labels; none takes what the expectations allow,
    or what the data has often enough. For ordinal targets in their order; without it they must be numbers.
    """

    source: SourceUri | None = None
    format: Literal["text-folders", "jsonl", "csv", "parquet", "conll"] | None = None
    columns: Columns = Columns()
    splits: Shares | SplitSources = Shares()
    target: Literal["single", "multi", "ordinal"] = "single"
    test: Literal["frozen", "rolling"] = "frozen"
    labels: tuple[str, ...] | None = None
    take: Annotated[float, Field(gt=0, le=1)] = 1.0
    window: Window | None = None
    min_new_rows: Annotated[int, Field(ge=0)] = 0
    watch: Annotated[float, Field(ge=1, le=86_400)] | None = None

    @field_validator("splits", mode="before")
    @classmethod
    def _which_splits(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            # Decided by hand so that a fault is reported for the kind that was meant, not for both.
            uris = all(isinstance(entry, str) for entry in value.values())
            return SplitSources.model_validate(value) if uris else Shares.model_validate(value)
        return value

    @field_validator("labels", mode="before")
    @classmethod
    def _as_snapshots_write_them(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        if truths := [label for label in value if isinstance(label, bool)]:
            raise ValueError(f"found {truths[0]}; YAML reads yes, no, on and off so: put the label in quotes")
        labels = [str(label) if isinstance(label, int) else label for label in value]
        texts = [label for label in labels if isinstance(label, str)]
        if odd := [label for label in texts if label != label.strip() or not label]:
            raise ValueError(f"found {odd[0]!r}; labels have no white space around them and are not empty")
        if len(set(texts)) < len(texts) or len(labels) < 2:
            raise ValueError(f"found {', '.join(map(str, labels)) or 'none'}; allowed: two or more different labels")
        return labels

    @model_validator(mode="after")
    def _seen_by_a_listing(self) -> DataSection:
        uri = self.splits.train if isinstance(self.splits, SplitSources) else self.source or ""
        if self.watch is not None and "://" in uri and uri.partition("://")[0] not in ("file", "s3"):
            raise ValueError(
                f"data.watch: found {self.watch:g} for {uri}; allowed for a path, file:// or s3://: nothing else tells by a "
                "listing that it has changed"
            )
        return self

    @model_validator(mode="after")
    def _some_source(self) -> DataSection:
        if self.source is None and isinstance(self.splits, Shares):
            raise ValueError("data.source is missing; name a source, or name every split's in data.splits")
        if self.window and self.window.last and not (self.window.column or self.columns.time):
            raise ValueError(
                f"window: last: {self.window.last} needs the column that holds each row's time: {{column: NAME, last: …}}"
            )
        if self.test == "rolling" and (self.columns.time is None or isinstance(self.splits, SplitSources)):
            raise ValueError(
                "data.test: rolling takes the newest rows: it needs data.columns.time, and data.splits as shares"
            )
        window, time = self.window and self.window.column, self.columns.time
        if window and time and window != time:
            raise ValueError(
                f"data.window.column is {window!r}, data.columns.time {time!r}; rows have one time: name one"
            )
        extra = [name for name in ("id", "time", "group") if getattr(self.columns, name)]
        extra += ["window.column"] if self.window and self.window.column else []
        if self.format == "text-folders" and extra:
            raise ValueError(
                f"data.columns has {', '.join(extra)}; text-folders are files, they have text and label only"
            )
        return self
