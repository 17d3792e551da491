"""All that a judgement looks at: handed in, so that judging again from the same record is the same judgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlops.config_gate import GateSection
from mlops.judging.answers import Rows
from mlops.statistics.spending import level
from mlops.tasks.base import Task
from mlops.types import Evaluation


@dataclass(frozen=True)
class Limits:
    """What a file may cost and lose against the model that it was made from; none is no limit. max_drop: of the metric.
    max_flips: share of rows with another answer."""

    max_drop: float
    max_flips: float
    p95_ms: float | None = None
    max_size_mb: float | None = None


@dataclass(frozen=True)
class Case:
    """subject: candidate, or the variant that may ship. candidate, champion, baselines: answers to the same rows; no champion
    for the first one. required: baselines that a first champion has to beat. earlier: digests of the rows that the champion
    was judged on when it came. golden: the candidate's answers to the golden rows. look: how many times these test rows have
    been looked at, with this one. noise_rate: share of wrong labels that the data gate estimates; none where it does not.
    original, limits: of a file that may ship, the answers of the model that it was made from, and what it has to keep; none
    for the candidate itself.
    """

    task: Task
    rules: GateSection
    evaluation: Evaluation
    candidate: Rows
    champion: Rows | None = None
    subject: str = "candidate"
    baselines: Mapping[str, Rows] = field(default_factory=dict)
    required: tuple[str, ...] = ("majority",)
    earlier: frozenset[int] = frozenset()
    golden: Rows | None = None
    look: int = 1
    noise_rate: float | None = None
    original: Rows | None = None
    limits: Limits | None = None

    @property
    def level(self) -> float:
        """What this look may spend of alpha."""
        return level(self.rules.alpha, self.look)

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the metric averages over: the candidate's own outputs, and what else the rows' labels need."""
        found, rows = self.evaluation, self.candidate
        own = found.outputs or tuple(name.removeprefix("f1/") for name in found.metrics if name.startswith("f1/"))
        seen = {name for label in set(rows.labels) for name in self.task.label_names(label)}
        return (*own, *(output for output in self.task.outputs(sorted(seen)) if output not in own))

    def units_named(self, n: int) -> str:
        """What n sampling units are called."""
        ranked = self.task.key == "text-ranking"
        return "rows" if not ranked and not self.candidate.units else "groups"
