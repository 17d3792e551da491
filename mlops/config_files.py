"""From a YAML file and overrides to plain values: reading, and where relative paths start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mlops.errors import ConfigError

# libyaml's parser is ten times as fast, and a folder of pipelines is read each time that Airflow parses its DAGs. Not every
# build of PyYAML has it.
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Safe):  # type: ignore[misc]
    """Notes keys that stand twice in one mapping: YAML lets the last one win and says nothing."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.twice: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first: dict[Any, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in first:
                    lines = f"lines {first[key.value]} and {line}"
                    self.twice.append(f"{key.value}: stands twice, on {lines}; keep one of them")
                first.setdefault(key.value, line)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


def read_yaml(path: Path, what: str) -> tuple[Any, list[str]]:
    """(content, faults) of a YAML file; ConfigError where it cannot be read at all."""
    text = ""
    try:
        text = path.read_text(encoding="utf-8")
        loader = _Loader(text)
        try:
            return loader.get_single_data(), loader.twice
        finally:
            loader.dispose()
    except FileNotFoundError:
        raise ConfigError(
            str(path), [f"there is no such file; name {what}, such as pipelines/news-topics.yaml"]
        ) from None
    # ValueError: what looks like a date and is none, such as 2024-13-45. RecursionError: thousands of brackets.
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(str(path), [f"cannot be read as YAML: {_words(text, error)}"]) from None


def _words(text: str, error: Exception) -> str:
    """What is wrong, with the line itself where it can be had: libyaml gives its number alone."""
    if isinstance(error, yaml.YAMLError):
        try:
            yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as slower:
            error = slower
        except (RecursionError, ValueError):
            pass
    return " ".join(str(error).split())


def read_suite(path: Path, named: str) -> tuple[list[Any], list[str]]:
    """(entries, faults) of a file of expectations, every fault with its name; ConfigError where it is no list."""
    if not path.is_file():
        raise ConfigError(named, [f"expectations: found {named!r}, no such file; looked for {path}"])
    try:
        suite, twice = read_yaml(path, "the expectations")
    except ConfigError as error:
        raise ConfigError(named, [f"expectations: {named} {fault}" for fault in error.faults]) from None
    if isinstance(suite, dict):
        suite = suite.get("expectations")
    if not isinstance(suite, list):
        raise ConfigError(
            named, [f"expectations: {named} holds {type(suite).__name__}; allowed is a list of expectations"]
        )
    return suite, [f"{named}: {fault}" for fault in twice]


def locate(value: str, root: Path) -> Path:
    """A path as the pipeline file means it: below the project's root, else below the current folder."""
    path = Path(value).expanduser()
    if path.is_absolute():
        return path
    beside, here = root / path, Path.cwd() / path
    return here if not _matches(beside) and _matches(here) else beside


def _matches(path: Path) -> bool:
    if any(mark in path.name for mark in "*?["):
        return path.parent.is_dir() and any(path.parent.glob(path.name))
    return path.exists()


def apply_overrides(raw: dict[str, Any], overrides: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Puts overrides into the raw mapping; returns the faults of those that are not `key.path=value`."""
    faults = []
    pairs: list[tuple[str, Any]] = []
    if isinstance(overrides, Mapping):
        pairs = list(overrides.items())
    else:
        for text in overrides:
            key, equals, value = text.partition("=")
            if not equals or not key.strip():
                faults.append(f"--set {text}: found no '=', allowed is section.key=value")
                continue
            try:
                pairs.append((key.strip(), yaml.safe_load(value)))
            except (yaml.YAMLError, ValueError):  # "@daily" is text, though YAML wants it quoted
                pairs.append((key.strip(), value))
    for key, value in pairs:
        *sections, last = key.split(".")
        place = raw
        for position, name in enumerate(sections):
            if place.get(name) is None:  # absent, or "train:" with nothing below it
                place[name] = {}
            entry = place[name]
            if not isinstance(entry, dict):
                faults.append(
                    f"{key}: {'.'.join(sections[: position + 1])} is {entry!r}, not a section with keys of its own"
                )
                break
            place = entry
        else:
            place[last] = value
    return faults
