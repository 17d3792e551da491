"""`make demo`: the DAG of pipelines/news-topics.yaml twice in real Airflow, then what came of it and three headlines.

First 60% of the corpus make the first champion, then "new data arrives": all of it, judged against that champion.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import embedded
import psutil
from embedded import Ports, Problem
from processes import alive, load_state

from mlops.process import die_with_parent

MODEL = "news-topics"
TITLES = {
    "first": "first retrain: 60% of the corpus, nothing to compare with yet",
    "second": "second retrain: new data has arrived, all of the corpus against the champion",
}
HEADLINES = [
    "The central bank raises interest rates as inflation eats into company profits",
    "Late header sends the home side into the cup final after extra time",
    "New handset maker promises faster downloads and a camera in every phone",
]


class Stopped(Exception):
    """A signal asked to stop."""


def _stop(number: int, frame: Any) -> None:
    raise Stopped(signal.Signals(number).name)


class Memory(threading.Thread):
    """The most memory that a process and its descendants held at once, looked at every 1.5 s; in bytes.

    Proportional sets where the system gives them: pages that processes share count once.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.root = psutil.Process(pid)
        self.peak = 0

    def run(self) -> None:
        while self.root.is_running() and self.root.status() != psutil.STATUS_ZOMBIE:
            try:
                family = [psutil.Process(), self.root, *self.root.children(recursive=True)]
                self.peak = max(self.peak, sum(map(_memory, family)))
            except psutil.Error:
                pass
            time.sleep(1.5)


def _memory(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
        return int(getattr(full, "pss", 0) or full.rss)
    except psutil.Error:
        return 0


class Story:
    """Progress on the terminal, and the results."""

    def __init__(self) -> None:
        self.results: dict[str, dict[str, Any]] = {}

    def take(self, event: dict[str, Any]) -> None:
        kind = event.pop("event")
        if kind == "skip":
            print(
                f"\n{TITLES[event['which']]}\n  skipped: version {event['version']} is the champion already", flush=True
            )
        elif kind == "retrain":
            print(f"\n{TITLES[event['which']]}", flush=True)
        elif kind == "ended":
            first_line = str(event["state"]).splitlines()[0]
            print(f"  {event['task']:<18}{event['seconds']:>6.1f} s  {first_line}", flush=True)
        elif kind == "result":
            self.results[event.pop("which")] = event
            summary = event["summary"] or {"outcome": "failed", "reason": "see the log"}
            print(f"  => {summary['outcome']}: {_short(summary)}", flush=True)


def _short(summary: dict[str, Any]) -> str:
    """The reason in one line: the first rule that was broken, without its details, which the table has."""
    said = summary["reason"].splitlines()
    line = said[min(1, len(said) - 1)].strip()
    return str(line.removeprefix(f"{summary['outcome']}: ").partition(" (")[0])


def run_airflow(values: dict[str, str], log: Path, story: Story) -> tuple[int, int]:
    """Both retrains in a process of their own; its exit code and the peak of its memory."""
    reading, writing = os.pipe()
    command = [sys.executable, str(Path(__file__).with_name("demo_runs.py")), str(writing)]
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            env=values,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[writing],
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 (no other thread runs here)
        )
    os.close(writing)
    memory = Memory(child.pid)
    memory.start()
    try:
        with os.fdopen(reading, encoding="utf-8") as events:
            for line in events:
                story.take(json.loads(line))
        return child.wait(), memory.peak
    finally:
        _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Airflow would take a signal for a failed task and try again: what is left is killed, the next demo goes on."""
    if child.poll() is None:
        for process in [*psutil.Process(child.pid).children(recursive=True), psutil.Process(child.pid)]:
            process.kill()
        child.wait()


def summaries(results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Of this demo's retrains and of those before it, the latest first."""
    paths = sorted((embedded.home() / "runs" / MODEL).glob("*/summary.json"), key=lambda path: path.stat().st_mtime)
    earlier = [dict(json.loads(path.read_text(encoding="utf-8"))) for path in reversed(paths)]
    now = [results[which]["summary"] for which in ("second", "first") if which in results and results[which]["summary"]]
    return now + earlier


def to_show(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The last retrain that trained something; where it made no files to ship, with those of the last one that did."""
    told = summaries(results)
    trained = next((summary for summary in told if summary.get("candidate")), {})
    files = next((summary["variants"] for summary in told if summary.get("variants")), {})
    return trained and {**trained, "variants": files, "seconds": {}}


def seconds_table(results: dict[str, dict[str, Any]]) -> str:
    """Seconds per step, one column per retrain."""
    from mlops.flow import STEPS
    from mlops.reports.table import grid

    spent = {which: (result["summary"] or {}).get("seconds", {}) for which, result in results.items()}
    rows = [["seconds", *spent]]
    for name in (step.name for step in STEPS):
        if any(name in column for column in spent.values()):
            rows.append([name, *(f"{column[name]:.1f}" if name in column else "-" for column in spent.values())])
    rows.append(["all steps", *(f"{sum(column.values()):.1f}" for column in spent.values())])
    return grid(rows)


def report(story: Story, peak: int, seconds: float, log: Path) -> None:
    """The table, where to look next, and the champion at work."""
    from mlops.reports.table import render

    print("\n" + "=" * 100)
    shown = to_show(story.results)
    if shown:
        print(render(shown))
    print(seconds_table(story.results))
    print(f"whole demo {seconds:.0f} s, peak memory {peak / 2**30:.2f} GiB (all processes)")
    print("where to look next")
    for name, place in {**shown.get("links", {}), "Airflow's log": str(log)}.items():
        print(f"  {Path(name).stem.replace('_', ' '):<18} {place}")
    print(f"  {'make up':<18} Airflow's grid, MLflow (experiment {MODEL}) and the server, in your browser")
    classify()


def classify() -> None:
    from mlops.serving.releases import load_runtime

    runtime, served = load_runtime(MODEL, "champion")
    print(f"serves    {served.name} version {served.version} ({served.variant}); three headlines through its runtime")
    for text, answer in zip(HEADLINES, runtime.predict(HEADLINES), strict=True):
        print(f"  {answer['label']:<14} {answer['score']:.2f}  {text}")


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _stop)
    started = time.monotonic()
    os.environ["EVERGREEN_HOME"] = str(embedded.home())
    for name, value in embedded.QUIET.items():
        os.environ.setdefault(name, value)
    try:
        state = load_state()
        if state and alive(state):
            raise Problem(
                f"`make up` runs (pid {state['pid']}): stop it first, or trigger retrain_{MODEL} in Airflow there"
            )
        values = embedded.environment(Ports.from_environment())
        if embedded.migrate(values):
            print("made Airflow's database")
        log = embedded.airflow_home() / f"demo-{time.strftime('%Y%m%dT%H%M%S')}.log"
        print(f"Airflow's log: {log}", flush=True)
        story = Story()
        code, peak = run_airflow(values, log, story)
        if code:
            raise Problem(f"a retrain failed (exit code {code}); {log} ends with\n{embedded.tail(log, 25)}")
        report(story, peak, time.monotonic() - started, log)
    except Stopped as reason:
        print(f"\nstopped ({reason}); `make demo` goes on from here", file=sys.stderr)
        return 130
    except Problem as problem:
        print(f"make demo: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
