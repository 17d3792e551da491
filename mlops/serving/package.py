"""package.json: what a model folder holds and how its text has to be prepared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mlops.errors import UserError

PACKAGE = "package.json"
TOKENIZER = "tokenizer.json"
MODEL = "model.onnx"
Input = Literal["input_ids", "attention_mask", "token_type_ids"]
INPUTS: tuple[Input, ...] = get_args(Input)


class Package(BaseModel):
    """The content of package.json. inputs: names of the model's inputs. base_model: URI@sha256 it was tuned from.

    temperature: what logits are divided by before they become probabilities, so that these are as often right as they say
    (Guo et al., "On calibration of modern neural networks", ICML 2017).
    """

    # Unknown keys are kept out, not refused: a later version may say more.
    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = 1
    task: str
    labels: tuple[str, ...] = Field(min_length=1)
    max_length: int = Field(ge=1, le=65_536)
    variant: str
    pad_id: int = Field(ge=0, lt=2**31)
    pad_token: str
    inputs: tuple[Input, ...]
    base_model: str
    temperature: float = Field(default=1.0, ge=1e-3, le=1e3)

    @model_validator(mode="after")
    def _coherent(self) -> Package:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("a label is listed twice")
        if not {"input_ids", "attention_mask"} <= set(self.inputs):
            raise ValueError(f"inputs are {list(self.inputs)}; input_ids and attention_mask are needed")
        return self


def write_package(folder: Path, package: Package) -> None:
    """Writes package.json, the same bytes for the same content."""
    text = json.dumps(package.model_dump(mode="json"), indent=1, ensure_ascii=False, sort_keys=True)
    (folder / PACKAGE).write_text(text + "\n", encoding="utf-8")


def read_package(folder: Path) -> Package:
    """The package of a model folder; UserError with every fault when it is missing or is not one."""
    path = folder / PACKAGE
    if not folder.is_dir():
        raise UserError(
            f"{folder} is not a folder; a model package is a folder with {PACKAGE}, {TOKENIZER} and {MODEL}"
        )
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        found = ", ".join(sorted(entry.name for entry in folder.iterdir())) or "nothing"
        raise UserError(f"{folder} has no {PACKAGE}; it holds {found}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    try:
        return Package.model_validate(raw)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, fault['loc'])) or 'package'}: {fault['msg']}" for fault in error.errors()]
        raise UserError(f"{path} is not a model package: {'; '.join(lines)}") from None
