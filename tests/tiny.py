"""A tiny real BERT with its own vocabulary, and labelled text that it can learn within a second."""

from __future__ import annotations

import atexit
import functools
import itertools
import json
import os
import random
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mlops.config import PipelineConfig
from mlops.types import (
    ArtifactRef,
    Check,
    Evaluation,
    Latency,
    Metric,
    ModelArtifact,
    Release,
    Run,
    Snapshot,
    Verdict,
)

# Two threads that wait for each other on a busy machine take ten times as long as one for models this small.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SPREAD = 0.1
LABELS = ("metals", "plants", "waters")
# Sections with which a tiny model learns its rows in seconds, and few test rows are enough to tell.
TRAINED: dict[str, dict[str, Any]] = {
    "train": {"epochs": 6, "learning_rate": 5e-3, "batch_tokens": 512},
    "gate": {"floor": 0.6, "margin": 0.4, "resamples": 500, "baselines": ["majority"]},
    "compress": {"max_drop": 0.2},
    "verify": {"max_flips": 0.5},
}
_WORDS = [
    "".join(pair) for pair in itertools.product(("ba", "do", "ki", "lu", "me", "na", "po", "ri", "su", "te"), repeat=2)
]
_PER_LABEL = 8
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def tiny_rows(n: int = 240, labels: Sequence[str] = LABELS, seed: int = 0) -> list[dict[str, str]]:
    """n rows {"text", "label"} in turn over at most 8 labels; a label's own words tell it, the others are noise.

    No two texts are near-duplicates. Equal seeds give equal rows; a smaller n is the start of a larger one.
    """
    assert len(labels) <= 8, f"{len(labels)} labels; there are words for 8"
    chance = random.Random(seed)
    noise = _WORDS[8 * _PER_LABEL :]
    rows = []
    for number in range(n):
        position = number % len(labels)
        own = _WORDS[position * _PER_LABEL : (position + 1) * _PER_LABEL]
        words = chance.choices(own, k=chance.randint(3, 5)) + chance.choices(noise, k=chance.randint(5, 12))
        chance.shuffle(words)
        rows.append({"text": " ".join(words), "label": labels[position]})
    return rows


def tiny_tokenizer(folder: Path) -> Path:
    """A WordPiece tokenizer.json that knows the words of `tiny_rows` and spells out the rest by letters."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + list("0123456789.,!?'-")
    tokens = [*_SPECIAL, *letters, *(f"##{letter}" for letter in letters), *_WORDS]
    vocabulary = {token: position for position, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    ends = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ends)
    tokenizer.add_special_tokens(_SPECIAL)
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def tiny_base(folder: Path, kind: str = "bert") -> Path:
    """A pretrained model's folder: config.json, model.safetensors, tokenizer.json; the same bytes every time.

    kind: bert, or distilbert, which takes no token_type_ids. 2 layers, hidden 32, 64 positions.
    """
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    size = len(json.loads(tiny_tokenizer(folder).read_text())["model"]["vocab"])
    if kind == "bert":
        config = transformers.BertConfig(
            vocab_size=size,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=64,
            initializer_range=SPREAD,
        )
    else:
        config = transformers.DistilBertConfig(
            vocab_size=size,
            dim=32,
            n_layers=2,
            n_heads=4,
            hidden_dim=64,
            max_position_embeddings=64,
            initializer_range=SPREAD,
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        transformers.AutoModel.from_config(config).save_pretrained(folder)
    return folder


def tiny_config(base: Path, **sections: object) -> PipelineConfig:
    """A pipeline "tiny" on the base; a section given replaces the default one."""
    values: dict[str, object] = {
        "name": "tiny",
        "task": "text-classification",
        "data": {"source": "rows.jsonl"},
        "model": {"base": str(base), "max_length": 24},
        "train": {"epochs": 3, "learning_rate": 1e-2, "batch_tokens": 128},
    }
    return PipelineConfig.model_validate(values | sections)


def tiny_snapshot(
    folder: Path, n: int = 240, labels: Sequence[str] = LABELS, seed: int = 0, max_length: int = 24, name: str = "tiny"
) -> Snapshot:
    """A prepared snapshot in the store of the current home: 70% train, 15% validation, 15% test.

    folder: a base from `tiny_base`, made here if it is not there yet.
    """
    from mlops.data.snapshots import revision
    from mlops.data.text import normalise

    base = folder if (folder / "tokenizer.json").exists() else tiny_base(folder)
    rows = [row | {"row_id": f"row-{number:05}"} for number, row in enumerate(tiny_rows(n, labels, seed))]
    first, second = n * 70 // 100, n * 85 // 100
    parts = {"train": rows[:first], "validation": rows[first:second], "test": rows[second:]}
    splits = {}
    for split, chosen in parts.items():
        splits[split] = put_prepared([row | {"text": normalise(row["text"])} for row in chosen], base, max_length)
    names = tuple(sorted(labels))
    return Snapshot(
        pipeline=name,
        revision=revision(splits, names),
        splits=splits,
        rows={split: len(chosen) for split, chosen in parts.items()},
        labels=names,
    )


def put_prepared(rows: Sequence[dict[str, str]], base: Path, max_length: int = 24) -> ArtifactRef:
    """One prepared split in the store: rows {"row_id", "text", "label"}, tokenised with the base's tokenizer."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from tokenizers import Tokenizer

    from mlops.store import open_store

    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    ids = [encoding.ids for encoding in tokenizer.encode_batch([row["text"] for row in rows])]
    columns = {name: pa.array([row[name] for row in rows], pa.string()) for name in ("row_id", "text", "label")}
    columns["input_ids"] = pa.array(ids, pa.list_(pa.int32()))
    columns["n_tokens"] = pa.array([len(each) for each in ids], pa.int32())
    columns["group"] = columns["row_id"]
    store = open_store()
    with store.workspace() as place:
        pq.write_table(pa.table(columns), place / "rows.parquet")
        return store.put(place, "prepared")


@functools.cache
def tiny_models() -> dict[str, Path]:
    """Trained model folders {"torch", "fp32", "int8"}, and "base": made once per test process, read-only by agreement."""
    from mlops.steps.compress import compress
    from mlops.steps.fine_tune import fine_tune
    from mlops.store import open_store
    from mlops.training.base import pin

    place = Path(tempfile.mkdtemp(prefix="evergreen-tiny-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    before = {name: os.environ.get(name) for name in ("EVERGREEN_HOME", "EVERGREEN_STORE")}
    os.environ["EVERGREEN_HOME"] = str(place / "home")
    os.environ.pop("EVERGREEN_STORE", None)
    try:
        base = tiny_base(place / "base")
        snapshot, config = tiny_snapshot(base), tiny_config(base)
        model = fine_tune(config, snapshot, pin(str(base)), tiny_run(base))
        made = [model, *compress(config, model, snapshot).models]
        return {each.variant: open_store().fetch(each.files) for each in made} | {"base": base}
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def tiny_run(base: Path) -> Run:
    """A retrain without champion and without an MLflow run."""
    from mlops.training.base import pin

    return Run(retrain_id="tiny-run", pipeline="tiny", champion=None, base=pin(str(base)))


def tiny_artifact(variant: str, snapshot: Snapshot | None = None) -> ModelArtifact:
    """One of `tiny_models`, put into the store of the current home."""
    from mlops.store import open_store
    from mlops.training.base import pin

    models = tiny_models()
    base = pin(str(models["base"]))
    return ModelArtifact(
        files=open_store().put(models[variant], "model"),
        task="text-classification",
        base_model=f"{base.uri}@{base.sha256}",
        variant=variant,
        snapshot_sha256=snapshot.revision if snapshot else "0" * 64,
        config_sha256=tiny_config(models["base"]).fingerprint,
    )


def tiny_release(variant: str = "fp32", replaces: str | None = None, name: str = "tiny", seed: int = 0) -> Release:
    """A judged release that no registry knows yet; another seed is another configuration that gave the same files."""
    model = tiny_artifact(variant).model_copy(update={"config_sha256": f"{seed:064}"})
    check = Check(name="made for a test", observed=1, allowed="anything", outcome="pass")
    evaluation = Evaluation(
        model_sha256=model.files.sha256,
        snapshot_sha256=model.snapshot_sha256,
        split="test",
        metrics={"macro_f1": Metric(value=1.0, low=0.9, high=1.0, n=36)},
        per_row=model.files,
        latency=Latency(p50=1.0, p95=2.0),
        size=model.files.size_bytes,
    )
    return Release(
        name=name,
        version="",
        variant=variant,
        model=model,
        evaluation=evaluation,
        verdicts=tuple(Verdict(subject=subject, checks=(check,)) for subject in ("snapshot", "candidate", variant)),
        replaces=replaces,
    )


def tiny_file(folder: Path, **sections: Any) -> Path:
    """A pipeline file on a tiny base and 240 learnable rows (rows.jsonl); sections replace its own."""
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in tiny_rows(240)), encoding="utf-8")
    values = {
        "name": "tiny",
        "task": "text-classification",
        "data": {"source": str(rows)},
        "model": {"base": str(tiny_base(folder / "base")), "max_length": 24},
        **TRAINED,
        "promote": "auto",
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(values | sections), encoding="utf-8")
    return path
