"""The page of a judgement: what it says, that nothing in the data breaks it, and that everybody can read it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import a_record
import pytest

from mlops import config
from mlops.reports import gate_report, pictures, svg, telling, words

ROOT = Path(__file__).resolve().parent.parent.parent
STYLE = (ROOT / "mlops" / "reports" / "gate_report.css.j2").read_text(encoding="utf-8")
RECORDS = [a_record.full, a_record.minimal, a_record.early, a_record.hostile]
VOID = {"meta", "img", "br", "line", "rect", "circle"}  # without content, in HTML or as our pictures write them


def page(record: dict[str, Any] | None, **more: Any) -> str:
    pipeline = config.load(ROOT / "pipelines" / "news-topics.yaml")
    return gate_report.render(pipeline, a_record.summary() | more, {}, record)


class Outline(HTMLParser):
    """Tags that do not close in order, levels of headings, pictures without words."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.levels: list[int] = []
        self.feed(html)
        self.faults += [f"{tag} is not closed" for tag in self.open]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag == "svg" and not (given.get("role") == "img" and given.get("aria-label")):
            self.faults.append("a picture without words")
        if tag in ("script", "link", "iframe", "object") or any(name.startswith("on") for name in given):
            self.faults.append(f"{tag} {given}")
        if re.fullmatch(r"h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID and (not self.open or self.open.pop() != tag):
            self.faults.append(f"{tag} closes another one, before {self.getpos()}")


@pytest.mark.parametrize("record", [*RECORDS, dict], ids=lambda record: record.__name__)
def test_the_page_is_well_formed_whatever_the_record_holds(record: Any) -> None:
    html = page(record())
    found = Outline(html)
    assert found.faults == []
    assert found.levels[:2] == [1, 2]
    assert all(after - before <= 1 for before, after in zip(found.levels, found.levels[1:], strict=False))
    assert '<html lang="en">' in html
    assert not re.findall(r'(?:src|href)="(?!data:)', html)
    assert "url(" not in html
    html.encode("utf-8")
    assert not re.search(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f]|\bNone\b|\bnan\b|\binf\b|Undefined", re.sub("<[^>]*>", "", html)
    )


def test_the_verdict_comes_first_and_then_in_the_order_of_questions() -> None:
    html = page(a_record.full())
    parts = (
        "held: not good enough",
        "The int8 file is as good as the champion within 0.01",
        "What was checked",
        "Against the champion, version 3",
        "Candidate and champion on the same rows",
        "Parts of the test rows",
        "Is it as sure as it is right?",
        "What it takes for what",
        "Rows that changed hands",
        "Golden rows",
        "Behaviour",
        "Files that were judged",
        "Cost and time",
        "<h2>Data</h2>",
        "How to read this page",
        "Looks at the test set",
    )
    places = [html.index(part) for part in parts]
    assert places == sorted(places)
    for said in (
        "≥ −0.03",
        "ahead by 0.0123",
        "not worse by more than 0.01: the difference is at least −0.0037",
        "99.2% interval over 1,464 rows",
        "as good as the champion within 0.01, or better",
        "even a perfect model would score about 0.9488",
        "−0.1210",
        "too few rows to be judged",
        "with 90% intervals",
        "0.0213 (0.0164 to 0.0311)",
        "19 of 20",
        "18 of 20",
        "look <strong>3</strong>",
        "ef" * 32,
        "34" * 32,
    ):
        assert said in html, said


def test_the_sentence_of_the_summary_stands_in_for_that_of_a_record() -> None:
    assert "only the summary knows" in page(None, sentence="only the summary knows")


@pytest.mark.parametrize(
    ("gap", "outcome", "words"),
    [
        ((0.03, 0.01, 0.05), "pass", "With 99.6% confidence it is better"),
        ((0.0, -0.004, 0.004), "pass", "The two are level. With 99.6% confidence it is not worse by more than 0.01"),
        ((-0.03, -0.05, -0.01), "fail", "behind by 0.03. With 99.6% confidence it is worse"),
        (
            (-0.005, -0.03, 0.02),
            "inconclusive",
            "as low as −0.0300, which is more than 0.01 behind: the rows are too few",
        ),
    ],
)
def test_the_difference_in_words_and_as_a_shape(gap: tuple[float, float, float], outcome: str, words: str) -> None:
    record = a_record.full()
    record["difference"] |= dict(zip(("value", "low", "high"), gap, strict=True))
    record["checks"] = []
    html = page(record)
    assert words in html
    assert re.search(
        rf'class="mark {outcome}( turned)?" ', html.split("Against the champion, version 3")[1].split("</svg>")[0]
    )


def test_slices_that_fail_are_marked_by_shape_and_by_word() -> None:
    strips = pictures.forest(a_record.SLICES[:3], 0.03)
    shapes = [re.findall(r'<(\w+) class="mark ([\w ]+)"', str(picture)) for _, picture in strips.rows]
    assert shapes == [[("rect", "fail turned")], [("rect", "warn")], [("circle", "pass")]]
    assert 'aria-label="fail: −0.1210' in str(strips.rows[0][1])


def test_hundreds_of_anything_become_the_thirty_most_telling() -> None:
    html = page(a_record.hostile())
    for more in (
        "370 more checks (103 fail, 133 warn, 134 pass)",
        "370 more pairs",
        "370 more rows",
        "370 more groups",
    ):
        assert more in html, more
    assert html.count("170 more slices") == 2
    assert len(html) < 700_000
    shown = telling.slices(
        [a_record.part(f"s{n}", "declared", 100, 0.01 * n, "fail" if n == 77 else "pass") for n in range(99)]
    )
    assert [one["name"] for one in shown.rows[:3]] == ["s77", "s0", "s1"]
    assert shown.left == "69 more slices (69 pass)"
    ours = {
        "macro_f1": a_record.around(0.8),
        **{f"f1/{n}": a_record.around(n / 99) for n in range(90)},
        "accuracy": None,
    }
    theirs = {f"f1/{n}": a_record.around(n / 99 + (0.1 if n == 50 else 0)) for n in range(90)}
    names = [one["name"] for one in telling.metrics(ours, theirs, "accuracy").rows]
    assert names[:3] == ["accuracy", "macro_f1", "f1/50"]


def test_markup_in_a_record_is_text_everywhere() -> None:
    html = page(a_record.hostile(), pipeline=a_record.HARM, retrain_id=a_record.HARM, reason=a_record.HARM)
    assert "<script" not in html
    assert "<img src=http" not in html
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", html)[0]  # no template in a template
    assert html.index("Content-Security-Policy") < html.index("<title>")
    assert str(svg.text(3, 4, a_record.HARM)).count("<") == 2


@pytest.mark.parametrize("low", [-3.0, 0.0, 0.123, 0.9999])
@pytest.mark.parametrize("width", [1e-4, 0.02, 0.5, 40.0])
def test_scales_have_a_few_round_ticks_and_keep_everything_inside(low: float, width: float) -> None:
    scale = svg.Scale.over([low, low + width], 1e-4)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 5
    assert all(scale.low - 1e-9 <= tick <= scale.high + 1e-9 for tick in ticks)
    assert 0 < scale.at(low - 100) <= scale.at(low) < scale.at(low + width) <= scale.at(low + 100) < 100


def test_numbers_in_words() -> None:
    assert words.share(0.99167) == "99.2%"
    assert words.share(0.95) == "95%"
    assert words.signed(-0.0123) == "−0.0123"
    assert words.spread({"value": 0.5, "low": None, "high": 1}) == "0.5000"
    assert words.cell(">= -0.01") == "≥ −0.01"
    assert words.number(float("nan")) == words.NOTHING
    assert words.clip("a\ud800\x00" + "b" * 400, 4) == "a\ufffd\ufffdb… (403 characters)"
    assert words.meaning("f1/LABEL").endswith("for LABEL alone")
    assert words.meaning("ndcg@10")
    assert words.meaning("?") == ""


def themes() -> list[dict[str, str]]:
    """The colours in light and in dark."""
    blocks = re.findall(r":root \{([^}]*)\}", STYLE)
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in blocks[:2]]


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", themes(), ids=["light", "dark"])
def test_every_text_stands_out_from_what_it_stands_on(theme: dict[str, str]) -> None:
    pairs = [(name, ground) for name in ("text", "muted", "ours") for ground in ("page", "card")]
    pairs += [(name, ground) for name in ("good", "bad", "mid") for ground in ("card", f"{name}-soft")]
    for name, ground in pairs:
        one, other = sorted((luminance(theme[name]), luminance(theme[ground])), reverse=True)
        assert (one + 0.05) / (other + 0.05) >= 4.5, (name, ground)  # WCAG 2.2, AA
