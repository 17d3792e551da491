"""One spelling of a text, the same in training and in serving."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

# Control (Cc), format (Cf) and surrogate (Cs) characters, less those that are white space. Spelled out rather than
# asked of `unicodedata`, so that every Python version removes the same ones; a test holds the list against it.
_HIDDEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f"
    "\u202a-\u202e\u2060-\u2064\u2066-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]+"
)
_SPACES = re.compile(r"\s+")
_MOST_MARKS = 30  # on one letter: the Unicode Standard's stream-safe text (UAX 15); no writing system comes near it
_MARK = r"[^\w\s\x00-\x7f]"  # and punctuation and emoji: a closer look tells
_MARKS = re.compile(rf"{_MARK}{{{_MOST_MARKS + 1},}}")
_THREE = re.compile(rf"{_MARK}{{3}}")


def normalise(text: str) -> str:
    """NFC, no control or format characters, white space (newlines and tabs too) collapsed to single spaces, stripped.

    Doing it twice changes nothing; lone surrogates go, so the answer can always be written as UTF-8. Of more than 30
    combining marks in a row the rest goes: NFC sorts them, in time that grows with the square of their number.
    """
    # Before NFC: a removed character may have kept two others from composing.
    visible = _HIDDEN.sub("", text)
    if not visible.isascii():
        visible = _composed(visible)
    return _SPACES.sub(" ", visible).strip()


def _composed(text: str) -> str:
    """NFC, in which no run of marks is long, also none that NFC makes longer by taking marks apart."""
    text = unicodedata.normalize("NFC", _bounded(text))
    while (again := _bounded(text)) != text:
        text = unicodedata.normalize("NFC", again)
    return text


def _bounded(text: str) -> str:
    # Of every tenth character a run that is too long holds three: ordinary texts pay for no more than a look at those.
    return _MARKS.sub(_few_marks, text) if _THREE.search(text[::10]) else text


def _few_marks(found: re.Match[str]) -> str:
    kept, marks = [], 0
    for char in found[0]:
        # Some marks count as letters until they are taken apart.
        marks = marks + 1 if unicodedata.combining(unicodedata.normalize("NFD", char)[0]) else 0
        if marks <= _MOST_MARKS:
            kept.append(char)
    return "".join(kept)


# A text of printable ASCII with single spaces inside is its own normalised form: nothing there can change.
_MAY_CHANGE = r"[^\x20-\x7e]|^ | $|  "


def normalise_all(texts: pa.Array) -> pa.Array:
    """`normalise` over an Arrow array of texts [n]; missing ones stay missing. Only texts that may change are touched."""
    import pyarrow as pa
    import pyarrow.compute as pc

    places = pc.indices_nonzero(pc.fill_null(pc.match_substring_regex(texts, _MAY_CHANGE), False))
    if not len(places):
        return texts
    changed = pa.array([normalise(text) for text in texts.take(places).to_pylist()], texts.type)
    mask = np.zeros(len(texts), dtype=bool)
    mask[places.to_numpy()] = True
    return pc.replace_with_mask(texts, pa.array(mask), changed)


def digests(texts: pa.Array, folded: bool) -> pa.Array:
    """The first 16 bytes of the sha256 of each text [n]; missing texts stay missing.

    folded: whatever the case, so that equal digests are exact copies; else of the text as it is, as tokens depend on it.
    """
    import pyarrow as pa

    sha256 = hashlib.sha256
    if folded:
        found = [None if text is None else sha256(text.casefold().encode()).digest()[:16] for text in texts.to_pylist()]
    else:
        found = [None if text is None else sha256(text.encode()).digest()[:16] for text in texts.to_pylist()]
    return pa.array(found, pa.binary(16))
