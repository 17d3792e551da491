"""What a model is given: padded arrays."""

from __future__ import annotations

import numpy as np

from mlops.serving.inputs import pad

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def ids(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array(values, dtype=np.int32)


def test_padding_is_masked_and_the_second_text_is_marked() -> None:
    arrays = pad([ids(2, 7, 3, 8, 3), ids(2, 9, 3)], 0, INPUTS, [3, 3])
    assert arrays["input_ids"].tolist() == [[2, 7, 3, 8, 3], [2, 9, 3, 0, 0]]
    assert arrays["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert arrays["token_type_ids"].tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]]


def test_a_row_without_a_token_is_one_padding_token_that_is_read() -> None:
    arrays = pad([ids(), ids(2, 9, 3)], 5, INPUTS)
    assert arrays["input_ids"].tolist() == [[5, 5, 5], [2, 9, 3]]
    assert arrays["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    alone = pad([ids()], 5, INPUTS)
    assert alone["input_ids"].shape == (1, 1)
    assert alone["attention_mask"].tolist() == [[1]]
