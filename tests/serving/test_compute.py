"""Batches side by side: the same answers with any number of threads, and by all threads where the file is large."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tiny import tiny_models, tiny_rows

from mlops.serving import compute
from mlops.serving.compute import SHARED_TOKENS, WIDE_TOKENS, Compute
from mlops.serving.runtime import Runtime

TEXTS = [row["text"] for row in tiny_rows(300, seed=9)]


@pytest.mark.parametrize("threads", [2, 3])
def test_side_by_side_is_one_after_the_other(threads: int) -> None:
    one, several = (Runtime.load(tiny_models()["fp32"], threads=count) for count in (1, threads))
    np.testing.assert_allclose(several.logits(TEXTS), one.logits(TEXTS), atol=1e-5)


def test_every_row_is_in_one_batch_and_every_thread_has_one() -> None:
    path = tiny_models()["fp32"] / "model.onnx"
    lengths = [len(text.split()) + 2 for text in TEXTS]
    for threads, most in ((1, WIDE_TOKENS), (2, SHARED_TOKENS)):
        batches = Compute(path, threads).cut(lengths)
        assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
        assert max(len(rows) * max(lengths[row] for row in rows) for rows in batches) <= most
    few = lengths[:24]
    assert sum(few) < 2 * SHARED_TOKENS
    assert len(Compute(path, 2).cut(few)) >= 2
    assert Compute(path, 2).cut([]) == []
    assert Compute(path, 2).run([], lambda rows: {}) == []


def test_a_large_file_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = compute.open_session
    monkeypatch.setattr(compute, "open_session", lambda path, threads: opened.append(threads) or real(path, threads))
    Compute(tiny_models()["fp32"] / "model.onnx", 2)
    assert opened == [2, 1]
    monkeypatch.setattr(compute, "_LARGEST", 10)
    large = Compute(tiny_models()["fp32"] / "model.onnx", 2)
    assert opened == [2, 1, 2]
    assert len(large.cut([10] * 100)) == 1


def test_calls_from_several_threads_get_their_own_answers() -> None:
    runtime = Runtime.load(tiny_models()["fp32"], threads=2)
    expected = runtime.logits(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda start: runtime.logits(TEXTS[start::4]), range(4)))
    for start, part in enumerate(parts):
        np.testing.assert_allclose(part, expected[start::4], atol=1e-5)


def test_what_goes_wrong_in_a_batch_is_raised() -> None:
    computing = Compute(tiny_models()["fp32"] / "model.onnx", 2)
    with pytest.raises(Exception, match=r"input_ids|Required inputs"):
        computing.run([[0], [1]], lambda rows: {})
