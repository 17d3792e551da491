"""The pipeline file: one frozen section per step; every fault reported at once with a did-you-mean."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, field_validator, model_validator

from mlops.config_base import Section, Share
from mlops.config_behaviour import BehaviourGroup, load_behaviour
from mlops.config_compress import CompressSection
from mlops.config_data import DataSection, SplitSources
from mlops.config_files import apply_overrides, locate, read_suite, read_yaml
from mlops.config_gate import BASELINES, BaselineName, GateSection
from mlops.config_notify import NotifyEntry
from mlops.config_rollout import RolloutSection
from mlops.config_train import ModelSection, TrainSection
from mlops.config_tune import TuneSection
from mlops.errors import ConfigError
from mlops.faults import describe, unknown

TaskName = Literal["text-classification", "token-classification", "text-pair-classification", "text-ranking"]
TASKS: tuple[str, ...] = get_args(TaskName)
SPLITS = ("train", "validation", "test")
NAME = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"  # of a pipeline, and so of its model
# What a gate may go by, the default first; each also per label behind a slash where the task says so.
METRICS: dict[str, tuple[str, ...]] = {
    "text-classification": ("macro_f1", "accuracy", "weighted_f1", "f1/LABEL"),
    "text-classification:multi": ("macro_f1", "accuracy", "micro_f1", "weighted_f1", "f1/LABEL"),
    "text-classification:ordinal": ("macro_f1", "accuracy", "weighted_f1", "qwk", "within_one", "f1/LABEL"),
    "token-classification": ("f1", "macro_f1", "precision", "recall", "f1/TYPE", "precision/TYPE", "recall/TYPE"),
    "text-pair-classification": ("macro_f1", "accuracy", "weighted_f1", "f1/LABEL"),
    "text-ranking": ("mrr", "map", "ndcg@10", "recall@1", "recall@3", "recall@10"),
}


class Expectation(Section):
    """One entry of a suite: a Great Expectations type with its arguments.

    severity: fail rejects the data set, quarantine sets the rows aside, warn only reports.
    """

    type: Annotated[str, Field(pattern=r"^expect_[a-z0-9_]+$")]
    kwargs: dict[str, Any] = Field(default={})
    severity: Literal["fail", "quarantine", "warn"] = "fail"
    meta: dict[str, Any] = Field(default={})


class ValidateSection(Section):
    """Limits of the data gate that hold for every pipeline.

    max_quarantined: a larger share of bad rows rejects the data set. max_text_bytes: longer texts are bad rows.
    min_rows_per_label: rarer labels are bad rows where none are declared. min_rows: fewer usable ones reject the data set.
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


class VerifySection(Section):
    """Limits of the file that ships; none is no limit. p95_ms: one row at a time. cold_start_s: from the start of a clean
    process to its first answer. max_size_mb: of its files. max_flips: share of changed labels."""

    p95_ms: Annotated[float, Field(gt=0)] | None = None
    max_size_mb: Annotated[float, Field(gt=0)] | None = None
    cold_start_s: Annotated[float, Field(gt=0)] | None = None
    max_flips: Share = 0.05


class PipelineConfig(Section):
    """A whole pipeline file. `load` fills in suite (the expectations' content), behaviour (the groups of tests/behaviour that
    are about this task and pipeline) and root (where paths start).

    promote: auto lets what passed serve, approval waits for a person each time, approve-first only for the first champion.
    approval_hours: how long Airflow waits for that person with promote: approval; then the release is held. rollout: what
    follows the first champion is tried on live requests before it serves. notify: whom Airflow tells what a retrain came to.
    """

    name: Annotated[str, Field(pattern=NAME, max_length=100)]
    task: TaskName
    data: DataSection
    expectations: str | None = None
    model: ModelSection
    validate_: Annotated[ValidateSection, Field(alias="validate")] = ValidateSection()
    prepare: PrepareSection = PrepareSection()
    tune: TuneSection | None = None
    train: TrainSection = TrainSection()
    gate: GateSection = GateSection()
    compress: CompressSection = CompressSection()
    verify: VerifySection = VerifySection()
    promote: Literal["approve-first", "auto", "approval"] = "approve-first"
    approval_hours: Annotated[float, Field(gt=0, le=720)] = 72.0
    rollout: RolloutSection | None = None
    notify: tuple[NotifyEntry, ...] = ()
    schedule: str | None = None
    suite: Annotated[tuple[Expectation, ...], Field(json_schema_extra={"loader": True})] = ()
    behaviour: Annotated[tuple[BehaviourGroup, ...], Field(json_schema_extra={"loader": True})] = ()
    root: Annotated[str, Field(json_schema_extra={"loader": True})] = "."

    @model_validator(mode="after")
    def _what_the_task_takes(self) -> PipelineConfig:
        tagged = self.task == "token-classification"
        if self.data.format == "conll" and not tagged:
            raise ValueError(
                f"data.format: found 'conll', which holds tokens and tags; {self.task} reads texts and labels"
            )
        if self.data.format == "text-folders" and self.task != "text-classification":
            raise ValueError(f"data.format: found 'text-folders', which holds one text a file; {self.task} needs more")
        named = (*self.data.columns.slices, *self.gate.slice_columns)
        if named and self.data.format in ("conll", "text-folders"):
            raise ValueError(
                f"gate.slices: found the column {named[0]!r}; {self.data.format} has no columns besides text and label: slice by "
                "label, n_tokens or n_chars"
            )
        if self.data.target != "single" and self.task != "text-classification":
            raise ValueError(f"data.target: found {self.data.target!r}; {self.task} has targets of one kind only")
        return self

    @model_validator(mode="after")
    def _metric_of_the_task(self) -> PipelineConfig:
        allowed = METRICS[self.task_key]
        found = self.gate.metric
        if not found:
            gate = self.gate.model_copy(update={"metric": allowed[0]})
            object.__setattr__(self, "gate", gate)  # frozen for everybody else
        elif found not in allowed and not any(
            each.endswith(("/LABEL", "/TYPE")) and found.startswith(each.partition("/")[0] + "/") for each in allowed
        ):
            close = difflib.get_close_matches(found, allowed, n=1, cutoff=0.5)
            guess = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"gate.metric: found {found!r}; allowed for {self.task_key}: {', '.join(allowed)}{guess}")
        return self

    @property
    def baselines(self) -> tuple[BaselineName, ...]:
        """What a first champion has to beat."""
        return BASELINES[self.task_key] if self.gate.baselines is None else self.gate.baselines

    @property
    def task_key(self) -> str:
        """The task's name, with the target behind a colon where it is not the plain one."""
        return self.task if self.data.target == "single" else f"{self.task}:{self.data.target}"

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
        kept["target"] = self.data.target
        if self.tune is not None:
            kept["tune"] = {key: value for key, value in values["tune"].items() if key != "workers"}
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
    root = next((place.parent for place in (root, *root.parents) if place.name == "pipelines"), root)
    suite: list[Any] = []
    for key in ("suite", "behaviour", "root"):
        if key in raw:
            faults.append(unknown((key,), raw.pop(key), PipelineConfig))
    where = raw.get("expectations")
    if isinstance(where, str):
        try:
            suite, found = read_suite(locate(where, root), where)
            faults.extend(found)
        except ConfigError as error:
            faults.extend(error.faults)
    behaviour, found = load_behaviour(root, raw.get("task"), raw.get("name"))
    faults.extend(found)
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
    return _resolve_paths(config.model_copy(update={"suite": tuple(entries), "behaviour": behaviour}), root)


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
    tune = config.tune
    if tune is not None:
        tune = tune.model_copy(update={"bases": tuple(absolute(uri) for uri in tune.bases)})
    gate = config.gate
    if gate.golden is not None:
        golden = gate.golden.model_copy(update={"source": absolute(gate.golden.source)})
        gate = gate.model_copy(update={"golden": golden})
    return config.model_copy(update={"data": data, "model": model, "tune": tune, "gate": gate})
