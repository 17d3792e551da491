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
HOSTILE = '<img src=//elsewhere.example/p.png onerror="document.title=1"><script>document.title=2</script>'
# Great Expectations' own show single values in other places than ours.
THEIRS = [
    {"type": "expect_column_values_to_not_match_regex", "kwargs": {"column": "text", "regex": "elsewhere"}},
    {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "label", "value_set": ["sun", "rain"]}},
    {"type": "expect_column_distinct_values_to_be_in_set", "kwargs": {"column": "label", "value_set": ["sun"]}},
    {"type": "expect_column_most_common_value_to_be_in_set", "kwargs": {"column": "label", "value_set": ["fog"]}},
    {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "label"}},
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


def in_a_browser(folder: Path, profile: Path) -> str:
    """The pages of single validations as a browser has them once it has read and run them."""
    shown = ""
    for page in sorted((folder / "validations").rglob("*.html")):
        command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
        command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        command += [f"--user-data-dir={profile}", "--dump-dom", page.as_uri()]
        shown += subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    return shown


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium or google-chrome on the PATH")
def test_a_browser_shows_our_renderings(judged: tuple[Verdict, Path, PipelineConfig], tmp_path: Path) -> None:
    _, folder, _ = judged
    shown = in_a_browser(folder, tmp_path / "profile")
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


def hostile_pages(tmp_path: Path) -> Path:
    """The folder of pages about rows whose texts and labels are markup."""
    odd = [{"text": f"{HOSTILE} {text} \ufffd", "label": HOSTILE} for text in sentences(6, 900)]
    path = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    config = pipeline(path, suite=[{**entry, "severity": "warn"} for entry in [*SUITE, *THEIRS]])
    record(open_store(), source(config))
    write_jsonl(path, [*ROWS, *odd])
    raw = source(config)
    validate(config, raw, BASE, raw.parent_sha256)
    return docs_folder(config.name, raw.revision)


def test_markup_in_the_data_is_text_in_every_page(tmp_path: Path) -> None:
    pages = [page.read_text(encoding="utf-8") for page in hostile_pages(tmp_path).rglob("*.html")]
    assert len(pages) >= 2
    assert "elsewhere.example" in "".join(pages)
    for html in pages:
        assert "<img src=//elsewhere" not in html
        assert "<script>document" not in html
        assert html.index("Content-Security-Policy") < html.index("<style")
        assert not re.search(r"""<(?:link|img|script)[^>]*(?:href|src)=["']?(?:https?:)?//""", html)


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium or google-chrome on the PATH")
def test_a_browser_runs_nothing_that_the_data_brings(tmp_path: Path) -> None:
    folder = hostile_pages(tmp_path)
    # Also where markup would come through, as it did before values were escaped.
    for page in folder.rglob("*.html"):
        page.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{HOSTILE}</body>"), encoding="utf-8")
    shown = in_a_browser(folder, tmp_path / "profile")
    assert re.findall(r"<title>(\d)</title>", shown) == []
    assert "must have at least 100 rows" in " ".join(text_of(shown).split())


def text_of(html: str) -> str:
    """The text of a page."""
    import html as entities

    html = re.sub(r"</?(span|b|i)\b[^>]*>", "", html)
    return entities.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"(?s)<(script|style).*?</\1>", " ", html)))
