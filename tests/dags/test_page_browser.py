"""The page in a real browser, below a prefix as a proxy gives it: rows, buttons, and each state that is not the good one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from browser import Tab, chromium, tab
from page_sample import sample, sample_airflow
from page_server import PREFIX, Airflow, dag, served
from tiny import tiny_release

from mlops import promotion, registry

PROGRAM = chromium()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no chromium or google-chrome on this machine")

READY = "document.getElementById('loading').hidden && ![...document.querySelectorAll('.pill')].some(p => p.innerText == '…')"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """One browser for all of it; its start is most of the time."""
    assert PROGRAM
    with tab(PROGRAM, tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture(autouse=True)
def nothing_strange(page: Tab) -> Iterator[None]:
    """No request to another host and no fault in the console, in any of the tests."""
    page.requests.clear()
    page.faults.clear()
    yield
    page.value("1")  # what was told until now is read with its answer
    hosts = {urlsplit(address).hostname for address in page.requests if not address.startswith("about:")}
    assert hosts == {"127.0.0.1"}
    assert page.faults == []


def opened(page: Tab, address: str, **how: Any) -> None:
    page.show(address, **how)
    page.until(f"location.href == {json.dumps(address)} && document.readyState == 'complete'")
    page.until(READY)


def click(page: Tab, name: str, words: str) -> None:
    """A button of a pipeline's card."""
    card = f"document.querySelector('[data-name={json.dumps(name)}]')"
    page.value(f"[...{card}.querySelectorAll('button')].find(b => b.innerText.startsWith({json.dumps(words)})).click()")


def test_real_rows_and_both_buttons(page: Tab, pipelines: Path) -> None:
    """Two registered versions; what a person types comes out as the conf that the DAG's form takes."""
    from evergreen.page import overview

    text = 'name: tiny\ntask: text-classification\ndata: {source: rows.jsonl}\nmodel: {base: "package://some/model"}\n'
    (pipelines / "tiny.yaml").write_text(text)
    (pipelines / "broken.yaml").write_text("name: [<b>bold</b>")
    for seed in range(2):
        promotion.promote("tiny", registry.register(tiny_release(seed=seed), {}, None).version, "<img src=x onerror=1>")
    ids = [file.dag_id for file in overview.files(pipelines)]
    airflow = Airflow(lambda: overview.gather(pipelines, ids), [dag("retrain_tiny", hours=30)], [])
    with served(airflow) as address:
        opened(page, address)
        told = page.text()
        for words in (
            "Serves: version 2",
            "1.0000 [0.900, 1.000]",
            "fp32, ",
            "2.0 ms",
            "Next run tomorrow",
            "just now",
        ):
            assert words in told
        assert "Ledger: Version 2 began to serve" in told
        assert "<img src=x onerror=1>" in told  # as words, not as an element
        assert "<b>bold</b>" in told
        assert page.value("document.querySelectorAll('[data-name=tiny] img, .pipeline b').length") == 0
        shown = page.value("[...document.querySelectorAll('.point')].map(p => [p.dataset.version, p.classList.length])")
        assert shown == [["1", 1], ["2", 2]]
        assert page.value("document.querySelectorAll('.point .bar').length") == 6
        links = page.value("[...document.querySelectorAll('.pipeline a')].map(a => new URL(a.href).pathname)")
        assert links == [f"{PREFIX}/dags/retrain_tiny", f"{PREFIX}/dags/retrain_broken"]
        click(page, "tiny", "Retrain")
        page.until("document.getElementById('notice').innerText.includes('a retrain was started')")
        page.until("document.querySelector('[data-dag=retrain_tiny]').innerText == 'queued'")
        click(page, "tiny", "Roll back")
        page.until("document.getElementById('rollback').open")
        send = "document.querySelector('#rollback [type=submit]').click()"
        page.value(send)
        assert airflow.started == [("retrain_tiny", {"logical_date": None, "conf": {}})]  # a reason is needed
        page.value("document.querySelector('[name=reason]').value = 'complaints about refunds'")
        page.value(send)
        page.until("!document.getElementById('rollback').open")
    conf = {"model": "tiny", "to": "1", "reason": "complaints about refunds"}
    assert airflow.started[1:] == [("rollback", {"logical_date": None, "conf": conf})]


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
def test_it_fits(page: Tab, width: int, dark: bool) -> None:
    with served(sample_airflow()) as address:
        opened(page, address, width=width, dark=dark)
        page.until("document.querySelectorAll('.chart svg').length == 2")
        assert page.value("document.documentElement.scrollWidth") == width
        over = "[...document.querySelectorAll('.pipeline *')].filter(e => e.getBoundingClientRect().right > innerWidth)"
        assert page.value(f"{over}.length") == 0
        pills = page.value("[...document.querySelectorAll('.pill')].map(p => p.innerText)")
        assert pills == ["running", "on", "paused", "faulty file"]
        paper = page.value("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(18, 22, 20)" if dark else "rgb(246, 247, 246)")


def test_links_lead_out_of_airflows_frame(page: Tab) -> None:
    """To a DAG in the same tab, to MLflow in a new one; the way to log in comes back to Airflow's own address."""
    from evergreen.page.overview import Overview, Row

    airflow = Airflow(lambda: found, [dag("retrain_tiny")], [])
    with served(airflow) as address:
        mlflow = f"{address.replace('127.0.0.1', 'localhost')}page.css"
        found = Overview(pipelines=(Row(name="tiny", dag_id="retrain_tiny"),), mlflow=mlflow)
        around = address.replace("evergreen/", "around")
        page.show(around)
        inside = "document.querySelector('iframe').contentDocument"
        page.until(f"location.href == {json.dumps(around)} && document.querySelector('iframe')")
        page.until(f"{inside}.querySelector('.pill.idle')")
        assert page.value(f"{inside}.getElementById('airflow').hidden")  # it is around already
        page.press(f"{inside}.getElementById('mlflow')")
        deadline = time.monotonic() + 20
        while mlflow not in page.tabs():
            assert time.monotonic() < deadline, page.tabs()
            time.sleep(0.05)
        assert page.value("location.href") == around
        airflow.refuses = 401
        page.press(f"{inside}.getElementById('refresh')")
        page.until(f"{inside}.querySelector('#notice a')")
        login = page.value(f"{inside}.querySelector('#notice a').href")
        assert parse_qs(urlsplit(login).query) == {"next": [around]}
        page.press(f"{inside}.querySelector('.pipeline a')")
        page.until(f"location.href == {json.dumps(address.replace('evergreen/', 'dags/retrain_tiny'))}")


def test_without_pipelines(page: Tab) -> None:
    from evergreen.page.overview import Overview

    with served(Airflow(lambda: Overview(pipelines=(), mlflow=None), [], [])) as address:
        opened(page, address)
        assert "No pipelines yet" in page.text()


def test_mlflow_away_is_told_in_the_row(page: Tab) -> None:
    from evergreen.page.overview import Overview, Row

    row = Row(name="tiny", dag_id="retrain_tiny", task="text-classification", metric="macro_f1", away="MLflow is away.")
    with served(Airflow(lambda: Overview(pipelines=(row,), mlflow=None), [dag("retrain_tiny")], [])) as address:
        opened(page, address)
        assert "MLflow is away." in page.text()
        assert page.value("document.querySelector('.primary').disabled") is False


@pytest.mark.parametrize("status", [401, 403, 500])
def test_refused(page: Tab, status: int) -> None:
    """Before the first rows it says so; afterwards the rows stay."""
    airflow = Airflow(sample, [dag("retrain_news-topics")], [])
    airflow.refuses = status
    words = {401: "not logged in", 403: "may not do this", 500: "refused"}[status]
    with served(airflow) as address:
        opened(page, address)
        assert words in page.text()
        login = page.value("document.querySelector('#notice a')?.href ?? ''")
        assert login.startswith(f"{address.removesuffix('evergreen/')}api/v2/auth/login?next=") == (status != 500)
        airflow.refuses = None
        page.value("document.getElementById('refresh').click()")
        page.until("document.querySelectorAll('.pipeline').length == 4 && document.getElementById('notice').hidden")
        airflow.refuses = status
        click(page, "news-topics", "Retrain")
        page.until(f"document.getElementById('notice').innerText.includes({json.dumps(words)})")
        assert page.value("document.querySelectorAll('.pipeline').length") == 4
    assert airflow.started == []
