"""Globs over paths in parts: the same names match on a disk as on S3."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

SIGNS = "*?["


def first_sign(path: str) -> int:
    """Where the first glob sign stands; the path's length where there is none."""
    return min((place for sign in SIGNS if (place := path.find(sign)) >= 0), default=len(path))


def hidden(parts: Sequence[str]) -> bool:
    """Whether a part starts with a dot, as a shell hides it."""
    return any(part.startswith(".") for part in parts)


def matches(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether a path, or a folder that holds it, matches: as glob.glob(recursive=True) and then a walk would find it."""
    if not pattern:
        return not hidden(parts)
    if not parts:
        return all(part == "**" for part in pattern)
    if pattern[0] == "**":
        return matches(pattern[1:], parts) or (not hidden(parts[:1]) and matches(pattern, parts[1:]))
    return _fits(pattern[0], parts[0]) and matches(pattern[1:], parts[1:])


def leads_on(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether a folder at this path may hold what matches: the others need not be listed."""
    if not pattern:
        return not hidden(parts)
    if not parts:
        return True
    if pattern[0] == "**":
        return leads_on(pattern[1:], parts) or (not hidden(parts[:1]) and leads_on(pattern, parts[1:]))
    return _fits(pattern[0], parts[0]) and leads_on(pattern[1:], parts[1:])


def _fits(pattern: str, part: str) -> bool:
    return (pattern.startswith(".") or not part.startswith(".")) and fnmatchcase(part, pattern)
