"""Loading and saving transformers models: safetensors only, no remote code, no chatter on the terminal."""

from __future__ import annotations

import inspect
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlops.errors import BaseModelError
from mlops.serving.package import INPUTS, TOKENIZER, Package, write_package
from mlops.tasks.base import Task

log = logging.getLogger("evergreen")


def load_model(folder: Path, task: Task, labels: Sequence[str], attention: str = "sdpa") -> Any:
    """The model in fp32 on the CPU with one output per label; a head that is not in the files is drawn at random.

    attention: "sdpa", or "eager" where the architecture has no other. Raises BaseModelError with the library's reason.
    """
    import torch
    import transformers

    options = {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: position for position, label in enumerate(labels)},
        "dtype": torch.float32,
        "trust_remote_code": False,
        "use_safetensors": True,
        "local_files_only": True,
        # The head of a model that was tuned for other labels is drawn anew like a missing one.
        "ignore_mismatched_sizes": True,
    }
    kind = getattr(transformers, task.architecture)
    with quiet():
        for choice in dict.fromkeys((attention, "eager")):
            try:
                return kind.from_pretrained(folder, attn_implementation=choice, **options)
            except Exception as error:  # transformers raises whatever its parts raise
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
                if choice == "eager" or "scaled_dot_product" not in str(error):
                    break
    raise BaseModelError(f"{folder}: cannot be loaded as a {task.key} model: {reason}")


def describe(model: Any, folder: Path, task: Task, labels: Sequence[str], max_length: int, base: str) -> Package:
    """What package.json says of a torch model; the model is told its padding. Raises BaseModelError where it cannot do it."""
    positions = _positions(model)
    if positions and max_length > positions:
        raise BaseModelError(f"model.max_length is {max_length}; {folder.name} has {positions} positions")
    pad_id, pad_token = padding(folder, model.config)
    model.config.pad_token_id = pad_id  # architectures that read the last token find it by this
    known = inspect.signature(model.forward).parameters
    return Package(
        task=task.key,
        labels=tuple(labels),
        max_length=max_length,
        variant="torch",
        pad_id=pad_id,
        pad_token=pad_token,
        inputs=tuple(name for name in INPUTS if name in known),
        base_model=base,
    )


def _positions(model: Any) -> int | None:
    """How many tokens the model has positions for; none where it does not say."""
    positions = getattr(model.config, "max_position_embeddings", None)
    table = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    # RoBERTa and its kin count positions from after the padding's.
    unused = getattr(table, "padding_idx", None)
    return positions if positions is None or unused is None else positions - unused - 1


def padding(folder: Path, config: Any) -> tuple[int, str]:
    """Id and text of the padding token: as the model's config has it, else the tokenizer, else a usual name, else 0."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    usual = next((tokenizer.token_to_id(name) for name in ("[PAD]", "<pad>") if tokenizer.token_to_id(name)), None)
    own = getattr(config, "pad_token_id", None)
    found = next((value for value in (own, (tokenizer.padding or {}).get("pad_id"), usual) if value is not None), 0)
    return int(found), tokenizer.id_to_token(int(found)) or ""


def save_model(model: Any, source: Path, target: Path, package: Package) -> None:
    """Writes config.json, model.safetensors, tokenizer.json (from `source`) and package.json."""
    model.config._name_or_path = ""  # a path of this machine has no place in an artifact
    with quiet():
        model.save_pretrained(target)
    shutil.copyfile(source / TOKENIZER, target / TOKENIZER)
    write_package(target, package)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers' progress bars and its reports of missing heads off the terminal."""
    from transformers.utils import logging as chatter

    level, bars = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    try:
        yield
    finally:
        chatter.set_verbosity(level)
        if bars:
            chatter.enable_progress_bar()
