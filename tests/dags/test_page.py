"""The page in Airflow's navigation: who may see which rows, and that they say what files, registry and ledger say."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from tiny import tiny_file, tiny_release

from mlops import config, ledger, pipeline, promotion, registry
from mlops.tracking import client

PIPELINE = """\
name: {name}
task: text-classification
data: {{source: rows.jsonl}}
model: {{base: "package://some/model"}}
"""
PLUGINS = Path(__file__).resolve().parent.parent.parent / "plugins"
STATIC = {"index.html", "page.css", "page.js", "card.js", "chart.js", "words.js", "airflow.js"} | {
    "frame.js",
    "icon.svg",
}


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / f"{name}.yaml").write_text(PIPELINE.format(name=name))


def rows(folder: Path, *readable: str) -> dict[str, Any]:
    """By name, of the pipelines whose DAG may be read; all of them without any named."""
    from evergreen.page import overview

    ids = readable or [file.dag_id for file in overview.files(folder)]
    return {row.name: row for row in overview.gather(folder, ids).pipelines}


def open_routes(app: Any) -> list[str]:
    """What answers without a token; the static files, which hold nothing but the page itself, apart."""
    from evergreen.page.app import STATIC as place

    found = []
    asking = TestClient(app, raise_server_exceptions=False)
    for route in app.routes:
        if isinstance(route, Mount) and getattr(route.app, "directory", None) == place:
            continue
        path = route.path if isinstance(route, Route) else f"{route.path}/"
        methods = getattr(route, "methods", None) or {"GET"}
        found += [f"{method} {path}" for method in sorted(methods) if asking.request(method, path).status_code != 401]
    return found


def test_every_route_but_the_static_files_asks_who_calls() -> None:
    from evergreen.page.app import STATIC as place
    from evergreen.page.app import page

    app = page()
    assert [route.path for route in app.routes] == ["/api/pipelines", ""]
    assert open_routes(app) == []
    assert {path.name for path in place.iterdir()} == STATIC


def test_a_new_route_without_a_guard_would_be_found() -> None:
    from evergreen.page.app import page

    app = page()
    app.get("/api/secrets")(lambda: {})  # behind the static files, which take every address that is left
    app.router.routes.insert(0, Route("/more", lambda request: None, methods=["POST"]))
    app.router.routes.insert(0, Mount("/files", page()))
    assert set(open_routes(app)) == {"GET /api/secrets", "POST /more", "GET /files/"}


def test_the_page_may_load_nothing_from_elsewhere() -> None:
    from evergreen.page.app import page

    asking = TestClient(page())
    for path in ("/", "/page.js", "/api/pipelines", "/absent"):
        headers = asking.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'self'; style-src 'self'; frame-ancestors 'self'")
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
    html = asking.get("/").text
    assert "<script>" not in html
    assert "style=" not in html
    for name in STATIC:
        text = asking.get(f"/{name}").text
        assert "http://" not in text.replace("http://www.w3.org/", "")
        assert "https://" not in text
        assert "innerHTML" not in text


def test_airflow_imports_the_plugin_without_what_the_page_needs() -> None:
    code = (
        "import sys, evergreen_plugin\nprint(sorted({'evergreen.page', 'mlflow', 'mlops.config'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, check=True, cwd=PLUGINS)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.fixture
def airflow(airflow_db: Path, pipelines: Path) -> Iterator[TestClient]:
    """Airflow's own API server with the plugin; it has read the DAGs of "tiny" and `rollback`, and not yet that of "other"."""
    from airflow.api_fastapi.app import create_app, purge_cached_app
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    write(pipelines, "tiny")
    with create_session() as session:
        session.merge(DagBundleModel(name="dags-folder"))
    sync_bag_to_db(DagBag(str(PLUGINS.parent / "dags"), bundle_name="dags-folder"), "dags-folder", None)
    write(pipelines, "other")
    yield TestClient(create_app(apps="core"))
    purge_cached_app()
    with create_session() as session:
        session.query(DagRun).delete()


def bearer(role: str | None) -> dict[str, str]:
    """The header of a person with this role of Airflow's simple auth manager."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="ann", role=role))
    return {"Authorization": f"Bearer {token}"}


def test_in_airflow_a_token_opens_the_rows_that_its_owner_may_read(airflow: TestClient) -> None:
    assert "Evergreen" in airflow.get("/evergreen/").text
    assert airflow.get("/evergreen/api/pipelines").status_code == 401
    wrong = {"Authorization": "Bearer wrong"}
    assert airflow.get("/evergreen/api/pipelines", headers=wrong).status_code == 403

    assert airflow.get("/evergreen/api/pipelines", headers=bearer(None)).status_code == 403
    answer = airflow.get("/evergreen/api/pipelines", headers=bearer("viewer"))
    assert [row["name"] for row in answer.json()["pipelines"]] == ["tiny"]
    assert answer.headers["cache-control"] == "no-store"
    cookie = {"Cookie": f"_token={bearer('viewer')['Authorization'].removeprefix('Bearer ')}"}
    assert airflow.get("/evergreen/api/pipelines", headers=cookie).json() == answer.json()
    told = airflow.get("/api/v2/plugins", headers=bearer("admin")).json()["plugins"]
    (ours,) = [each for each in told if each["name"] == "evergreen"]
    (view,) = ours["external_views"]
    assert (view["name"], view["destination"], view["href"], view["url_route"]) == (
        "Evergreen",
        "nav",
        "evergreen/",
        "evergreen",
    )


def test_airflow_answers_what_the_page_asks_of_it(airflow: TestClient) -> None:
    """The addresses, fields and bodies of static/airflow.js and page.js, asked of the real API."""
    found = airflow.get("/api/v2/dags?tags=evergreen&limit=100&offset=0", headers=bearer("viewer")).json()
    assert found["total_entries"] == len(found["dags"])
    dags = {dag["dag_id"]: dag for dag in found["dags"]}
    assert {"retrain_tiny", "rollback"} <= set(dags)
    assert {"is_paused", "has_import_errors", "next_dagrun_run_after"} <= set(dags["retrain_tiny"])
    asked = {"logical_date": None, "conf": {}}
    start = "/api/v2/dags/retrain_tiny/dagRuns"
    assert airflow.post(start, json=asked, headers=bearer("viewer")).status_code == 403
    run = airflow.post(start, json=asked, headers=bearer("user")).json()
    assert (run["dag_id"], run["state"]) == ("retrain_tiny", "queued")
    runs = "/api/v2/dags/~/dagRuns?state=running&state=queued&dag_id_prefix_pattern=retrain_&limit=100&offset=0"
    going = airflow.get(runs, headers=bearer("viewer")).json()
    assert [(each["dag_run_id"], each["start_date"]) for each in going["dag_runs"]] == [(run["dag_run_id"], None)]
    assert going["total_entries"] == 1
    back, conf = "/api/v2/dags/rollback/dagRuns", {"model": "tiny", "to": "1", "reason": "complaints"}
    answer = airflow.post(back, json={"logical_date": None, "conf": conf}, headers=bearer("user"))
    assert answer.json()["conf"] == conf
    faulty = airflow.post(back, json={"logical_date": None, "conf": conf | {"reason": ""}}, headers=bearer("user"))
    assert faulty.status_code == 400
    assert "reason" in faulty.json()["detail"]
    login = airflow.get("/api/v2/auth/login?next=http://testserver/evergreen/", follow_redirects=False)
    assert login.status_code == 307
    assert "next=http" in login.headers["location"]


def test_a_row_says_what_registry_and_ledger_say(pipelines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_MLFLOW_URL", "http://mlflow.test")
    write(pipelines, "tiny")
    for seed in range(3):
        registry.register(tiny_release(seed=seed), {}, None)
    promotion.promote("tiny", "1", "the first")
    promotion.promote("tiny", "2", "better", who="ann")
    promotion.hold("tiny", "3", "not better")
    row = rows(pipelines)["tiny"]
    assert (row.task, row.metric, row.fault, row.away) == ("text-classification", "macro_f1", None, None)
    assert [(point.version, point.value, point.low, point.high) for point in row.history] == [
        (version, 1.0, 0.9, 1.0) for version in "123"
    ]
    champion = registry.at("tiny", "2")
    assert (row.champion.version, row.champion.variant, row.champion.p95_ms) == ("2", "fp32", 2.0)
    assert row.champion.size_mb == champion.evaluation.size / 1e6
    assert row.champion.address == "http://mlflow.test/#/models/tiny/versions/2"
    assert row.serves_since == ledger.entries("tiny")[1]["when"]
    assert row.earlier == ("1",)
    assert (row.moved.action, row.moved.version, row.moved.reason) == ("hold", "3", "not better")
    assert row.last is None


def test_a_real_retrain_in_words(pipelines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("CPU", "GPU"):
        monkeypatch.setenv(f"EVERGREEN_COST_{kind}_HOUR", "0.04")
    monkeypatch.setenv("EVERGREEN_COST_CURRENCY", "EUR")
    path = tiny_file(pipelines)
    summary = pipeline.run(config.load(path))
    assert summary["outcome"] == "promoted", summary["reason"]
    api = client()
    home = api.get_experiment_by_name("tiny").experiment_id
    api.create_run(home, tags={"evergreen.retrain_id": "goes on"})
    last = rows(pipelines)["tiny"].last
    assert (last.outcome, last.sentence) == ("promoted", summary["sentence"])
    assert last.words == "promoted: the candidate serves now"
    assert last.seconds == pytest.approx(summary["cost"]["total"]["seconds"])
    assert last.money == pytest.approx(summary["cost"]["total"]["money"])
    assert last.currency == "EUR"
    broke = api.create_run(home, tags={"evergreen.retrain_id": "broke", "evergreen.reason": "the disk is full"})
    api.set_terminated(broke.info.run_id, "FAILED")
    last = rows(pipelines)["tiny"].last
    assert (last.outcome, last.reason, last.sentence) == ("failed", "the disk is full", None)


def test_a_faulty_file_is_a_row_under_its_dags_name(
    pipelines: Path, load_dags: Callable[[], dict[str, Any]], airflow_db: Path
) -> None:
    write(pipelines, "tiny")
    (pipelines / "broken.yaml").write_text("name: [")
    (pipelines / "also tiny.yml").write_text(PIPELINE.format(name="tiny"))
    from evergreen.page import overview

    found = {file.dag_id: file for file in overview.files(pipelines)}
    assert set(found) == {name for name in load_dags() if name.startswith("retrain_")}
    row = rows(pipelines)["broken"]
    assert "cannot be read as YAML" in row.fault
    assert sum(file.fault is not None for file in found.values()) == 2
    assert list(rows(pipelines, "retrain_tiny")) == ["tiny" if found["retrain_tiny"].config else "also tiny"]


def test_mlflow_away_is_a_word_in_the_row_and_soon(pipelines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(pipelines, "tiny", "other")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "")  # put back afterwards
        monkeypatch.delenv(name)
    started = time.monotonic()
    found = rows(pipelines)
    assert time.monotonic() - started < 20
    for row in found.values():
        assert row.away.startswith("MLflow does not answer (MlflowException)")
        assert "secret" not in row.away
        assert row.task == "text-classification"


def test_a_damaged_ledger_is_told_in_its_own_words(pipelines: Path) -> None:
    from mlops.store import open_store

    write(pipelines, "tiny", "other")
    promotion.promote("tiny", registry.register(tiny_release(), {}, None).version, "a test")
    store = open_store()
    store.create_document("ledger/tiny/000002", store.read_document("ledger/tiny/000001") | {"previous_sha256": "0"})
    found = rows(pipelines)
    assert found["tiny"].away.startswith("the ledger of tiny is broken at entry")
    assert found["other"].away is None


def test_no_pipelines(pipelines: Path) -> None:
    assert rows(pipelines) == {}
