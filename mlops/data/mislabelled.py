"""Labels that are probably wrong: out-of-fold probabilities, and a model of how the labels were made.

Two linear models judge each row without having seen it, its copies or its label: logistic regression by averaged stochastic
gradient descent and multinomial naive Bayes. That a label is unlikely is not yet an error: the models may just not know
better. So their weights w, the share e of wrong labels and the pull g are fitted together, by maximum likelihood, to

    P(given = j | x) = (1 - e) p_j + e Σ_{y≠j} p_y p_j^g / Σ_{i≠y} p_i^g,    p = softmax(w_1 log p_SGD + w_2 log p_NB)

A wrong label is any of the other labels (g = 0) or rather one that suits the text (g > 0). The weights are a temperature
at the same time (Guo et al., On calibration of modern neural networks, 2017) that wrong labels do not inflate; the second
term over the whole is the probability that a given label is wrong. With few labels e is also fitted per label, for
mistakes that go one way; the simplest of these models that explains the labels is taken. This replaces the per-class
thresholds of confident
learning (Northcutt et al., Confident learning, 2021), which take the uncertainty between similar labels for noise
(`benchmarks/label_noise.py` compares the two). A second pass counts each row as much as its label is probably right.

What this cannot tell: a label that is wrong wherever a kind of text occurs is the rule, not an error; and a share of wrong
labels between similar classes that the models confuse anyway is estimated too low.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlops.data.features import features

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_PULLS = (0.0, 0.25, 0.5)  # g: beyond a half, the noise is the same as the models' own doubt
_LEAST_SHARE, _MOST_SHARE = 1e-4, 0.5  # e: with most labels wrong there is nothing to tell them by
_CHANCE = 2.71  # twice the log-likelihood that e > 0 gains by chance in one case of twenty (Self and Liang, 1987)
_FEW_LABELS = 12  # up to which each label may have a share of wrong ones of its own
_FLOOR = 0.2  # probability of an error below which no row is a suspect, however few there are
_FIT_ROWS = 5_000  # the model of the labels has four parameters: more rows tell them no better
_SECOND_WORK = 400_000  # rows × labels from which one pass is enough: the second helps where labels are few
_SGD_WORK = 4_000_000  # rows × labels from which naive Bayes judges alone: the other takes minutes


class Suspects(NamedTuple):
    """The rows whose labels are probably wrong, the most suspicious first.

    rows: [m] indices into the input. given, suggested: [m] labels. scores: [m] probability that the given label is right.
    noise_rate: estimated share of wrong labels of the judged rows, 0..1; not all of them can be named. judged, total: rows.
    """

    rows: Ints
    given: list[str]
    suggested: list[str]
    scores: Floats
    noise_rate: float
    judged: int
    total: int


class _Fit(NamedTuple):
    """weights of the models, share of wrong labels e of all labels [1] or each [labels], pull g, and the mean negative
    log-likelihood reached."""

    weights: Floats
    shares: Floats
    pull: float
    loss: float


def label_issues(
    texts: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[Any] | None = None,
    folds: int = 5,
    max_rows: int = 20_000,
    seed: int = 13,
) -> Suspects:
    """Finds the rows whose labels are probably wrong; about 6 seconds for 9,000 short texts of 77 labels on one core.

    texts, labels, groups: [n]. Rows of one group are judged by models that saw none of them, so that a copy does not vouch
    for itself; without groups, equal texts are one. Above max_rows a sample is judged, chosen by the texts alone: neither
    it nor the result depends on the order of the rows. Labels with fewer rows than folds, or all in one fold, are left
    unjudged. Raises ValueError for lengths that differ or fewer than two folds.
    """
    if len(texts) != len(labels) or (groups is not None and len(groups) != len(texts)):
        raise ValueError("texts, labels and groups differ in length")
    if folds < 2:
        raise ValueError(f"folds is {folds}; at least 2 are needed")
    own = [hashed(" ".join(text.lower().split()), seed) for text in texts]
    keys = own if groups is None else [hashed(str(group), seed) for group in groups]
    # Sorted by content: the order of the rows changes nothing from here on.
    ranked = sorted(range(len(texts)), key=lambda row: (own[row], labels[row], texts[row]))[:max_rows]
    rows = np.array(ranked, dtype=np.int64)
    names, codes = np.unique([labels[row] for row in ranked], return_inverse=True)
    parts = folded([keys[row] for row in ranked], codes, folds)
    kept = _judgeable(codes, parts, len(names), folds)
    rows, parts = rows[kept], parts[kept]
    present, codes = np.unique(codes[kept], return_inverse=True)
    if len(present) < 2:
        return Suspects(np.empty(0, dtype=np.int64), [], [], np.empty(0), 0.0, 0, len(texts))
    wrong, rate, best = _judged([texts[row] for row in rows], codes, parts, len(present), seed)
    found = np.flatnonzero((wrong >= _cut(wrong)) & (best != codes))
    found = found[np.argsort(-wrong[found], kind="stable")]
    known = names[present]
    return Suspects(
        rows[found],
        [str(name) for name in known[codes[found]]],
        [str(name) for name in known[best[found]]],
        1 - wrong[found],
        rate,
        len(rows),
        len(texts),
    )


def hashed(text: str, seed: int) -> int:
    """A number of 64 bits that the text and the seed give, the same on every machine."""
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8, salt=b"%d" % seed).digest(), "big"
    )


def folded(keys: Sequence[int], codes: Ints, folds: int) -> Ints:
    """Fold per row [n]: rows of one key together; dealt out by label, so that each label is in all folds alike."""
    first: dict[int, int] = {}
    for code, key in zip(codes.tolist(), keys, strict=True):
        first.setdefault(key, code)
    dealt = {key: place % folds for place, key in enumerate(sorted(first, key=lambda key: (first[key], key)))}
    return np.array([dealt[key] for key in keys], dtype=np.int64)


def _judgeable(codes: Ints, parts: Ints, labels: int, folds: int) -> npt.NDArray[np.bool_]:
    """Which rows [n] have a label with as many rows as folds, in at least two of them."""
    table = np.zeros((labels, folds), dtype=np.int64)
    np.add.at(table, (codes, parts), 1)
    good = (table.sum(axis=1) >= folds) & ((table > 0).sum(axis=1) >= 2)
    kept: npt.NDArray[np.bool_] = good[codes]
    return kept


def _judged(texts: Sequence[str], codes: Ints, parts: Ints, labels: int, seed: int) -> tuple[Floats, float, Ints]:
    """Per row the probability that its label is wrong [n] and the label that the models give it [n]; the share of wrong ones."""
    found = features(texts)
    first = out_of_fold(found, codes, parts, labels, np.ones(len(codes)), seed)
    fit = fitted(first, codes)
    wrong, chances = posterior(first, codes, fit)
    # The first pass has the better share: in the second, what looked wrong no longer speaks for itself.
    rate = float(wrong.mean())
    if fit.shares.max() > _LEAST_SHARE and len(codes) * labels <= _SECOND_WORK:
        second = out_of_fold(found, codes, parts, labels, 1 - wrong, seed)
        few, some = _few(second, codes)
        wrong, chances = posterior(second, codes, _descended(few, some, fit.pull, fit.shares, _MOST_SHARE))
    return wrong, rate, chances.argmax(axis=1).astype(np.int64)


def out_of_fold(found: csr_matrix, codes: Ints, parts: Ints, labels: int, weights: Floats, seed: int) -> list[Floats]:
    """Log-probabilities [n, labels] per model, of each row by models of the other folds.

    weights: [n], how much a row counts when the models are trained; a row with 0 is only judged.
    """
    from sklearn.linear_model import SGDClassifier
    from sklearn.naive_bayes import MultinomialNB

    # Chosen by measurement (Banking77 with a tenth of the labels changed): average precision 0.98 in 2 s, where
    # LogisticRegression takes 10 s for the same.
    models: list[Callable[[], Any]] = [partial(MultinomialNB, alpha=0.1)]
    if len(codes) * labels <= _SGD_WORK:
        descent = {"loss": "log_loss", "alpha": 3e-5, "max_iter": 6, "tol": None, "average": True, "random_state": seed}
        models.append(partial(SGDClassifier, **descent))
    results = [np.full((len(codes), labels), np.log(1e-9)) for _ in models]
    for part in np.unique(parts):
        inside, outside = np.flatnonzero(parts == part), np.flatnonzero((parts != part) & (weights > 0))
        for model, result in zip(models, results, strict=True):
            trained = model().fit(found[outside], codes[outside], sample_weight=weights[outside])
            result[np.ix_(inside, trained.classes_)] = np.log(trained.predict_proba(found[inside]) + 1e-9)
    return results


def fitted(logs: Sequence[Floats], codes: Ints) -> _Fit:
    """The model of the labels that makes the given ones likeliest. logs: per model [n, labels]; codes: [n] given labels.

    No wrong label at all is what is returned unless e > 0 explains the labels better than chance would; one share for
    all labels unless shares of their own do.
    """
    few, some = _few(logs, codes)
    labels = few[0].shape[1]
    clean = _descended(few, some, 0.0, np.array([_LEAST_SHARE]), _LEAST_SHARE)
    tried = [_descended(few, some, pull, np.array([start]), _MOST_SHARE) for pull in _PULLS for start in (0.01, 0.2)]
    if labels <= _FEW_LABELS:
        tried += [_descended(few, some, 0.0, np.full(labels, start), _MOST_SHARE) for start in (0.01, 0.2)]
    best = min(tried, key=lambda fit: 2 * len(some) * fit.loss + _CHANCE * len(fit.shares))
    return best if 2 * len(some) * (clean.loss - best.loss) > _CHANCE * len(best.shares) else clean


def _few(logs: Sequence[Floats], codes: Ints) -> tuple[list[Floats], Ints]:
    """What the model of the labels is fitted to: rows are sorted by a hash, so that every step-th one is a random sample."""
    step = -(-len(codes) // _FIT_ROWS)
    return [log[::step] for log in logs], codes[::step]


def _descended(logs: Sequence[Floats], codes: Ints, pull: float, start: Floats, most: float) -> _Fit:
    """The best weights and share from one start, for one pull (quasi-Newton, Byrd et al., 1995)."""
    from scipy.optimize import minimize

    models = len(logs)

    def loss(values: Floats) -> float:
        given, slipped = _terms(_mixed(logs, values[:models]), codes, values[models:], pull)
        return float(-np.log(given + slipped + 1e-12).mean())

    bounds = [(0.0, 8.0)] * models + [(_LEAST_SHARE, most)] * len(start)
    found = minimize(loss, np.concatenate([np.full(models, 1 / models), start]), method="L-BFGS-B", bounds=bounds)
    return _Fit(found.x[:models], found.x[models:], pull, float(found.fun))


def posterior(logs: Sequence[Floats], codes: Ints, fit: _Fit) -> tuple[Floats, Floats]:
    """Probability that each given label is wrong [n], and of each label being the right one as the text has it [n, labels]."""
    chances = _mixed(logs, fit.weights)
    given, slipped = _terms(chances, codes, fit.shares, fit.pull)
    return slipped / (given + slipped + 1e-12), chances


def _mixed(logs: Sequence[Floats], weights: Floats) -> Floats:
    """The models' weighted geometric mean [n, labels], rows adding up to 1."""
    total = sum((weight * log for weight, log in zip(weights, logs, strict=True)), start=np.zeros(1))
    total = np.exp(total - total.max(axis=1, keepdims=True))
    return np.asarray(total / total.sum(axis=1, keepdims=True))


def _terms(chances: Floats, codes: Ints, shares: Floats, pull: float) -> tuple[Floats, Floats]:
    """P(given label and it is right) and P(given label and some other one is right), each [n]."""
    every = np.arange(len(codes))
    labels = chances.shape[1]
    erring = chances * shares
    given = chances[every, codes] - erring[every, codes]
    if pull == 0 or labels == 2:
        return given, (erring.sum(axis=1) - erring[every, codes]) / (labels - 1)
    pulled = chances**pull
    spread = erring / np.maximum(pulled.sum(axis=1, keepdims=True) - pulled, 1e-12)
    return given, pulled[every, codes] * (spread.sum(axis=1) - spread[every, codes])


def _cut(wrong: Floats) -> float:
    """The probability from which rows are suspects: half of the best F1 that can be expected, which maximises it.

    Lipton, Elkan and Naryanaswamy, Optimal thresholding of classifiers to maximize F1 measure, 2014.
    """
    ordered = np.sort(wrong)[::-1]
    sums = np.cumsum(ordered)
    expected = 2 * sums / (np.arange(1, len(ordered) + 1) + sums[-1])
    return max(float(expected.max()) / 2, _FLOOR)
