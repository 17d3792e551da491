"""docker-compose.yml, docker/ and deploy/: what they promise about secrets, rights and images, without running any of it."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import compose  # noqa: E402
import make_secrets  # noqa: E402

SECRETS = make_secrets.missing({})
ALL = SECRETS | {"COMPOSE_PROFILES": "cpu,gpu,monitoring"}


def entries() -> dict[str, Any]:
    found: dict[str, Any] = compose.load(ROOT / "docker-compose.yml", ALL)["services"]
    return found


def test_every_secret_has_to_be_there() -> None:
    for name in SECRETS:
        if name == "COMPOSE_PROFILES":
            continue
        with pytest.raises(ValueError, match=f"{name} is not set: run make secrets"):
            compose.services(ROOT / "docker-compose.yml", ALL | {name: ""})


def test_no_secret_is_an_argument_or_a_default() -> None:
    values = {value for name, value in SECRETS.items() if name != "COMPOSE_PROFILES"}
    for name, entry in entries().items():
        told = " ".join(map(str, entry.get("command") or [])) + str((entry.get("healthcheck") or {}).get("test"))
        assert not [value for value in values if value in told], name
    assert len(values) == len(SECRETS) - 1  # no two are the same


def test_our_containers_have_few_rights() -> None:
    found = compose.services(ROOT / "docker-compose.yml", ALL)
    ours = {name for name, service in found.items() if service.ours}
    assert ours >= {
        "init",
        "api-server",
        "scheduler",
        "dag-processor",
        "triggerer",
        "worker",
        "worker-gpu",
        "mlflow",
        "server",
    }
    for name, entry in entries().items():
        if name in ours:
            assert (entry["user"], entry["read_only"], entry["cap_drop"]) == ("50000:0", True, ["ALL"]), name
        image, _, tag = entry["image"].partition(":")
        assert image, name
        assert tag not in ("", "latest"), f"{name}: {entry['image']} is another image tomorrow"
        for port in entry.get("ports") or []:
            assert str(port).startswith("127.0.0.1:"), f"{name} is published to the network: {port}"


def test_services_start_after_what_they_wait_for() -> None:
    order = list(compose.services(ROOT / "docker-compose.yml", SECRETS | {"COMPOSE_PROFILES": "cpu"}))
    assert "worker-cpu" in order
    assert "worker-gpu" not in order
    for one, other in (
        ("postgres", "init"),
        ("init", "mlflow"),
        ("mlflow", "users"),
        ("users", "worker"),
        ("users", "server"),
    ):
        assert order.index(one) < order.index(other)


def test_each_component_is_known_to_the_script() -> None:
    said = subprocess.run([ROOT / "docker" / "run.sh", "nothing"], capture_output=True, text=True, check=False)
    assert said.returncode == 2
    allowed = said.stderr.partition("allowed: ")[2].strip().split(", ")
    found = compose.services(ROOT / "docker-compose.yml", ALL)
    assert {service.command[1] for service in found.values() if service.ours} <= set(allowed)


def test_secrets_are_made_once_and_for_their_owner(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# ours\nPOSTGRES_PASSWORD=kept\n")
    made = make_secrets.write(path)
    assert "POSTGRES_PASSWORD" not in made
    first = make_secrets.read(path)
    assert first["POSTGRES_PASSWORD"] == "kept"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert make_secrets.write(path) == []
    assert make_secrets.read(path) == first
    assert min(len(first[name]) for name in make_secrets.NAMES if name != "POSTGRES_PASSWORD") >= 32


def test_variables_are_read_as_compose_reads_them() -> None:
    text = "${A} ${B:-b} ${A:-c} $$D ${C:-}"
    assert compose.interpolate(text, {"A": "a"}) == "a b a $D "


@pytest.mark.parametrize("name", ["server", "mlflow", "pod-gpu"])
def test_kubernetes_knows_the_manifests(name: str) -> None:
    import kubernetes_validate

    documents = list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / f"{name}.yaml").read_text()))
    assert documents
    for document in documents:
        kubernetes_validate.validate(document, "1.35", strict=True)


def test_the_manifests_and_the_compose_file_start_the_same_programs() -> None:
    found = compose.services(ROOT / "docker-compose.yml", ALL)
    for name in ("server", "mlflow"):
        documents = yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / f"{name}.yaml").read_text())
        kinds = {document["kind"]: document for document in documents}
        (container,) = kinds["Deployment"]["spec"]["template"]["spec"]["containers"]
        assert container["command"] == found[name].command
        assert set(kinds["ConfigMap"]["data"]) - {"EVERGREEN_KEYS"} <= set(found[name].environment)
