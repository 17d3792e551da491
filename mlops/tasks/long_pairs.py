"""Pairs of long texts, each cut by itself before the two are tokenised together.

The tokenizer keeps every part that its truncation cuts off, of a pair every part of one text with every part of the other:
two texts of 100,000 letters are millions of parts, which end the process.
"""

from __future__ import annotations

from typing import Any

_PER_TOKEN = 8  # characters per token of the window: two texts of fewer have too few parts to matter
_LONGER, _SHORTER = 3, 2  # windows of tokens kept: more than any truncation leaves, so that the cut itself is cut off


def shortened(tokenizer: Any, texts: tuple[str, str], longest: int) -> tuple[str, str]:
    """The pair of which the tokenizer, truncating to `longest` tokens, makes the same tokens in little memory.

    Which of the two is the longer one stays as it was: of an odd number of places that one gets one more.
    """
    if len(texts[0]) * len(texts[1]) <= (_PER_TOKEN * longest) ** 2:
        return texts
    found = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    most = max(map(_count, found))
    first, second = (
        _cut(text, encoding, _LONGER if _count(encoding) == most else _SHORTER)
        for text, encoding in zip(texts, found, strict=True)
    )
    return first, second


def _cut(text: str, encoding: Any, windows: int) -> str:
    """The text up to the end of so many windows of tokens."""
    rest = encoding.overflowing
    return text if len(rest) < windows else text[: rest[windows - 2].offsets[-1][1]]


def tokens_of(tokenizer: Any, texts: tuple[str, str]) -> int:
    """Tokens of a pair before truncation, special ones included."""
    special: int = tokenizer.num_special_tokens_to_add(True)
    return special + sum(_count(tokenizer.encode(text, add_special_tokens=False)) for text in texts)


def _count(encoding: Any) -> int:
    return len(encoding.ids) + sum(len(part.ids) for part in encoding.overflowing)
