"""One spelling of a text, the same in training and in serving."""

from __future__ import annotations

import hashlib
import re
import unicodedata

# Control (Cc), format (Cf) and surrogate (Cs) characters, less those that are white space. Spelled out rather than
# asked of `unicodedata`, so that every Python version removes the same ones; a test holds the list against it.
_HIDDEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f"
    "\u202a-\u202e\u2060-\u2064\u2066-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]+"
)
_SPACES = re.compile(r"\s+")


def normalise(text: str) -> str:
    """NFC, no control or format characters, white space (newlines and tabs too) collapsed to single spaces, stripped.

    Doing it twice changes nothing; lone surrogates go, so the answer can always be written as UTF-8.
    """
    # Before NFC: a removed character may have kept two others from composing.
    visible = _HIDDEN.sub("", text)
    if not visible.isascii():
        visible = unicodedata.normalize("NFC", visible)
    return _SPACES.sub(" ", visible).strip()


def text_key(normalised: str) -> str:
    """32 hex characters that name a normalised text whatever its case: equal keys are exact copies."""
    return hashlib.sha256(normalised.casefold().encode()).hexdigest()[:32]
