"""One file of a search: made, judged on the validation rows beside fp32, measured beside it; known ones as they were."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mlops.compression import known
from mlops.compression.build import Builder, OutOfTime
from mlops.compression.quality import quality
from mlops.compression.recipes import RECIPES, Recipe
from mlops.config import PipelineConfig
from mlops.errors import EvergreenError
from mlops.judging.answers import Rows
from mlops.judging.calibration import calibration
from mlops.rows import load_rows
from mlops.scoring import score
from mlops.serving.cpu import processor, saturates, threads
from mlops.store import open_store
from mlops.tasks import get
from mlops.tasks.base import Item
from mlops.types import Attempt, ModelArtifact, Snapshot

log = logging.getLogger("evergreen")

VALIDATION = "validation"
_MEASURED_ROWS, _MEASURED_SECONDS = 512, 8.0


@dataclass
class Search:
    """What an attempt needs. reference: fp32's answers to the validation rows; none without such rows. attempts: what was
    tried, fp32 first."""

    config: PipelineConfig
    model: ModelArtifact
    snapshot: Snapshot
    builder: Builder
    items: Sequence[Item]
    began: float
    reference: Rows | None = None
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def ends(self) -> float:
        """When the time that the pipeline file gives is over, by time.monotonic()."""
        return self.began + self.config.compress.minutes * 60

    @property
    def late(self) -> bool:
        """Whether it is over."""
        return time.monotonic() > self.ends

    @property
    def over(self) -> str:
        """That in words."""
        return f"{self.config.compress.minutes:g} minutes (compress.minutes) were over"


def original(search: Search) -> Attempt:
    """The fp32 file, which the others are compared with."""
    started = time.perf_counter()
    files = open_store().put(search.builder.fp32(), "model")
    found = Attempt(name="fp32", recipe=RECIPES["fp32"].dump(), outcome="accepted", reason="", files=files)
    found = found.model_copy(update={"fused": search.builder.fused()})
    if search.items:
        evaluation = score(artifact(search.model, found), search.snapshot, VALIDATION, latency=False)
        search.reference = load_rows(evaluation)
        _, error = calibration(get(search.config.task_key), search.reference, evaluation.outputs)
        found = found.model_copy(update={"metrics": evaluation.metrics, "ece": error.value if error else None})
    return found.model_copy(update={"seconds": round(time.perf_counter() - started, 2)})


def attempt(search: Search, recipe: Recipe) -> Attempt:
    """Made, judged and measured, and among the search's attempts; an earlier attempt at the same is taken as it was."""
    blank = Attempt(name=recipe.name, recipe=recipe.dump(), outcome="skipped", reason="")
    document = f"attempts/{_key(search, recipe)}"
    found = _known(search, document)
    if found is not None:
        log.info("compress: %s: as an earlier search found it", recipe.told())
    elif search.late:
        found = blank.model_copy(update={"reason": search.over})
    else:
        started = time.perf_counter()
        found, beside = _made(search, recipe, blank)
        found = found.model_copy(update={"seconds": round(time.perf_counter() - started, 2)})
        if found.files:
            told = {"attempt": found.model_dump(mode="json"), "fp32": beside}
            open_store().write_document(document, told)
    log.info("compress: %s: %s%s", recipe.told(), found.outcome, f" ({found.reason})" if found.reason else "")
    search.attempts.append(found)
    return found


def _known(search: Search, document: str) -> Attempt | None:
    told = open_store().read_document(document)
    if not told:
        return None
    found = Attempt.model_validate(told["attempt"])
    if found.files is None or not open_store().exists(found.files):
        return None
    _measured_first(search, told["fp32"])
    return found


def _measured_first(search: Search, told: dict[str, Any] | None) -> None:
    """fp32 is measured with each of the others; the first time counts."""
    if told and not search.attempts[0].measured:
        search.attempts[0] = search.attempts[0].model_copy(update={"measured": told})


def _key(search: Search, recipe: Recipe) -> str:
    """All that an attempt follows from, the machine among it; not what other attempts are made from, nor the time."""
    config, splits = search.config, search.snapshot.splits
    section = config.compress
    decisive: list[Any] = [
        search.model.files.sha256,
        config.task_key,
        recipe.dump(),
        config.gate.model_dump(mode="json"),
    ]
    decisive += [splits[VALIDATION].sha256 if VALIDATION in splits else None]
    decisive += [section.max_drop, section.max_flip_rate, _small(search), search.builder.trained_from(recipe)]
    return known.key(*decisive, saturates(), processor(), threads())


def _made(search: Search, recipe: Recipe, blank: Attempt) -> tuple[Attempt, dict[str, Any] | None]:
    """The attempt, and what fp32 cost beside it."""
    try:
        folder = search.builder.make(recipe, len(search.attempts))
    except EvergreenError:
        raise
    except OutOfTime:
        return blank.model_copy(update={"reason": f"{search.over} while it was trained"}), None
    except Exception as error:  # onnx's and onnxruntime's tools raise a kind per graph that they do not know
        text = f"it could not be made: {type(error).__name__}: {str(error)[:300]}"
        log.warning("compress: %s: %s", recipe.name, text)
        return blank.model_copy(update={"outcome": "failed", "reason": text}), None
    files = open_store().put(folder, "model")
    fused = search.builder.fused(recipe.shape, recipe.share)
    found = blank.model_copy(update={"files": files, "outcome": "accepted", "fused": fused})
    assert search.reference is not None
    evaluation = score(artifact(search.model, found), search.snapshot, VALIDATION, latency=False)
    judged = quality(search.config, evaluation, search.reference)
    found = judged.fill(found).model_copy(update={"metrics": evaluation.metrics})
    if judged.faults:
        reason = "; ".join(judged.faults)
        return found.model_copy(update={"outcome": "rejected", "reason": reason, "lost": True}), None
    return _measured(search, found)


def _measured(search: Search, found: Attempt) -> tuple[Attempt, dict[str, Any]]:
    """The attempt with what it costs beside fp32, rejected where that is too much."""
    from mlops.compression.measure import measure

    assert found.files is not None
    step = max(1, len(search.items) // _MEASURED_ROWS)
    folders = {"fp32": search.builder.fp32(), found.name: open_store().fetch(found.files)}
    costs = measure(folders, search.items[::step], _MEASURED_SECONDS)
    told = {name: cost.model_dump(mode="json") for name, cost in costs.items()}
    _measured_first(search, told["fp32"])
    own = costs[found.name]
    change: dict[str, Any] = {"measured": told[found.name]}
    if own.ratio_high < 1 and not _small(search):
        reason = f"slower than fp32: {own.ratio:.2f} times its throughput ({own.ratio_low:.2f} to {own.ratio_high:.2f})"
        change |= {"outcome": "rejected", "reason": reason}
    return found.model_copy(update=change), told["fp32"]


def _small(search: Search) -> bool:
    """Whether a small file or little memory is wished for: then one that is slower than fp32 may do."""
    target = search.config.compress.target
    return target.size_mb is not None or target.memory_mb is not None


def artifact(model: ModelArtifact, found: Attempt) -> ModelArtifact:
    """An attempt's file as a model."""
    change: dict[str, Any] = {"files": found.files, "variant": found.name, "parent_sha256": model.files.sha256}
    return model.model_copy(update=change)
