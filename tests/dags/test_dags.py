"""The DAGs that pipeline files make: structure, trigger form, what a faulty file breaks, and how light parsing is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlops import flow

STEPS = [step for step in flow.STEPS if not step.section]  # those of a pipeline with no more sections than it needs

ROOT = Path(__file__).resolve().parent.parent.parent
HEAVY = ["torch", "transformers", "mlflow", "great_expectations", "pyarrow", "sklearn", "matplotlib", "datasets"]
HEAVY += ["optuna", "codecarbon"]

PIPELINE = """\
name: tickets
task: text-classification
data: {source: rows.jsonl}
model: {base: "package://some/model"}
train: {epochs: 4, learning_rate: 0.002}
promote: approval
schedule: "30 2 * * *"
"""

Load = Callable[[], dict[str, Any]]


@pytest.fixture
def dag(pipelines: Path, load_dags: Load) -> Any:
    (pipelines / "tickets.yaml").write_text(PIPELINE)
    return load_dags()["retrain_tickets"]


def test_one_airflow_task_per_step_between_start_and_finish(dag: Any) -> None:
    names = [step.name for step in STEPS]
    assert dag.task_ids == ["start", *names, "approval", "finish"]
    assert dag.get_task("start").is_setup
    finish = dag.get_task("finish")
    assert finish.is_teardown
    assert not finish.on_failure_fail_dagrun  # else a written report would turn a failed run green
    for task in dag.tasks:
        assert task.execution_timeout is not None
        assert task.retries == 1
    assert dag.dagrun_timeout is not None


def test_every_step_comes_after_those_that_give_its_inputs(dag: Any) -> None:
    giver = {step.output: step.name for step in STEPS}
    for step in STEPS:
        before = dag.get_task(step.name).get_flat_relative_ids(upstream=True)
        needed = {giver[head] for name in step.inputs.values() if (head := name.partition(".")[0]) != "run"}
        assert needed | {"start"} <= before


def test_schedule_and_limits_come_from_the_file(dag: Any) -> None:
    assert dag.timetable.timetable.expression == "30 2 * * *"
    assert [asset.uri for asset in dag.timetable.asset_condition.objects] == ["evergreen://data/tickets"]
    assert {task.task_id for task in dag.tasks if (task.pool, task.queue) == ("gpu", "gpu")} == {"fine_tune"}
    assert dag.catchup is False
    assert dag.max_active_runs == 1
    assert dag.tags == {"evergreen", "text-classification"}
    assert "package://some/model" in dag.doc_md
    assert Path(dag.fileloc) == ROOT / "dags" / "retrain.py"


def test_unpausing_starts_no_surprise_run(dag: Any) -> None:
    import pendulum
    from airflow.sdk._shared.timezones.timezone import utcnow
    from airflow.serialization.encoders import coerce_to_core_timetable
    from airflow.timetables.base import TimeRestriction

    timetable = coerce_to_core_timetable(dag.timetable)
    restriction = TimeRestriction(earliest=dag.start_date, latest=None, catchup=False)
    info = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
    assert info is not None
    assert pendulum.instance(info.run_after) > utcnow()


def test_the_trigger_form_has_types_and_the_files_defaults(dag: Any) -> None:
    form = {name: (dag.params.get_param(name).value, dag.params.get_param(name).schema) for name in dag.params}
    by_place = {name: form.pop(name) for name in list(form) if "." in name}
    expected = {
        "force": (False, "boolean"),
        "epochs": (4, "integer"),
        "learning_rate": (0.002, "number"),
        "base_model": ("package://some/model", "string"),
        "promote": ("approval", "string"),
        "overrides": ({}, "object"),
    }
    assert {name: (value, schema["type"]) for name, (value, schema) in form.items()} == expected
    assert form["promote"][1]["enum"] == ["approve-first", "auto", "approval"]
    assert form["epochs"][1]["minimum"] == 1
    assert all(schema["title"] and dag.params.get_param(name).description for name, (_, schema) in form.items())
    dag.params.validate()  # parsing leaves this out: it takes longer than all the rest
    # Every setting that is one value, drawn from the configuration's own schema and docstrings.
    assert by_place["gate.margin"] == (
        0.01,
        {"type": "number", "minimum": 0, "maximum": 1, "title": "Margin", "section": "gate"},
    )
    assert by_place["train.patience"][1]["type"] == ["integer", "null"]
    assert by_place["prepare.drop_label_issues"][0] is False
    assert not {"gate.slices", "compress.target", "data.watch"} & set(by_place)
    untold = [name for name in by_place if "of the pipeline file." in str(dag.params.get_param(name).description)]
    assert untold == []


def test_the_form_overrides_only_what_was_changed(pipelines: Path) -> None:
    from evergreen.params import chosen, defaults

    from mlops.config import load
    from mlops.errors import ConfigError

    path = pipelines / "tickets.yaml"
    path.write_text(PIPELINE)
    given = defaults(load(path))
    path.write_text(PIPELINE.replace("epochs: 4", "epochs: 9"))  # edited after the form was drawn
    same = chosen(str(path), {**given, "overrides": {}}, given)
    assert (same.train.epochs, same.train.learning_rate) == (9, 0.002)
    filled_in = {**given, "epochs": 2, "promote": "auto", "overrides": {"data.take": 0.6, "train.epochs": 3}}
    changed = chosen(str(path), filled_in, given)
    assert (changed.train.epochs, changed.promote, changed.data.take) == (2, "auto", 0.6)
    assert chosen(str(path), {**given, "gate.margin": 0.02, "train.patience": 3}, given).gate.margin == 0.02
    with pytest.raises(ConfigError, match=r"data\.tke"):
        chosen(str(path), {"overrides": {"data.tke": 1}}, given)


def test_a_faulty_file_breaks_only_its_own_dag(pipelines: Path, load_dags: Load) -> None:
    (pipelines / "tickets.yaml").write_text(PIPELINE)
    (pipelines / "torn file.yaml").write_text("name: [")
    (pipelines / "typo.yaml").write_text(PIPELINE.replace("epochs", "epocs").replace("tickets", "typo"))
    (pipelines / "twin.yaml").write_text(PIPELINE)
    (pipelines / "when.yaml").write_text(PIPELINE.replace("tickets", "when").replace("30 2", "99 99"))
    found = load_dags()
    for name in ("rollback", "compare", "maintenance"):
        assert found.pop(name)  # no faulty file takes it away
    assert set(found) == {"retrain_tickets", "retrain_torn-file", "retrain_typo", "retrain_twin", "retrain_when"}
    broken = {name: dag for name, dag in found.items() if "broken" in dag.tags}
    assert set(found) - set(broken) == {"retrain_tickets"}
    faults = {name: dag.get_task("check").faults for name, dag in broken.items()}
    assert all(dag.task_ids == ["check"] for dag in broken.values())
    assert "epocs" in faults["retrain_typo"]
    assert "another pipeline file" in faults["retrain_twin"]
    assert "99" in faults["retrain_when"]


def test_the_check_of_a_broken_pipeline_fails_with_its_faults(
    pipelines: Path, load_dags: Load, airflow_db: Path
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    (pipelines / "typo.yaml").write_text(PIPELINE.replace("epochs", "epocs"))
    task = load_dags()["retrain_typo"].get_task("check")
    with pytest.raises(AirflowFailException, match="epocs"):
        type(task).execute.__wrapped__(task, {})


@pytest.mark.parametrize("folder", ["pipelines of the project", "a broken one"])
def test_parsing_imports_nothing_heavy(folder: str, pipelines: Path, airflow_db: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "plugins")}
    if folder == "a broken one":
        (pipelines / "broken.yaml").write_text("name: [")
    else:
        environment["EVERGREEN_PIPELINES"] = str(ROOT / "pipelines")
    code = (
        "import json, runpy, sys\n"
        f"names = runpy.run_path({str(ROOT / 'dags' / 'retrain.py')!r})\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print(json.dumps([[name for name in names if name.startswith('retrain_')], heavy]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    dags, heavy = json.loads(done.stdout.splitlines()[-1])
    assert dags == (["retrain_broken"] if folder == "a broken one" else ["retrain_news-topics"])
    assert heavy == []


def test_airflow_looks_for_plugins_in_one_file(airflow_db: Path) -> None:
    from airflow._shared.module_loading.file_discovery import find_path_from_directory

    found = find_path_from_directory(ROOT / "plugins", ".airflowignore", "glob")
    assert list(found) == [str(ROOT / "plugins" / "evergreen_plugin.py")]


def test_the_pool_is_made_where_it_is_missing_and_left_as_it_is(airflow_db: Path) -> None:
    from airflow.jobs.job import Job
    from airflow.models.pool import Pool
    from evergreen.pool import POOL, on_starting

    on_starting(object())  # a task, which must not ask the database
    assert Pool.get_pool(POOL) is None
    on_starting(Job())
    made = Pool.get_pool(POOL)
    assert made is not None
    assert made.slots == 1
    Pool.create_or_update_pool(POOL, 4, "ours", include_deferred=False)
    on_starting(Job())
    kept = Pool.get_pool(POOL)
    assert kept is not None
    assert kept.slots == 4
