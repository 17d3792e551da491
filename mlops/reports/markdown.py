"""Markdown in which texts from the data stay texts: no markup, no links, no table cells of their own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from mlops.reports.words import clip

# What CommonMark, tables and math of the Hub's pages read as markup; every one may stand behind a backslash.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~$&!@^])")
_START = re.compile(r"^(\d{1,9}(?=[.)](?:\s|$))|(?=[-+=]))(.)")
# Marks that turn what follows around; nothing in Markdown would end them.
_TURN = re.compile("[\u202a-\u202e\u2066-\u2069]")
# Addresses become links without being asked to.
_LINK = re.compile(r"(https?|ftp|mailto|xmpp):|\bwww\.", re.IGNORECASE)


def escaped(text: Any, most: int = 200) -> str:
    """One line of plain text, at most so many characters of it."""
    line = " ".join(_TURN.sub("", clip(text, most)).split())
    line = _START.sub(lambda found: f"{found[1]}\\{found[2]}", _MARKUP.sub(r"\\\1", line))
    return _LINK.sub(lambda found: f"{found[0][:-1]}\\{found[0][-1]}", line)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are escaped already; empty without rows."""
    body = [list(row) for row in rows]
    if not body:
        return ""
    lines = [list(head), ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def section(title: str, *parts: str, level: int = 2) -> str:
    """A heading and what stands below it; empty where nothing does."""
    told = [part for part in parts if part]
    return "\n\n".join([f"{'#' * level} {title}", *told]) if told else ""


def listed(lines: Iterable[str]) -> str:
    """One point a line."""
    return "\n".join(f"- {line}" for line in lines if line)
