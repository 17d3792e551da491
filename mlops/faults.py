"""Validation errors in a user's words: key path, what was found, what is allowed, and a did-you-mean."""

from __future__ import annotations

import difflib
import re
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError


def unknown(path: tuple[str, ...], value: Any, model: type[BaseModel]) -> str:
    """The line for a key that is not known, with the closest one that is."""
    key = ".".join(path)
    names = keys(path[:-1], model)
    close = difflib.get_close_matches(path[-1], names, n=1, cutoff=0.5)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    return f"{key}: unknown key, found {value!r}; allowed: {', '.join(names)}{guess}"


def keys(path: tuple[str, ...], model: type[BaseModel]) -> list[str]:
    """The keys that a section at this path may have."""
    for part in path:
        if part.isdigit():  # an entry of a list, whose kind the key before it gave
            continue
        known = {field.alias or name: field for name, field in model.model_fields.items()}
        if part not in known:
            return []
        kind: Any = known[part].annotation
        if part == "splits":
            return ["train", "validation", "test"]
        if isinstance(kind, UnionType):  # a section that may be absent
            kind = next((each for each in get_args(kind) if each is not type(None)), kind)
        if get_origin(kind) is tuple:
            kind = get_args(kind)[0]
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return []
        model = kind
    # Fields that the loader fills in are no keys of the file.
    extras = {name: field.json_schema_extra for name, field in model.model_fields.items()}
    hidden = {name for name, extra in extras.items() if isinstance(extra, dict) and extra.get("loader")}
    return [field.alias or name for name, field in model.model_fields.items() if name not in hidden]


def describe(error: ValidationError, model: type[BaseModel], prefix: tuple[str, ...] = ()) -> list[str]:
    """One line per fault: key path, what was found, what is allowed."""
    lines = []
    for fault in error.errors():
        path = tuple(str(part) for part in fault["loc"] if part not in ("Shares", "SplitSources"))
        key = ".".join(prefix + path) or "the file"
        kind, found = fault["type"], fault["input"]
        if kind == "extra_forbidden":
            line = unknown(path, found, model)
            lines.append(f"{prefix[0]}.{line}" if prefix else line)
        elif kind == "missing":
            lines.append(f"{key}: is missing and has no default")
        else:
            message = fault["msg"].removeprefix("Value error, ").replace("Input should", "should")
            guess = ""
            if kind == "literal_error" and isinstance(found, str):
                close = difflib.get_close_matches(found, re.findall(r"'([^']+)'", fault["msg"]), n=1, cutoff=0.4)
                guess = f"; did you mean {close[0]!r}?" if close else ""
            shown = found if isinstance(found, str | int | float | bool | type(None)) else type(found).__name__
            # A rule about a whole section names what it found there itself.
            told = "" if kind == "value_error" and isinstance(found, dict) else f"found {shown!r}; "
            lines.append(f"{key}: {told}{message}{guess}")
    return lines
