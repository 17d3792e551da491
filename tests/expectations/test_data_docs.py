"""Our expectations in Great Expectations' own pages, opened in a real browser where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from sources import BASE, pipeline, sentences, write_jsonl

from mlops.config import PipelineConfig
from mlops.data.parents import record
from mlops.expectations.docs import docs_folder
from mlops.steps.source import source
from mlops.steps.validate import validate
from mlops.store import open_store
from mlops.types import Verdict

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
SUITE = [
    {"type": "expect_labels_to_have_rows", "kwargs": {"min_rows": 100, "labels": ["sun", "rain"]}, "severity": "warn"},
    {"type": "expect_label_shares_to_resemble_parent", "kwargs": {"max_effect": 0.2}, "severity": "warn"},
    {"type": "expect_text_to_have_one_label", "severity": "warn"},
    {"type": "expect_text_encoding_to_be_intact", "severity": "quarantine"},
    {"type": "expect_text_to_fit_model", "kwargs": {"max_share": 0.5}, "severity": "warn"},
    {"type": "expect_text_language_to_be_in_set", "kwargs": {"languages": ["en"]}, "severity": "warn"},
    {"type": "expect_share_of_copies_to_be_at_most", "kwargs": {"max_share": 0.0}, "severity": "warn"},
    {"type": "expect_share_of_near_duplicates_to_be_at_most", "kwargs": {"max_share": 0.0}, "severity": "warn"},
    {"type": "expect_new_rows_to_resemble_old_ones", "severity": "warn"},
]
ROWS = [{"text": text, "label": "sun" if n % 2 else "rain"} for n, text in enumerate(sentences(160))]
ODD = [
    {"text": ROWS[0]["text"].upper(), "label": "sun"},
    {"text": "caf\u00c3\u00a9 \u00e2\u20ac\u201c for $5 <b>oops</b>", "label": "sun"},
    *({"text": f"{text} today", "label": "sun"} for text in sentences(60, 500)),
]


@pytest.fixture
def judged(tmp_path: Path) -> tuple[Verdict, Path, PipelineConfig]:
    """(verdict, the folder of its pages, the pipeline) of a second snapshot with something wrong in it."""
    path = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    config = pipeline(path, suite=SUITE)
    record(open_store(), source(config))
    write_jsonl(path, [*ROWS, *ODD])
    raw = source(config)
    return validate(config, raw, BASE, raw.parent_sha256), docs_folder(config.name, raw.revision), config


def test_the_verdict_says_what_each_found(judged: tuple[Verdict, Path, PipelineConfig]) -> None:
    verdict, folder, _ = judged
    assert verdict.docs == str(folder / "index.html")
    found = {check.name.partition(":")[0]: check for check in verdict.checks}
    # The shift is told by its effect size; nothing of it depends on the number of rows alone.
    assert found["expect_label_shares_to_resemble_parent"].outcome == "warn"
    assert "sun 50.0% to" in found["expect_label_shares_to_resemble_parent"].detail
    assert found["expect_labels_to_have_rows"].observed == 80
    assert found["expect_text_encoding_to_be_intact"].outcome == "warn"
    assert "mojibake 1" in found["expect_text_encoding_to_be_intact"].detail
    assert found["expect_text_to_have_one_label"].detail.startswith("2 of 221 rows")
    assert found["expect_text_to_fit_model"].observed == 1.0
    assert found["expect_new_rows_to_resemble_old_ones"].outcome == "warn"
    assert "today" in found["expect_new_rows_to_resemble_old_ones"].detail
    assert verdict.outcome == "pass", verdict.explain()


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium or google-chrome on the PATH")
def test_a_browser_shows_our_renderings(judged: tuple[Verdict, Path, PipelineConfig], tmp_path: Path) -> None:
    _, folder, _ = judged
    shown = ""
    for page in sorted((folder / "validations").rglob("*.html")):
        command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
        command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
        shown += subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    text = " ".join(text_of(shown).split())
    for said in (
        "must have at least 100 rows; allowed labels: sun, rain.",
        "must lie within an effect (Cohen's w) of 0.2 of the earlier snapshot's",
        "may have a text in text that also has another label.",
        "may have damaged encoding: mojibake, replacement, control or bidi characters.",
        "may be cut off at 16 tokens.",
        "must be in one of: en.",
        "may repeat an earlier text in text.",
        "may resemble an earlier text in text (Jaccard similarity of words from 0.76).",
        "must resemble its old rows: effect up to 0.1",
        "words of the new rows",
        "oops",
    ):
        assert said in text, said
    assert "https://" not in re.sub(r'href="https://[^"]*"', "", shown)
    # What the data holds is shown, not run.
    assert "<b>oops</b>" not in shown


def text_of(html: str) -> str:
    """The text of a page."""
    import html as entities

    html = re.sub(r"</?(span|b|i)\b[^>]*>", "", html)
    return entities.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"(?s)<(script|style).*?</\1>", " ", html)))
