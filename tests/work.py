"""Labelled rows of every kind of work, of the words that the tiny tokenizer knows: a tiny model learns each in seconds."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from tiny import _WORDS, TRAINED, tiny_base, tiny_rows

_OWN = [_WORDS[8 * place : 8 * place + 8] for place in range(4)]
_NOISE = _WORDS[64:]


class Work(NamedTuple):
    """One task: sections of its pipeline file, rows, and what a user asks with the answer that is right."""

    sections: dict[str, Any]
    rows: list[dict[str, Any]]
    question: Any
    right: Callable[[Any], bool]


def _noise(chance: random.Random, least: int = 4, most: int = 8) -> list[str]:
    return chance.choices(_NOISE, k=chance.randint(least, most))


def _mixed(chance: random.Random, *places: int) -> str:
    words = [word for place in places for word in chance.choices(_OWN[place], k=4)] + _noise(chance)
    chance.shuffle(words)
    return " ".join(words)


def single() -> Work:
    rows = [dict(row) for row in tiny_rows(300)]
    question, label = rows[0]["text"], rows[0]["label"]
    return Work({"task": "text-classification"}, rows, question, lambda answer: answer["label"] == label)


def multi() -> Work:
    chance = random.Random(1)
    rows = []
    for number in range(420):
        places = [place for place in range(2) if number >> place & 1]
        rows.append({"text": _mixed(chance, *places), "label": [("red", "blue")[place] for place in places]})
    question = _mixed(chance, 0, 1)
    sections = {"task": "text-classification", "data": {"target": "multi"}}
    return Work(sections, rows, question, lambda answer: answer["labels"] == ["blue", "red"])


def ordinal() -> Work:
    chance = random.Random(2)
    rows = [{"text": _mixed(chance, number % 3), "label": number % 3 + 1} for number in range(300)]
    sections = {"task": "text-classification", "data": {"target": "ordinal"}, "gate": {"metric": "qwk"}}
    question = _mixed(chance, 2)
    return Work(sections, rows, question, lambda answer: answer["label"] == "3" and answer["position"] > 1)


def tokens() -> Work:
    chance = random.Random(3)
    rows = []
    for _ in range(300):
        words, tags = [], []
        for _ in range(chance.randint(1, 3)):
            noise = _noise(chance, 2, 4)
            place, size = chance.randrange(2), chance.randint(1, 2)
            name = ("metal", "plant")[place]
            words += noise + chance.choices(_OWN[place], k=size)
            tags += ["O"] * len(noise) + [f"B-{name}", f"I-{name}"][:size]
        rows.append({"tokens": words, "tags": tags})
    before = " ".join(_NOISE[:4])
    question = f"{before}  {_OWN[1][0]}, {' '.join(_NOISE[4:8])}"
    start = len(before) + 2
    expected = (start, start + len(_OWN[1][0]), "plant", _OWN[1][0])

    def right(answer: Any) -> bool:
        return [(each["start"], each["end"], each["type"], each["text"]) for each in answer] == [expected]

    train = {"epochs": 10, "batch_tokens": 256, "learning_rate": 1e-2}
    return Work({"task": "token-classification", "train": train}, rows, question, right)


def _pairs(chance: random.Random) -> list[dict[str, Any]]:
    rows = []
    for question in range(60):
        asked = " ".join(_noise(chance, 3, 5)) + f" {question}"
        for candidate in range(6):
            good = candidate % 3 == 0
            rows.append({"text_a": asked, "text_b": _mixed(chance, 0 if good else 1), "label": int(good)})
    return rows


def pair() -> Work:
    chance = random.Random(4)
    rows = _pairs(chance)
    asked = {"text_a": rows[0]["text_a"], "text_b": _mixed(chance, 0)}
    return Work({"task": "text-pair-classification"}, rows, asked, lambda answer: answer["label"] == "1")


def ranking() -> Work:
    chance = random.Random(5)
    rows = _pairs(chance)
    asked = {"text_a": rows[0]["text_a"], "text_b": _mixed(chance, 0)}
    sections = {"task": "text-ranking", "data": {"splits": {"train": 0.6, "validation": 0.15, "test": 0.25}}}
    return Work(sections, rows, asked, lambda answer: answer["score"] > 0.5)


EVERY: dict[str, Callable[[], Work]] = {
    "text-classification": single,
    "text-classification:multi": multi,
    "text-classification:ordinal": ordinal,
    "token-classification": tokens,
    "text-pair-classification": pair,
    "text-ranking": ranking,
}


def work_file(folder: Path, work: Work, **sections: Any) -> Path:
    """A pipeline file on a tiny base and the work's rows; sections are merged into its own."""
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in work.rows), encoding="utf-8")
    values: dict[str, Any] = {
        "name": "tiny",
        "data": {"source": str(rows)},
        "model": {"base": str(tiny_base(folder / "base")), "max_length": 32},
        **TRAINED,
        "promote": "auto",
    }
    for given in (work.sections, sections):
        for name, section in given.items():
            values[name] = {**values.get(name, {}), **section} if isinstance(section, dict) else section
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path
