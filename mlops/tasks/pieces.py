"""Pieces of tokens that are given: each token is cut by itself, so that no piece belongs to two of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from mlops.tasks.splitting import joins
from mlops.tasks.windows import Windowed, windowed

_MOST_KNOWN = 200_000  # distinct tokens remembered


class Pieces:
    """A tokenizer that cuts tokens instead of texts. longest: ids of a window, special ones included."""

    def __init__(self, tokenizer: Any, longest: int) -> None:
        self._tokenizer, self._longest = tokenizer, longest
        self._before, self._after = _around(tokenizer)
        # A text begins with this piece where its tokenizer marks white space: wrong inside of a word.
        self._blank = tokenizer.token_to_id("\u2581")
        self._unknown = _unknown(tokenizer)
        self._known: dict[tuple[str, bool], list[int]] = {}

    def windowed(self, tokens: Sequence[str]) -> Windowed:
        """The ids of one text's tokens, in windows."""
        glued = [False, *(joins(one, other) for one, other in pairwise(tokens))] if tokens else []
        keys = list(zip(tokens, glued, strict=True))
        known = self._known
        missing = [key for key in dict.fromkeys(keys) if key not in known]
        if len(known) + len(missing) > _MOST_KNOWN:
            # Begun anew and not emptied: the server's other threads still look their tokens up in the one before.
            known = self._known = {key: known[key] for key in keys if key in known}
        if missing:
            self._learn(missing, known)
        return windowed([known[key] for key in keys], self._before, self._after, self._longest)

    def _learn(self, keys: Sequence[tuple[str, bool]], known: dict[tuple[str, bool], list[int]]) -> None:
        found = self._tokenizer.encode_batch_fast([token for token, _ in keys], add_special_tokens=False)
        for key, encoding in zip(keys, found, strict=True):
            ids = encoding.ids
            if key[1] and len(ids) > 1 and ids[0] == self._blank:
                ids = ids[1:]
            # A token of which nothing is left, a variation selector say, has to stay a token.
            known[key] = ids or [self._unknown]


def _around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special ids before and after a text."""
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a").ids
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start], whole[start + len(plain) :]
    return [], []


def _unknown(tokenizer: Any) -> int:
    for name in ("[UNK]", "<unk>", "[MASK]", "<mask>"):
        place = tokenizer.token_to_id(name)
        if place is not None:
            return int(place)
    return 0
