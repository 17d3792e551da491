"""The whole record of a judgement as an artifact: rules, what was judged by its digests, seeds, numbers; and judging again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mlops.config_gate import GateSection
from mlops.errors import StoreError
from mlops.judgement import Judgement, judge
from mlops.judging.case import Case
from mlops.judging.examples import changed
from mlops.rows import load
from mlops.statistics.spending import level, spent, worn_at
from mlops.store import open_store
from mlops.tasks import get
from mlops.types import ArtifactRef, Evaluation, Verdict

KIND, FILE = "judgement", "judgement.json"
_TEXT = 300  # characters of a text that a report shows


def case_of(
    task: str,
    rules: GateSection,
    evaluation: Evaluation,
    champion: Evaluation | None,
    baselines: Mapping[str, Evaluation],
    earlier: ArtifactRef | None,
    subject: str,
    required: tuple[str, ...],
    look: int,
    noise_rate: float | None,
) -> Case:
    """A case with its rows read from the store. earlier: per-row answers of the champion when it came."""
    return Case(
        task=get(task),
        rules=rules,
        evaluation=evaluation,
        candidate=load(evaluation.per_row),
        champion=load(champion.per_row) if champion else None,
        subject=subject,
        baselines={name: load(found.per_row) for name, found in baselines.items()},
        required=required,
        earlier=frozenset(load(earlier).digests) if earlier else frozenset(),
        golden=load(evaluation.golden) if evaluation.golden else None,
        look=look,
        noise_rate=noise_rate,
    )


def write(
    case: Case,
    judged: Judgement,
    champion: Evaluation | None,
    baselines: Mapping[str, Evaluation],
    earlier: ArtifactRef | None,
    texts: Mapping[str, str],
    champion_version: str | None,
) -> Verdict:
    """Stores the record; the verdict that points to it. texts: of the test and golden rows by id, for the examples."""
    body = record(case, judged, champion, baselines, earlier, champion_version)
    body = _with_texts(body, case, texts)
    store = open_store()
    with store.workspace() as folder:
        text = json.dumps(body, indent=1, ensure_ascii=False, sort_keys=True)
        (folder / FILE).write_text(text + "\n", encoding="utf-8", errors="surrogatepass")
        return judged.verdict.model_copy(update={"report": store.put(folder, KIND)})


def record(
    case: Case,
    judged: Judgement,
    champion: Evaluation | None,
    baselines: Mapping[str, Evaluation],
    earlier: ArtifactRef | None,
    champion_version: str | None,
) -> dict[str, Any]:
    """Everything that decided, and what was decided; no texts."""
    metric = case.rules.metric
    return {
        "format": 1,
        "subject": case.subject,
        "task": case.task.key,
        "metric": metric,
        "sentence": judged.sentence,
        "outcome": judged.verdict.outcome,
        "rules": case.rules.model_dump(mode="json"),
        "required": list(case.required),
        "inputs": {
            "snapshot": case.evaluation.snapshot_sha256,
            "candidate": _told(case.evaluation),
            "champion": _told(champion) if champion else None,
            "baselines": {name: _told(found) for name, found in baselines.items()},
            "earlier": earlier.model_dump(mode="json") if earlier else None,
        },
        "champion_version": champion_version,
        "seed": 0,
        "look": _look(case),
        "noise_rate": case.noise_rate,
        "checks": [check.model_dump(mode="json") for check in judged.verdict.checks],
        "candidate": _metric(case.evaluation, metric),
        "champion": _metric(champion, metric) if champion else None,
        "golden": _golden(case),
        "behaviour": [group.model_dump(mode="json") for group in case.evaluation.behaviour],
        "changed": changed(case.candidate, case.champion) if case.champion else None,
        **judged.numbers,
        "calibration": _calibration(case, judged),
    }


def _told(evaluation: Evaluation) -> dict[str, Any]:
    return evaluation.model_dump(mode="json")


def _metric(evaluation: Evaluation, name: str) -> dict[str, Any] | None:
    found = evaluation.metrics.get(name)
    return found.model_dump(mode="json", include={"value", "low", "high", "n"}) if found else None


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
    inputs = body["inputs"]

    def evaluation(value: Any) -> Evaluation | None:
        return Evaluation.model_validate(value) if value else None

    candidate = evaluation(inputs["candidate"])
    assert candidate is not None
    case = case_of(
        body["task"],
        GateSection.model_validate(body["rules"]),
        candidate,
        evaluation(inputs["champion"]),
        {name: Evaluation.model_validate(value) for name, value in inputs["baselines"].items()},
        ArtifactRef.model_validate(inputs["earlier"]) if inputs["earlier"] else None,
        body["subject"],
        tuple(body["required"]),
        body["look"]["number"],
        body["noise_rate"],
    )
    judged = judge(case)
    kept = {check["name"]: check for check in body["checks"]}
    differs = [
        f"check {check.name}: {kept.get(check.name)} then, {check.model_dump(mode='json')} now"
        for check in judged.verdict.checks
        if kept.get(check.name) != check.model_dump(mode="json")
    ]
    numbers = judged.numbers | {"calibration": _calibration(case, judged)}
    then = {name: body[name] for name in numbers if name != "confusions"}
    now = json.loads(json.dumps({name: value for name, value in numbers.items() if name != "confusions"}))
    differs += [f"{name}: {then[name]} then, {now[name]} now" for name in now if then[name] != now[name]]
    return judged, differs
