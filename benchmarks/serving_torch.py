"""What is usually written by hand, FastAPI with PyTorch and a request at a time: `python serving_torch.py FOLDER PORT`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def torch_app(folder: Path, port: int) -> None:
    import torch
    import uvicorn
    from fastapi import FastAPI
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    package = json.loads((folder / "package.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    app = FastAPI()

    @app.post("/predict")
    def predict(request: dict[str, str]) -> dict[str, Any]:
        encoded = tokenizer(request["text"], truncation=True, max_length=package["max_length"], return_tensors="pt")
        with torch.inference_mode():
            chances = model(**encoded).logits.softmax(-1)[0]
        best = int(chances.argmax())
        return {"label": package["labels"][best], "score": float(chances[best])}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    torch_app(Path(sys.argv[1]), int(sys.argv[2]))
