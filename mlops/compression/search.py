"""The search for the cheapest file that keeps the quality: from the cheapest form upwards, on the validation rows.

The test rows are not looked at here; `verify` judges what is chosen on them, once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mlops.compression.attempt import VALIDATION, Search, artifact, attempt, original
from mlops.compression.build import Builder
from mlops.compression.choice import choose, reaches
from mlops.compression.recipes import CALIBRATIONS, RECIPES, TABLES, Recipe, ladder
from mlops.config import PipelineConfig
from mlops.store import open_store
from mlops.tasks.base import Item
from mlops.types import Attempt, ModelArtifact, Snapshot, Variants

log = logging.getLogger("evergreen")

_RESCUES = (1, 2, 4, 8)  # nodes that stay in fp32


def search(search: Search, recipes: Sequence[Recipe] = ()) -> Variants:
    """Tries what the section allows until one will do; the chosen file first, then fp32 to fall back on.

    recipes: to try all of these instead. Without validation rows nothing can be judged, and fp32 ships. Raises UserError when
    the architecture cannot be written as ONNX.
    """
    section = search.config.compress
    search.attempts.append(original(search))
    for recipe in (recipes or ladder(section)) if search.items else ():
        found = _try(search, recipe)
        # What had to be rescued pays for it: the next form may do without.
        if not recipes and any(reaches(section, each) and not each.recipe["keep"] for each in found):
            break
    chosen, reason = choose(section, search.attempts)
    if not search.items:
        reason = "fp32 ships: there are no validation rows, by which a search judges what it tries"
    unique = list({each.name: each for each in (chosen, search.attempts[0])}.values())
    log.info("compress: %s", reason)
    models = tuple(artifact(search.model, each) for each in unique)
    return Variants(models=models, attempts=tuple(search.attempts), reason=reason)


def _try(search: Search, recipe: Recipe) -> list[Attempt]:
    """The attempt, and what was done to rescue it; all of them are kept."""
    found = [attempt(search, recipe)]
    if not found[0].lost or not recipe.precision.startswith("int8"):
        return found
    if recipe.trains:
        # Where the smaller network loses as it is, more of it in fp32 brings nothing back.
        found.append(attempt(search, RECIPES[recipe.shape]))
        if found[-1].outcome != "accepted":
            return found
    for other in _rescues(search, recipe, found[0]):
        found.append(attempt(search, other))
        if not found[-1].lost:
            break
    return found


def _rescues(search: Search, recipe: Recipe, first: Attempt) -> Iterator[Recipe]:
    """The recipe with smooth activations, with other calibration where it has one, then with more and more of what is most
    sensitive in fp32, the embeddings too at last; nothing once the time is over."""
    from mlops.compression.rescue import ranked

    yield replace(recipe, smooth=True)
    if _nearer(search.attempts[-1], first):
        recipe = replace(recipe, smooth=True)
    if recipe.precision == "int8-static":
        yield from (replace(recipe, calibration=way) for way in CALIBRATIONS if way != recipe.calibration)
    if search.late:
        return
    validation = search.snapshot.splits[VALIDATION].sha256
    names = ranked(search.builder, recipe, search.items, [search.model.files.sha256, validation])
    log.info("compress: %s loses too much; most sensitive are %s", recipe.name, ", ".join(names[:4]) or "none")
    counts = [count for count in _RESCUES if count <= max(1, len(names) // 2)]
    yield from (recipe.keeping(names[:count]) for count in counts if names)
    yield recipe.keeping([*names[: counts[-1] if names and counts else 0], TABLES])


def _nearer(one: Attempt, other: Attempt) -> bool:
    """Whether it changed fewer answers, then whether it lost less."""
    if one.flips is None or other.flips is None or one.drop is None or other.drop is None:
        return False
    return (one.flips, one.drop[0]) < (other.flips, other.drop[0])


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
        models.append(artifact(search.model, blank))
    return Variants(models=tuple(models))


def opened(config: PipelineConfig, model: ModelArtifact, snapshot: Snapshot, folder: Path) -> Search:
    """A search below an empty folder."""
    from mlops.scoring import read_split
    from mlops.tasks import get

    task = get(model.task)
    items: list[Item] = []
    if snapshot.rows.get(VALIDATION):
        items = [task.item(text) for text in read_split(snapshot, VALIDATION)["text"].to_pylist()]
    splits = {split: snapshot.splits[split] for split in ("train", VALIDATION) if split in snapshot.splits}
    builder = Builder(config, model.files, folder, splits, items)
    found = Search(config, model, snapshot, builder, items, time.monotonic())
    if config.compress.searches:
        builder.ends = found.ends
    return found
