"""Metrics are named by labels, which may be anything: MLflow has to take every one of them."""

from __future__ import annotations

import pytest

from mlops.tracking import client
from mlops.tracking_models import log_metrics

LABELS = ["w/", ":/", "http://x", "..", "a//b", "./c", "C++", "C##", " ", "négatif", "正面", "x" * 400, "a/../b"]


def test_every_label_is_a_metric_of_its_own() -> None:
    api = client()
    run = api.create_run(api.create_experiment("names"))
    log_metrics(api, run.info.run_id, {f"f1/{label}": place / 10 for place, label in enumerate(LABELS)})
    found = api.get_run(run.info.run_id).data.metrics
    assert sorted(found.values()) == [place / 10 for place in range(len(LABELS))]


@pytest.mark.parametrize("name", ["macro_f1", "f1/sport", "ndcg@10/low"])
def test_plain_names_stay_readable(name: str) -> None:
    api = client()
    run = api.create_run(api.create_experiment(f"plain {name}"))
    log_metrics(api, run.info.run_id, {name: 1.0})
    assert next(iter(api.get_run(run.info.run_id).data.metrics)).startswith(name.replace("@", "_"))
