"""Every test has a home of its own; nothing is read from or written to the user's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# One precision on every processor, in this process and its children: what is compared to the last digits is fp32.
os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """EVERGREEN_HOME in a temporary folder, and no setting of the caller's."""
    folder = tmp_path / "home"
    monkeypatch.setenv("EVERGREEN_HOME", str(folder))
    for name in (
        "EVERGREEN_STORE",
        "MLFLOW_TRACKING_URI",
        "MLFLOW_RUN_ID",
        "AWS_ENDPOINT_URL",
        "EVERGREEN_LOCK",
        "EVERGREEN_VERIFY_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("GX_ANALYTICS_ENABLED", "false")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return folder


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a real S3 server with the bucket "evergreen"."""
    from servers import s3

    with s3(tmp_path_factory.mktemp("seaweed")) as environment:
        yield environment
