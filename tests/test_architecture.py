"""The rules of the tree: imports point one way, no step imports a step, light things stay light, no secrets of a machine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"torch", "transformers", "mlflow", "great_expectations", "sklearn", "matplotlib", "datasets", "pandas"} | {
    "optuna",
    "codecarbon",
}
# A layer may import those above it in this list and its own.
LAYERS = [
    {"types", "errors", "code", "process", "expressions"},
    {"config", "faults", "settings", "blobs", "store", "leases", "locks", "sweep", "signing", "statistics"},
    {"data", "expectations", "tasks", "training", "compression", "serving", "judgement", "rows", "scoring"}
    | {"judging", "looks", "records", "baselines", "behaviour", "rollouts"}
    | {"tracking", "registry", "uploads", "ledger", "promotion", "rollback", "reconcile", "reports", "flow", "tuning", "cost"}
    | {"retention"},
    {"steps"},
    {"pipeline", "summary", "doctor", "compare", "explain"},
    {"commands", "cli", "client", "__main__"},
]  # fmt: skip


def modules() -> list[Path]:
    return sorted((ROOT / "mlops").rglob("*.py"))


def part(path: Path) -> str:
    """The first name below mlops of a file, such as "steps" or "config"."""
    return path.relative_to(ROOT / "mlops").with_suffix("").parts[0]


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    """Dotted names that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer(name: str) -> int:
    for position, names in enumerate(LAYERS):
        if name in names or any(name.startswith(f"{own}_") for own in names):
            return position
    raise AssertionError(f"mlops/{name} has no place in LAYERS: give it one")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    if path.name == "__init__.py" and path.parent.name == "mlops":
        return
    own = part(path)
    for name in imports(path):
        assert not name.startswith("airflow"), f"{path} imports {name}: the library knows nothing of Airflow"
        if name.startswith("mlops.") and name != "mlops.__version__":
            assert layer(name.split(".")[1]) <= layer(own), f"{path} imports {name}, which stands above it"


@pytest.mark.parametrize("path", sorted((ROOT / "mlops" / "steps").glob("*.py")), ids=lambda path: path.stem)
def test_no_step_imports_a_step(path: Path) -> None:
    assert not [name for name in imports(path) if name.startswith("mlops.steps")]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_imports_are_inside_functions(path: Path) -> None:
    # MLflow's own loader runs the one; the other's classes need their bases, and only a suite that runs imports it.
    if path.name == "pyfunc.py" or (path.parent.name == "expectations" and path.name == "classes.py"):
        return
    assert not {name.split(".")[0] for name in imports(path, top_level_only=True)} & HEAVY


def test_serving_never_imports_torch() -> None:
    for path in (ROOT / "mlops" / "serving").glob("*.py"):
        assert not {name.split(".")[0] for name in imports(path)} & {"torch", "transformers"}, path


def test_every_step_of_the_flow_has_its_module_and_inputs() -> None:
    from mlops import types
    from mlops.flow import STEPS

    known = {"run"}
    for step in STEPS:
        missing = {name.partition(".")[0] for name in step.inputs.values()} - known
        assert not missing, f"{step.name} takes {missing}, which no earlier step gives"
        assert hasattr(types, step.type)
        assert (ROOT / "mlops" / "steps" / f"{step.module or step.name}.py").exists()
        known.add(step.output)


def test_help_is_quick_and_light() -> None:
    code = "import sys, time; t = time.perf_counter(); from mlops.cli import parser; parser().format_help()\n"
    code += "print(sorted(m for m in sys.modules if m in %r), time.perf_counter() - t)" % (
        HEAVY | {"pydantic", "pyarrow"}
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] ")


def test_help_names_every_command() -> None:
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "mlops", "--help"], capture_output=True, text=True, check=True)
    assert time.perf_counter() - started < 5  # a second where nothing else runs; the import test above is the sharp one
    for name in (
        "check",
        "run",
        "step",
        "predict",
        "serve",
        "releases",
        "compare",
        "promote",
        "rollback",
        "reconcile",
        "gc",
        "doctor",
    ):
        assert re.search(rf"^    {name} ", done.stdout, re.M), name


def test_the_lock_has_exact_versions_and_no_addresses() -> None:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) > 100
    for line in lines:
        assert re.fullmatch(r"[a-z0-9._-]+(\[[a-z0-9,._-]+\])?==[^ ;@]+( ; .+)?", line), line
    assert "torch==2.13.0" in lines
