"""A page as a team would see it after some months, for tests of its layout; `python tests/dags/page_sample.py FILE` paints it."""

from __future__ import annotations

import datetime
import sys
import tempfile
from pathlib import Path
from typing import Any

# Values of a metric with the half width of their interval, oldest first.
NEWS = ((0.871, 0.016), (0.884, 0.015), (0.882, 0.015), (0.893, 0.014), (0.896, 0.014), (0.889, 0.014), (0.904, 0.013))
ENTITIES = ((0.812, 0.021), (0.829, 0.020), (0.841, 0.019), (0.838, 0.019))


def ago(days: float) -> str:
    return (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)).isoformat(timespec="seconds")


def history(values: tuple[tuple[float, float], ...], size_mb: float, p95_ms: float, every: float) -> tuple[Any, ...]:
    """A version every so many days."""
    from evergreen.page.overview import Point

    return tuple(
        Point(
            version=str(number + 1),
            variant="int8" if number else "fp32",
            registered=ago(every * (len(values) - number) - 5),
            value=value,
            low=value - half,
            high=min(1.0, value + half * 0.9),
            size_mb=size_mb if number else size_mb * 3.9,
            p95_ms=p95_ms if number else p95_ms * 1.8,
            address=f"http://mlflow.example/#/models/x/versions/{number + 1}",
        )
        for number, (value, half) in enumerate(values)
    )


def sample() -> Any:
    """Four pipelines: one in order, one that waits for a person, one whose file is faulty, one that never ran."""
    from evergreen.page.overview import Move, Overview, Retrain, Row

    news, entities = history(NEWS, 23.4, 4.2, 7), history(ENTITIES, 65.1, 11.8, 12)
    rows = (
        Row(
            name="entities",
            dag_id="retrain_entities",
            task="token-classification",
            metric="seqeval_f1",
            champion=entities[2],
            serves_since=ago(19),
            candidate="4",
            history=entities,
            earlier=("2", "1"),
            moved=Move(action="hold", version="4", who="airflow", when=ago(0.3), reason="waits for a person's yes"),
            last=Retrain(
                outcome="promoted",
                words="promoted: the candidate serves now",
                sentence="int8 may ship: F1 0.8410 on 3,453 test rows, +0.0120 [+0.0036, +0.0204] beside the champion "
                "on the same rows; 1.1% of the answers differ from fp32.",
                reason="approved by ann: looks good",
                ended=ago(19),
                seconds=1490,
                money=0.2481,
                currency="EUR",
                address="http://mlflow.example/#/experiments/2/runs/b",
            ),
        ),
        Row(
            name="news-topics",
            dag_id="retrain_news-topics",
            task="text-classification",
            metric="macro_f1",
            champion=news[-1],
            serves_since=ago(2),
            history=news,
            earlier=("6", "5", "4"),
            moved=Move(
                action="promote", version="7", who="airflow", when=ago(2), reason="retrain 20260301T0200Z: better"
            ),
            last=Retrain(
                outcome="promoted",
                words="promoted: the candidate serves now",
                sentence="int8 is better than the champion: macro F1 0.9040 on 1,880 test rows, +0.0150 "
                "[+0.0041, +0.0263] on the same rows, and all 12 slices keep theirs.",
                reason="",
                ended=ago(2),
                seconds=412,
                money=0.0391,
                currency="EUR",
                address="http://mlflow.example/#/experiments/1/runs/a",
            ),
        ),
        Row(name="tickets", dag_id="retrain_tickets", task="text-classification", metric="macro_f1"),
        Row(
            name="reviews",
            dag_id="retrain_reviews",
            fault="pipelines/reviews.yaml: 2 faults\n  - task: found 'sentiment', allowed are text-classification, "
            "token-classification\n  - gate.florr: unknown key; did you mean gate.floor?",
        ),
    )
    return Overview(pipelines=rows, mlflow="http://mlflow.example")


def sample_airflow() -> Any:
    """Airflow's side of the sample."""
    from page_server import Airflow, dag

    dags = [
        dag("retrain_news-topics", hours=15),
        dag("retrain_entities", hours=99),
        dag("retrain_tickets", paused=True),
    ]
    runs = [{"dag_id": "retrain_entities", "dag_run_id": "r", "state": "running", "start_date": ago(0.3)}]
    return Airflow(sample, [*dags, dag("retrain_reviews")], runs)


def paint(path: Path, width: int = 1280, dark: bool = False) -> None:
    from browser import chromium, tab
    from page_server import served

    program = chromium()
    assert program, "no Chromium on this machine"
    with (
        tempfile.TemporaryDirectory() as folder,
        served(sample_airflow()) as address,
        tab(program, Path(folder)) as page,
    ):
        page.show(address, width, dark)
        page.until("document.querySelector('.champion') && document.querySelector('.pill.idle')")
        page.picture(path)


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.path[:0] = [str(here.parent), str(here.parent.parent / "plugins")]
    paint(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1280, "dark" in sys.argv)
