"""The steps of a retrain, in order: which values each takes, which one it gives, where it runs."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlops.errors import NotFound

if TYPE_CHECKING:
    from mlops.config import PipelineConfig


@dataclass(frozen=True)
class Step:
    """One step of the flow.

    inputs: parameter -> name of the value it gets ("run.champion" is a field of the run, "raw.rows" one of a value).
    optional: the same of values that are none where the step that gives them is not part of the pipeline.
    output: name and type of the value that it gives. section: only pipelines that have it have the step. sections: those
    of the pipeline file that it reads. memo: whether equal inputs may reuse the earlier output; not so where a step looks
    at the outside. loads_model: runs in a process of its own under Airflow.
    """

    name: str
    inputs: Mapping[str, str]
    output: str
    type: str
    sections: tuple[str, ...] = ()
    memo: bool = True
    loads_model: bool = False
    module: str = ""
    doc: str = ""
    optional: Mapping[str, str] = field(default_factory=dict)
    section: str = ""

    @property
    def function(self) -> Callable[..., Any]:
        """The step's public function, imported on first use."""
        module = importlib.import_module(f"mlops.steps.{self.module or self.name}")
        return getattr(module, self.name)  # type: ignore[no-any-return]


_TRIALS = {"snapshot": "snapshot", "base": "run.base", "run": "run"}
# One worker of a study: `tune` runs the trials that are left by itself, workers beside it make it shorter.
TRIALS = Step(
    "tune_trials",
    _TRIALS,
    "study",
    "Study",
    memo=False,
    loads_model=True,
    module="tune",
    section="tune",
    doc="Run trials of a study that all workers share, until none is left.",
)

STEPS: tuple[Step, ...] = (
    Step("source", {}, "raw", "Snapshot", memo=False, doc="Pin the input to a content-addressed snapshot."),
    Step(
        "validate",
        {"snapshot": "raw", "base": "run.base", "parent": "raw.parent_sha256"},
        "data_verdict",
        "Verdict",
        ("task", "data", "model", "validate", "prepare", "suite"),
        doc="Great Expectations and the text data gate; bad rows go to quarantine.",
    ),
    Step(
        "prepare",
        {"snapshot": "raw", "verdict": "data_verdict", "base": "run.base"},
        "snapshot",
        "Snapshot",
        # The split book, pinned in the raw snapshot, is what earlier runs put where: it is looked at anew each time.
        memo=False,
        doc="Normalise, drop duplicates, split by a stable hash, tokenise once.",
    ),
    Step(
        "tune",
        _TRIALS,
        "tuned",
        "Tuned",
        memo=False,  # the study itself remembers its trials
        loads_model=True,
        section="tune",
        doc="Choose base model and hyper-parameters by trials on the validation rows.",
    ),
    Step(
        "fine_tune",
        {"snapshot": "snapshot", "base": "run.base", "run": "run"},
        "model",
        "ModelArtifact",
        ("task", "model", "train", "gate"),
        loads_model=True,
        doc="Fine-tune the base model; the best checkpoint by the validation metric is kept.",
        optional={"tuned": "tuned"},
    ),
    Step(
        "evaluate",
        {"model": "model", "snapshot": "snapshot"},
        "evaluation",
        "Evaluation",
        ("task", "behaviour"),
        loads_model=True,
        doc="Score the candidate on the frozen test rows, with intervals.",
    ),
    Step(
        "evaluate_champion",
        {"champion": "run.champion", "snapshot": "snapshot"},
        "champion_evaluation",
        "Evaluation",
        ("task",),
        loads_model=True,
        module="evaluate",
        doc="Score the champion on the same rows, through the runtime that serves it.",
    ),
    Step(
        "evaluate_baselines",
        {"snapshot": "snapshot"},
        "baselines",
        "Baselines",
        ("task",),
        module="evaluate",
        doc="Score what a few lines without a transformer answer to the same rows.",
    ),
    Step(
        "gate",
        {
            "candidate": "evaluation",
            "champion": "champion_evaluation",
            "baselines": "baselines",
            "snapshot": "snapshot",
            "data_verdict": "data_verdict",
            "release": "run.champion",
        },
        "gate_verdict",
        "Verdict",
        ("task", "gate"),
        doc="Floor, baselines and the paired difference with its interval; slices, calibration, golden rows.",
    ),
    Step(
        "compress",
        {"model": "model", "snapshot": "snapshot"},
        "variants",
        "Variants",
        ("task", "compress", "gate", "train"),
        loads_model=True,
        doc="Search the cheapest ONNX file that keeps the quality: graph, int8, rescues, students.",
    ),
    Step(
        "verify",
        {
            "original": "evaluation",
            "variants": "variants",
            "champion": "champion_evaluation",
            "baselines": "baselines",
            "snapshot": "snapshot",
            "data_verdict": "data_verdict",
            "release": "run.champion",
        },
        "selection",
        "Selection",
        ("task", "gate", "compress", "verify", "behaviour"),
        memo=False,  # it measures how fast this machine answers today
        loads_model=True,
        doc="Judge every variant as the file that ships; the cheapest that passes is chosen.",
    ),
    Step(
        "register",
        {
            "run": "run",
            "snapshot": "snapshot",
            "data_verdict": "data_verdict",
            "gate_verdict": "gate_verdict",
            "selection": "selection",
            "evaluation": "evaluation",
        },
        "release",
        "Release",
        memo=False,
        loads_model=True,
        doc="Register the chosen file in MLflow; refused without passing verdicts.",
    ),
    Step(
        "promote",
        {"run": "run", "release": "release"},
        "promotion",
        "Promotion",
        memo=False,
        doc="Move the champion alias under a lock and write the ledger.",
    ),
)


def steps_of(config: PipelineConfig) -> tuple[Step, ...]:
    """The steps of a pipeline, in order: those of sections that it does not have are left out."""
    return tuple(step for step in STEPS if not step.section or config.section(step.section) is not None)


def step_named(name: str) -> Step:
    """The step of that name; NotFound lists what there is."""
    for step in (*STEPS, TRIALS):
        if step.name == name:
            return step
    raise NotFound(f"no step {name!r}; there are: {', '.join(step.name for step in STEPS)}")
