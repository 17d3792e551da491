"""The model card of a release: Markdown with the metadata that the Hugging Face Hub reads, beside the model's files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mlops.config import PipelineConfig
from mlops.reports import telling
from mlops.reports.markdown import escaped, listed, section, table
from mlops.reports.words import clean, clip, count, known, meaning, number, plain, share, signed, spread

Record = Mapping[str, Any]
# The Hub's names of tasks; a pair of texts is one text to it.
_PIPELINE_TAG = {"text-pair-classification": "text-classification"}
_HUB_METRIC = {"macro_f1": "f1", "weighted_f1": "f1", "micro_f1": "f1"}
_HUB_ID = re.compile(r"^(?:hf://)?([\w.-]{1,96}/[\w.-]{1,96})(?:@[\w.-]+)?$")


def card(config: PipelineConfig, release_summary: Record | None, record: Record | None, summary: Record) -> str:
    """The card as README.md holds it: metadata in YAML, then Markdown.

    release_summary: name, version and variant of the release; none for a model that is not registered. record: of the
    judgement that let it in (`mlops.records`). summary: as `mlops.summary` makes it. No text of any row is in it.
    """
    from huggingface_hub import ModelCard

    release, record = release_summary or {}, record or {}
    parts = [
        _what(config, release, record, summary),
        section("Data", _data(summary)),
        section("Metrics", *_metrics(config, record, summary)),
        section("Slices", _slices(record)),
        section("Limits", listed(_limits(config, record, summary))),
        section("Calibration", _calibration(record)),
        section("Behaviour", _behaviour(record)),
        section("Cost", listed(_cost(summary))),
        section("How it was judged", *_judged(record, summary)),
    ]
    body = "\n\n".join(part for part in parts if part)
    data = _metadata(config, release, record, summary)
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}\n"))


def _name(config: PipelineConfig, release: Record) -> str:
    return str(release.get("name") or config.name)


def _what(config: PipelineConfig, release: Record, record: Record, summary: Record) -> str:
    title = " version ".join(str(part) for part in (_name(config, release), release.get("version")) if part)
    variant = release.get("variant") or record.get("subject") or "candidate"
    lines = [
        f"What it is: a model for {config.task_key}, fine-tuned by Evergreen; this card is about the {escaped(variant)} form",
        f"Base model: {escaped((summary.get('tuning') or {}).get('base') or config.model.base)}",
        f"Reads: at most {config.model.max_length} tokens of a text, the special ones included",
        f"Trained by retrain {escaped(summary.get('retrain_id') or '–')}, outcome: {escaped(summary.get('outcome') or '–')}",
    ]
    sentence = escaped(record.get("sentence") or summary.get("sentence") or "", 1000)
    return "\n\n".join(filter(None, [f"# {escaped(title)}", sentence, listed(lines)]))


def _data(summary: Record) -> str:
    found = summary.get("snapshot")
    if not found:
        return ""
    rows = ", ".join(f"{escaped(split)} {count(rows)}" for split, rows in found["rows"].items())
    window = ", ".join(f"{escaped(key)} {escaped(value)}" for key, value in (found.get("window") or {}).items())
    lines = [
        f"Rows: {rows}",
        f"Set aside: {count(found.get('quarantined'))} quarantined, {count(found.get('deduplicated'))} duplicates dropped",
        f"Window: {window or 'all rows of the source'}",
        f"Newest row: {escaped(found['watermark'])}" if found.get("watermark") else "",
        f"Snapshot: {escaped(found['sha256'])}, a digest of the rows",
    ]
    return listed(lines)


def _metrics(config: PipelineConfig, record: Record, summary: Record) -> Iterator[str]:
    ours = (summary.get("candidate") or {}).get("metrics") or {}
    theirs = (summary.get("champion_before") or {}).get("metrics") or {}
    metric = record.get("metric") or config.gate.metric
    shown = telling.metrics(ours, theirs, metric)
    told = meaning(metric)
    if shown.rows:
        yield f"On the test rows, with 95% intervals. {escaped(metric)} decides{f': {escaped(told)}' if told else ''}."
    body = ([escaped(each["name"]), spread(each["candidate"]), spread(each["champion"])] for each in shown.rows)
    yield table(["metric", "this model", "champion before"], body)
    yield f"… and {shown.left}." if shown.left else ""
    simple = record.get("baselines") or ()
    body = (
        [escaped(each["name"]), number(each["value"]), spread({**each, "value": each["gain"]}, True)] for each in simple
    )
    yield table(["simple model", "value", "gain over it"], body)
    ceiling = record.get("noise_ceiling") or {}
    if known(ceiling.get("value")):
        rate = share(ceiling.get("noise_rate"), 1)
        yield f"About {rate} of the labels are probably wrong: even a perfect model would score about {number(ceiling['value'])}."


def _slices(record: Record) -> str:
    shown = telling.slices(record.get("slices"))
    body = (
        [
            escaped(each["name"]),
            escaped(each.get("kind")),
            count(each.get("rows")),
            spread(each.get("candidate")),
            spread(each.get("difference"), sign=True),
            escaped(each.get("outcome")) if each.get("candidate") else "too few rows",
        ]
        for each in shown.rows
    )
    told = table(["slice", "kind", "rows", "this model", "difference", "outcome"], body)
    beside = "Differences are to the champion; those of discovered slices are to all other rows."
    return "\n\n".join(filter(None, [told, beside if told else "", f"… and {shown.left}." if shown.left else ""]))


def _limits(config: PipelineConfig, record: Record, summary: Record) -> Iterator[str]:
    gap = record.get("difference") or {}
    if known(gap.get("detectable")):
        units = escaped(gap.get("units") or "rows")
        yield (
            f"A drop of less than {number(gap['detectable'])} against the champion would not reliably have shown on these "
            f"{count(gap.get('n'))} test {units}"
        )
    else:
        yield "It was not compared with a champion, so a drop against one could not have shown"
    labels = _labels(record, summary)
    if labels:
        more = f", and {len(labels) - telling.MOST:,} more" if len(labels) > telling.MOST else ""
        known_ones = ", ".join(escaped(label, 80) for label in labels[: telling.MOST])
        yield f"It knows {len(labels):,} labels and answers nothing else, whatever it is asked: {known_ones}{more}"
    yield f"It reads at most {config.model.max_length} tokens; what stands behind them in a longer text may go unseen"
    yield "The language of the texts is not recorded: expect nothing in languages that the training rows do not have"
    yield "It was measured on rows like those it was trained on; on other texts it may do worse than the metrics here say"
    few = [each for each in record.get("slices") or () if not each.get("candidate")]
    if few:
        yield f"Slices with too few rows to be judged: {count(len(few))}"


def _labels(record: Record, summary: Record) -> list[str]:
    inputs = (record.get("inputs") or {}).get("candidate") or {}
    metrics = (summary.get("candidate") or {}).get("metrics") or {}
    own = inputs.get("outputs") or [name.removeprefix("f1/") for name in metrics if name.startswith("f1/")]
    return [str(label) for label in own]


def _calibration(record: Record) -> str:
    found = record.get("calibration")
    if not found:
        return ""
    error, heat = spread(found.get("ece")), plain(found.get("temperature"))
    return f"Expected calibration error {error}, with its 95% interval; scores are divided by a temperature of {heat}."


def _behaviour(record: Record) -> str:
    shown = telling.behaviour(record.get("behaviour"))
    body = (
        [
            escaped(each["name"]),
            escaped(each["kind"]),
            f"{count(each['passed'])} of {count(each['cases'])}",
            share(each.get("least")),
            escaped(each["outcome"]),
        ]
        for each in shown.rows
    )
    told = table(["cases", "kind", "passed", "at least", "outcome"], body)
    golden = record.get("golden")
    rows = f"Golden rows: {count(golden['right'])} of {count(golden['rows'])} answered right." if golden else ""
    return "\n\n".join(filter(None, [told, f"… and {shown.left}." if shown.left else "", rows]))


def _cost(summary: Record) -> Iterator[str]:
    model = summary.get("candidate") or {}
    latency = model.get("latency_ms") or {}
    if known(model.get("size_bytes")):
        yield f"File: {number(model['size_bytes'] / 1e6, 1)} MB"
    if known(latency.get("p95")):
        yield f"One row at a time: p50 {number(latency.get('p50'), 1)} ms, p95 {number(latency['p95'], 1)} ms"
    every = (summary.get("cost") or {}).get("total") or {}
    units = {"seconds": "seconds", "cpu_seconds": "CPU seconds", "gpu_seconds": "GPU seconds", "energy_kwh": "kWh"}
    units |= {"co2_kg": "kg CO2", "money": escaped(every.get("currency") or "money")}
    told = ", ".join(
        f"{plain(every[key])} {unit}" for key, unit in units.items() if known(every.get(key)) and every[key]
    )
    if told:
        yield f"The retrain took {told}"


def _judged(record: Record, summary: Record) -> Iterator[str]:
    version, gap, look = record.get("champion_version"), record.get("difference") or {}, record.get("look") or {}
    champion = (
        f"version {escaped(version)}" if version else "the one in production" if record.get("champion") else "none"
    )
    lines = [
        f"Judged as: {escaped(record['subject'])}, outcome {escaped(record['outcome'])}"
        if record.get("subject")
        else "",
        f"Champion on the same rows: {champion}",
    ]
    if known(gap.get("value")):
        level, units = share(gap.get("level")), escaped(gap.get("units") or "rows")
        ends = f"{signed(gap.get('low'))} to {signed(gap.get('high'))}"
        over = f"{count(gap.get('n'))} {units}"
        lines.append(f"Difference to the champion: {signed(gap['value'])}, {level} interval {ends} over {over}")
    if known(look.get("number")):
        risk = f"risk of error {plain(look.get('alpha'))}, of all looks together {plain(look.get('alpha_total'))}"
        lines.append(f"Look {look['number']} at these test rows; {risk}")
    yield listed(lines)
    checks = record.get("checks")
    if checks is None:
        checks = [check for verdict in summary.get("verdicts") or () for check in verdict["checks"]]
    shown = telling.checks(checks)
    body = ([escaped(c["name"]), _cell(c["observed"]), _cell(c["allowed"]), escaped(c["outcome"])] for c in shown.rows)
    yield table(["check", "observed", "allowed", "outcome"], body)
    yield f"… and {shown.left}." if shown.left else ""


def _cell(value: Any) -> str:
    return "–" if value is None else escaped(plain(value) if isinstance(value, float) else value)


def _metadata(config: PipelineConfig, release: Record, record: Record, summary: Record) -> Any:
    from huggingface_hub import ModelCardData

    base = _HUB_ID.match(config.model.base)
    results = _results(config, record, summary)
    return ModelCardData(
        base_model=base[1] if base else None,  # the Hub refuses what is not one of its own names
        pipeline_tag=_PIPELINE_TAG.get(config.task, config.task),
        library_name="onnx" if release.get("variant") in ("int8", "fp32") else "transformers",
        tags=["evergreen", config.task_key.replace(":", "-")],
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=clip(_name(config, release), 100),
        eval_results=results or None,
    )


def _results(config: PipelineConfig, record: Record, summary: Record) -> list[Any]:
    """The metrics over all labels, with their intervals as arguments, as the Hub's model-index has them."""
    from huggingface_hub import EvalResult

    metrics = (summary.get("candidate") or {}).get("metrics") or {}
    shown = telling.metrics(metrics, {}, record.get("metric") or config.gate.metric).rows
    return [
        EvalResult(
            task_type=_PIPELINE_TAG.get(config.task, config.task),
            dataset_type=config.name,
            dataset_name=config.name,
            dataset_split="test",
            dataset_revision=(summary.get("snapshot") or {}).get("sha256"),
            metric_type=_HUB_METRIC.get(each["name"], clean(each["name"])),
            metric_name=clean(each["name"]),
            metric_value=each["candidate"]["value"],
            metric_args={
                key: each["candidate"][key] for key in ("low", "high", "n") if known(each["candidate"].get(key))
            },
        )
        for each in shown
        if "/" not in each["name"] and each["candidate"] and known(each["candidate"]["value"])
    ]
