"""The page of a judgement in a real browser, where there is one: narrow, wide, dark, and with data that means harm."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import a_record
import browser
import pytest

from mlops import config
from mlops.reports import gate_report

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.skipif(browser.BROWSER is None, reason=browser.WHY)


def page(record: dict[str, Any] | None) -> str:
    pipeline = config.load(ROOT / "pipelines" / "news-topics.yaml")
    return gate_report.render(pipeline, a_record.summary(), {}, record)


@pytest.mark.parametrize("record", [a_record.full, a_record.hostile, dict], ids=lambda record: record.__name__)
def test_nothing_sticks_out_and_nothing_is_asked_for(record: Any, tmp_path: Path) -> None:
    html = page(record())
    for width in (360, 1280):
        found = browser.measured(html, tmp_path / str(width), width)
        assert found["wide"] <= found["room"] == width
        assert found["low"] == []
        assert found["loaded"] == []
        assert found["title"] == "airline-sentiment: held"


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """(address of a server, what it was asked for)."""
    paths: list[str] = []

    class Notes(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Notes) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", paths
        server.shutdown()


def test_nothing_runs_and_nothing_is_asked_for_even_without_the_policy(
    tmp_path: Path, asked: tuple[str, list[str]]
) -> None:
    address, paths = asked
    html = page(a_record.hostile()).replace("elsewhere.example", address)
    bare = html.replace("Content-Security-Policy", "X-Nothing")
    assert browser.measured(bare, tmp_path / "bare", 360)["title"] == "airline-sentiment: held"
    harm = a_record.HARM.replace("elsewhere.example", address)
    # With the policy not even harm that got through as markup does anything.
    through = browser.measured(html.replace("</main>", f"{harm}</main>"), tmp_path / "through", 360)
    assert through["title"] == "airline-sentiment: held"
    assert paths == []
    # Without either it does, so what stands above can tell.
    harmed = browser.measured(bare.replace("</main>", f"{harm}</main>"), tmp_path / "harmed", 360)
    assert harmed["title"] in ("1", "2")
    assert paths == ["/p.png"]


def test_it_is_dark_where_that_is_asked_for(tmp_path: Path) -> None:
    html = page(a_record.full())
    dark = browser.measured(html, tmp_path / "dark", 1280, dark=True)["background"]
    light = browser.measured(html, tmp_path / "light", 1280)["background"]
    assert (dark, light) == ("rgb(18, 21, 24)", "rgb(246, 247, 248)")
    browser.pictured(html, tmp_path / "picture", tmp_path / "page.png", 1280, 800, dark=True)
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
