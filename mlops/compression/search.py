"""The search for the cheapest file that keeps the quality: from the cheapest form upwards, on the validation rows.

The test rows are not looked at here; `verify` judges what is chosen on them, once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlops.code import code_sha256, libraries
from mlops.compression.build import Builder
from mlops.compression.choice import choose, reaches
from mlops.compression.quality import quality
from mlops.compression.recipes import CALIBRATIONS, RECIPES, TABLES, Recipe, ladder
from mlops.config import PipelineConfig
from mlops.errors import EvergreenError
from mlops.judging.answers import Rows
from mlops.rows import load_rows
from mlops.scoring import score
from mlops.serving.cpu import saturates
from mlops.store import open_store
from mlops.tasks.base import Item
from mlops.types import Attempt, ModelArtifact, Snapshot, Variants, identity

log = logging.getLogger("evergreen")

VALIDATION = "validation"
_MEASURED_ROWS, _MEASURED_SECONDS = 512, 8.0
_RESCUES = (1, 2, 4, 8)  # nodes that stay in fp32


@dataclass
class Search:
    """What an attempt needs. reference: fp32's answers to the validation rows; none without such rows."""

    config: PipelineConfig
    model: ModelArtifact
    snapshot: Snapshot
    builder: Builder
    items: Sequence[Item]
    reference: Rows | None = None
    attempts: list[Attempt] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def late(self) -> bool:
        """Whether the time that the pipeline file gives is over."""
        return time.monotonic() - self.began > self.config.compress.minutes * 60


def search(search: Search, recipes: Sequence[Recipe] = ()) -> Variants:
    """Tries what the section allows until one will do; the chosen file first, then fp32 to fall back on.

    recipes: to try all of these instead. Raises UserError when the architecture cannot be written as ONNX.
    """
    section = search.config.compress
    search.attempts.append(_original(search))
    for recipe in recipes or ladder(section):
        found = _try(search, recipe)
        if not recipes and any(reaches(section, each) for each in found):
            break
    chosen, reason = choose(section, search.attempts)
    unique = list({each.name: each for each in (chosen, search.attempts[0])}.values())
    log.info("compress: %s", reason)
    models = tuple(_artifact(search.model, attempt) for attempt in unique)
    return Variants(models=models, attempts=tuple(search.attempts), reason=reason)


def _original(search: Search) -> Attempt:
    """The fp32 file, which the others are compared with."""
    started = time.perf_counter()
    files = open_store().put(search.builder.fp32(), "model")
    attempt = Attempt(name="fp32", recipe=RECIPES["fp32"].dump(), outcome="accepted", reason="", files=files)
    metrics = {}
    if search.items:
        evaluation = score(_artifact(search.model, attempt), search.snapshot, VALIDATION, latency=False)
        search.reference, metrics = load_rows(evaluation), evaluation.metrics
    return attempt.model_copy(update={"metrics": metrics, "seconds": time.perf_counter() - started})


def _try(search: Search, recipe: Recipe) -> list[Attempt]:
    """The attempt, and what was done to rescue it; all of them are kept."""
    found = [_attempt(search, recipe)]
    first = found[0]
    if first.outcome == "rejected" and first.files and recipe.precision.startswith("int8") and _lost(first):
        for other in _rescues(search, recipe):
            found.append(_attempt(search, other))
            if found[-1].outcome in ("accepted", "skipped") or not _lost(found[-1]):
                break
    return found


def _lost(attempt: Attempt) -> bool:
    """Whether quality, and not cost, kept it out."""
    return "slower" not in attempt.reason


def _rescues(search: Search, recipe: Recipe) -> Iterator[Recipe]:
    """The recipe with other calibration where it has one, then with more and more of what is most sensitive in fp32, the
    embeddings too at last."""
    from mlops.compression.rescue import ranked

    if recipe.precision == "int8-static":
        yield from (replace(recipe, calibration=way) for way in CALIBRATIONS if way != recipe.calibration)
    names = ranked(search.builder, recipe, search.items)
    log.info("compress: %s loses too much; most sensitive are %s", recipe.name, ", ".join(names[:4]) or "none")
    counts = [count for count in _RESCUES if count <= max(1, len(names) // 2)]
    yield from (recipe.keeping(names[:count]) for count in counts if names)
    yield recipe.keeping([*names[: counts[-1] if names and counts else 0], TABLES])


def _attempt(search: Search, recipe: Recipe) -> Attempt:
    """Made, judged and measured; an earlier attempt at the same is taken as it was."""
    named = recipe.told()
    blank = Attempt(name=recipe.name, recipe=recipe.dump(), outcome="skipped", reason="")
    if search.late:
        reason = f"{search.config.compress.minutes:g} minutes (compress.minutes) were over"
        search.attempts.append(blank.model_copy(update={"reason": reason}))
        return search.attempts[-1]
    document = f"attempts/{_key(search, recipe)}"
    known = open_store().read_document(document)
    if known and (attempt := Attempt.model_validate(known)) and attempt.files and open_store().exists(attempt.files):
        log.info("compress: %s: as an earlier search found it", named)
    else:
        started = time.perf_counter()
        attempt = _made(search, recipe, blank)
        attempt = attempt.model_copy(update={"seconds": round(time.perf_counter() - started, 2)})
        if attempt.files:
            open_store().write_document(document, attempt.model_dump(mode="json"))
    log.info("compress: %s: %s%s", named, attempt.outcome, f" ({attempt.reason})" if attempt.reason else "")
    search.attempts.append(attempt)
    return attempt


def _key(search: Search, recipe: Recipe) -> str:
    config, rows = search.config, search.snapshot.splits
    decisive: list[Any] = [
        search.model.files.sha256,
        recipe.dump(),
        config.gate.model_dump(mode="json"),
        config.task_key,
    ]
    decisive += [rows[VALIDATION].sha256 if VALIDATION in rows else None, config.compress.model_dump(mode="json")]
    decisive += [config.train.model_dump(mode="json"), rows["train"].sha256] if recipe.trains else []
    return identity([*decisive, code_sha256(), libraries(), saturates()])


def _made(search: Search, recipe: Recipe, attempt: Attempt) -> Attempt:
    try:
        folder = search.builder.make(recipe, len(search.attempts))
    except EvergreenError:
        raise
    except Exception as error:  # onnx's and onnxruntime's tools raise a kind per graph that they do not know
        text = f"it could not be made: {type(error).__name__}: {str(error)[:300]}"
        log.warning("compress: %s: %s", recipe.name, text)
        return attempt.model_copy(update={"outcome": "failed", "reason": text})
    files = open_store().put(folder, "model")
    attempt = attempt.model_copy(update={"files": files, "outcome": "accepted"})
    faults: list[str] = []
    if search.reference is not None:
        evaluation = score(_artifact(search.model, attempt), search.snapshot, VALIDATION, latency=False)
        found = quality(search.config, evaluation, search.reference)
        attempt = found.fill(attempt).model_copy(update={"metrics": evaluation.metrics})
        faults += found.faults
    if not faults and search.items:
        attempt, slow = _measured(search, attempt)
        faults += slow
    if faults:
        return attempt.model_copy(update={"outcome": "rejected", "reason": "; ".join(faults)})
    return attempt


def _measured(search: Search, attempt: Attempt) -> tuple[Attempt, list[str]]:
    """The attempt with what it costs beside fp32, and whether that is too much."""
    from mlops.compression.measure import measure

    assert attempt.files is not None
    step = max(1, len(search.items) // _MEASURED_ROWS)
    folders = {"fp32": search.builder.fp32(), attempt.name: open_store().fetch(attempt.files)}
    found = measure(folders, search.items[::step], _MEASURED_SECONDS)
    told = {name: value.model_dump(mode="json") for name, value in found.items()}
    own = found[attempt.name]
    if "measured" not in _first(search).measured:
        search.attempts[0] = _first(search).model_copy(update={"measured": told["fp32"]})
    target = search.config.compress.target
    wanted_small = target.size_mb is not None or target.memory_mb is not None
    faults = []
    if own.ratio_high < 1 and not wanted_small:
        faults.append(
            f"slower than fp32: {own.ratio:.2f} times its throughput ({own.ratio_low:.2f} to {own.ratio_high:.2f})"
        )
    return attempt.model_copy(update={"measured": told[attempt.name]}), faults


def _first(search: Search) -> Attempt:
    return search.attempts[0]


def listed(search: Search) -> Variants:
    """The forms that the pipeline file lists, made and neither judged nor measured: `verify` judges each of them.

    Raises UserError when the architecture cannot be written as ONNX.
    """
    models = []
    for number, name in enumerate(search.config.compress.variants):
        recipe = RECIPES[name]
        folder = search.builder.fp32() if name == "fp32" else search.builder.make(recipe, number)
        files = open_store().put(folder, "model")
        log.info("compress: %s, %.1f MB", name, files.size_bytes / 1e6)
        blank = Attempt(name=name, recipe=recipe.dump(), outcome="accepted", reason="", files=files)
        models.append(_artifact(search.model, blank))
    return Variants(models=tuple(models))


def _artifact(model: ModelArtifact, attempt: Attempt) -> ModelArtifact:
    change: dict[str, Any] = {"files": attempt.files, "variant": attempt.name, "parent_sha256": model.files.sha256}
    return model.model_copy(update=change)


def opened(config: PipelineConfig, model: ModelArtifact, snapshot: Snapshot, folder: Path) -> Search:
    """A search below an empty folder."""
    from mlops.scoring import read_split
    from mlops.tasks import get

    store, task = open_store(), get(model.task)
    items: list[Item] = []
    if snapshot.rows.get(VALIDATION):
        items = [task.item(text) for text in read_split(snapshot, VALIDATION)["text"].to_pylist()]
    rows = {split: store.fetch(snapshot.splits[split]) for split in ("train", VALIDATION) if split in snapshot.splits}
    builder = Builder(config, store.fetch(model.files), folder, rows, items)
    return Search(config, model, snapshot, builder, items)
