"""The trigger form of a retraining DAG, drawn from the pipeline file's own schema, and what was filled in as overrides.

A setting is a field where it is one value: a number, a word, a switch. Lists and sections inside of sections are set by
"overrides". Types, bounds and words are those of `mlops.config`; nothing is written down twice.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from airflow.sdk import Param
from pydantic import BaseModel

from mlops import config as pipeline_file
from mlops.config import PipelineConfig

# Shown first and by a short name; all others are named by their place, such as gate.margin.
SHORT = {
    "train.epochs": "epochs",
    "train.learning_rate": "learning_rate",
    "model.base": "base_model",
    "promote": "promote",
}
_SECTIONS = ("data", "model", "validate", "prepare", "train", "gate", "compress", "verify", "rollout")
_TOP = ("promote",)
_FIXED = {"data.watch"}  # by the DAG, which is made before the run
_PLAIN = {"integer", "number", "string", "boolean"}
_KEPT = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "pattern", "enum")


class Setting(NamedTuple):
    """One value of a pipeline file. place: its key; schema: JSON schema of what is allowed; words: what it means."""

    place: str
    name: str
    value: Any
    schema: dict[str, Any]
    words: str


def settings(config: PipelineConfig) -> list[Setting]:
    """Every setting that a form can hold, those with short names first."""
    found = [*_of(config, "", _TOP)]
    for section in _SECTIONS:
        if (values := config.section(section)) is not None:
            found += _of(values, f"{section}.", tuple(type(values).model_fields))
    return sorted(found, key=lambda each: list(SHORT).index(each.place) if each.place in SHORT else len(SHORT))


def _of(values: Any, prefix: str, names: tuple[str, ...]) -> Iterator[Setting]:
    kind = type(values)
    for name, schema, words in _described(kind):
        place = prefix + name
        if name in names and place not in _FIXED:
            yield Setting(place, SHORT.get(place, place), getattr(values, name), schema, words)


@functools.cache
def _described(kind: type[BaseModel]) -> list[tuple[str, dict[str, Any], str]]:
    """Name, schema and words of each field that a form can hold: once per class, for it takes longer than all the rest."""
    schemas = kind.model_json_schema(by_alias=False)["properties"]
    words = meanings(kind.__doc__ or "", tuple(kind.model_fields))
    plain = {name: _plain(schemas[name]) for name in kind.model_fields}
    return [(name, schema, words.get(name, "")) for name, schema in plain.items() if schema is not None]


def _plain(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """The schema of one value, or of one value or none; nothing for anything else."""
    parts = [dict(part) for part in schema.get("anyOf", [schema])]
    kinds = []
    merged: dict[str, Any] = {}
    for part in parts:
        if "const" in part:
            part |= {"enum": [part["const"]]}
        if part.get("type") == "null":
            kinds.append("null")
        elif part.get("type") in _PLAIN:
            kinds.append(part["type"])
            merged |= {key: part[key] for key in _KEPT if key in part}
        else:
            return None
    if len([kind for kind in kinds if kind != "null"]) != 1:
        return None
    if "enum" in merged and "null" in kinds:
        merged["enum"] = [*merged["enum"], None]
    return merged | {"type": kinds if len(kinds) > 1 else kinds[0]}


def meanings(doc: str, names: tuple[str, ...]) -> dict[str, str]:
    """What a section's docstring says of each field: "name: words. other, third: words."."""
    text = " ".join(doc.split())
    found = {}
    # A name at the beginning of a sentence, alone or in a list of names, and a colon.
    any_name = "|".join(map(re.escape, names))
    heads = list(re.finditer(rf"(?:^|(?<=[.;] ))((?:{any_name})(?:, (?:{any_name}))*): ", text))
    for head, after in zip(heads, [*heads[1:], None], strict=True):
        words = text[head.end() : after.start() if after else len(text)].strip()
        for name in head.group(1).split(", "):
            found[name] = words[:1].upper() + words[1:]
    return found


def defaults(config: PipelineConfig) -> dict[str, Any]:
    """What the pipeline file says for each field of the form."""
    return {setting.name: setting.value for setting in settings(config)}


def trigger_form(config: PipelineConfig) -> dict[str, Param]:
    """The fields with type, bounds and the pipeline file's own values as defaults."""
    form = {
        "force": Param(
            False,
            type="boolean",
            title="Force",
            description="Retrain although nothing has changed, and reuse nothing from earlier runs.",
        )
    }
    for setting in settings(config):
        title = setting.place.rpartition(".")[2].replace("_", " ").capitalize()
        section = {} if setting.place in SHORT else {"section": setting.place.rpartition(".")[0] or "promotion"}
        words = f"{setting.words} ({setting.place})" if setting.words else f"{setting.place} of the pipeline file."
        form[setting.name] = Param(setting.value, title=title, description=words, **setting.schema, **section)
    form["overrides"] = Param(
        {},
        type="object",
        title="Overrides",
        description='Any other key of the pipeline file, such as {"gate.slices": []}; fields above win.',
    )
    return form


def chosen(path: str, filled_in: Mapping[str, Any], given: Mapping[str, Any]) -> PipelineConfig:
    """The pipeline as the form asks for it; only fields that differ from their defaults override the file.

    Raises ConfigError with every fault at once.
    """
    overrides = dict(filled_in.get("overrides") or {})
    places = {name: place for place, name in SHORT.items()}
    for name, value in filled_in.items():
        if name in given and value != given[name]:
            overrides[places.get(name, name)] = value
    return pipeline_file.load(path, overrides)
