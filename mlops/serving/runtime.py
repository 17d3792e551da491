"""Load an ONNX package and predict: what serves, and what is judged before it may serve.

No torch, no transformers: numpy, tokenizers and onnxruntime.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlops.errors import UserError
from mlops.serving.compute import Compute
from mlops.serving.cpu import threads as usable_threads
from mlops.serving.inputs import Encoded, Encoder, by_item, in_order, padded, tempered
from mlops.serving.package import MODEL, PACKAGE, TOKENIZER, Package, read_package
from mlops.serving.session import check_inside
from mlops.store import MANIFEST, check_manifest
from mlops.tasks import get
from mlops.tasks.base import Item, Logits

_LONGEST_PROBE = 2048  # tokens: memory grows with their square


class Runtime:
    """One loaded model. Calls may come from several threads at once."""

    def __init__(self, package: Package, encoder: Encoder, compute: Compute) -> None:
        self._package, self._encoder, self._compute = package, encoder, compute
        self.task = get(package.task)
        self.package: dict[str, Any] = package.model_dump(mode="json")
        self.labels = package.labels
        self.variant = package.variant
        self.temperature = package.temperature

    @classmethod
    def load(cls, folder: Path, threads: int | None = None) -> Runtime:
        """Loads a package folder; its files are checked against manifest.json where there is one.

        threads: to compute with; by default what affinity and the control group's quota leave.
        Raises UserError with the reason for a folder that is no package or whose model is not to be trusted, StoreError
        for files that are not the manifest's.
        """
        folder = Path(folder)
        check_inside(folder, (PACKAGE, TOKENIZER, MODEL, MANIFEST))
        package = read_package(folder)
        if (folder / MANIFEST).is_file():
            manifest = _read_manifest(folder / MANIFEST)
            check_inside(folder, manifest["files"])
            check_manifest(folder, manifest)
        compute = Compute(folder / MODEL, usable_threads() if threads is None else threads)
        _check_fits(folder, package, compute.session)
        runtime = cls(package, Encoder(folder, package, get(package.task)), compute)
        runtime._probe(folder)
        return runtime

    def logits(self, items: Sequence[Item]) -> list[Logits]:
        """One array per item, in their order: [labels], or [tokens, labels] from a model that answers by token."""
        if isinstance(items, str):
            raise TypeError("found one text, allowed is a list of texts")
        if not len(items):
            return []
        return self.compute(self.encode(items))

    def encode(self, items: Sequence[Item]) -> Encoded:
        """What the model reads of the items; `compute` takes it, or any of its items."""
        return self._encoder.encode(items)

    def compute(self, encoded: Encoded) -> list[Logits]:
        """The same from what the encoder made of the items."""
        ids = encoded.input_ids
        batches = self._compute.cut([len(each) for each in ids])
        logits = self._compute.run(batches, lambda rows: padded(ids, self._package, rows, encoded.seconds))
        return tempered(by_item(encoded, in_order(ids, batches, logits)), self._package)

    def predict(self, asked: Sequence[Any]) -> list[Any]:
        """One answer per text, pair of texts or list of tokens, as the task's `decode` gives them.

        Raises UserError for what the task cannot be asked.
        """
        if isinstance(asked, str):
            raise TypeError("found one text, allowed is a list of texts")
        items = [self.task.asked(each) for each in asked]
        return self.task.decode(self.logits(items), asked, self.labels)

    def lengths(self, items: Sequence[Item]) -> list[int]:
        """Tokens that the model reads of each item, special ones included; of all its windows where it has several."""
        encoded = self.encode(items)
        found = [0] * len(items)
        for item, ids in zip(encoded.items, encoded.input_ids, strict=True):
            found[item] += len(ids)
        return found

    def warm_up(self) -> None:
        """One answer, so that the first user does not wait for it."""
        self.predict([("warm", "up") if self.task.kind == "pair" else "warm up"])

    def _probe(self, folder: Path) -> None:
        """A short and a long question at once, and the highest token of the vocabulary beside padding; UserError where it
        cannot answer them: no request should find that out."""
        words = ["word"] * min(self._package.max_length, _LONGEST_PROBE)
        long: Any = " ".join(words)
        asked: list[Any] = ["a", words] if self.task.kind == "tokens" else ["a", long]
        if self.task.kind == "pair":
            asked = [("a", "b"), (long, long)]
        ends = [np.array([self._encoder.highest], dtype=np.int32)]
        ends.append(np.repeat(ends[0], min(3, self._package.max_length)))
        try:
            found = self.logits([self.task.asked(each) for each in asked])
            found += list(self._compute.run([[0, 1]], lambda rows: padded(ends, self._package, rows))[0])
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the tokenizer's panics are no Exception
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            what = f"a question of {len(words)} tokens, or token {self._encoder.highest} beside padding"
            raise UserError(f"{folder} cannot answer {what}: {reason}") from None
        for values in found:
            if values.shape[-1:] != (len(self.labels),):
                raise UserError(f"{folder} gives logits {list(values.shape)}, it has {len(self.labels)} labels")
            if not np.isfinite(values).all():
                raise UserError(f"{folder} gives logits that are no numbers: {values.ravel()[:5].tolist()}")


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        files: dict[str, dict[str, Any]] = dict(json.loads(path.read_text(encoding="utf-8"))["files"])
        return {
            "files": {name: {"sha256": str(entry["sha256"]), "size": entry["size"]} for name, entry in files.items()}
        }
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is not a manifest: {type(error).__name__}: {error}") from None


def _check_fits(folder: Path, package: Package, session: Any) -> None:
    """UserError unless the graph takes and gives what package.json says."""
    found = sorted(entry.name for entry in session.get_inputs())
    if found != sorted(package.inputs):
        raise UserError(f"{folder / MODEL} takes {found}, its package.json says {sorted(package.inputs)}")
    outputs = {entry.name: entry.shape for entry in session.get_outputs()}
    if "logits" not in outputs:
        raise UserError(f"{folder / MODEL} gives {sorted(outputs)}; allowed is logits")
    width = outputs["logits"][-1]
    if isinstance(width, int) and width != len(package.labels):
        raise UserError(f"{folder / MODEL} gives {width} logits, its package.json lists {len(package.labels)} labels")
