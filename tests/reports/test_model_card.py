"""The model card: what it says, and that texts from the data stay texts in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import a_record
import pytest
from huggingface_hub import ModelCard

from mlops import config
from mlops.reports.markdown import escaped
from mlops.reports.model_card import card

ROOT = Path(__file__).resolve().parent.parent.parent
RELEASE = {"name": "airline-sentiment", "version": "4", "variant": "int8"}
HARMS = [
    "<b>bold</b>",
    "a|b",
    "`code`",
    "**bold**",
    "[link](http://elsewhere.example)",
    "![picture](//elsewhere.example/p.png)",
    "http://elsewhere.example",
    "WWW.elsewhere.example",
    "someone@elsewhere.example",
    "# heading",
    "1. one",
    "- point",
    "---",
    "> quote",
    "two\nlines\n\n# heading",
    "~~gone~~ &amp; $x^2$",
    "\\",
]


def told(record: dict[str, Any] | None, released: dict[str, Any] | None = RELEASE, **more: Any) -> str:
    pipeline = config.load(ROOT / "pipelines" / "news-topics.yaml", more.pop("overrides", ()))
    return card(pipeline, released, record, a_record.summary() | more)


def test_the_card_says_what_a_user_of_the_model_asks() -> None:
    text = told(a_record.full())
    for said in (
        "# airline-sentiment version 4",
        "Base model: package://gt\\_all\\_minilm\\_l6\\_v2/model",
        "train 11,712, validation 1,464, test 1,464",
        "Window: days 90",
        "| macro\\_f1 | 0.8034 (0.7834 to 0.8234) | 0.7911 (0.7711 to 0.8111) |",
        "| tfidf | 0.7442 | +0.0592 (+0.0191 to +0.0934) |",
        "even a perfect model would score about 0.9488",
        "| airline: Virgin America | declared | 104 |",
        "A drop of less than 0.0184 against the champion would not reliably have shown on these 1,464 test rows",
        "It knows 3 labels and answers nothing else, whatever it is asked: negative, neutral, positive",
        "at most 64 tokens",
        "The language of the texts is not recorded",
        "Expected calibration error 0.0213 (0.0164 to 0.0311)",
        "| negation | minimum | 18 of 20 | 95% | warn |",
        "p95 3.8 ms",
        "0.1794 EUR",
        "Champion on the same rows: version 3",
        "+0.0123, 99.2% interval −0.0037 to +0.0284 over 1,464 rows",
        "Look 3 at these test rows",
        "| against\\_champion | −0.0037 |",
    ):
        assert said in text, said
    assert "tarmac" not in text  # no text of a row


def test_its_metadata_is_what_the_hub_reads() -> None:
    data = ModelCard(told(a_record.full())).data
    assert data.pipeline_tag == "text-classification"
    assert data.model_name == "airline-sentiment"
    assert data.base_model is None  # not one of the Hub's
    found = {result.metric_name: result for result in data.eval_results}
    assert set(found) == {"macro_f1", "accuracy"}
    assert found["macro_f1"].metric_type == "f1"
    assert found["macro_f1"].metric_value == pytest.approx(0.8034)
    assert found["macro_f1"].metric_args["n"] == 1464
    assert found["macro_f1"].dataset_revision == "ab" * 32
    hub = told(a_record.full(), overrides=["model.base=hf://distilbert/distilbert-base-uncased@main"])
    assert ModelCard(hub).data.base_model == "distilbert/distilbert-base-uncased"


@pytest.mark.parametrize(
    "record", [a_record.minimal, a_record.early, dict, a_record.hostile], ids=lambda one: one.__name__
)
def test_a_card_can_be_read_again_whatever_the_record_holds(record: Any) -> None:
    found = ModelCard(told(record()))
    assert found.data.library_name == "onnx"
    found.content.encode("utf-8")
    assert not re.search(r"[\u202a-\u202e\ud800-\udfff]|\bNone\b|\bnan\b", found.text)


def test_a_run_that_ended_early_has_a_card_too() -> None:
    nothing = dict.fromkeys(("candidate", "champion_before", "snapshot", "release", "cost", "tuning", "sentence"))
    text = told(None, None, **nothing, verdicts=[], variants={}, seconds={})
    assert "# news-topics\n" in text
    assert "It was not compared with a champion" in text


@pytest.mark.parametrize("harm", HARMS)
def test_a_text_stays_a_text_in_markdown(harm: str) -> None:
    reader = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable(["table", "strikethrough"])
    line = escaped(harm)
    plain = " ".join(harm.split())
    for before, after in (("", ""), ("- ", ""), ("| head |\n| --- |\n| ", " |")):
        tokens = [child for token in reader.parse(f"{before}{line}{after}") for child in token.children or []]
        assert {token.type for token in tokens} <= {"text", "text_special"}
        assert plain in [
            "".join(token.content for token in tokens),
            "".join(t.content for t in tokens).removeprefix("head"),
        ]


def test_a_card_of_markup_has_no_markup_but_its_own() -> None:
    reader = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = reader.parse(ModelCard(told(a_record.hostile())).text)
    kinds = {token.type for token in tokens} | {child.type for token in tokens for child in token.children or []}
    assert not {
        kind for kind in kinds if kind.startswith(("html", "link", "image", "code", "fence", "strong", "em", "hr"))
    }
    columns = re.findall(r"<tr>(.*?)</tr>", reader.render(ModelCard(told(a_record.hostile())).text), re.S)
    assert {len(re.findall("<t[hd]", row)) for row in columns} <= {3, 4, 5, 6}
