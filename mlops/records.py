"""The whole record of a judgement as an artifact: rules, what was judged by its digests, seeds, numbers; and judging again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mlops.config_gate import GateSection
from mlops.errors import StoreError
from mlops.judgement import Judgement, judge
from mlops.judging.answers import Rows, metric_values, unit_statistics
from mlops.judging.case import Case, Limits
from mlops.judging.examples import changed
from mlops.rows import load
from mlops.statistics.bootstrap import intervals
from mlops.statistics.spending import level, spent, worn_at
from mlops.store import open_store
from mlops.tasks import get
from mlops.types import ArtifactRef, Evaluation, Verdict

KIND, FILE = "judgement", "judgement.json"
_TEXT = 300  # characters of a text that a report shows


@dataclass(frozen=True)
class Inputs:
    """What is judged, by reference. champion: on the same rows. earlier: per-row answers of the champion when it came.
    original: what a file was made from."""

    candidate: Evaluation
    champion: Evaluation | None = None
    baselines: Mapping[str, Evaluation] = field(default_factory=dict)
    earlier: ArtifactRef | None = None
    original: Evaluation | None = None

    def dump(self) -> dict[str, Any]:
        """As the record keeps it."""
        return {
            "candidate": _told(self.candidate),
            "champion": _told(self.champion) if self.champion else None,
            "baselines": {name: _told(found) for name, found in self.baselines.items()},
            "earlier": self.earlier.model_dump(mode="json") if self.earlier else None,
            "original": _told(self.original) if self.original else None,
        }

    @classmethod
    def load(cls, kept: Mapping[str, Any]) -> Inputs:
        """From what `dump` gave."""

        def evaluation(name: str) -> Evaluation | None:
            return Evaluation.model_validate(kept[name]) if kept.get(name) else None

        return cls(
            candidate=Evaluation.model_validate(kept["candidate"]),
            champion=evaluation("champion"),
            baselines={name: Evaluation.model_validate(value) for name, value in kept["baselines"].items()},
            earlier=ArtifactRef.model_validate(kept["earlier"]) if kept["earlier"] else None,
            original=evaluation("original"),
        )


def case_of(
    task: str,
    rules: GateSection,
    inputs: Inputs,
    *,
    subject: str,
    required: tuple[str, ...],
    look: int,
    noise_rate: float | None,
    limits: Limits | None = None,
) -> Case:
    """A case with its rows read from the store."""
    candidate, champion, original = inputs.candidate, inputs.champion, inputs.original
    return Case(
        task=get(task),
        rules=rules,
        evaluation=candidate,
        candidate=load(candidate.per_row),
        champion=load(champion.per_row) if champion else None,
        subject=subject,
        baselines={name: load(found.per_row) for name, found in inputs.baselines.items()},
        required=required,
        earlier=frozenset(load(inputs.earlier).digests) if inputs.earlier else frozenset(),
        golden=load(candidate.golden) if candidate.golden else None,
        look=look,
        noise_rate=noise_rate,
        original=load(original.per_row) if original else None,
        limits=limits,
    )


def noise_rate(verdict: Verdict) -> float | None:
    """The share of wrong labels that the data gate estimates; none where it did not look."""
    found = [check.observed for check in verdict.checks if check.name == "label_noise"]
    return float(found[0]) if found and isinstance(found[0], int | float) else None


def write(
    case: Case, judged: Judgement, inputs: Inputs, texts: Mapping[str, str], champion_version: str | None
) -> Verdict:
    """Stores the record; the verdict that points to it. texts: of the test and golden rows by id, for the examples."""
    body = _with_texts(record(case, judged, inputs, champion_version), case, texts)
    store = open_store()
    with store.workspace() as folder:
        text = json.dumps(body, indent=1, ensure_ascii=False, sort_keys=True)
        (folder / FILE).write_text(text + "\n", encoding="utf-8", errors="surrogatepass")
        return judged.verdict.model_copy(update={"report": store.put(folder, KIND)})


def record(case: Case, judged: Judgement, inputs: Inputs, champion_version: str | None) -> dict[str, Any]:
    """Everything that decided, and what was decided; no texts."""
    body = {
        "format": 1,
        "subject": case.subject,
        "task": case.task.key,
        "metric": case.rules.metric,
        "sentence": judged.sentence,
        "outcome": judged.verdict.outcome,
        "rules": case.rules.model_dump(mode="json"),
        "limits": asdict(case.limits) if case.limits else None,
        "required": list(case.required),
        "inputs": {"snapshot": case.evaluation.snapshot_sha256, **inputs.dump()},
        "champion_version": champion_version,
        "seed": 0,
        "look": _look(case),
        "noise_rate": case.noise_rate,
        "checks": [check.model_dump(mode="json") for check in judged.verdict.checks],
        "candidate": _metric(case, case.candidate),
        "champion": _metric(case, case.champion),
        "golden": _golden(case),
        "behaviour": [group.model_dump(mode="json") for group in case.evaluation.behaviour],
        "changed": changed(case.candidate, case.champion) if case.champion else None,
        **judged.numbers,
        "calibration": _calibration(case, judged),
    }
    found: dict[str, Any] = finite(body)
    return found


def finite(value: Any) -> Any:
    """The same with none in the place of numbers that are none: JSON has no others, and NaN equals not even itself."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    return [finite(each) for each in value] if isinstance(value, list | tuple) else value


def _told(evaluation: Evaluation) -> dict[str, Any]:
    return evaluation.model_dump(mode="json")


def _metric(case: Case, rows: Rows | None) -> dict[str, Any] | None:
    """A model's own value of the gate's metric, over the same outputs as the difference."""
    if rows is None or case.rules.metric not in case.evaluation.metrics:
        return None
    units = unit_statistics(case.task, rows, rows.judged, case.outputs)
    found = intervals(units, metric_values(case.task, case.outputs))[case.rules.metric]
    return found.model_dump(mode="json", include={"value", "low", "high", "n"})


def _look(case: Case) -> dict[str, Any]:
    alpha = case.rules.alpha
    refresh = case.look >= worn_at(alpha)
    return {
        "number": case.look,
        "alpha": level(alpha, case.look),
        "alpha_total": alpha,
        "spent": spent(alpha, case.look),
        "refresh": refresh,
        "detail": f"look {case.look} at these test rows; from look {worn_at(alpha)} on they ought to be refreshed",
    }


def _calibration(case: Case, judged: Judgement) -> dict[str, Any] | None:
    found: dict[str, Any] | None = judged.numbers.get("calibration")
    return found | {"temperature": case.evaluation.temperature} if found else None


def _golden(case: Case) -> dict[str, Any] | None:
    rows = case.golden
    if rows is None:
        return None
    answered = zip(rows.ids, rows.labels, rows.predicted, rows.right.tolist(), strict=True)
    wrong = [{"row_id": row, "label": label, "predicted": said} for row, label, said, right in answered if not right]
    return {"rows": len(rows.ids), "right": int(rows.right.sum()), "wrong": wrong[:50]}


def _with_texts(body: dict[str, Any], case: Case, texts: Mapping[str, str]) -> dict[str, Any]:
    """The same with texts beside the row ids of examples."""

    def told(row: Any) -> dict[str, Any]:
        entry = row if isinstance(row, dict) else {"row_id": row}
        return entry | {"text": texts.get(entry["row_id"], "")[:_TEXT]}

    body["confusions"] = [
        pair | {"examples": [told(row) for row in pair["examples"]]} for pair in body.get("confusions", [])
    ]
    if body["changed"]:
        examples = {name: [told(row) for row in rows] for name, rows in body["changed"]["examples"].items()}
        body["changed"] = body["changed"] | {"examples": examples}
    if body["golden"]:
        body["golden"] = body["golden"] | {"wrong": [told(row) for row in body["golden"]["wrong"]]}
    return body


def read(ref: ArtifactRef) -> dict[str, Any]:
    """A stored record; StoreError for an artifact of another kind."""
    if ref.kind != KIND:
        raise StoreError(f"{ref.kind}/{ref.sha256} is no record of a judgement")
    path = open_store().fetch(ref) / FILE
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8", errors="surrogatepass"))
    return found


def again(body: Mapping[str, Any]) -> tuple[Judgement, list[str]]:
    """The judgement of a record anew, from its rules and the rows that it names, and what differs: nothing, to the bit."""
    limits = body.get("limits")
    case = case_of(
        body["task"],
        GateSection.model_validate(body["rules"]),
        Inputs.load(body["inputs"]),
        subject=body["subject"],
        required=tuple(body["required"]),
        look=body["look"]["number"],
        noise_rate=body["noise_rate"],
        limits=Limits(**limits) if limits else None,
    )
    judged = judge(case)
    now = {
        "outcome": judged.verdict.outcome,
        "sentence": judged.sentence,
        "checks": [check.model_dump(mode="json") for check in judged.verdict.checks],
    }
    # The examples of confusions have texts beside them in the record, which decide nothing.
    now |= {name: value for name, value in judged.numbers.items() if name != "confusions"}
    now = json.loads(json.dumps(finite(now | {"calibration": _calibration(case, judged)})))
    return judged, [f"{name}: {body.get(name)} then, {now[name]} now" for name in now if body.get(name) != now[name]]
