"""Words of raw text with their places, cut as corpora of tagged tokens are cut."""

from __future__ import annotations

import re

# Scripts that write without white space: every character is a token of its own, as corpora of them have it.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_CHUNK = re.compile(rf"[{_CJK}]|[^\s{_CJK}]+")
_OPENING, _CLOSING = "([{<\"'“‘«¿¡`（【《「『", ".,;:!?)]}>\"'”’»…%、。，；：！？）】》」』"
_CLITIC = re.compile(r"(?i)('|’)(s|re|ve|ll|d|m)$")
_ALONE = re.compile(
    r"(?:[A-Za-z]\.){2,}|[A-Z]\.|(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|Gen|Sen|Rep|Gov|Inc|Ltd|Co|Corp|No|vs|etc)\."
)
_LONGEST = (
    64  # characters of an abbreviation: what is longer is none, and looking for one at each of its ends takes hours
)
_WIDE = re.compile(rf"[{_CJK}\u3000-\u303f\uff00-\uffef]")


def words(text: str) -> list[tuple[int, int]]:
    """(start, end) of the words in characters, in order, without overlap; white space is in none.

    Punctuation at either end of a word is a word of its own, and so are 's, 're and the like; a sign inside (a web
    address, 3.5, @name) parts nothing.
    """
    found: list[tuple[int, int]] = []
    for match in _CHUNK.finditer(text):
        found += _parts(text, match.start(), match.end())
    return found


def _parts(text: str, start: int, end: int) -> list[tuple[int, int]]:
    before: list[tuple[int, int]] = []
    after: list[tuple[int, int]] = []
    while start < end - 1 and text[start] in _OPENING:
        before.append((start, start + 1))
        start += 1
    while end > start + 1 and text[end - 1] in _CLOSING and not _abbreviated(text, start, end):
        after.append((end - 1, end))
        end -= 1
    clitic = _CLITIC.search(text[start:end])
    if clitic and clitic.start():
        cut = start + clitic.start()
        return [*before, (start, cut), (cut, end), *reversed(after)]
    return [*before, (start, end), *reversed(after)]


def _abbreviated(text: str, start: int, end: int) -> bool:
    return end - start <= _LONGEST and bool(_ALONE.fullmatch(text, start, end))


def joins(one: str, other: str) -> bool:
    """Whether two neighbouring tokens are written without white space between them: those of a script that has none."""
    return bool(one and other and _WIDE.match(one[-1]) and _WIDE.match(other[0]))


def written(tokens: list[str]) -> tuple[str, list[tuple[int, int]]]:
    """The tokens as a text, and each one's (start, end) in it."""
    text, places = "", []
    for position, token in enumerate(tokens):
        if position and not joins(tokens[position - 1], token):
            text += " "
        places.append((len(text), len(text) + len(token)))
        text += token
    return text, places
