"""From texts to padded batches, the same for every form of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlops.data.text import normalise
from mlops.errors import UserError
from mlops.serving.package import TOKENIZER, Package
from mlops.training.batches import by_length

Arrays = dict[str, npt.NDArray[np.int64]]
Floats = npt.NDArray[np.float32]
Ids = Sequence[int] | npt.NDArray[np.int32]


class Encoder:
    """Normalises and tokenises as training did. Raises UserError where the folder has no usable tokenizer.json."""

    def __init__(self, folder: Path, package: Package) -> None:
        from tokenizers import Tokenizer

        path = folder / TOKENIZER
        if not path.is_file():
            raise UserError(f"{folder} has no {TOKENIZER}")
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises plain Exception
            raise UserError(f"{path} is not a tokenizer: {error}") from None
        # The file may pad to a fixed length and cut at another one.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(package.max_length)
        self._empty = [package.pad_id]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids per text, special ones included, cut to max_length; never an empty list."""
        clean = [normalise(text) for text in texts]
        return [encoding.ids or self._empty for encoding in self._tokenizer.encode_batch(clean)]


def pad(ids: Sequence[Ids], pad_id: int, inputs: Sequence[str]) -> Arrays:
    """The named model inputs, each [rows, longest]: padding is masked out, token types are zero."""
    longest = max(map(len, ids))
    input_ids = np.full((len(ids), longest), pad_id, dtype=np.int64)
    attention_mask = np.zeros((len(ids), longest), dtype=np.int64)
    for position, each in enumerate(ids):
        input_ids[position, : len(each)] = each
        attention_mask[position, : len(each)] = 1
    arrays = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": np.zeros_like(input_ids)}
    return {name: arrays[name] for name in inputs}


def in_batches(ids: Sequence[Ids], package: Package, batch_tokens: int, forward: Callable[[Arrays], Floats]) -> Floats:
    """Logits [texts, labels] in the order of `ids`; batches are cut by length so that little is padding.

    batch_tokens: most tokens of a batch, padding included; a longer text is a batch of its own.
    """
    logits = np.empty((len(ids), len(package.labels)), dtype=np.float32)
    for rows in by_length([len(each) for each in ids], batch_tokens):
        logits[rows] = forward(pad([ids[row] for row in rows], package.pad_id, package.inputs))
    return logits
