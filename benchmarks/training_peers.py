"""The peers of benchmarks/training.py: the textbooks' loop and Hugging Face's Trainer, on the same rows and base."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training import Set

BATCH = 16


def textbook(job: dict[str, Any], chosen: Set, model: Any, package: Any, folder: Path) -> dict[str, Any]:
    """What tutorials show: every example tokenised when its turn comes, padded to one length, plain AdamW."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    from mlops.training.device import pick

    encode, where = encoder(chosen, package, folder, pad=True), pick().name
    model.to(where)

    class Rows(Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(chosen.train)

        def __getitem__(self, place: int) -> dict[str, Any]:
            return {name: torch.tensor(value) for name, value in encode(chosen.train[place]).items()}

    loader = DataLoader(Rows(), batch_size=BATCH, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=chosen.rate, foreach=False, fused=False)
    steps = len(loader) * job["epochs"]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    model.train()
    for _ in range(job["epochs"]):
        for batch in loader:
            loss = model(**{name: value.to(where) for name, value in batch.items()}).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return {}


def trainer(job: dict[str, Any], chosen: Set, model: Any, package: Any, folder: Path) -> dict[str, Any]:
    """Hugging Face's Trainer: tokenised by datasets.map, padded to each batch's longest."""
    from datasets import Dataset
    from transformers import (
        DataCollatorForTokenClassification,
        DataCollatorWithPadding,
        PreTrainedTokenizerFast,
        Trainer,
        TrainingArguments,
    )

    from mlops.training.device import pick

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token=package.pad_token)
    encode = encoder(chosen, package, folder, pad=False)
    # "label" is what the collator expects where a row has one; "labels" where every token has.
    rows = Dataset.from_list([{"text": row["text"], "tags": row["label"]} for row in chosen.train]).map(
        lambda row: encode({"text": row["text"], "label": row["tags"]}), remove_columns=["text", "tags"]
    )
    grouped = {"train_sampling_strategy": "group_by_length", "optim": "adamw_torch_fused"}
    arguments = TrainingArguments(
        output_dir=str(Path(os.environ["EVERGREEN_HOME"]) / "trainer"),
        num_train_epochs=job["epochs"],
        per_device_train_batch_size=BATCH,
        learning_rate=chosen.rate,
        seed=job["seed"],
        save_strategy="no",
        report_to="none",
        logging_strategy="no",
        disable_tqdm=True,
        bf16=pick().name == "cuda" and pick().bf16,
        **(grouped if job["peer"] == "grouped" else {}),
    )
    kind = DataCollatorForTokenClassification if chosen.task == "token-classification" else DataCollatorWithPadding
    Trainer(model=model, args=arguments, train_dataset=rows, data_collator=kind(tokenizer)).train()
    return {}


def encoder(chosen: Set, package: Any, folder: Path, pad: bool) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """One example as tutorials encode it: first pieces of tokens labelled, the others not."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token=package.pad_token)
    options: dict[str, Any] = {"truncation": True, "max_length": chosen.length}
    options |= {"padding": "max_length"} if pad else {}
    place = {label: position for position, label in enumerate(package.labels)}

    def text(row: dict[str, Any]) -> dict[str, Any]:
        return {**tokenizer(row["text"], **options), "labels": place[row["label"]]}

    def tokens(row: dict[str, Any]) -> dict[str, Any]:
        found = tokenizer(row["text"].split(" "), is_split_into_words=True, **options)
        tags, before, targets = row["label"].split(" "), None, []
        for word in found.word_ids():
            targets.append(-100 if word is None or word == before else place[tags[word]])
            before = word
        return {**found, "labels": targets}

    return tokens if chosen.task == "token-classification" else text
