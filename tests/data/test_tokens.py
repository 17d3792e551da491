from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import tiny

from mlops.data.text import digests
from mlops.data.tokens import TokenizerOf, open_tokenizer, tokenise
from mlops.store import open_store
from mlops.tasks import get
from mlops.types import ArtifactRef

TEXTS = [row["text"] for row in tiny.tiny_rows(60)]


@pytest.fixture
def tokenizer(tmp_path: Path) -> TokenizerOf:
    tiny.tiny_tokenizer(tmp_path)
    return open_tokenizer(tmp_path, 16)


def ids(tokenizer: TokenizerOf, texts: list[str]) -> list[list[int]]:
    column = pa.array(texts, pa.string())
    found: list[list[int]] = tokenise(
        open_store(), tokenizer, column, digests(column, folded=False), get("text-classification")
    ).ids.to_pylist()
    return found


def parts(tokenizer: TokenizerOf) -> list[ArtifactRef]:
    found = open_store().read_document(f"tokens/{tokenizer.digest}-text")
    return [ArtifactRef.model_validate(part) for part in found]


def right(tokenizer: TokenizerOf, texts: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in tokenizer.tokenizer.encode_batch(texts)]


def test_a_damaged_part_costs_its_own_texts_alone(tokenizer: TokenizerOf, caplog: pytest.LogCaptureFixture) -> None:
    for start in (0, 10, 20):
        assert ids(tokenizer, TEXTS[start : start + 10]) == right(tokenizer, TEXTS[start : start + 10])
    damaged = parts(tokenizer)[1]
    path = open_store().fetch(damaged) / "tokens.arrow"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-50])
    caplog.set_level("INFO", "evergreen")
    assert ids(tokenizer, TEXTS[:31]) == right(tokenizer, TEXTS[:31])
    assert "tokenise: 11 texts, 20 were known" in caplog.messages
    assert damaged not in parts(tokenizer)
    caplog.clear()
    assert ids(tokenizer, TEXTS[:31]) == right(tokenizer, TEXTS[:31])
    assert caplog.messages == []


def test_a_part_damaged_for_good_never_ends_a_run(tokenizer: TokenizerOf) -> None:
    ids(tokenizer, TEXTS[:5])
    (path,) = (open_store().fetch(part) / "tokens.arrow" for part in parts(tokenizer))
    path.chmod(0o644)
    path.write_bytes(b"")
    for number in range(12):
        # The same texts make the same part at the same, damaged place; others join it until all are written anew as one.
        some = [*TEXTS[:5], *TEXTS[5 + number : 6 + number]] if number % 2 else TEXTS[:5]
        assert ids(tokenizer, some) == right(tokenizer, some)
