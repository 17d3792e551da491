"""The pipeline file: one frozen section per step; every fault reported at once with a did-you-mean."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from mlops.config_files import apply_overrides, locate, read_suite, read_yaml
from mlops.errors import ConfigError
from mlops.faults import describe, unknown

TASKS = ("text-classification",)
SPLITS = ("train", "validation", "test")
NAME = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"  # of a pipeline, and so of its model
METRICS = ("accuracy", "macro_f1", "weighted_f1")

Share = Annotated[float, Field(ge=0, le=1)]
SourceUri = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """A frozen part of a pipeline file; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_written(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses what pydantic would quietly turn into a number: true, "3", and 64.5 or 64.0 for a whole number."""
        kinds = _kinds(cls.model_fields[info.field_name or ""].annotation)
        if isinstance(value, bool) and bool not in kinds:
            raise ValueError("true and false are not allowed here")
        if isinstance(value, str) and str not in kinds and kinds & {int, float}:
            # YAML 1.1 reads 1e-4 as text: a float is meant.
            if float in kinds and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
                return float(value)
            raise ValueError("should be a number, without quotes")
        if isinstance(value, float) and int in kinds and float not in kinds:
            raise ValueError("should be a whole number, such as 64")
        return value

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, values: Any) -> Any:
        """ "columns:" with nothing below it is the default, except where none means something."""
        if not isinstance(values, dict):
            return values
        fields = {field.alias or name: field for name, field in cls.model_fields.items()}
        may = {name for name, field in fields.items() if NoneType in _kinds(field.annotation) or field.is_required()}
        return {key: value for key, value in values.items() if value is not None or key not in fields or key in may}


def _kinds(annotation: Any) -> set[Any]:
    """The plain types of an annotation such as Annotated[float, …] | None."""
    parts = get_args(annotation)
    if not parts:
        return {annotation}
    # Of Annotated the first is the type; of a literal or a tuple what is inside does not matter here.
    inner = parts[:1] if hasattr(annotation, "__metadata__") else parts
    return {kind for part in inner for kind in (_kinds(part) if not isinstance(part, str) else {str})}


class Columns(Section):
    """Names of the columns in the source; id, time and group are optional."""

    text: str = "text"
    label: str = "label"
    id: str | None = None
    time: str | None = None
    group: str | None = None

    @model_validator(mode="after")
    def _two_columns(self) -> Columns:
        if self.text == self.label:
            raise ValueError(f"text and label are both {self.text!r}; they must be two columns")
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
        if self.last and not self.column:
            raise ValueError(
                f"last: {self.last} needs the column that holds each row's time: {{column: NAME, last: …}}"
            )
        return self


class DataSection(Section):
    """Where the labelled text comes from.

    take: only this first share of the rows, in a stable order by row id; to rehearse growth or draw a learning curve.
    window: which rows of a source that grows. min_new_rows: with fewer new ones than that a run is skipped.
    labels: the allowed labels; none takes what the expectations allow, or what the data has often enough.
    """

    source: SourceUri | None = None
    format: Literal["text-folders", "jsonl", "csv", "parquet", "conll"] | None = None
    columns: Columns = Columns()
    splits: Shares | SplitSources = Shares()
    labels: tuple[str, ...] | None = None
    take: Annotated[float, Field(gt=0, le=1)] = 1.0
    window: Window | None = None
    min_new_rows: Annotated[int, Field(ge=0)] = 0

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
    def _some_source(self) -> DataSection:
        if self.source is None and isinstance(self.splits, Shares):
            raise ValueError("data.source is missing; name a source, or name every split's in data.splits")
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


class Expectation(Section):
    """One entry of a suite: a Great Expectations type with its arguments.

    severity: fail rejects the data set, quarantine sets the rows aside, warn only reports.
    """

    type: Annotated[str, Field(pattern=r"^expect_[a-z0-9_]+$")]
    kwargs: dict[str, Any] = {}
    severity: Literal["fail", "quarantine", "warn"] = "fail"
    meta: dict[str, Any] = {}


class ValidateSection(Section):
    """Limits of the data gate that hold for every pipeline.

    label_noise: most rows that are searched for wrong labels; 0 turns the search off. max_label_noise: estimated share of
    wrong labels from which the data set is rejected.
    """

    max_quarantined: Share = 0.2
    max_text_bytes: Annotated[int, Field(ge=1)] = 1_000_000
    min_rows_per_label: Annotated[int, Field(ge=1)] = 5
    min_rows: Annotated[int, Field(ge=1)] = 20
    label_noise: Annotated[int, Field(ge=0)] = 10_000
    max_label_noise: Share = 1.0


class PrepareSection(Section):
    """near_duplicate: Jaccard similarity of the texts' words from which two are one group; none turns grouping off. The
    default joins a text and its copy with 10% of the words replaced. drop_label_issues: rows of train whose labels the
    data gate suspects are not trained on.
    """

    near_duplicate: Annotated[float, Field(gt=0, le=1)] | None = 0.76
    drop_label_issues: bool = False


class ModelSection(Section):
    """base: URI of the pretrained model. max_length: tokens, the special ones included."""

    base: SourceUri
    max_length: Annotated[int, Field(ge=4, le=8192)] = 128


class TrainSection(Section):
    """Hyper-parameters. batch_tokens: most tokens in a batch, padding included. warmup: share of the steps."""

    epochs: Annotated[int, Field(ge=1, le=1000)] = 3
    learning_rate: Annotated[float, Field(ge=0, le=1)] = 5.0e-5
    batch_tokens: Annotated[int, Field(ge=16, le=10_000_000)] = 2048
    warmup: Share = 0.1
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 13


class GateSection(Section):
    """What lets a candidate in. margin: how much worse than the champion is still as good. alpha: of the one-sided test."""

    metric: Annotated[str, Field(pattern=r"^(accuracy|macro_f1|weighted_f1|f1/.+)$")] = "macro_f1"
    floor: Share = 0.5
    margin: Share = 0.01
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 5000


class CompressSection(Section):
    """variants: made and judged; the smallest that passes ships. max_drop: of the gate's metric, against the original."""

    variants: Annotated[tuple[Literal["int8", "fp32"], ...], Field(min_length=1)] = ("int8", "fp32")
    max_drop: Share = 0.01

    @field_validator("variants")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"found {', '.join(value)}; allowed: each once")
        return value


class VerifySection(Section):
    """Limits of the file that ships; none is no limit. p95_ms: one row at a time. max_flips: share of changed labels."""

    p95_ms: Annotated[float, Field(gt=0)] | None = None
    max_size_mb: Annotated[float, Field(gt=0)] | None = None
    max_flips: Share = 0.05


class PipelineConfig(Section):
    """A whole pipeline file. suite and root are filled in by `load`: the expectations' content, and where paths start."""

    name: Annotated[str, Field(pattern=NAME, max_length=100)]
    task: Literal["text-classification"]
    data: DataSection
    expectations: str | None = None
    model: ModelSection
    validate_: Annotated[ValidateSection, Field(alias="validate")] = ValidateSection()
    prepare: PrepareSection = PrepareSection()
    train: TrainSection = TrainSection()
    gate: GateSection = GateSection()
    compress: CompressSection = CompressSection()
    verify: VerifySection = VerifySection()
    promote: Literal["auto", "approval"] = "auto"
    schedule: str | None = None
    suite: Annotated[tuple[Expectation, ...], Field(json_schema_extra={"loader": True})] = ()
    root: Annotated[str, Field(json_schema_extra={"loader": True})] = "."

    @model_validator(mode="after")
    def _format_of_the_task(self) -> PipelineConfig:
        if self.data.format == "conll":
            raise ValueError(
                f"data.format: found 'conll', which holds tokens and tags; {self.task} reads texts and labels"
            )
        return self

    @field_validator("schedule")
    @classmethod
    def _cron(cls, value: str | None) -> str | None:
        presets = ("@hourly", "@daily", "@weekly", "@monthly", "@yearly", "@once")
        if value is None or value in presets:
            return value
        from croniter import croniter

        if len(value.split()) == 5 and croniter.is_valid(value):
            return value
        raise ValueError(f'allowed: five cron fields such as "0 3 * * 1", or one of {", ".join(presets)}')

    def section(self, name: str) -> Any:
        """A section by its name in the file."""
        return getattr(self, "validate_" if name == "validate" else name)

    @property
    def fingerprint(self) -> str:
        """sha256 of what decides the model besides data and base: task, max_length, training and the rules."""
        values = self.model_dump(mode="json", by_alias=True)
        kept = {key: values[key] for key in ("task", "train", "gate", "compress", "verify")}
        kept["max_length"] = self.model.max_length
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def load(path: str | Path, overrides: Sequence[str] | Mapping[str, Any] = ()) -> PipelineConfig:
    """Reads a pipeline file, with `section.key=value` overrides on top.

    Raises ConfigError with every fault at once: unreadable file, unknown keys, wrong types, impossible values.
    """
    path = Path(path)
    raw, faults = read_yaml(path, "the pipeline file")
    if not isinstance(raw, dict):
        raise ConfigError(str(path), [f"found {type(raw).__name__}, a pipeline file is a mapping of sections"])
    faults += apply_overrides(raw, overrides)
    root = path.resolve().parent
    root = root.parent if root.name == "pipelines" else root
    suite: list[Any] = []
    for key in ("suite", "root"):
        if key in raw:
            faults.append(unknown((key,), raw.pop(key), PipelineConfig))
    where = raw.get("expectations")
    if isinstance(where, str):
        try:
            suite, found = read_suite(locate(where, root), where)
            faults.extend(found)
        except ConfigError as error:
            faults.extend(error.faults)
    config: PipelineConfig | None = None
    try:
        config = PipelineConfig.model_validate({**raw, "root": str(root)})
    except ValidationError as error:
        faults.extend(describe(error, PipelineConfig))
    try:
        entries = [Expectation.model_validate(entry) for entry in suite]
    except ValidationError:
        entries = []
        for position, entry in enumerate(suite):
            try:
                Expectation.model_validate(entry)
            except ValidationError as error:
                faults.extend(describe(error, Expectation, prefix=(f"{where}[{position}]",)))
    if faults or config is None:
        raise ConfigError(str(path), faults)
    return _resolve_paths(config.model_copy(update={"suite": tuple(entries)}), root)


def _resolve_paths(config: PipelineConfig, root: Path) -> PipelineConfig:
    def absolute(uri: str | None) -> str | None:
        if uri is None or "://" in uri:
            return uri
        return str(locate(uri, root))

    splits = config.data.splits
    if isinstance(splits, SplitSources):
        splits = splits.model_copy(update={name: absolute(getattr(splits, name)) for name in SPLITS})
    data = config.data.model_copy(update={"source": absolute(config.data.source), "splits": splits})
    model = config.model.model_copy(update={"base": absolute(config.model.base)})
    return config.model_copy(update={"data": data, "model": model})
