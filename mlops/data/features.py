"""Cheap text features: what the linear models of `mlops.data.mislabelled` and `mlops.data.poisoning` see of a text.

Words, single marks and emoji, and pairs of neighbours; where a script has no spaces between words, the one to three
characters in a row stand for them. Weighted by tf-idf with logarithmic term counts (Salton and Buckley, Term-weighting
approaches in automatic text retrieval, 1988). Nothing depends on the order of the texts or on Python's hash seed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# Scripts without spaces between words: Thai, kana, the Chinese characters.
_CJK = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_PARTS = re.compile(rf"[{_CJK}]+|[^\W{_CJK}]+|[^\w\s]")
_UNSPACED = re.compile(rf"[{_CJK}]")
_MOST_FEATURES = 50_000  # the most frequent ones: bounds the models' memory at rows of any length
_MOST_CHARACTERS = 5_000  # of a text: what a label rests on is said by then


def features(texts: Sequence[str]) -> csr_matrix:
    """Rows of unit length [n, at most 50,000] float32; a feature that only one text has is left out.

    A text of which nothing is left has an empty row. About 10,000 short texts a second.
    """
    import numpy as np
    from scipy.sparse import csr_matrix

    try:
        found: csr_matrix = vectoriser(min_df=2).fit_transform(texts).tocsr()
    except ValueError:  # sklearn's way to say that no feature is left
        return csr_matrix((len(texts), 1), dtype=np.float32)
    return found


def vectoriser(min_df: int = 1) -> Any:
    """scikit-learn's, with our features. min_df: texts that a feature has to be in."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        analyzer=_analysed, min_df=min_df, max_features=_MOST_FEATURES, sublinear_tf=True, dtype=np.float32
    )


def words(text: str) -> list[str]:
    """The words and marks of a text in order, in lower case; a run of a script without spaces by its pairs of characters."""
    found = []
    for part in _PARTS.findall(text[:_MOST_CHARACTERS].lower()):
        if len(part) > 2 and _UNSPACED.match(part):
            found += [part[start : start + 2] for start in range(len(part) - 1)]
        else:
            found.append(part)
    return found


def _analysed(text: str) -> list[str]:
    """A text's features: words, pairs of words, and one to three characters in a row where there are no spaces."""
    parts = _PARTS.findall(text[:_MOST_CHARACTERS].lower())
    found = [f"{one} {other}" for one, other in itertools.pairwise(parts)]
    for part in parts:
        if len(part) > 1 and _UNSPACED.match(part):
            found += [part[start : start + size] for size in (1, 2, 3) for start in range(len(part) - size + 1)]
        else:
            found.append(part)
    return found
