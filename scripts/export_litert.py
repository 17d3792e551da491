"""A fine-tuned model as LiteRT (TFLite) files for phones and boards, in an environment of its own.

    python -m venv .venv-litert
    .venv-litert/bin/pip install litert-torch==0.10.0 torch==2.13.0 transformers==5.23.0
    .venv-litert/bin/python scripts/export_litert.py FOLDER TARGET

FOLDER: of the fine-tuned torch model: store/model/PARENT below the home; `mlops releases MODEL --json` says a version's parent.
TARGET gets model-fp32.tflite, model-int8.tflite (weights in int8 per channel, activations per call), tokenizer.json and
package.json. Both take input_ids and attention_mask, int32 [1, max_length], padded: LiteRT has one shape per file. Each is asked
random ids beside torch; exit 1, with the largest difference, where the logits are apart. Nothing here is judged by the gate:
what this writes does not serve, and what serves is the ONNX file.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

# Share of the largest logit that a file's may be away from torch's.
ALLOWED = {"fp32": 1e-3, "int8": 0.25}
_ASKED = 8


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit((__doc__ or "").strip())
    folder, target = Path(sys.argv[1]), Path(sys.argv[2])
    missing = [
        name for name in ("package.json", "tokenizer.json", "model.safetensors") if not (folder / name).is_file()
    ]
    if missing:
        sys.stderr.write(f"{folder} has no {', '.join(missing)}; allowed is the folder of a fine-tuned torch model\n")
        sys.exit(2)
    package = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    target.mkdir(parents=True, exist_ok=True)
    found = convert(folder, package, target)
    shutil.copyfile(folder / "tokenizer.json", target / "tokenizer.json")
    (target / "package.json").write_text(json.dumps(package | {"variant": "litert"}, indent=1), encoding="utf-8")
    for name, apart in found.items():
        size = (target / f"model-{name}.tflite").stat().st_size / 1e6
        print(
            f"{name}: {size:.1f} MB, logits at most {apart:.2e} of the largest away from torch's, allowed {ALLOWED[name]:g}"
        )
    sys.exit(any(not apart <= ALLOWED[name] for name, apart in found.items()))


def convert(folder: Path, package: dict[str, Any], target: Path) -> dict[str, float]:
    """Writes both files; how far each is from torch, as a share of its largest logit."""
    import litert_torch
    import torch
    from ai_edge_quantizer import quantizer, recipe

    model = opened(folder, package)
    generator = torch.Generator().manual_seed(0)
    shape = (_ASKED, 1, int(package["max_length"]))
    ids = torch.randint(1, model.config.vocab_size, shape, generator=generator)
    mask = torch.ones_like(ids)
    mask[1::2, :, shape[2] // 2 :] = 0
    wrapped = logits_of(model).eval()
    files = {name: target / f"model-{name}.tflite" for name in ALLOWED}
    litert_torch.convert(wrapped, (ids[0], mask[0])).export(str(files["fp32"]))
    own = quantizer.Quantizer(str(files["fp32"]), recipe.dynamic_wi8_afp32())
    own.quantize().export_model(files["int8"], overwrite=True)
    with torch.no_grad():
        expected = [wrapped(ids[row], mask[row]).numpy() for row in range(_ASKED)]
    return {name: apart(file, ids.numpy(), mask.numpy(), expected) for name, file in files.items()}


def logits_of(model: Any) -> Any:
    """The model as a module of ids and mask."""
    import torch

    class Logits(torch.nn.Module):
        """input_ids, attention_mask [1, length] to logits alone."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    return Logits()


def opened(folder: Path, package: dict[str, Any]) -> Any:
    """The network, with attention as plain products."""
    import transformers

    tokens = package["task"].startswith("token-classification")
    kind = "AutoModelForTokenClassification" if tokens else "AutoModelForSequenceClassification"
    return getattr(transformers, kind).from_pretrained(folder, attn_implementation="eager").eval()


def apart(file: Path, ids: Any, mask: Any, expected: list[Any]) -> float:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file))
    runner = interpreter.get_signature_runner()
    names = sorted(runner.get_input_details())  # args_0, args_1: in the order of `forward`
    differences, largest = [], max(float(np.abs(values).max()) for values in expected)
    for row, wanted in enumerate(expected):
        given = {names[0]: ids[row].astype(np.int32), names[1]: mask[row].astype(np.int32)}
        (answer,) = runner(**given).values()
        differences.append(float(np.abs(answer - wanted).max()))
    return max(differences) / largest


if __name__ == "__main__":
    main()
