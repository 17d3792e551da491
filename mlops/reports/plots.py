"""The plots of an evaluation: confusion matrix and reliability curve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# A picture of hundreds of labels would take gigabytes; beyond these it shows its pattern, not each name and number.
MAX_INCHES, MAX_NAMES, MAX_NUMBERS = 20.0, 40, 30


def _axes(size: tuple[float, float]) -> tuple[Any, Any]:
    # The object interface: pyplot keeps figures alive and picks a backend by the machine it runs on.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def confusion_matrix(labels: Sequence[str], predicted: Sequence[str], names: Sequence[str], path: Path) -> None:
    """Writes a PNG: rows are the true labels, columns the predicted ones, cells the number of rows."""
    place = {name: position for position, name in enumerate(names)}
    cells = np.zeros((len(names), len(names)), dtype=np.int64)
    for truth, guess in zip(labels, predicted, strict=True):
        cells[place[truth], place[guess]] += 1
    side = min(max(4.0, 0.5 * len(names) + 2), MAX_INCHES)
    figure, axes = _axes((side, side))
    axes.imshow(cells, cmap="Greens")
    every = -(-len(names) // MAX_NAMES)
    shown = range(0, len(names), every)
    plain = [name.replace("$", r"\$") for name in names[::every]]  # between two of them matplotlib reads formulas
    axes.set_xticks(shown, plain, rotation=45, ha="right")
    axes.set_yticks(shown, plain)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(names) <= MAX_NUMBERS:
        for (row, column), count in np.ndenumerate(cells):
            colour = "white" if count > cells.max() / 2 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour)
    figure.savefig(path, dpi=120)


def reliability_curve(
    confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], path: Path, bins: int = 10
) -> float:
    """Writes a PNG of accuracy by confidence and gives the expected calibration error (Naeini et al., AAAI 2015).

    confidence: [n] probability of the predicted label. right: [n] whether it was the true one.
    """
    edges = np.linspace(0, 1, bins + 1)
    which = np.clip(np.digitize(confidence, edges[1:-1]), 0, bins - 1)
    used = [index for index in range(bins) if (which == index).any()]
    mean = np.array([confidence[which == index].mean() for index in used])
    accuracy = np.array([right[which == index].mean() for index in used])
    share = np.array([(which == index).mean() for index in used])
    error = float((np.abs(mean - accuracy) * share).sum())
    figure, axes = _axes((4.5, 4.5))
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
    axes.plot(mean, accuracy, marker="o", color="darkgreen")
    axes.bar(edges[used], share, width=1 / bins, align="edge", color="darkgreen", alpha=0.15)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy (bars: share of rows)")
    axes.set_title(f"expected calibration error {error:.3f}")
    figure.savefig(path, dpi=120)
    return error
