"""Small changes to a question that must not change its answer; the same for a row every time."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from mlops.tasks.base import Item

_END = ".!?…。！？"
_MARK = re.compile(rf"(?<![{_END}])([.!?])(?=\s|$)")
_WORD = re.compile(r"[^\W\d_]{4,}")


def changed(change: str, item: Item, seed: str) -> Item | None:
    """The item after a change, none where there is nothing to change; equal seeds change it in the same way.

    change: whitespace (more of it), case (all small, or all capital), punctuation (the last mark goes, or a full stop
    comes), typo (two letters inside of a word swapped), repeated-marks (! becomes !!!).
    """
    chance = random.Random(f"{change} {seed}")
    fresh: Item
    if isinstance(item, list):
        fresh = _tokens(change, item, chance)
    elif isinstance(item, tuple):
        fresh = (_TEXTS[change](item[0], chance), _TEXTS[change](item[1], chance))
    else:
        fresh = _TEXTS[change](item, chance)
    return fresh if fresh and fresh != item else None


def _tokens(change: str, tokens: list[str], chance: random.Random) -> list[str]:
    if change == "punctuation":
        if not tokens or (len(tokens) == 1 and tokens[0] in _END):
            return tokens
        return tokens[:-1] if tokens[-1] in _END else [*tokens, "."]
    if change == "case":
        small = [token.lower() for token in tokens]
        return small if small != tokens else [token.upper() for token in tokens]
    if change == "typo":
        places = [place for place, token in enumerate(tokens) if _typo(token, random.Random(0)) != token]
        place = chance.choice(places) if places else -1
        return [_typo(token, chance) if number == place else token for number, token in enumerate(tokens)]
    if change == "repeated-marks":
        return [token * 3 if token in (".", "!", "?") else token for token in tokens]
    return tokens


def _whitespace(text: str, chance: random.Random) -> str:
    return " " + re.sub(" ", lambda _: chance.choice(("  ", "\t", "\n", " \n ")), text) + "\n" if text.strip() else text


def _case(text: str, chance: random.Random) -> str:
    small = text.lower()
    return small if small != text else text.upper()


def _punctuation(text: str, chance: random.Random) -> str:
    bare = text.rstrip()
    without = bare.rstrip(_END).rstrip()
    return text if not without else without if without != bare else bare + "."


def _typo(text: str, chance: random.Random) -> str:
    """Two different neighbours inside of one word swap places: its first and last letter stay."""
    places = [
        place
        for word in _WORD.finditer(text)
        for place in range(word.start() + 1, word.end() - 2)
        if text[place] != text[place + 1]
    ]
    if not places:
        return text
    place = chance.choice(places)
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


def _marks(text: str, chance: random.Random) -> str:
    return _MARK.sub(r"\1\1\1", text)


_TEXTS: dict[str, Callable[[str, random.Random], str]] = {
    "whitespace": _whitespace,
    "case": _case,
    "punctuation": _punctuation,
    "typo": _typo,
    "repeated-marks": _marks,
}
