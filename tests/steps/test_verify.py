"""The file that ships was asked in a clean process first; one that fails there does not ship, whatever it scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from grafts import short_sighted
from tiny import TRAINED, tiny_artifact, tiny_config, tiny_models, tiny_snapshot

from mlops.config_behaviour import BehaviourGroup
from mlops.scoring import score
from mlops.steps.verify import proved, verify
from mlops.store import open_store
from mlops.types import Baselines, ModelArtifact, Selection, Snapshot, Variants, Verdict

GROUP = BehaviourGroup.model_validate(
    {"name": "g", "kind": "minimum", "cases": [{"text": "badoki lu me", "label": "metals"}]}
)


@pytest.fixture
def snapshot() -> Snapshot:
    return tiny_snapshot(tiny_models()["base"])


def broken(folder: Path) -> ModelArtifact:
    package = short_sighted(folder / "package", "int8")
    return tiny_artifact("int8").model_copy(update={"files": open_store().put(package, "model")})


def verified(snapshot: Snapshot, *models: ModelArtifact) -> Selection:
    config = tiny_config(tiny_models()["base"], **TRAINED | {"gate": {**TRAINED["gate"], "baselines": []}})
    original = score(tiny_artifact("torch"), snapshot)
    data = Verdict(subject="snapshot", checks=())
    return verify(config, original, Variants(models=models), None, Baselines(evaluations={}), snapshot, data, None)


def test_a_file_that_passes_is_proved_and_ships(snapshot: Snapshot) -> None:
    found = verified(snapshot, tiny_artifact("int8"), tiny_artifact("fp32"))
    assert found.chosen is not None
    assert found.chosen.variant == "int8"
    assert list(found.proofs) == ["int8"]
    assert found.proofs["int8"].outcome == "pass"
    assert found.proofs["int8"].subject == "int8 package"
    assert {"cold start", "memory", "one row at a time, median"} <= {
        check.name for check in found.proofs["int8"].checks
    }


def test_a_file_that_fails_its_proof_does_not_ship(snapshot: Snapshot, tmp_path: Path) -> None:
    found = verified(snapshot, broken(tmp_path), tiny_artifact("fp32"))
    assert found.verdicts["int8"].outcome == "pass"
    assert found.proofs["int8"].outcome == "fail"
    assert any("not finite" in check.name and "empty" in check.detail for check in found.proofs["int8"].checks)
    assert found.chosen is not None
    assert found.chosen.variant == "fp32"


def test_without_another_file_nothing_ships(snapshot: Snapshot, tmp_path: Path) -> None:
    assert verified(snapshot, broken(tmp_path)).chosen is None


def test_behaviour_cases_are_asked_too(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def noted(
        folder: Path, items: list[str], offline: list[np.ndarray], golden: list[str], most: float | None
    ) -> object:
        asked.extend(golden)
        return prove(folder, items[:2], offline[:2], golden, most)

    from mlops.steps import verify as module

    prove = module.prove
    monkeypatch.setattr(module, "prove", noted)
    assert proved(tiny_artifact("fp32"), snapshot, [GROUP]).outcome == "pass"
    assert asked == ["badoki lu me"]


def test_a_slow_start_does_not_ship_where_a_limit_says_so(snapshot: Snapshot) -> None:
    found = proved(tiny_artifact("fp32"), snapshot, cold_seconds=1e-6)
    assert [check.name for check in found.checks if check.outcome == "fail"] == ["cold start"]
    assert any(check.name.startswith("against offline") for check in found.checks)
