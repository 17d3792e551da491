"""`make stack` in a folder of its own, with two small pipelines whose rows lie on its S3."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

PIPELINE = """\
name: {name}
task: text-classification
data: {{source: "s3://evergreen/in/{name}/", format: jsonl{more}}}
model: {{base: {base}, max_length: 24}}
train: {{epochs: 3, learning_rate: 0.005, batch_tokens: 512}}
gate: {{floor: 0.5, margin: 0.3, baselines: [majority]}}
compress: {{variants: [fp32]}}
promote: {promote}
"""


@dataclass
class Running:
    """A running stack. known: what docker-compose.yml was read with. place: where its services have their homes."""

    process: subprocess.Popen[bytes]
    known: dict[str, str]
    place: Path
    log: Path

    @property
    def airflow(self) -> Any:
        from airflow_api import Airflow

        return Airflow(self.known["PUBLIC_AIRFLOW_URL"], "admin", self.known["AIRFLOW_ADMIN_PASSWORD"])

    @property
    def processes(self) -> dict[str, int]:
        """Process ids by service, as they are now."""
        state = json.loads((self.place / "up.json").read_text())
        return {each["name"]: each["pid"] for each in state["processes"]}

    def put(self, pipeline: str, name: str, rows: list[dict[str, Any]]) -> None:
        """Writes rows where a pipeline reads."""
        text = "".join(json.dumps(row) + "\n" for row in rows)
        self.s3.put_object(Bucket="evergreen", Key=f"in/{pipeline}/{name}.jsonl", Body=text.encode())

    @property
    def s3(self) -> Any:
        import boto3

        keys = {"aws_access_key_id": self.known["S3_ACCESS_KEY"], "aws_secret_access_key": self.known["S3_SECRET_KEY"]}
        return boto3.client("s3", endpoint_url=self.known["S3_URL"], region_name="us-east-1", **keys)

    def use(self, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
        """This process becomes one of the stack's: its registry, its store, its locks."""
        password = self.known["EVERGREEN_DB_PASSWORD"]
        values = {
            "EVERGREEN_HOME": str(home),
            "EVERGREEN_STORE": "s3://evergreen/store",
            "EVERGREEN_LOCK": f"postgresql://evergreen:{password}@{self.known['POSTGRES']}/evergreen",
            "MLFLOW_TRACKING_URI": self.known["PUBLIC_MLFLOW_URL"],
            "MLFLOW_TRACKING_USERNAME": "evergreen",
            "MLFLOW_TRACKING_PASSWORD": self.known["MLFLOW_EVERGREEN_PASSWORD"],
            "AWS_ACCESS_KEY_ID": self.known["S3_ACCESS_KEY"],
            "AWS_SECRET_ACCESS_KEY": self.known["S3_SECRET_KEY"],
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.known["S3_URL"],
        }
        for name, value in values.items():
            monkeypatch.setenv(name, value)


def write_pipelines(folder: Path, base: Path) -> None:
    """asked: a person decides, and new objects start it. alone: all by itself."""
    folder.mkdir()
    for name, promote, more in (("asked", "approval", ", watch: 3"), ("alone", "auto", "")):
        (folder / f"{name}.yaml").write_text(PIPELINE.format(name=name, base=base, promote=promote, more=more))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    import make_secrets
    from servers import free_port
    from tiny import tiny_base

    place = tmp_path_factory.mktemp("stack")
    write_pipelines(place / "pipelines", tiny_base(place / "base"))
    taken: set[int] = set()
    own = {name: str(free_port(taken)) for name in ("AIRFLOW_PORT", "MLFLOW_PORT", "SERVE_PORT")}
    own |= {"EVERGREEN_HOME": str(place), "EVERGREEN_ENV_FILE": str(place / ".env"), "SERVE_MODEL": "alone"}
    own |= {"PIPELINES": str(place / "pipelines"), "TASK_HEARTBEAT_TIMEOUT": "30"}
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRFLOW", "EVERGREEN", "MLFLOW", "AWS_"))
    }
    log = place / "stack.log"
    with log.open("wb") as lines:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "scripts" / "stack.py")],
            env=kept | own,
            stdout=lines,
            stderr=lines,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 400
        while "Ctrl-C stops everything" not in log.read_text():
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.5)
        known = make_secrets.read(place / ".env") | make_secrets.read(place / "stack" / "addresses.env") | own
        for face in ("AIRFLOW", "MLFLOW", "SERVE"):
            known[f"PUBLIC_{face}_URL"] = f"http://127.0.0.1:{own[f'{face}_PORT']}"
        yield Running(process, known, place / "stack", log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
