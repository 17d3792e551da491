"""`mlops explain RUN`: the record of a judgement, found through MLflow, told in words, and judged again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlops import records
from mlops.errors import NotFound
from mlops.reports.table import grid, interval
from mlops.tracking import client
from mlops.types import ArtifactRef

TAG = "evergreen.judgement."  # and the subject: where a run keeps the address of its record


def find(run: str, subject: str | None = None) -> dict[str, Any]:
    """The record of a run: an MLflow run id, a retrain id, or a pipeline's name for its newest judged run.

    subject: candidate or a variant; by default what decided: the file that ships, else the first that may not, else the
    candidate. "run" in it says what the whole run came to. Raises NotFound with what there is.
    """
    tags = _tags(run)
    judged = {name.removeprefix(TAG): value for name, value in tags.items() if name.startswith(TAG)}
    if not judged:
        raise NotFound(
            f"{run} ended before anything was judged: {tags.get('evergreen.reason', 'no reason is known')[:300]}"
        )
    chosen = subject or tags.get("evergreen.decided") or "candidate"
    if chosen not in judged:
        raise NotFound(f"{run} has no judgement of {chosen!r}; there are: {', '.join(sorted(judged))}")
    body = records.read(ArtifactRef.model_validate_json(judged[chosen]))
    return body | {"run": {"outcome": tags.get("evergreen.outcome"), "reason": tags.get("evergreen.reason")}}


def _tags(run: str) -> dict[str, str]:
    from mlflow.exceptions import MlflowException

    api = client()
    try:
        return dict(api.get_run(run).data.tags)
    except MlflowException:
        pass
    named = api.get_experiment_by_name(run)
    homes = [named.experiment_id] if named else [each.experiment_id for each in api.search_experiments()]
    wanted = f"tags.`{TAG}candidate` != ''" if named else f"tags.`evergreen.retrain_id` = '{_quoted(run)}'"
    found = api.search_runs(homes, wanted, max_results=1, order_by=["attributes.start_time DESC"]) if homes else []
    if not found:
        raise NotFound(
            f"no run {run!r}: name an MLflow run id, a retrain id (see `mlops run`), or a pipeline that was judged"
        )
    return dict(found[0].data.tags)


def _quoted(text: str) -> str:
    return "".join(sign for sign in text if sign.isalnum() or sign in "-_.")


def render(body: Mapping[str, Any]) -> str:
    """One sentence and one table, then what else was looked at."""
    checks = [["check", "observed", "allowed", "outcome", ""]]
    checks += [
        [_cell(c["name"]), _cell(c["observed"]), _cell(c["allowed"]), c["outcome"], _cell(c["detail"])]
        for c in body["checks"]
    ]
    outcome = (body.get("run") or {}).get("outcome")
    lines = [f"the run: {outcome}"] if outcome else []
    lines += [_cell(body["sentence"]), "", f"judgement of {body['subject']}: {body['outcome']}", grid(checks)]
    if body.get("slices"):
        rows = [["slice", "rows", "metric", "candidate", "difference", "adjusted p", "outcome"]]
        rows += [
            [
                _cell(one["name"]),
                str(one["rows"]),
                one["metric"],
                _three(one["candidate"]),
                _three(one["difference"]),
                "-" if one["p_adjusted"] is None else f"{one['p_adjusted']:.3f}",
                one["outcome"] if one["kind"] != "discovered" else f"{one['outcome']} (discovered)",
            ]
            for one in body["slices"]
        ]
        lines += ["slices", grid(rows)]
    if body.get("calibration"):
        lines.append(
            f"calibration error {_three(body['calibration']['ece'])}, temperature {body['calibration']['temperature']:g}"
        )
    if body.get("noise_ceiling"):
        ceiling = body["noise_ceiling"]
        share = f"{ceiling['noise_rate']:.1%} of the labels are probably wrong"
        lines.append(f"{share}: a perfect model would score {body['metric']} {ceiling['value']:.4f}")
    champion = (
        f", champion {interval(body['champion'])} (version {body['champion_version']})" if body["champion"] else ""
    )
    lines.append(f"{body['metric']}: {interval(body['candidate'])}{champion}" if body["candidate"] else "")
    lines.append(f"{body['look']['detail']}; level {body['look']['alpha']:.3g} of {body['look']['alpha_total']:g}")
    lines.append(f"snapshot {body['inputs']['snapshot']}, seed {body['seed']}")
    return "\n".join(line for line in lines)


def _cell(value: Any) -> str:
    """On one line, without what a terminal would obey: details have texts and labels of the data in them."""
    text = "".join(sign if sign.isprintable() else " " for sign in str(value))
    return "-" if value is None else " ".join(text.split())


def _three(values: Mapping[str, float] | None) -> str:
    return "-" if values is None else f"{values['value']:+.4f} [{values['low']:+.4f}, {values['high']:+.4f}]"
