"""What a few lines without a transformer answer."""

from __future__ import annotations

import pyarrow as pa
import pytest

from mlops.baselines import answers
from mlops.tasks import get
from mlops.tasks.pairs import SEPARATOR


def table(rows: list[tuple[str, str]]) -> pa.Table:
    texts, labels = zip(*rows, strict=True)
    return pa.table({"row_id": [str(n) for n in range(len(rows))], "text": texts, "label": labels})


def test_tfidf_learns_words() -> None:
    train = table(
        [("iron and steel", "metals"), ("copper wire", "metals"), ("oak tree", "plants"), ("a rose", "plants")] * 5
    )
    found = answers(
        "tfidf", get("text-classification"), train, table([("steel wire", "?"), ("an oak", "?")]), ("metals", "plants")
    )
    assert found.predicted == ["metals", "plants"]
    assert all(0.5 < score <= 1 for score in found.scores)


def test_tfidf_learns_each_label_of_several() -> None:
    train = table(
        [
            ("iron and steel", '["metals"]'),
            ("oak tree", '["plants"]'),
            ("iron and oak", '["metals", "plants"]'),
            ("nothing of it", "[]"),
        ]
        * 8
    )
    asked = table([("steel wire", "?"), ("an oak", "?"), ("iron and oak", "?"), ("nothing", "?")])
    found = answers("tfidf", get("text-classification:multi"), train, asked, ("gases", "metals", "plants"))
    assert found.predicted == ['["metals"]', '["plants"]', '["metals", "plants"]', "[]"]
    assert [len(chances) for chances in found.chances] == [3] * 4
    assert all(chances[0] < 1e-6 for chances in found.chances)


def test_one_label_in_train_is_the_answer() -> None:
    found = answers("tfidf", get("text-classification"), table([("a", "x")] * 3), table([("b", "y")]), ("x", "y"))
    assert found.predicted == ["x"]


def test_the_most_frequent_tag_of_a_token_is_legal() -> None:
    train = table([("New York is big", "B-place I-place O O"), ("New shoes", "O O"), ("new shoes", "O O")])
    found = answers(
        "most_frequent_tag", get("token-classification"), train, table([("in York", "O O"), ("NEW", "O")]), ()
    )
    assert found.predicted == ["O B-place", "O"]


def test_a_ranking_goes_by_words_in_common() -> None:
    pairs = [f"who wrote it {SEPARATOR} the author wrote it", f"who wrote it {SEPARATOR} bananas are yellow"]
    train = table([(pairs[0], "1"), (pairs[1], "0")])
    found = answers("tfidf", get("text-ranking"), train, train, ("0", "1"))
    assert found.scores[0] > found.scores[1]


def test_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="found the baseline 'bert'"):
        answers("bert", get("text-classification"), table([("a", "x")]), table([("a", "x")]), ("x",))
