"""Reads docker-compose.yml as far as this project's file goes, for hosts that run its services without Docker."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\})")


@dataclass(frozen=True)
class Service:
    """One service. ports: {in the container: published}. after: {name of another: what it waits for}. once: it ends by itself.

    ours: a container of our own image.
    """

    name: str
    command: list[str]
    environment: dict[str, str]
    ports: dict[int, int]
    volumes: dict[str, str]
    after: dict[str, str]
    health: list[str]
    once: bool
    ours: bool


def services(path: Path, environment: Mapping[str, str]) -> dict[str, Service]:
    """Those whose profile is among COMPOSE_PROFILES, each after those that it waits for.

    Raises ValueError for a variable that has to be set and is not.
    """
    read = load(path, environment)
    profiles = set(environment.get("COMPOSE_PROFILES", "").split(","))
    found = {
        name: _service(name, entry)
        for name, entry in read["services"].items()
        if not entry.get("profiles") or profiles & set(entry["profiles"])
    }
    return {service.name: service for service in _in_order(found)}


def load(path: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """The whole file: first YAML, then the variables of its values, as Compose does it; errors as `services`."""

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(each) for key, each in value.items()}
        if isinstance(value, list):
            return [filled(each) for each in value]
        return interpolate(value, environment) if isinstance(value, str) else value

    read: dict[str, Any] = filled(yaml.safe_load(path.read_text(encoding="utf-8")))
    return read


def interpolate(text: str, environment: Mapping[str, str]) -> str:
    """${A}, ${A:-otherwise}, ${A:?what to do} and $$, as Compose does it."""

    def value(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        known = environment.get(match["name"], "")
        if known or match["kind"] is None:
            return known
        if match["kind"] == "?":
            raise ValueError(f"{match['name']} is not set: {match['rest']}")
        return str(match["rest"])

    return _VARIABLE.sub(value, text)


def _service(name: str, entry: dict[str, Any]) -> Service:
    after = entry.get("depends_on") or {}
    command = entry.get("command") or []
    mounts = [str(each).split(":") for each in entry.get("volumes") or []]
    return Service(
        name=name,
        command=[str(part) for part in command],
        environment={key: str(value) for key, value in (entry.get("environment") or {}).items()},
        ports=dict(_published(str(each)) for each in entry.get("ports") or []),
        volumes={mount[1]: mount[0] for mount in mounts},
        after=dict.fromkeys(after, "service_started")
        if isinstance(after, list)
        else {other: rule["condition"] for other, rule in after.items()},
        health=[str(part) for part in (entry.get("healthcheck") or {}).get("test") or []],
        once=entry.get("restart") == "no",
        ours=command[:1] == ["docker/run.sh"],
    )


def _published(text: str) -> tuple[int, int]:
    *_, published, inside = text.split(":")
    return int(inside), int(published)


def _in_order(found: dict[str, Service]) -> Iterator[Service]:
    done: set[str] = set()
    while len(done) < len(found):
        ready = [each for each in found.values() if each.name not in done and set(each.after) & set(found) <= done]
        if not ready:
            raise ValueError(f"services wait for each other: {sorted(set(found) - done)}")
        for each in ready:
            done.add(each.name)
            yield each
