"""The values that flow between steps: frozen, JSON-safe, the same in an XCom, on a command line and in a notebook."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, computed_field

from mlops.errors import Rejected

Outcome = Literal["pass", "warn", "inconclusive", "fail"]
RunOutcome = Literal["promoted", "held", "inconclusive", "awaiting_approval", "awaiting_rollout", "skipped", "rejected"]


class Value(BaseModel):
    """A frozen value; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ArtifactRef(Value):
    """A folder of files in the store, named by its content.

    kind: what it is, also its place in the store. uri: where it lies. sha256: digest of its manifest, which lists the
    sha256 of every file. size_bytes: sum over its files.
    """

    kind: str
    uri: str
    sha256: str
    size_bytes: int


class Check(Value):
    """One rule with what was observed and what is allowed."""

    name: str
    observed: float | int | str | None
    allowed: float | int | str | None
    unit: str = ""
    outcome: Outcome
    detail: str = ""


class Verdict(BaseModel):
    """The recorded outcome of a judgement. Its outcome is computed from its checks and cannot be set.

    docs: where a person reads more of it, on the machine that judged.
    """

    # The outcome is in the JSON that readers see; on the way in it is dropped and computed again.
    model_config = ConfigDict(frozen=True, extra="ignore")

    subject: str
    checks: tuple[Check, ...]
    report: ArtifactRef | None = None
    docs: str | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def outcome(self) -> Literal["pass", "inconclusive", "fail"]:
        outcomes = {check.outcome for check in self.checks}
        if not self.checks or "fail" in outcomes:
            return "fail"
        return "inconclusive" if "inconclusive" in outcomes else "pass"

    def explain(self) -> str:
        """One line per check that did not pass; no checks at all is a failure of its own."""
        if not self.checks:
            return f"{self.subject}: fail, nothing was checked"
        lines = [f"{self.subject}: {self.outcome}"]
        for check in self.checks:
            if check.outcome != "pass":
                seen, rule = f"{check.observed}{check.unit}", f"{check.allowed}{check.unit}"
                text = f"  {check.outcome}: {check.name} observed {seen}, allowed {rule}"
                lines.append(text + (f" ({check.detail})" if check.detail else ""))
        return "\n".join(lines)

    def require(self) -> None:
        """Raises Rejected, with every failed check, unless the outcome is "pass"."""
        if self.outcome != "pass":
            raise Rejected(self)


class Snapshot(Value):
    """An immutable set of rows with its splits.

    revision: sha256 of the content alone (two runs over the same rows agree). splits: one Parquet folder each; a raw
    snapshot, as `source` gives it, has the split "all" unless the pipeline names its splits by URI. labels: sorted.
    window: which rows of the source it holds. watermark: the newest row's time. parent_sha256: revision of the raw
    snapshot that it is compared with, that of the last retrain on other rows. new_rows: examples that the last retrain
    did not have; none where there was none.
    split_book: which split every text ever seen by the pipeline belongs to. deduplicated: rows dropped as copies, as
    contradicting, or because they resemble rows of test. verdict: what `prepare` found; none in a raw snapshot.
    """

    pipeline: str
    revision: str
    splits: dict[str, ArtifactRef]
    rows: dict[str, int]
    labels: tuple[str, ...]
    window: dict[str, Any] | None = None
    watermark: str | None = None
    parent_sha256: str | None = None
    new_rows: int | None = None
    quarantined: int = 0
    deduplicated: int = 0
    split_book: ArtifactRef | None = None
    verdict: Verdict | None = None


class ModelArtifact(Value):
    """One form (variant) of a trained model.

    variant: "torch" for the fine-tuned weights, "fp32" and "int8" for ONNX files. snapshot_sha256: the revision of the
    snapshot that it was trained on. parent_sha256: the files that this variant was made from.
    """

    files: ArtifactRef
    task: str
    base_model: str
    variant: str
    snapshot_sha256: str
    config_sha256: str
    parent_sha256: str | None = None


class Metric(Value):
    """A value with its interval over n rows; low = high = value where none can be given."""

    value: float
    low: float
    high: float
    n: int
    higher_is_better: bool = True


class Latency(Value):
    """Milliseconds per request of one row, through the serving runtime."""

    p50: float
    p95: float


class Behaviour(Value):
    """How a model did on a group of behaviour cases (Ribeiro et al., "Beyond accuracy: behavioral testing of NLP models with
    CheckList", ACL 2020).

    kind: minimum (the right answer), invariance (the same answer to what means the same), direction (a score that moves the
    right way). cases and passed: counts. least: share that has to pass. severity: what it means when fewer do. failures:
    some of those that did not, in words.
    """

    name: str
    kind: Literal["minimum", "invariance", "direction"]
    cases: int
    passed: int
    least: float
    severity: Literal["fail", "warn"]
    failures: tuple[str, ...] = ()


class Evaluation(Value):
    """A model's metrics on one split; `per_row` keeps one score per row for paired tests.

    outputs: what the model's outputs stand for, in their order. temperature: what its logits are divided by. golden: the
    same scores of the golden rows, where there are any.
    behaviour: the behaviour cases of the pipeline.
    """

    model_sha256: str
    snapshot_sha256: str
    split: str
    metrics: dict[str, Metric]
    outputs: tuple[str, ...] = ()
    slices: dict[str, dict[str, Metric]] = {}
    per_row: ArtifactRef
    latency: Latency | None = None
    size: int = 0
    temperature: float = 1.0
    golden: ArtifactRef | None = None
    behaviour: tuple[Behaviour, ...] = ()


class Baselines(Value):
    """What simple models score on the same rows, by their names in `gate.baselines`."""

    evaluations: dict[str, Evaluation]


class Attempt(Value):
    """One file that `compress` made and judged on the validation rows, beside fp32.

    name: of its form. recipe: how it was made. outcome: accepted kept the quality and is no slower than fp32; rejected did
    not; failed could not be made; skipped was not tried. files: none where there are none. metrics: on validation. drop: of
    the gate's metric against fp32, (value, low, high); more than 0 is a loss. flips: share of rows with another answer.
    worst_slice: name, rows, drop. ece: expected calibration error. measured: what it costs, as `compression.measure` says.
    fused: how many of which fusions its graph has. lost: whether quality, and not cost, kept it out.
    """

    name: str
    recipe: dict[str, Any]
    outcome: Literal["accepted", "rejected", "failed", "skipped"]
    reason: str
    files: ArtifactRef | None = None
    metrics: dict[str, Metric] = {}
    drop: tuple[float, float, float] | None = None
    flips: float | None = None
    worst_slice: dict[str, Any] | None = None
    ece: float | None = None
    measured: dict[str, Any] = {}
    fused: dict[str, int] = {}
    lost: bool = False
    seconds: float = 0.0


class Variants(Value):
    """What `compress` made, every one of them an ONNX package.

    After a search the one to ship first, then fp32 to fall back on; attempts: all that was tried, fp32 first; reason: why
    this one. Without a search there are no attempts, and models are in the order of the pipeline file.
    """

    models: tuple[ModelArtifact, ...]
    attempts: tuple[Attempt, ...] = ()
    reason: str = ""


class Selection(Value):
    """What `verify` found: the variant that ships (none when none may) and the judgement of every variant.

    evaluations and verdicts have one entry per variant. verdicts[chosen.variant] passed when chosen is not none. proofs: of
    the packages that were asked in a clean process, as the server will be; that of chosen passed.
    """

    chosen: ModelArtifact | None
    evaluations: dict[str, Evaluation]
    verdicts: dict[str, Verdict]
    proofs: dict[str, Verdict] = {}


class Release(Value):
    """A registered model version with the verdicts that let it in. replaces: the champion version it was judged against."""

    name: str
    version: str
    variant: str
    model: ModelArtifact
    evaluation: Evaluation
    verdicts: tuple[Verdict, ...]
    replaces: str | None = None


class Base(Value):
    """The pretrained model as pinned at the start of a run; sha256 is that of its files."""

    uri: str
    sha256: str


class Run(Value):
    """One retrain: what is pinned at its start, so that every later step sees the same champion and base.

    airflow: dag_id, run_id and url of the Airflow run; empty outside Airflow.
    """

    retrain_id: str
    pipeline: str
    champion: Release | None
    base: Base
    force: bool = False
    mlflow_run_id: str | None = None
    airflow: dict[str, str] = {}


class Study(Value):
    """Where a search for hyper-parameters stands: trials that are done, by how they ended, and the minutes spent in them."""

    name: str
    complete: int
    pruned: int
    failed: int
    minutes: float


class Tuned(Value):
    """What `tune` chose. base: the model to start from. train: what it changes in the train section.

    value: the best of the trial's epochs on the validation rows. snapshot: the prepared rows as the base's tokenizer
    reads them, under the revision that they had.
    """

    base: Base
    train: dict[str, Any]
    metric: str
    value: float
    trial: int
    study: Study
    snapshot: Snapshot


class Promotion(Value):
    """What became of a release: the ledger's entry, or the reason that there is none."""

    release: Release
    outcome: Literal["promoted", "held", "awaiting_approval", "awaiting_rollout"]
    reason: str
    fence: int | None = None


_NOT_IDENTITY = {"uri", "parent_sha256", "window", "split_book", "size_bytes", "docs"}


def identity(value: Any) -> str:
    """sha256 of what a value is, leaving out where it lies and where it came from: equal inputs have equal identities."""

    def strip(item: Any) -> Any:
        if isinstance(item, BaseModel):
            if isinstance(item, Snapshot):
                # What the rows are and what was dropped; not by which way they came.
                return ["Snapshot", item.revision, item.labels, item.pipeline]
            return strip(item.model_dump(mode="json"))
        if isinstance(item, dict):
            return {str(key): strip(entry) for key, entry in item.items() if key not in _NOT_IDENTITY}
        if isinstance(item, list | tuple):
            return [strip(entry) for entry in item]
        return item

    text = json.dumps(strip(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def artifacts(value: Any) -> list[ArtifactRef]:
    """Every artifact that a value refers to, however deep."""
    if isinstance(value, ArtifactRef):
        return [value]
    if isinstance(value, BaseModel):
        return [ref for name in type(value).model_fields for ref in artifacts(getattr(value, name))]
    if isinstance(value, dict):
        return [ref for entry in value.values() for ref in artifacts(entry)]
    if isinstance(value, list | tuple):
        return [ref for entry in value for ref in artifacts(entry)]
    return []
