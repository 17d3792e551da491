"""What a step costs is measured: processors and memory of the whole process tree, energy offline, money by rates."""

from __future__ import annotations

import json
import logging
import mmap
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny import tiny_base, tiny_config, tiny_file, tiny_run, tiny_snapshot

from mlops import config, pipeline
from mlops.cost import processes
from mlops.cost.energy import Energy
from mlops.cost.meter import Meter
from mlops.cost.value import Cost, rates, total
from mlops.errors import Rejected, UserError
from mlops.reports.table import render
from mlops.tracking import client
from mlops.training import launch
from mlops.training.base import pin
from mlops.training.fit import Job
from mlops.types import Check, Verdict


def cost_of(meter: Meter) -> Cost:
    assert meter.cost is not None
    return meter.cost


BURN = "import time\nend = time.process_time() + 0.8\nwhile time.process_time() < end: pass\n"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CPU_HOUR", "GPU_HOUR", "CURRENCY", "ENERGY_AFTER"):
        monkeypatch.delenv(f"EVERGREEN_COST_{name}", raising=False)
    monkeypatch.delenv("EVERGREEN_COUNTRY", raising=False)


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_processor_time_of_threads_and_children_counts() -> None:
    with Meter("waits") as meter:
        time.sleep(0.3)
    assert cost_of(meter).seconds >= 0.3
    assert cost_of(meter).cpu_seconds < 0.2
    with Meter("works") as meter:
        threads = [threading.Thread(target=burn, args=(0.3,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        subprocess.run([sys.executable, "-S", "-c", BURN], check=True)
    assert 1.4 <= cost_of(meter).cpu_seconds < 2.5


def test_a_child_that_lives_on_counts_only_what_it_used_meanwhile() -> None:
    code = BURN + "print('ready', flush=True)\ninput()\n" + BURN + "print('done', flush=True)\ninput()\n"
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-S", "-c", code], **pipes) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        with Meter("beside it") as meter:
            child.stdin.write("\n")
            child.stdin.flush()
            assert child.stdout.readline() == "done\n"
        assert 0.7 <= cost_of(meter).cpu_seconds < 1.4
        with Meter("its end") as meter:
            child.stdin.write("\n")
            child.stdin.flush()
            child.wait()
        assert cost_of(meter).cpu_seconds < 0.5


def take(size: int = 200_000_000) -> None:
    """Touches fresh pages: a block of the heap may lie in memory that an earlier test left to this process."""
    with mmap.mmap(-1, size) as block:
        for place in range(0, size, mmap.PAGESIZE):
            block[place] = 1


def test_memory_between_two_looks_is_seen() -> None:
    before = sum(processes.resident()) / 1e6
    with Meter("takes memory") as meter:
        take()
    assert cost_of(meter).peak_mb >= before + 195
    with Meter("takes none") as meter:
        pass
    assert cost_of(meter).peak_mb < before + 100  # the peak of an earlier step is not this one's


def test_memory_of_a_child_is_seen() -> None:
    with Meter("a child") as meter:
        code = "import time; block = b'x' * 200_000_000; time.sleep(1.5)"
        subprocess.run([sys.executable, "-S", "-c", code], check=True)
    assert cost_of(meter).peak_mb >= 200 + 20


def test_money_is_seconds_times_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rates().price(3600, 3600) is None
    monkeypatch.setenv("EVERGREEN_COST_CPU_HOUR", "0.05")
    monkeypatch.setenv("EVERGREEN_COST_CURRENCY", "EUR")
    with Meter("works") as meter:
        burn(0.3)
    cost = cost_of(meter)
    assert cost.money == pytest.approx(cost.cpu_seconds / 3600 * 0.05, rel=0.01)
    assert cost.currency == "EUR"
    monkeypatch.setenv("EVERGREEN_COST_GPU_HOUR", "3")
    assert rates().price(7200, 1800) == pytest.approx(0.1 + 1.5)


@pytest.mark.parametrize("text", ["ten", "-1", "nan", "inf"])
def test_a_rate_that_is_none_is_a_users_mistake(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("EVERGREEN_COST_GPU_HOUR", text)
    with pytest.raises(UserError, match=f"EVERGREEN_COST_GPU_HOUR: found '{text}'; allowed: the price of an hour"):
        Meter("any")


def test_a_gpu_counts_as_long_as_it_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for torch, as there is no GPU here: two devices, memory on one of them."""
    cuda = SimpleNamespace(is_initialized=lambda: True, device_count=lambda: 2, memory_reserved=lambda device: device)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("EVERGREEN_COST_GPU_HOUR", "3600")
    with Meter("on a GPU") as meter:
        time.sleep(0.7)
    assert 0.6 <= cost_of(meter).gpu_seconds <= cost_of(meter).seconds
    assert cost_of(meter).money == pytest.approx(cost_of(meter).gpu_seconds, abs=0.01)
    cuda.is_initialized = lambda: False  # asking must not wake it
    assert processes.gpus() == 0


def test_the_total_adds_up() -> None:
    one = Cost(seconds=1, cpu_seconds=2, gpu_seconds=1, peak_mb=300, energy_kwh=0.5, money=1, currency="EUR")
    two = Cost(seconds=2, cpu_seconds=1, peak_mb=200, money=2, currency="EUR")
    assert total({"one": one, "two": two}) == Cost(
        seconds=3, cpu_seconds=3, gpu_seconds=1, peak_mb=300, energy_kwh=0.5, money=3, currency="EUR"
    )
    assert total({}).energy_kwh is None


ENERGY = """
import json, os, socket, time
def refuse(*arguments, **named): raise AssertionError("the network was asked for")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from mlops.cost.meter import Meter
costs = []
for number in range(2):
    with Meter("works") as meter:
        # As long as it takes: codecarbon looks at the hardware beside the step.
        deadline = time.monotonic() + 60
        while meter._energy.since is None and time.monotonic() < deadline: time.sleep(0.05)
        end = time.process_time() + 1.0
        while time.process_time() < end: pass
    costs.append(meter.cost.model_dump(mode="json"))
print(json.dumps([costs, os.listdir(".")]))
"""


def test_energy_is_measured_offline_and_without_files(tmp_path: Path) -> None:
    environment = os.environ | {"EVERGREEN_COST_ENERGY_AFTER": "0.01", "EVERGREEN_COUNTRY": "DEU"}
    command = [sys.executable, "-c", ENERGY]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    costs, files = json.loads(done.stdout)  # and nothing else on stdout
    assert files == []
    assert "codecarbon" not in done.stderr
    for cost in costs:
        assert 0 < cost["energy_kwh"] < 0.01
        assert 0 < cost["co2_kg"] < 0.01


def test_energy_that_cannot_be_known_is_a_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mlops.cost.energy._kept", [])
    monkeypatch.setenv("EVERGREEN_COUNTRY", "Atlantis")
    energy = Energy("fine_tune")
    with caplog.at_level(logging.WARNING, "evergreen"):
        energy.start()
    assert energy.stop(1.0) == (None, None)
    assert "EVERGREEN_COUNTRY: found 'Atlantis'; allowed: three capital letters" in caplog.text


def test_a_short_step_is_not_asked_for_its_energy() -> None:
    with Meter("short") as meter:
        time.sleep(0.2)
    assert cost_of(meter).energy_kwh is None


def test_a_step_that_fails_fails_as_it_would() -> None:
    with pytest.raises(ZeroDivisionError), Meter("fails") as meter:
        _ = 1 / 0
    assert cost_of(meter).seconds > 0


def test_what_cannot_be_measured_is_no_cost(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def refused() -> Any:
        raise PermissionError("no look at processes")

    monkeypatch.setattr(processes, "used", refused)
    with Meter("works") as meter:
        done = True
    assert done
    assert meter.cost is None
    assert "the cost of works is not known: PermissionError" in caplog.text


def test_gpus_of_processes_below_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process holds none of them: every one of several that train together has its own."""
    base = tiny_base(tmp_path / "base")
    held: list[int] = []

    def wait(*_: object) -> list[int]:
        held.append(processes.gpus())
        return []

    monkeypatch.setattr(launch, "device_kind", lambda: "cuda")
    monkeypatch.setattr(launch, "_start", lambda *_: None)
    monkeypatch.setattr(launch, "_wait", wait)
    monkeypatch.setattr(launch, "_end", lambda *_: None)
    job = Job(tiny_config(base), tiny_snapshot(base), pin(str(base)), tiny_run(base), base, None)
    launch.together(job, 4)
    assert held == [4]
    assert processes.gpus() == 0


@pytest.mark.parametrize("rejected", [False, True])
def test_a_step_that_raises_has_its_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, rejected: bool
) -> None:
    verdict = Verdict(subject="snapshot", checks=(Check(name="rows", observed=1, allowed=2, outcome="fail"),))

    def broken(*_: object, **__: object) -> None:
        burn(0.3)
        raise Rejected(verdict) if rejected else RuntimeError("no such luck")

    monkeypatch.setattr("mlops.steps.validate.validate", broken)
    file = tiny_file(tmp_path)
    if rejected:
        summary = pipeline.run(config.load(file))
        assert summary["outcome"] == "rejected"
    else:
        with pytest.raises(RuntimeError, match="no such luck"):
            pipeline.run(config.load(file))
        (written,) = (tmp_path / "home" / "runs" / "tiny").glob("*/summary.json")
        summary = json.loads(written.read_text())
        assert (summary["outcome"], summary["reason"]) == ("failed", "RuntimeError: no such luck")
    assert list(summary["seconds"]) == ["source", "validate"]
    assert list(summary["cost"]) == ["source", "validate", "total"]
    assert summary["cost"]["validate"]["cpu_seconds"] >= 0.25
    run = client().get_run(summary["mlflow_run_id"])
    assert run.info.status == "FAILED"
    assert run.data.metrics["cost/validate/cpu_seconds"] == summary["cost"]["validate"]["cpu_seconds"]
    assert run.data.metrics["cost/total/cpu_seconds"] >= 0.25
    assert run.data.metrics["seconds/validate"] >= 0.25
    assert "was not written down" not in caplog.text


def test_a_retrain_says_what_it_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_COST_CPU_HOUR", "3600")
    monkeypatch.setenv("EVERGREEN_COST_CURRENCY", "EUR")
    # Rejected at the gate: the steps up to it are enough.
    file = tiny_file(tmp_path, train={"epochs": 1, "learning_rate": 0.0, "batch_tokens": 512})
    summary = pipeline.run(config.load(file))
    costs = summary["cost"]
    assert list(costs) == [*summary["seconds"], "total"]
    assert set(costs["fine_tune"]) == set(Cost.model_fields)
    assert costs["total"]["cpu_seconds"] == pytest.approx(
        sum(c["cpu_seconds"] for n, c in costs.items() if n != "total")
    )
    assert costs["fine_tune"]["money"] == pytest.approx(costs["fine_tune"]["cpu_seconds"], abs=0.01)
    written = tmp_path / "home" / "runs" / "tiny" / summary["retrain_id"] / "summary.json"
    assert json.loads(written.read_text())["cost"] == costs
    metrics = client().get_run(summary["mlflow_run_id"]).data.metrics
    assert metrics["cost/fine_tune/peak_mb"] == costs["fine_tune"]["peak_mb"]
    assert metrics["cost/total/money"] == pytest.approx(costs["total"]["money"])
    assert "cost/total/energy_kwh" not in metrics
    table = render(summary)
    assert "EUR" in table
    assert "kWh" not in table  # nothing is known of it

    run = {"retrain_id": "r", "pipeline": "tiny", "champion": None, "base": {"uri": "-", "sha256": "0"}}
    handed = {"config": config.load(file).model_dump(mode="json", by_alias=True), "run": run}
    command = [sys.executable, "-m", "mlops", "step", "source"]
    done = subprocess.run(command, input=json.dumps(handed), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert Cost.model_validate(json.loads(done.stdout)["cost"]).cpu_seconds > 0  # as it travels back to Airflow

    (tmp_path / "rows.jsonl").unlink()
    done = subprocess.run(command, input=json.dumps(handed), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "mlops step: " in done.stderr
    assert Cost.model_validate(json.loads(done.stdout)["cost"]).seconds > 0


def test_memory_between_two_looks_is_seen_beside_a_large_child() -> None:
    code = "import sys; block = b'x' * 300_000_000; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-S", "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin
        assert child.stdout
        child.stdout.readline()
        before = sum(processes.resident()) / 1e6
        with Meter("takes memory") as meter:
            take()
        child.stdin.close()
    assert cost_of(meter).peak_mb >= before + 195
