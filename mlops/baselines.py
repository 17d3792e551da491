"""What a few lines without a transformer answer on the test rows: what a model has to beat to be worth its cost."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.data.linear import fit, predict
from mlops.tasks.base import Answers, Task
from mlops.tasks.pairs import SEPARATOR

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 20_000  # of train that a baseline learns from


def answers(name: str, task: Task, train: pa.Table, test: pa.Table, labels: Sequence[str]) -> Answers:
    """The answers of the baseline `tfidf` or `most_frequent_tag` to the test rows.

    It learns from at most 20,000 rows of train, those that come first by the hash of their ids. labels: in the order of a
    model's outputs. Raises ValueError for another name.
    """
    rows = _some(train)
    texts, truth = rows["text"].to_pylist(), rows["label"].to_pylist()
    asked = test["text"].to_pylist()
    if name == "most_frequent_tag":
        return _most_frequent_tags(task, texts, truth, asked)
    if name != "tfidf":
        raise ValueError(f"found the baseline {name!r}; allowed: tfidf, most_frequent_tag")
    if task.key == "text-ranking":
        found = _cosines(texts, asked)
        return Answers(test["label"].to_pylist(), found, [[float(value)] for value in found])
    features = _features(texts, asked, pairs=task.kind == "pair")
    if not task.one_label and task.kind == "text":
        return _each_label(task, truth, features, labels)
    return _linear(truth, features)


def _some(train: pa.Table) -> pa.Table:
    import zlib

    if train.num_rows <= _ROWS:
        return train
    order = np.argsort([zlib.crc32(row.encode()) for row in train["row_id"].to_pylist()], kind="stable")
    return train.take(np.sort(order[:_ROWS]))


def _features(texts: Sequence[str], asked: Sequence[str], pairs: bool) -> tuple[Any, Any]:
    """tf-idf of words and pairs of words, of train and test; of pairs also how alike the two are."""
    from scipy.sparse import csr_matrix, hstack

    from mlops.data.features import vectoriser

    model = vectoriser()
    features, others = model.fit_transform(texts).tocsr(), model.transform(asked).tocsr()
    if pairs:
        alike = [csr_matrix(_alike(model, part)[:, None]) for part in (texts, asked)]
        features, others = hstack([features, alike[0]]).tocsr(), hstack([others, alike[1]]).tocsr()
    return features, others


def _linear(truth: Sequence[str], features: tuple[Any, Any]) -> Answers:
    """A linear model of log loss, one against the rest."""
    known, (ours, others) = sorted(set(truth)), features
    rows = others.shape[0]
    if len(known) < 2:
        return Answers(list(known) * rows, np.ones(rows), [[1.0]] * rows)
    place = {label: position for position, label in enumerate(known)}
    chances = predict(fit(ours, np.array([place[label] for label in truth])), others, len(known))
    best = chances.argmax(axis=1)
    return Answers([known[code] for code in best], chances.max(axis=1), list(chances))


def _each_label(task: Task, truth: Sequence[str], features: tuple[Any, Any], labels: Sequence[str]) -> Answers:
    """One such model per label, whether a row has it; one that all rows have, or none, stays so."""
    ours, others = features
    sets = [set(task.label_names(cell)) for cell in truth]
    chances = np.zeros((others.shape[0], len(labels)))
    for place, label in enumerate(labels):
        has = np.array([label in names for names in sets], dtype=np.int64)
        chances[:, place] = predict(fit(ours, has), others, 2)[:, 1] if 0 < has.sum() < len(has) else has[0]
    # The task's own reading of probabilities, which it takes from logits.
    with np.errstate(divide="ignore"):
        logits = np.clip(np.log(chances) - np.log1p(-chances), -30, 30).astype(np.float32)
    return task.answers(list(logits), labels)


def _cosines(texts: Sequence[str], asked: Sequence[str]) -> Any:
    from mlops.data.features import vectoriser

    model = vectoriser()
    model.fit([part for text in texts for part in text.split(SEPARATOR)])
    return _alike(model, asked)


def _alike(model: Any, pairs: Sequence[str]) -> Any:
    """Cosine of the two texts of each pair [n]: rows of tf-idf have unit length."""
    first, second = zip(*(pair.partition(SEPARATOR)[::2] for pair in pairs), strict=True)
    product = model.transform(first).multiply(model.transform(second))
    return np.asarray(product.sum(axis=1), dtype=np.float64).ravel()


def _most_frequent_tags(task: Task, texts: Sequence[str], truth: Sequence[str], asked: Sequence[str]) -> Answers:
    """Each token's most frequent tag in train, whatever its case; O for tokens that train does not have."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for text, cell in zip(texts, truth, strict=True):
        for token, tag in zip(task.item(text), cell.split(" "), strict=False):
            counts[token.lower()][tag] += 1
    best = {token: max(sorted(tags), key=tags.__getitem__) for token, tags in counts.items()}
    found = [_legal([best.get(token.lower(), "O") for token in task.item(text)]) for text in asked]
    sure = [[1.0] * len(tags) for tags in found]
    return Answers([" ".join(tags) for tags in found], np.ones(len(found)), sure)


def _legal(tags: list[str]) -> list[str]:
    """An I- that goes on with nothing begins an entity."""
    before = "O"
    for place, tag in enumerate(tags):
        if tag.startswith("I-") and before[2:] != tag[2:]:
            tags[place] = f"B-{tag[2:]}"
        before = tags[place]
    return tags
