"""What users send that no training row looks like."""

from __future__ import annotations

from typing import Any

from mlops.tasks.base import Kind

ODD: dict[str, str] = {
    "empty": "",
    "white space": " \t\n\u3000",
    "very long": "word " * 20_000,
    "one long word": "a" * 100_000,
    "emoji": "🙂👩‍👩‍👧‍👦🏴‍☠️ 🎉🎉🎉",
    "Chinese": "这家餐厅的服务很好，菜也不错。",
    "Japanese and Korean": "日本語のテキスト 한국어 텍스트",
    "right to left": "שלום עולם \u202eمرحبا بالعالم\u202c",
    "control characters": "a\x01b\x07c\x1b[31md\x7f",
    "NUL": "a\x00b",
    "lone surrogate": "a\ud800b",
    "unknown characters": "\u13a0\u13a1 \U00012000\U00012001 \ue000",
    "combining marks": "e" + "\u0301" * 5_000,
    "markup": "<script>alert(1)</script> {{7*7}} %s %n ../../etc/passwd",
    "special tokens": "[CLS] [SEP] [PAD] [MASK] <s> </s>",
}


def odd(kind: Kind) -> dict[str, Any]:
    """{name: what a model of that kind of task is asked}."""
    if kind == "pair":
        first = {f"{name}, first": (text, "an answer") for name, text in ODD.items()}
        second = {f"{name}, second": ("a question", text) for name, text in ODD.items()}
        return first | second | {f"{name}, both": (text, text) for name, text in ODD.items()}
    if kind == "tokens":
        lists = {f"{name}, as a token": ["a", text, "b"] for name, text in ODD.items() if text}
        return dict(ODD) | lists | {"no token": []}
    return dict(ODD)
