"""From items to padded batches, the same for every form of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlops.data.text import normalise
from mlops.errors import UserError
from mlops.serving.package import TOKENIZER, Package
from mlops.tasks.base import Ids, Item, Logits, Task
from mlops.tasks.long_pairs import shortened
from mlops.tasks.pieces import Pieces
from mlops.tasks.windows import joined, split
from mlops.training.batches import by_length

Arrays = dict[str, npt.NDArray[np.int64]]


class Encoded(NamedTuple):
    """Sequences of n items. items: whose each sequence is. seconds: where the second text begins, none without pairs.

    places: per sequence where the tokens that it answers for are, none where the whole sequence has one answer. cut: per
    item whether the model reads only its beginning; none where windows read all of it.
    """

    input_ids: list[Ids]
    items: list[int]
    seconds: list[int] | None = None
    places: list[Ids] | None = None
    cut: list[bool] | None = None


class Encoder:
    """Normalises and tokenises as training did. Raises UserError where the folder has no usable tokenizer.json."""

    def __init__(self, folder: Path, package: Package, task: Task) -> None:
        from tokenizers import Tokenizer

        path = folder / TOKENIZER
        if not path.is_file():
            raise UserError(f"{folder} has no {TOKENIZER}")
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # tokenizers raises plain Exception, and panics, which are none
            raise UserError(f"{path} is not a tokenizer: {error}") from None
        # The file may pad to a fixed length and cut at another one.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(package.max_length)
        self._longest = package.max_length
        self._pieces = Pieces(self._tokenizer, package.max_length) if task.kind == "tokens" else None

    @property
    def highest(self) -> int:
        """The highest token id that the tokenizer can give."""
        return max(self._tokenizer.get_vocab().values(), default=0)

    def encode(self, items: Sequence[Item]) -> Encoded:
        """Token ids, special ones included, none longer than max_length; tokens in windows."""
        if self._pieces is not None:
            return self._windows([list(item) for item in items], self._pieces)
        found = self._tokenizer.encode_batch([self._clean(item) for item in items])
        ids = [np.array(each.ids, dtype=np.int32) for each in found]
        pairs = any(isinstance(item, tuple) for item in items)
        seconds = [second_starts(each.type_ids) for each in found] if pairs else None
        return Encoded(ids, list(range(len(ids))), seconds, None, [bool(each.overflowing) for each in found])

    def _clean(self, item: Item) -> Any:
        if isinstance(item, str):
            return normalise(item)
        first, second = item
        return shortened(self._tokenizer, (normalise(first), normalise(second)), self._longest)

    def _windows(self, items: Sequence[list[str]], pieces: Pieces) -> Encoded:
        encoded = Encoded([], [], None, [])
        for number, tokens in enumerate(items):
            windows, places = split(pieces.windowed([normalise(token) for token in tokens]))
            encoded.input_ids.extend(windows)
            encoded.items.extend([number] * len(windows))
            encoded.places.extend(places)  # type: ignore[union-attr]
        return encoded


def second_starts(type_ids: Sequence[int]) -> int:
    """Where the second text of a pair begins: behind the last id of type 0."""
    return len(type_ids) - sum(type_ids)


def pad(
    ids: Sequence[Ids], pad_id: int, inputs: Sequence[str], seconds: Sequence[int] | None = None, length: int = 1
) -> Arrays:
    """The named model inputs, each [rows, longest]: padding is masked out, token types are 1 from `seconds` on.

    A row of which its tokenizer leaves nothing is one padding token that is read: no model takes no token at all. length: at
    least so long.
    """
    longest = max(length, *map(len, ids))
    input_ids = np.full((len(ids), longest), pad_id, dtype=np.int64)
    attention_mask = np.zeros((len(ids), longest), dtype=np.int64)
    token_types = np.zeros((len(ids), longest), dtype=np.int64)
    for position, each in enumerate(ids):
        input_ids[position, : len(each)] = each
        attention_mask[position, : max(1, len(each))] = 1
        if seconds is not None:
            token_types[position, seconds[position] : len(each)] = 1
    arrays = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_types}
    return {name: arrays[name] for name in inputs}


def in_batches(
    ids: Sequence[Ids],
    package: Package,
    batch_tokens: int,
    forward: Callable[[Arrays], Logits],
    seconds: Sequence[int] | None = None,
) -> list[Logits]:
    """Logits per sequence in their order, [labels] or, from a model that answers by token, [length, labels].

    Batches are cut by length so that little is padding. batch_tokens: most tokens of a batch, padding included; a longer
    sequence is a batch of its own.
    """
    batches = by_length([len(each) for each in ids], batch_tokens)
    logits = [forward(padded(ids, package, rows, seconds)) for rows in batches]
    return in_order(ids, batches, logits)


def padded(ids: Sequence[Ids], package: Package, rows: Sequence[int], seconds: Sequence[int] | None = None) -> Arrays:
    """The model's inputs of the sequences at these positions."""
    chosen = None if seconds is None else [seconds[row] for row in rows]
    return pad([ids[row] for row in rows], package.pad_id, package.inputs, chosen)


def in_order(ids: Sequence[Ids], batches: Sequence[Sequence[int]], logits: Sequence[Logits]) -> list[Logits]:
    """Logits per sequence from those of batches of positions; of tokens without those of the padding."""
    found: list[Any] = [None] * len(ids)
    for rows, batch in zip(batches, logits, strict=True):
        for row, values in zip(rows, batch, strict=True):
            found[row] = values[: len(ids[row])] if batch.ndim == 3 else values
    return found


def tempered(logits: list[Logits], package: Package) -> list[Logits]:
    """Logits at the temperature that was fitted on validation: the same answers, with probabilities that hold."""
    return logits if package.temperature == 1 else [values / np.float32(package.temperature) for values in logits]


def by_item(encoded: Encoded, logits: Sequence[Logits]) -> list[Logits]:
    """Logits per item from those per sequence: windows put together again."""
    if encoded.places is None:
        return list(logits)
    parts: dict[int, tuple[list[Logits], list[Ids]]] = {}
    for item, values, places in zip(encoded.items, logits, encoded.places, strict=True):
        own = parts.setdefault(item, ([], []))
        own[0].append(values)
        own[1].append(places)
    return [joined(*parts[item]) for item in sorted(parts)]
