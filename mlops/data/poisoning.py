"""New rows against the old rows of their label: what a poisoned or mislabelled batch looks like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlops.data.features import features, words
from mlops.data.linear import at, fit, out_of_fold, predict, temperature

Counts = npt.NDArray[np.float64]

_FOLDS = 5
_DRAWS = 20  # samples that a distance is the mean of
_WORDS = 5
_TELLING = 3.0  # standard errors from which a word is named: of a thousand words one gets there by chance
_Z = 1.645  # of a one-sided 95% bound; the variance of 2 asin(sqrt(p)) is 1/n (Cohen 1988, chapter 6)
_HARDLY = 20  # times rarer among old rows


class Shift(NamedTuple):
    """How the new rows of one label differ from its old ones.

    disagreement: share of the new rows that a model of the old rows puts elsewhere, less the same share among old rows
    (out of fold); 0 where all old rows have one label.
    effect: lower 95% bound of Cohen's h of the two, 0 or more: a few rows show no effect by chance.
    distance: Jensen-Shannon distance (base 2, 0 to 1) of their words, less what samples of the old rows of the same size
    have. novel: the largest share of new rows that hold one same word which old rows hardly know, as the trigger of
    a backdoor does. words: that word and those that tell new from old best.
    """

    label: str
    new: int
    old: int
    disagreement: float
    effect: float
    distance: float
    novel: float
    words: tuple[str, ...]


def class_shift(
    texts_old: Sequence[str],
    labels_old: Sequence[str],
    texts_new: Sequence[str],
    labels_new: Sequence[str],
    min_rows: int = 30,
    max_rows: int = 10_000,
    seed: int = 13,
) -> list[Shift]:
    """One entry per label with at least min_rows new and old rows, by label. Above max_rows of either, a sample."""
    chance = np.random.default_rng(seed)
    old, new = (
        np.sort(chance.permutation(len(part))[:max_rows]) if len(part) > max_rows else np.arange(len(part))
        for part in (texts_old, texts_new)
    )
    names_old, names_new = np.asarray(labels_old, dtype=object)[old], np.asarray(labels_new, dtype=object)[new]
    judged = [
        name
        for name in sorted(set(names_old) & set(names_new))
        if min((names_old == name).sum(), (names_new == name).sum()) >= min_rows
    ]
    if not judged:
        return []
    texts = [texts_old[row] for row in old] + [texts_new[row] for row in new]
    elsewhere = _elsewhere(features(texts), np.concatenate([names_old, names_new]), len(old), chance)
    counts, vocabulary = _word_counts(texts)
    names = np.concatenate([names_old, names_new])
    is_new = np.arange(len(texts)) >= len(old)
    shifts = []
    for name in judged:
        mine, theirs = np.flatnonzero((names == name) & is_new), np.flatnonzero((names == name) & ~is_new)
        before, after = float(elsewhere[theirs].mean()), float(elsewhere[mine].mean())
        distance = _moved(counts[mine], counts[theirs], chance)
        novel, word = _novel(counts[mine], counts[theirs], vocabulary)
        told = dict.fromkeys([*word, *_telling(counts[mine], counts[theirs], vocabulary)])
        h = 2 * np.arcsin(np.sqrt(after)) - 2 * np.arcsin(np.sqrt(before))
        effect = float(h - _Z * np.sqrt(1 / len(mine) + 1 / len(theirs)))
        shifts.append(
            Shift(
                label=str(name),
                new=len(mine),
                old=len(theirs),
                disagreement=after - before,
                effect=max(0.0, effect),
                distance=max(0.0, float(distance)),
                novel=novel,
                words=tuple(told)[:_WORDS],
            )
        )
    return shifts


def _elsewhere(rows: Any, names: Any, old: int, chance: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Per row, whether a model of the old rows finds another label more likely than all others together."""
    classes, targets = np.unique(names.astype(str), return_inverse=True)
    if len(np.unique(targets[:old])) < 2:
        # There is no elsewhere: what the rows say is judged by their words alone.
        return np.zeros(len(targets), dtype=bool)
    fold = chance.integers(0, _FOLDS, old)
    found = out_of_fold(rows[:old], targets[:old], fold, len(classes))
    fresh = predict(fit(rows[:old], targets[:old]), rows[old:], len(classes))
    # One temperature for both, told by the old rows: the new ones' labels are what is in doubt.
    everything = np.concatenate([found, fresh]) + 5e-3 / len(classes)
    final = at(everything, temperature(everything[:old], targets[:old]))
    best = final.argmax(axis=1)
    return np.asarray((best != targets) & (final[np.arange(len(best)), best] > 0.5))


def _word_counts(texts: Sequence[str]) -> tuple[Any, npt.NDArray[Any]]:
    """(texts by words, sparse; the words). Each word once per text: a text that repeats itself is one witness."""
    from sklearn.feature_extraction.text import CountVectorizer

    vectors = CountVectorizer(analyzer=words, binary=True, dtype=np.float32)
    try:
        return vectors.fit_transform(texts), vectors.get_feature_names_out()
    except ValueError:  # no text has a word
        from scipy.sparse import csr_matrix

        return csr_matrix((len(texts), 1), dtype=np.float32), np.array([""], dtype=object)


def _summed(rows: Any) -> Counts:
    return np.asarray(rows.sum(axis=0), dtype=np.float64).ravel()


def _distance(one: Any, other: Any) -> float:
    """Jensen-Shannon distance between the words of two sets of rows, base 2: 0 for the same shares, 1 for no word in common."""
    from scipy.spatial.distance import jensenshannon

    first, second = _summed(one), _summed(other)
    if not first.sum() or not second.sum():
        return 0.0
    return float(np.nan_to_num(jensenshannon(first, second, base=2)))


def _moved(new: Any, old: Any, chance: np.random.Generator) -> float:
    """The distance of new rows from old ones, less that of other old rows from them, in samples of one size: a small
    sample is far from everything."""
    size = min(new.shape[0], old.shape[0] // 2)
    found = []
    for _ in range(_DRAWS):
        some, order = chance.permutation(new.shape[0])[:size], chance.permutation(old.shape[0])
        one, other = old[order[:size]], old[order[size : 2 * size]]
        found.append(_distance(new[some], one) - _distance(other, one))
    return float(np.mean(found))


def _novel(new: Any, old: Any, vocabulary: npt.NDArray[Any]) -> tuple[float, list[str]]:
    """(share of the new rows, the word) for the word that most new rows have and hardly any old one."""
    # One row more among the old ones: what a hundred rows do not have may well be no rarity.
    now, before = _summed(new) / new.shape[0], (_summed(old) + 1) / old.shape[0]
    share = np.where(before * _HARDLY <= now, now, 0.0)
    best = int(share.argmax())
    return float(share[best]), [str(vocabulary[best])] if share[best] * new.shape[0] >= 3 else []


def _telling(new: Any, old: Any, vocabulary: npt.NDArray[Any]) -> tuple[str, ...]:
    """Words by the z-score of their log-odds with an informative Dirichlet prior (Monroe, Colaresi, Quinn 2008)."""
    a, b = _summed(new), _summed(old)
    prior = 0.01 * len(vocabulary) * (a + b) / max(1.0, float((a + b).sum())) + 1e-6
    odds = [np.log((c + prior) / (c.sum() + prior.sum() - c - prior)) for c in (a, b)]
    score = (odds[0] - odds[1]) / np.sqrt(1 / (a + prior) + 1 / (b + prior))
    best = np.argsort(-score, kind="stable")[:_WORDS]
    return tuple(str(vocabulary[place]) for place in best if score[place] > _TELLING)
