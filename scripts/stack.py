"""`make stack`: docker-compose.yml on this machine without Docker; each of our containers is a process, by docker/run.sh.

Every service has a home of its own, as its container has: what they share goes by Postgres, S3 and MLflow. Ctrl-C stops all.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import embedded
import make_secrets
from compose import Service, services
from down import clean
from embedded import HOST, REPOSITORY, Problem
from processes import Group, alive, load_state, log_file
from stack_servers import PORTS, Program, free_port, program

PATIENCE = 300.0
AGAIN = 3.0  # seconds until a service that has ended is started again
CODE, WORK = "/opt/evergreen", "/var/lib/evergreen"  # in the containers
DONE, HEALTHY = "service_completed_successfully", "service_healthy"


class Stopped(Exception):
    """A signal asked to stop."""


def _stop(number: int, frame: object) -> None:
    raise Stopped(signal.Signals(number).name)


def settings() -> dict[str, str]:
    """The environment that docker-compose.yml is read with: this one over .env, whose missing secrets are made."""
    path = Path(os.environ.get("EVERGREEN_ENV_FILE") or REPOSITORY / ".env")
    make_secrets.write(path)
    known = make_secrets.read(path) | dict(os.environ)
    for name, variable, default in (
        ("AIRFLOW", "AIRFLOW_PORT", 8081),
        ("MLFLOW", "MLFLOW_PORT", 5000),
        ("SERVE", "SERVE_PORT", 8080),
    ):
        known.setdefault(variable, str(default))
        known.setdefault(f"PUBLIC_{name}_URL", f"http://{HOST}:{known[variable]}")
    return known


@dataclass
class Stack:
    """What docker-compose.yml says, as processes below one folder."""

    known: dict[str, str]
    place: Path
    group: Group = field(default_factory=Group)

    def __post_init__(self) -> None:
        self.services = services(REPOSITORY / "docker-compose.yml", self.known)
        self.ports = {name: self._port(service) for name, service in self.services.items()}
        self.programs: dict[str, Program] = {}
        self._again: dict[str, float] = {}

    def _port(self, service: Service) -> tuple[int, int] | None:
        """In the container, and on this machine."""
        if service.ports:
            return next(iter(service.ports.items()))
        inside = PORTS.get(service.name) or int(service.environment.get("PORT") or 0)
        return (inside, free_port()) if inside else None

    def here(self, text: str, service: Service) -> str:
        """What is written for a container, as this machine has it: other services' addresses, folders, the interpreter."""
        for name, port in self.ports.items():
            if port:
                text = text.replace(f"{name}:{port[0]}", f"{HOST}:{port[1]}")
        if (own := self.ports[service.name]) and HOST in text:
            text = text.replace(f"{HOST}:{own[0]}/", f"{HOST}:{own[1]}/")
        for inside, outside in service.volumes.items():
            if outside.startswith((".", "/")):
                text = text.replace(inside, str((REPOSITORY / outside).resolve()))
        return text.replace(CODE, str(REPOSITORY)).replace(WORK, str(self.place / service.name))

    def environment(self, service: Service) -> dict[str, str]:
        """Nothing of this process's own settings but where programs are."""
        kept = ("PATH", "HOME", "USER", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "SSL_CERT_FILE")
        base = {name: os.environ[name] for name in kept if name in os.environ}
        own = {name: self.here(value, service) for name, value in service.environment.items()}
        port = self.ports[service.name]
        places = {"BIND": HOST, "PYTHON": sys.executable, "HOSTNAME": os.uname().nodename, "PYTHONUNBUFFERED": "1"}
        # Airflow's workers would show the logs of running tasks to the whole network: here they are seen when a task has ended.
        places["NO_LOG_SERVER"] = "1"
        return base | own | places | ({"PORT": str(port[1])} if port and service.ours else {})

    def start(self, service: Service) -> None:
        environment = self.environment(service)
        if service.ours:
            command = [str(REPOSITORY / service.command[0]), *service.command[1:]]
            self.group.start(service.name, command, environment)
            return
        port = self.ports[service.name]
        assert port is not None
        made = self.programs.get(service.name) or program(service.name, self.place / service.name, port[1], environment)
        self.programs[service.name] = made
        self.group.start(service.name, made.command, made.environment, made.user)

    def well(self, service: Service) -> bool:
        """What its health check says; a service without one is well as long as it runs."""
        if made := self.programs.get(service.name):
            return made.well()
        if service.health[:1] != ["CMD"] or "docker/healthy.py" not in service.health:
            return service.name in self.group.running
        command = [sys.executable, *(self.here(part, service) for part in service.health[2:])]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, timeout=60, check=False)
        return done.returncode == 0

    def up(self) -> None:
        """Starts each service once those before it are as it wants them."""
        ended: dict[str, int] = {}
        waiting = dict(self.services)
        deadline = time.monotonic() + PATIENCE
        healthy: set[str] = set()
        while waiting:
            ended |= self.group.ended()
            for name, code in ended.items():
                if code or not self.services[name].once:
                    raise Problem(
                        f"{name} ended with exit code {code}; its log ends with\n{embedded.tail(log_file(name))}"
                    )
            for service in list(waiting.values()):
                if all(self._as_wanted(*rule, ended, healthy) for rule in service.after.items()):
                    self.start(waiting.pop(service.name))
            if time.monotonic() > deadline:
                raise Problem(f"not started after {PATIENCE:.0f} s: {', '.join(waiting)}; logs: {self.place}")
            time.sleep(0.2)

    def _as_wanted(self, name: str, condition: str, ended: dict[str, int], healthy: set[str]) -> bool:
        if name not in self.services:
            return True
        if condition == DONE:
            return ended.get(name) == 0
        if (
            condition == HEALTHY
            and name not in healthy
            and name in self.group.running
            and self.well(self.services[name])
        ):
            healthy.add(name)
        return name in healthy if condition == HEALTHY else name in self.group.running

    def write_addresses(self) -> None:
        """Where the servers without a published port are, for whoever wants to look: NAME=VALUE lines."""
        found = {name: f"{HOST}:{port[1]}" for name, port in self.ports.items() if port and name in PORTS}
        lines = {"S3_URL": f"http://{found['s3']}", "POSTGRES": found["postgres"], "VALKEY": found["valkey"]}
        text = "".join(f"{name}={value}\n" for name, value in lines.items())
        (self.place / "addresses.env").write_text(text, encoding="utf-8")

    def wait_until_well(self) -> None:
        deadline = time.monotonic() + PATIENCE
        for service in self.services.values():
            while not service.once and not self.well(service):
                self.look_after()
                if time.monotonic() > deadline:
                    raise Problem(
                        f"{service.name} is not well after {PATIENCE:.0f} s\n{embedded.tail(log_file(service.name))}"
                    )
                time.sleep(0.3)

    def look_after(self) -> None:
        """Starts what has ended again, as `restart: unless-stopped` does."""
        for name, code in self.group.ended().items():
            if not self.services[name].once:
                print(f"{name} ended with exit code {code} and is started again; log: {log_file(name)}", flush=True)
                self._again[name] = time.monotonic() + AGAIN
        for name in [name for name, due in self._again.items() if time.monotonic() > due]:
            del self._again[name]
            self.start(self.services[name])

    def describe(self) -> str:
        return "\n".join(
            [
                "",
                f"Airflow            {self.known['PUBLIC_AIRFLOW_URL']}   user admin, password AIRFLOW_ADMIN_PASSWORD in .env",
                f"MLflow             {self.known['PUBLIC_MLFLOW_URL']}   user admin, password MLFLOW_ADMIN_PASSWORD in .env",
                f"prediction server  {self.known['PUBLIC_SERVE_URL']}/docs   keys by `mlops keys add NAME`",
                f"logs               {self.place}",
                "",
                "Ctrl-C stops everything; what was stored stays.",
            ]
        )


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    place = embedded.home() / "stack"
    os.environ["EVERGREEN_HOME"] = str(place)
    stack: Stack | None = None
    code = 0
    try:
        state = load_state()
        if state is not None and alive(state):
            raise Problem(f"it runs already, pid {state['pid']}; `make down` stops it")
        clean()
        stack = Stack(settings(), place)
        print(f"starting {len(stack.services)} services (a minute)…", flush=True)
        stack.up()
        stack.wait_until_well()
        stack.write_addresses()
        print(stack.describe(), flush=True)
        while True:
            stack.look_after()
            time.sleep(0.5)
    except Stopped as reason:
        print(f"\nstopping ({reason})…", flush=True)
    except (Problem, ValueError) as problem:
        print(f"make stack: {problem}", file=sys.stderr)
        code = 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if stack is not None:
            stack.group.stop()
            print("stopped", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
