"""What Airflow and process starts add to the steps' own work, and how long `make up` and a folder of pipelines take.

    python benchmarks/overhead.py [--where embedded stack] [--runs 3] [--pipelines 50] [--at-once] [--home FOLDER]

A tiny BERT is retrained `--runs` times by Airflow, each time in full. Per step, the median over the runs of
- Airflow's share: from the end of the work of the step before to the beginning of its own, that is Airflow's bookkeeping, its
  scheduler, the start of a task's process and the parsing of the DAG in it;
- start: the rest of the step's task beyond the step's own seconds, that is imports, and for a step with a model its process.
Then the folder gets `--pipelines` files and Airflow says how long it parsed the file that makes their DAGs. With `--at-once`
all of them retrain at the same time. One JSON object on stdout, a table on stderr.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

from homes import Home, bare, embedded, stack  # noqa: E402

from mlops.flow import STEPS  # noqa: E402

ALLOWED = {"embedded": 1.0, "stack": 2.0}
START = {False: 1.5, True: 4.0}
MANY = "many-{:02d}"
WHERE = {"embedded": embedded, "stack": stack}
Json = dict[str, Any]


def written(folder: Path, base: Path, rows: Path, name: str) -> Path:
    """A pipeline file with a tiny model that ships as it is."""
    import yaml

    settings = {
        "name": name,
        "task": "text-classification",
        "data": {"source": str(rows), "format": "jsonl"},
        "model": {"base": str(base), "max_length": 24},
        "train": {"epochs": 3, "learning_rate": 0.005, "batch_tokens": 512},
        "gate": {"floor": 0.5, "margin": 0.3, "baselines": ["majority"]},
        "compress": {"variants": ["fp32"]},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def prepared(place: Path) -> tuple[Path, Path, Path]:
    """(pipelines, base, rows) in an empty folder."""
    from tiny import tiny_base, tiny_rows

    (place / "pipelines").mkdir(parents=True)
    rows = place / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in tiny_rows(240)))
    return place / "pipelines", tiny_base(place / "base"), rows


def retrained(home: Home, pipeline: str) -> dict[str, tuple[float, float, float]]:
    """Per step of one forced retrain: (Airflow's share, start, own seconds)."""
    dag = f"retrain_{pipeline}"
    run = home.airflow.trigger(dag, {"force": True})
    state = home.airflow.wait(dag, run)
    told = home.airflow.value(dag, run, "finish")
    if state != "success":
        sys.exit(f"{dag} ended as {state}: {told}")
    found: dict[str, tuple[float, float, float]] = {}
    before: float | None = None
    states = home.airflow.states(dag, run)
    for step in STEPS:
        if states.get(step.name) != "success":
            continue
        facts = home.airflow.value(dag, run, step.name, "facts")
        began, ended = facts["clock"]
        if before is not None:
            found[step.name] = (began - before, ended - began - facts["seconds"], facts["seconds"])
        before = ended
    return found


def steps(home: Home, pipeline: str, runs: int) -> Json:
    """Medians per step over the runs; the first retrain, which fills caches, is not one of them."""
    home.airflow.until_parsed(f"retrain_{pipeline}")
    home.airflow.unpause(f"retrain_{pipeline}")
    retrained(home, pipeline)
    seen = [retrained(home, pipeline) for _ in range(runs)]
    names = ("airflow", "start", "own")
    return {
        step: {name: statistics.median(run[step][at] for run in seen) for at, name in enumerate(names)}
        for step in seen[0]
    }


def at_once(home: Home, pipelines: list[str]) -> Json:
    """All of them triggered in one go: seconds until the last ended, and how they ended."""
    dags = {f"retrain_{name}": "" for name in pipelines}
    for dag in dags:
        home.airflow.unpause(dag)
    began = time.perf_counter()
    for dag in dags:
        dags[dag] = home.airflow.trigger(dag)
    states = [home.airflow.wait(dag, run, 7200) for dag, run in dags.items()]
    outcomes = [home.airflow.value(dag, run, "finish")["outcome"] for dag, run in dags.items()]
    count = {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))}
    return {"seconds": time.perf_counter() - began, "outcomes": count, "failed": states.count("failed")}


def measured(where: str, place: Path, arguments: argparse.Namespace) -> Json:
    """Everything about one home."""
    pipelines, base, rows = prepared(place)
    file = written(pipelines, base, rows, "one")
    if where == "embedded":  # so that the prediction server has something to serve
        command = [sys.executable, "-m", "mlops", "run", str(file), "--json"]
        subprocess.run(command, env=bare() | {"EVERGREEN_HOME": str(place)}, stdout=subprocess.DEVNULL, check=True)
    with WHERE[where](place, pipelines, "one") as home:
        print(f"{where}: well after {home.pages['all well']:.0f} s", file=sys.stderr)
        found: Json = {"pages": home.pages, "steps": steps(home, "one", arguments.runs)}
        many = [MANY.format(number) for number in range(arguments.pipelines - 1)]
        for name in many:
            written(pipelines, base, rows, name)
        home.airflow.until_parsed(f"retrain_{many[-1]}")
        time.sleep(65)  # the file is read again twice: what it takes with warm caches is what it takes all day
        found["parse"] = home.airflow.until_parsed("retrain_one")["last_parse_duration"]
        if arguments.at_once:
            found["at_once"] = at_once(home, ["one", *many])
    return found


def table(found: Json) -> str:
    lines = []
    for where, each in found.items():
        lines += [f"\n{where}", f"{'step':<12}{'Airflow s':>10}{'start s':>10}{'own s':>10}"]
        loads = {step.name: step.loads_model for step in STEPS}
        for name, took in each["steps"].items():
            late = "  *" if took["airflow"] > ALLOWED[where] or took["start"] > START[loads[name]] else ""
            lines.append(f"{name:<12}{took['airflow']:>10.2f}{took['start']:>10.2f}{took['own']:>10.2f}{late}")
        lines.append("pages: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in each["pages"].items()))
        lines.append(f"dags/retrain.py parsed in {each['parse']:.2f} s")
        if "at_once" in each:
            lines.append(f"all at once: {each['at_once']}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--where", nargs="+", choices=sorted(WHERE), default=sorted(WHERE))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--pipelines", type=int, default=50)
    parser.add_argument("--at-once", action="store_true")
    parser.add_argument("--home", type=Path, help="a new folder; by default a temporary one")
    arguments = parser.parse_args()
    found: Json = {}
    with tempfile.TemporaryDirectory() as temporary:
        for where in arguments.where:
            found[where] = measured(where, (arguments.home or Path(temporary)) / where, arguments)
    json.dump(found, sys.stdout, indent=2)
    print(table(found), file=sys.stderr)


if __name__ == "__main__":
    main()
