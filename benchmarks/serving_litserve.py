"""LitServe with its dynamic batching over the same onnxruntime file: `python serving_litserve.py FOLDER PORT [BATCH SECONDS]`.

In an environment of its own: pip install litserve onnxruntime tokenizers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import litserve
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

FOLDER = Path(sys.argv[1])
PACKAGE = json.loads((FOLDER / "package.json").read_text())


class Served(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
        self.tokenizer.enable_truncation(PACKAGE["max_length"])
        self.tokenizer.enable_padding(pad_id=PACKAGE["pad_id"], pad_token=PACKAGE["pad_token"])
        self.session = onnxruntime.InferenceSession(str(FOLDER / "model.onnx"), providers=["CPUExecutionProvider"])

    def decode_request(self, request: dict[str, Any]) -> str:
        return str(request["text"])

    def predict(self, texts: Any) -> Any:
        found = self.tokenizer.encode_batch([texts] if isinstance(texts, str) else list(texts))
        arrays = {
            "input_ids": np.array([each.ids for each in found], dtype=np.int64),
            "attention_mask": np.array([each.attention_mask for each in found], dtype=np.int64),
            "token_type_ids": np.array([each.type_ids for each in found], dtype=np.int64),
        }
        logits = self.session.run(["logits"], {name: arrays[name] for name in PACKAGE["inputs"]})[0]
        chances = np.exp(logits - logits.max(-1, keepdims=True))
        chances /= chances.sum(-1, keepdims=True)
        return chances[0] if isinstance(texts, str) else list(chances)

    def encode_response(self, chances: Any) -> dict[str, Any]:
        best = int(chances.argmax())
        return {"label": PACKAGE["labels"][best], "score": float(chances[best])}


if __name__ == "__main__":
    batch, wait = (int(sys.argv[3]), float(sys.argv[4])) if len(sys.argv) > 4 else (32, 0.005)
    server = litserve.LitServer(Served(max_batch_size=batch, batch_timeout=wait), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
