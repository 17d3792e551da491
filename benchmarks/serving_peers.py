"""Other ways to serve the same model over HTTP: `python benchmarks/serving_peers.py (torch|litserve) FOLDER PORT`.

torch: what is usually written by hand, FastAPI with a PyTorch model and a request at a time. litserve: LitServe with its
dynamic batching over the same onnxruntime file; it is installed by hand (`pip install litserve onnxruntime tokenizers`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def torch_app(folder: Path, port: int) -> None:
    import torch
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    package = json.loads((folder / "package.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    app = FastAPI()

    class Request(BaseModel):
        text: str

    @app.post("/predict")
    def predict(request: Request) -> dict[str, Any]:
        encoded = tokenizer(request.text, truncation=True, max_length=package["max_length"], return_tensors="pt")
        with torch.inference_mode():
            chances = model(**encoded).logits.softmax(-1)[0]
        best = int(chances.argmax())
        return {"label": package["labels"][best], "score": float(chances[best])}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


def litserve_app(folder: Path, port: int, batch: int, wait: float) -> None:
    import litserve
    import numpy as np
    import onnxruntime
    from tokenizers import Tokenizer

    package = json.loads((folder / "package.json").read_text())

    class Served(litserve.LitAPI):  # type: ignore[misc]
        def setup(self, device: str) -> None:
            self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self.tokenizer.enable_truncation(package["max_length"])
            self.tokenizer.enable_padding(pad_id=package["pad_id"], pad_token=package["pad_token"])
            self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])

        def decode_request(self, request: dict[str, Any]) -> str:
            return str(request["text"])

        def predict(self, texts: Any) -> Any:
            alone = isinstance(texts, str)
            found = self.tokenizer.encode_batch([texts] if alone else list(texts))
            arrays = {
                "input_ids": np.array([each.ids for each in found], dtype=np.int64),
                "attention_mask": np.array([each.attention_mask for each in found], dtype=np.int64),
                "token_type_ids": np.array([each.type_ids for each in found], dtype=np.int64),
            }
            logits = self.session.run(["logits"], {name: arrays[name] for name in package["inputs"]})[0]
            chances = np.exp(logits - logits.max(-1, keepdims=True))
            chances /= chances.sum(-1, keepdims=True)
            return chances[0] if alone else list(chances)

        def encode_response(self, chances: Any) -> dict[str, Any]:
            best = int(chances.argmax())
            return {"label": package["labels"][best], "score": float(chances[best])}

    api = Served(max_batch_size=batch, batch_timeout=wait)
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    kind, place, number = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if kind == "torch":
        torch_app(place, number)
    else:
        litserve_app(place, number, *(int(sys.argv[4]), float(sys.argv[5])) if len(sys.argv) > 4 else (32, 0.005))
