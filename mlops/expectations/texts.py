"""Expectations on single texts: encoding damage, length in tokens, language."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.data.text import digests, normalise_all
from mlops.expectations.finding import Finding, Flags, arrow, not_judged, share_finding

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x{80}-\x{84}\x{86}-\x{9f}]"
# Embeddings, overrides and isolates reorder what a person sees; the plain marks are part of right-to-left text.
_BIDI = r"[\x{202a}-\x{202e}\x{2066}-\x{2069}]"
_LANGUAGE_SAMPLE = 2000
_TOO_SHORT = 20  # characters below which a language is a guess


def _matching(texts: pa.Array, pattern: str) -> Flags:
    import pyarrow.compute as pc

    found = pc.fill_null(pc.match_substring_regex(texts, pattern), False)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=bool)


def encoding_damage(frame: pd.DataFrame, column: str, max_share: float) -> Finding:
    """The share of texts with replacement characters, control or bidi characters, or mojibake as ftfy judges it."""
    from ftfy.badness import is_bad

    texts = arrow(frame, column)
    kinds = {"replacement character": "\\x{fffd}", "control character": _CONTROL, "bidi character": _BIDI}
    found = {kind: _matching(texts, pattern) for kind, pattern in kinds.items()}
    foreign = np.flatnonzero(_matching(texts, r"[^\x00-\x7f]"))
    mojibake = np.zeros(len(frame), dtype=bool)
    mojibake[[place for place, text in zip(foreign, texts.take(foreign).to_pylist(), strict=True) if is_bad(text)]] = 1
    found["mojibake"] = mojibake
    bad = np.logical_or.reduce(list(found.values())) if len(frame) else np.zeros(0, dtype=bool)
    whats = [", ".join(kind for kind, flags in found.items() if flags[place]) for place in np.flatnonzero(bad)[:10]]
    finding = share_finding(frame, bad, column, max_share, whats)
    counts = ", ".join(f"{kind} {int(flags.sum())}" for kind, flags in found.items() if flags.any())
    return finding._replace(detail=f"{finding.detail}; {counts}" if counts else finding.detail)


def token_lengths(
    frame: pd.DataFrame, column: str, tokenizer: str | None, max_length: int, max_share: float, task: str
) -> Finding:
    """The share of texts that the model would see cut off: more tokens than max_length by the pipeline's own tokenizer.

    tokenizer: the base model's folder. task: how texts are asked. Its tokens join the cache in the store, so that
    `prepare` finds them there.
    """
    from mlops.data.tokens import open_tokenizer, tokenise
    from mlops.store import open_store
    from mlops.tasks import get

    if tokenizer is None:
        return not_judged("no tokenizer was handed over")
    texts = normalise_all(arrow(frame, column).fill_null(""))
    if not len(texts):
        return not_judged("there are no rows")
    opened = open_tokenizer(Path(tokenizer), max_length)
    tokens = tokenise(open_store(), opened, texts, digests(texts, folded=False), get(task))
    lengths = tokens.lengths.to_numpy()
    cut = lengths > max_length
    finding = share_finding(frame, cut, column, max_share, [f"{length} tokens" for length in lengths[cut][:10]])
    marks = np.percentile(lengths, [50, 95, 100]).astype(int)
    return finding._replace(detail=f"{finding.detail}; median {marks[0]}, 95% {marks[1]}, longest {marks[2]} tokens")


def languages(frame: pd.DataFrame, column: str, languages: Sequence[str], min_share: float) -> Finding:
    """The share of texts in the allowed languages (ISO 639-1 codes), by py3langid, on an even sample of 2,000 texts that
    have 20 characters or more."""
    import py3langid

    texts = arrow(frame, column).fill_null("")
    import pyarrow.compute as pc

    long = np.flatnonzero(pc.greater_equal(pc.utf8_length(texts), _TOO_SHORT).to_numpy(zero_copy_only=False))
    if not len(long):
        return not_judged(f"no text has {_TOO_SHORT} characters")
    places = long[np.unique(np.linspace(0, len(long) - 1, min(_LANGUAGE_SAMPLE, len(long))).astype(int))]
    codes = [str(py3langid.classify(text)[0]) for text in texts.take(places).to_pylist()]
    counts = Counter(codes)
    share = sum(counts[code] for code in languages) / len(codes)
    others: Any = [(code, count) for code, count in counts.most_common() if code not in languages]
    odd = [place for place, code in zip(places, codes, strict=True) if code not in languages]
    flags = np.zeros(len(frame), dtype=bool)
    flags[odd] = True
    shown = share_finding(frame, flags, column, 0.0, [code for code in codes if code not in languages])
    detail = f"{len(codes)} texts sampled; others: " + (", ".join(f"{c} {n}" for c, n in others[:5]) or "none")
    # No rows to set aside: the others of the data set were not looked at.
    return Finding(round(share, 4), share >= min_share, detail, (), shown.header, shown.table)
