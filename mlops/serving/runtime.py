"""Load an ONNX package and predict: what serves, and what is judged before it may serve.

No torch, no transformers: numpy, tokenizers and onnxruntime.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlops.errors import UserError
from mlops.serving.cpu import threads as usable_threads
from mlops.serving.inputs import Arrays, Encoder, by_item, in_batches, tempered
from mlops.serving.package import MODEL, Package, read_package
from mlops.store import MANIFEST, check_manifest
from mlops.tasks import get
from mlops.tasks.base import Item, Logits

BATCH_TOKENS = 2048


class Runtime:
    """One loaded model. Calls may come from several threads at once."""

    def __init__(self, package: Package, encoder: Encoder, session: Any) -> None:
        self._package, self._encoder, self._session = package, encoder, session
        self.task = get(package.task)
        self.package: dict[str, Any] = package.model_dump(mode="json")
        self.labels = package.labels
        self.variant = package.variant
        self.temperature = package.temperature

    @classmethod
    def load(cls, folder: Path, threads: int | None = None) -> Runtime:
        """Loads a package folder; its files are checked against manifest.json where there is one.

        threads: to compute with; by default what affinity and the control group's quota leave.
        Raises UserError with the reason for a folder that is no package, StoreError for files that are not the
        manifest's.
        """
        folder = Path(folder)
        package = read_package(folder)
        if (folder / MANIFEST).is_file():
            check_manifest(folder, _read_manifest(folder / MANIFEST))
        session = _open_session(folder / MODEL, usable_threads() if threads is None else threads)
        _check_fits(folder, package, session)
        return cls(package, Encoder(folder, package, get(package.task)), session)

    def logits(self, items: Sequence[Item], batch_tokens: int = BATCH_TOKENS) -> list[Logits]:
        """One array per item, in their order: [labels], or [tokens, labels] from a model that answers by token.

        batch_tokens: most tokens computed on at once.
        """
        if isinstance(items, str):
            raise TypeError("found one text, allowed is a list of texts")
        if not len(items):
            return []
        encoded = self._encoder.encode(items)
        found = in_batches(encoded.input_ids, self._package, batch_tokens, self._forward, encoded.seconds)
        return tempered(by_item(encoded, found), self._package)

    def predict(self, asked: Sequence[Any]) -> list[Any]:
        """One answer per text, pair of texts or list of tokens, as the task's `decode` gives them.

        Raises UserError for what the task cannot be asked.
        """
        if isinstance(asked, str):
            raise TypeError("found one text, allowed is a list of texts")
        items = [self.task.asked(each) for each in asked]
        return self.task.decode(self.logits(items), asked, self.labels)

    def warm_up(self) -> None:
        """One answer, so that the first user does not wait for it."""
        self.predict([("warm", "up") if self.task.kind == "pair" else "warm up"])

    def _forward(self, arrays: Arrays) -> Logits:
        result: Logits = self._session.run(["logits"], arrays)[0]
        return result


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return {"files": dict(manifest["files"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a manifest: {type(error).__name__}: {error}") from None


def _open_session(path: Path, threads: int) -> Any:
    import onnxruntime

    if not path.is_file():
        raise UserError(f"{path.parent} has no {MODEL}; only ONNX packages (fp32, int8) can serve")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class per fault, none of them public
        raise UserError(f"{path} cannot be loaded: {error}") from None


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
