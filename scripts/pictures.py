"""The pictures of docs/images that show Airflow and MLflow: two retrains of a tiny model, one of which a person decides.

    python scripts/pictures.py [--folder docs/images]

Needs chromium or google-chrome on the PATH; takes some minutes, nearly all of them for the two retrains.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests"))

from browser import Tab, chromium, tab  # noqa: E402
from homes import Home, bare, embedded  # noqa: E402

NAME = "tickets"
DAG = f"retrain_{NAME}"
CLICK = "[...document.querySelectorAll('button')].find(one => {test})"


def written(place: Path) -> Path:
    """A pipeline with a tiny model that a person lets go, and its rows."""
    import yaml
    from tiny import tiny_base, tiny_rows

    (place / "pipelines").mkdir(parents=True)
    rows = place / "tickets.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in tiny_rows(300)))
    settings = {
        "name": NAME,
        "task": "text-classification",
        "data": {"source": str(rows), "format": "jsonl"},
        "model": {"base": str(tiny_base(place / "base")), "max_length": 24},
        "train": {"epochs": 3, "learning_rate": 0.005, "batch_tokens": 512},
        "gate": {"floor": 0.5, "margin": 0.3, "baselines": ["majority"]},
        "promote": "approval",
    }
    path = place / "pipelines" / f"{NAME}.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def settled(window: Tab, text: str, seconds: float = 2) -> None:
    """Until a page shows this text, and a little longer: its parts come one by one."""
    window.until(f"document.body.innerText.includes({json.dumps(text)})", 60)
    time.sleep(seconds)


def asked(home: Home) -> str:
    """A retrain by hand, once it waits for a person."""
    home.airflow.until_parsed(DAG)
    home.airflow.unpause(DAG)
    run = home.airflow.trigger(DAG, {"force": True, "train.epochs": 4})
    deadline = time.monotonic() + 600
    while home.airflow.states(DAG, run).get("approval") != "awaiting_input":
        if time.monotonic() > deadline:
            sys.exit(f"nobody was asked: {home.airflow.states(DAG, run)}")
        time.sleep(1)
    return run


def airflow(window: Tab, home: Home, folder: Path) -> None:
    """The person's question, the grid after the answer, the form."""
    address, run = home.addresses["AIRFLOW"], asked(home)
    window("Network.setCookie", name="_token", value=home.airflow.token(), url=address)
    window.show(f"{address}/dags/{DAG}/runs/{quote(run, safe='')}/tasks/approval/required_actions", 1440)
    settled(window, "Approve")
    window.picture(folder / "airflow-approval.png")
    home.airflow.answer(DAG, run, "approval", "Approve", reason="better on the rows that matter")
    home.airflow.wait(DAG, run)
    window.show(f"{address}/dags/{DAG}", 1440)
    settled(window, "fine_tune", 4)
    window.picture(folder / "airflow-grid.png")
    trigger = CLICK.format(test="/^Trigger/.test(one.innerText.trim())")
    window.until(trigger)
    window.press(trigger)
    settled(window, "Force", 3)
    window.picture(folder / "airflow-form.png")


def comparison(window: Tab, home: Home, folder: Path) -> None:
    """MLflow's comparison of the two retrains."""
    import urllib.request

    address = home.addresses["MLFLOW"]
    api = f"{address}/api/2.0/mlflow"
    with urllib.request.urlopen(f"{api}/experiments/get-by-name?experiment_name={NAME}") as answer:
        experiment = json.load(answer)["experiment"]["experiment_id"]
    body = json.dumps({"experiment_ids": [experiment], "filter": "tags.`evergreen.outcome` = 'promoted'"}).encode()
    request = urllib.request.Request(f"{api}/runs/search", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        runs: list[Any] = [each["info"]["run_id"] for each in json.load(answer)["runs"]][:2]
    window.show(
        f"{address}/#/compare-runs?runs={quote(json.dumps(runs))}&experiments={quote(json.dumps([experiment]))}", 1440
    )
    settled(window, "Comparing", 5)
    window.picture(folder / "mlflow-comparison.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "images")
    folder: Path = parser.parse_args().folder
    program = chromium() or sys.exit("there is no chromium or google-chrome on the PATH")
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        file = written(place)
        command = [sys.executable, "-m", "mlops", "run", str(file), "--set", "promote=auto"]
        subprocess.run(command, env=bare() | {"EVERGREEN_HOME": str(place)}, check=True)
        with embedded(place, file.parent, NAME) as home, tab(program, place) as window:
            airflow(window, home, folder)
            comparison(window, home, folder)


if __name__ == "__main__":
    main()
