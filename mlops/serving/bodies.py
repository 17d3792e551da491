"""From the bytes of a body to what the model is asked, with a limit on everything before anything large is made of it."""

from __future__ import annotations

import re
from typing import Any

import orjson
from pydantic import ValidationError

from mlops.serving.options import Limits
from mlops.serving.refused import Fault, bad_body, wrong
from mlops.serving.schemas import Feedback

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.S)
_MOST_FAULTS = 20


def depth(body: bytes, enough: int) -> int:
    """How deep the JSON is nested, without parsing it; anything up to `enough` may be answered with a rough guess."""
    if body.count(b"[") + body.count(b"{") <= enough:
        return 0
    level = deepest = 0
    for char in re.findall(rb"[\[\]{}]", _STRINGS.sub(b"", body)):
        level += 1 if char in b"[{" else -1
        deepest = max(deepest, level)
        if deepest > enough:
            break
    return deepest


def parse(body: bytes, limits: Limits, path: str) -> dict[str, Any]:
    """The JSON object of a body; Refused for anything else."""
    if depth(body, limits.depth) > limits.depth:
        raise bad_body([wrong([], f"nested too deep; allowed is a depth of {limits.depth}", "too_deep")], path)
    try:
        found = orjson.loads(body)
    except ValueError as error:
        raise bad_body([wrong([], f"{error}; allowed is JSON in UTF-8", "json_invalid")], path) from None
    if not isinstance(found, dict):
        raise bad_body([wrong([], "allowed is a JSON object", "not_an_object", found)], path)
    return found


def asked(body: bytes, limits: Limits, path: str) -> list[Any]:
    """What `POST /v1/predict` asks: texts, {"text_a", "text_b"} pairs, or lists of tokens. Refused with each fault."""
    found = parse(body, limits, path)
    if unknown := sorted(set(found) - {"inputs"}):
        faults = [
            wrong([key[:100]], "is not known; allowed is inputs", "unknown_key") for key in unknown[:_MOST_FAULTS]
        ]
        raise bad_body(faults, path)
    if "inputs" not in found:
        raise bad_body([wrong(["inputs"], "is missing", "missing")], path)
    return checked(found["inputs"], limits, path, ["inputs"])


def feedback(body: bytes, limits: Limits, path: str) -> Feedback:
    """What `POST /v1/feedback` tells; Refused with each fault."""
    try:
        return Feedback.model_validate(parse(body, limits, path), strict=True)
    except ValidationError as error:
        faults = [wrong(each["loc"], each["msg"], each["type"], each.get("input")) for each in error.errors()]
        raise bad_body(faults[:_MOST_FAULTS], path) from None


def checked(inputs: Any, limits: Limits, path: str, place: list[str | int]) -> list[Any]:
    """The same inputs, where they are what any task may be asked; Refused with each fault."""
    if not isinstance(inputs, list):
        raise bad_body([wrong(place, "allowed is a list", "not_a_list", inputs)], path)
    if not 1 <= len(inputs) <= limits.items:
        told = f"found {len(inputs)} inputs, allowed are 1 to {limits.items}"
        raise bad_body([wrong(place, told, "count")], path)
    faults: list[Fault] = []
    for number, value in enumerate(inputs):
        if told := _fault(value, limits.characters):
            faults.append(wrong([*place, number], told, "wrong_input", value))
            if len(faults) == _MOST_FAULTS:
                break
    if faults:
        raise bad_body(faults, path)
    return inputs


def _fault(value: Any, most: int) -> str:
    """Why this cannot be asked; nothing where it can."""
    if isinstance(value, str):
        characters = len(value)
    elif isinstance(value, dict):
        if set(value) != {"text_a", "text_b"} or not all(isinstance(part, str) for part in value.values()):
            return 'a pair is {"text_a": "…", "text_b": "…"}'
        characters = max(map(len, value.values()))
    elif isinstance(value, list):
        if not all(isinstance(token, str) for token in value):
            return "a list of tokens holds strings"
        characters = sum(map(len, value)) + len(value)
    else:
        return "allowed is a text, a pair of texts or a list of tokens"
    return f"has {characters} characters, allowed are {most}" if characters > most else ""


def deadline(header: str | None, limits: Limits, path: str) -> float:
    """Seconds that a request may take, from its header x-timeout-seconds; Refused for what is no time."""
    if header is None:
        return limits.deadline_seconds
    try:
        seconds = float(header)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        told = f"found {header[:40]!r}; allowed are seconds above 0"
        raise bad_body(
            [wrong(["x-timeout-seconds"], told, "wrong_header") | {"loc": ["header", "x-timeout-seconds"]}], path
        )
    return min(seconds, limits.deadline_seconds)
