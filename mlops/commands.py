"""What each command of `mlops` does: (result for stdout, exit code)."""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
from pathlib import Path
from typing import Any

from mlops.errors import Rejected, UserError

log = logging.getLogger("evergreen")

Answer = tuple[Any, int]


def check(options: argparse.Namespace) -> Answer:
    """Loads the file, pins the base model, reads and validates the data; registers nothing."""
    from mlops import config, doctor

    pipeline = config.load(options.pipeline, options.overrides)
    verdict, facts = doctor.check_pipeline(pipeline)
    if options.json:
        return facts | {"verdict": verdict.model_dump(mode="json")}, 0 if verdict.outcome == "pass" else 3
    if verdict.outcome != "pass":
        raise Rejected(verdict)
    lines = [f"{options.pipeline}: in order"] + [f"  {name}: {value}" for name, value in facts.items()]
    lines += [
        f"  warn: {c.name} observed {c.observed} {c.detail}".rstrip() for c in verdict.checks if c.outcome == "warn"
    ]
    return "\n".join(lines), 0


def run(options: argparse.Namespace) -> Answer:
    """One whole retrain in this process."""
    from mlops import config, pipeline
    from mlops.reports.table import render

    loaded = config.load(options.pipeline, options.overrides)
    summary = pipeline.run(loaded, force=options.force)
    code = 3 if summary["outcome"] == "rejected" else 0
    if code:
        log.error("rejected: %s", summary["reason"])
    return summary if options.json else _human(summary, render(summary)), code


def _human(summary: dict[str, Any], table: str) -> str:
    places = "".join(f"\n  {name}: {place}" for name, place in summary["links"].items())
    return f"{table}\nlook at{places}"


def expectations_init(options: argparse.Namespace) -> Answer:
    """Writes a first suite from a profile of the data; an existing one is kept unless --force."""
    from mlops import config, doctor
    from mlops.config_files import read_yaml
    from mlops.expectations.profile import suite_path

    raw, _ = read_yaml(Path(options.pipeline), "the pipeline file")
    named = raw.get("expectations") if isinstance(raw, dict) else None
    # The suite that the file names may be the one that is to be written.
    pipeline = config.load(options.pipeline, [*options.overrides, "expectations=null"])
    path = suite_path(pipeline, named if isinstance(named, str) else None)
    if path.exists() and not options.force:
        raise UserError(f"{path} exists; --force writes it anew")
    text = doctor.profile_pipeline(pipeline)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    hint = "" if named else f"\nadd to {options.pipeline}: expectations: {path.relative_to(pipeline.root)}"
    return f"wrote {path}; read it, then: mlops check {options.pipeline}{hint}", 0


def step(options: argparse.Namespace) -> Answer:
    """One step on values as JSON; a rejected data set or candidate exits 3 with its verdict in the JSON."""
    from mlops import flow, pipeline
    from mlops.config import PipelineConfig
    from mlops.types import Run

    chosen = flow.step_named(options.name)
    if options.die_with_parent:
        from mlops.process import die_with_parent

        die_with_parent()
    handed = _step_input(options.input)
    try:
        settings = PipelineConfig.model_validate(handed["config"])
        this = Run.model_validate(handed["run"])
        types = {entry.output: entry.type for entry in flow.STEPS}
        values = {name: pipeline.typed(types[name], value) for name, value in handed.get("values", {}).items()}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"step {options.name}: the JSON needs config, run and values; {error}") from error
    spent: dict[str, Any] = {}
    try:
        result = pipeline.run_step(chosen, settings, this, values, spent)
    except Rejected as error:
        log.error("%s", error)
        return {"rejected": error.verdict.model_dump(mode="json"), "cost": _as_json(spent.get(chosen.name))}, 3
    except Exception:
        options.told = {"cost": _as_json(spent.get(chosen.name))}  # the message is for people, this is for Airflow
        raise
    cost = _as_json(result.cost)
    return {"output": _as_json(result.output), "seconds": result.seconds, "reused": result.reused, "cost": cost}, 0


def _as_json(value: Any) -> Any:
    return value.model_dump(mode="json") if value is not None else None


def _step_input(path: str | None) -> dict[str, Any]:
    try:
        text = Path(path).read_text(encoding="utf-8") if path else sys.stdin.read()
        value = json.loads(text)
    except (OSError, ValueError) as error:
        raise UserError(f"step: cannot read JSON from {path or 'stdin'}: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"step: found {type(value).__name__}; allowed is an object with config, run and values")
    return value


def name_of(text: str) -> str:
    from mlops.config import NAME

    if not re.fullmatch(NAME, text):
        raise UserError(f"found the model name {text!r}; allowed: lower-case letters, digits and dashes inside")
    return text


def model_at(text: str) -> tuple[str, str]:
    name, at, alias = text.partition("@")
    if at and not re.fullmatch(r"[A-Za-z0-9_-]+", alias):
        raise UserError(f"found {text!r}; allowed is MODEL or MODEL@ALIAS, such as news-topics@champion")
    return name_of(name), alias or "champion"


def predict(options: argparse.Namespace) -> Answer:
    """Texts through the runtime that serves; one JSON object per text, in order."""
    from mlops.data.rows import encodable
    from mlops.serving.releases import load_runtime

    name, alias = model_at(options.model)
    texts = options.text if options.text is not None else _texts(Path(options.file))
    if odd := [text for text in texts if not encodable(text)]:
        raise UserError(f"--text {odd[0]!r} is not UTF-8")
    runtime, _ = load_runtime(name, alias)
    return "\n".join(json.dumps(entry, ensure_ascii=False) for entry in runtime.predict(texts)), 0


def _asked(entry: Any) -> Any:
    """What a line asks: a text, a pair or tokens; none for anything else."""
    if isinstance(entry, dict):
        entry = entry.get("text", entry.get("tokens", (entry.get("text_a"), entry.get("text_b"))))
    if isinstance(entry, str):
        return entry
    whole = isinstance(entry, list | tuple) and all(isinstance(each, str) for each in entry)
    return entry if whole and entry else None


def _texts(path: Path) -> list[Any]:
    from mlops.data.rows import encodable

    try:
        # Only "\n" ends a line of JSONL: str.splitlines would also cut at U+2028, which JSON may hold as it is.
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("utf-8").split("\n")
    except OSError as error:
        raise UserError(f"--file {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"--file {path}: is not UTF-8: {error.reason} at byte {error.start}") from error
    texts = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}:{number}: not JSON: {error}") from error
        asked = _asked(entry)
        if asked is None or not all(encodable(text) for text in ([asked] if isinstance(asked, str) else asked)):
            raise UserError(
                f'{path}:{number}: found {line[:80]!r}; allowed is a JSON string or an object with "text", with "text_a" and '
                '"text_b", or with "tokens"'
            )
        texts.append(asked)
    if not texts:
        raise UserError(f"{path} has no texts; allowed is one JSON string or object per line")
    return texts


def compare(options: argparse.Namespace) -> Answer:
    """Two registered versions on the same test rows: those they were judged on, or those of a pipeline's data as it is now."""
    from mlops import compare, config

    loaded = config.load(options.data) if options.data else None
    found = compare.compare(name_of(options.model), options.a, options.b, loaded)
    return found if options.json else compare.render(found), 0


def explain(options: argparse.Namespace) -> Answer:
    """The record of a judgement; with --again judged anew from it, which gives the same to the bit."""
    from mlops import explain, records

    body = explain.find(options.run_name, options.subject)
    if not options.again:
        return body if options.json else explain.render(body), 0
    judged, differs = records.again(body)
    if options.json:
        return {"outcome": judged.verdict.outcome, "same": not differs, "differs": differs}, 1 if differs else 0
    told = "the same, to the last bit" if not differs else "differs:\n  " + "\n  ".join(differs)
    return f"{judged.sentence}\njudged again: {judged.verdict.outcome}; {told}", 1 if differs else 0


def cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def doctor(options: argparse.Namespace) -> Answer:
    """Facts about this machine and these settings; exit 1 when something that every retrain needs is broken."""
    from mlops import doctor as checks
    from mlops.reports.table import grid

    found = checks.examine()
    code = 1 if any(entry["outcome"] == "fail" for entry in found) else 0
    if options.json:
        return found, code
    return grid([[entry["outcome"], entry["name"], entry["detail"]] for entry in found], indent=""), code
