"""The page of a judgement in a real browser, where there is one: narrow, wide, dark, and with data that means harm."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import a_record
import pytest
from browser import Tab, chromium, tab

from mlops import config
from mlops.reports import gate_report

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = chromium() or ""
pytestmark = pytest.mark.skipif(not PROGRAM, reason="there is no chromium or google-chrome on the PATH")
MEASURE = """(() => {
  const root = document.documentElement;
  return {
    wide: root.scrollWidth, room: root.clientWidth, title: document.title,
    loaded: performance.getEntriesByType("resource").map(one => one.name),
    low: [...document.querySelectorAll("svg text, td, th, p, li, dd")].filter(one => {
      const box = one.getBoundingClientRect();
      return box.width && !one.closest(".scroll") && !one.closest("thead") && (box.right > root.clientWidth + 1 || box.left < -1);
    }).map(one => one.outerHTML.slice(0, 200)),
    background: getComputedStyle(document.body).backgroundColor,
  };
})()"""


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with tab(PROGRAM, tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def measured(window: Tab, html: str, folder: Path, width: int, dark: bool = False) -> dict[str, Any]:
    """wide and room in pixels; title; loaded: addresses that it asked for; low: what sticks out; background."""
    path = folder / "page.html"
    path.write_text(html, encoding="utf-8")
    window.requests.clear()
    window.show(path.as_uri(), width, dark)
    window.until(f"location.href === '{path.as_uri()}' && document.readyState === 'complete'")
    found: dict[str, Any] = window.value(MEASURE)
    return found | {"loaded": [*found["loaded"], *(each for each in window.requests if each != path.as_uri())]}


def page(record: dict[str, Any] | None) -> str:
    pipeline = config.load(ROOT / "pipelines" / "news-topics.yaml")
    return gate_report.render(pipeline, a_record.summary(), {}, record)


@pytest.mark.parametrize("record", [a_record.full, a_record.hostile, dict], ids=lambda record: record.__name__)
def test_nothing_sticks_out_and_nothing_is_asked_for(record: Any, window: Tab, tmp_path: Path) -> None:
    html = page(record())
    for width in (360, 1280):
        found = measured(window, html, tmp_path, width)
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
    window: Tab, tmp_path: Path, asked: tuple[str, list[str]]
) -> None:
    address, paths = asked
    html = page(a_record.hostile()).replace("elsewhere.example", address)
    bare = html.replace("Content-Security-Policy", "X-Nothing")
    assert measured(window, bare, tmp_path, 360)["title"] == "airline-sentiment: held"
    harm = a_record.HARM.replace("elsewhere.example", address)
    # With the policy not even harm that got through as markup does anything.
    through = measured(window, html.replace("</main>", f"{harm}</main>"), tmp_path, 360)
    assert through["title"] == "airline-sentiment: held"
    assert paths == []
    # Without either it does, so what stands above can tell.
    harmed = measured(window, bare.replace("</main>", f"{harm}</main>"), tmp_path, 360)
    assert harmed["title"] in ("1", "2")
    assert paths == ["/p.png"]


def test_it_is_dark_where_that_is_asked_for(window: Tab, tmp_path: Path) -> None:
    html = page(a_record.full())
    dark = measured(window, html, tmp_path, 1280, dark=True)["background"]
    light = measured(window, html, tmp_path, 1280)["background"]
    assert (dark, light) == ("rgb(18, 21, 24)", "rgb(246, 247, 248)")
