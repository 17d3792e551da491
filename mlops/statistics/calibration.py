"""Whether a model is right as often as it says: the expected calibration error and the curve behind it.

ECE: answers fall into bins of equal width by their confidence; the mean over answers of how far a bin's share of right ones
is from its mean confidence (Naeini et al., AAAI 2015; Guo et al., "On calibration of modern neural networks", ICML 2017).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from mlops.statistics.bootstrap import Floats, intervals
from mlops.types import Metric

BINS = 15


def bin_counts(confidence: Floats, right: npt.NDArray[np.bool_]) -> Floats:
    """Per answer, in its bin's place, its confidence, whether it is right, and a 1: [m, 3 * BINS]."""
    out = np.zeros((len(confidence), 3, BINS))
    place = np.clip((confidence * BINS).astype(int), 0, BINS - 1)
    answers = np.arange(len(confidence))
    out[answers, 0, place], out[answers, 1, place], out[answers, 2, place] = confidence, right, 1
    return out.reshape(len(confidence), 3 * BINS)


def expected_error(totals: Floats) -> Mapping[str, Floats]:
    """{"ece": [resamples]} of summed `bin_counts` [resamples, 3 * BINS]."""
    confidence, right, count = np.moveaxis(totals.reshape(-1, 3, BINS), 1, 0)
    return {"ece": np.abs(confidence - right).sum(axis=1) / np.maximum(count.sum(axis=1), 1)}


def ece(units: Floats, resamples: int = 1000, seed: int = 0) -> Metric:
    """With its 95% interval over sampling units; units: `bin_counts`, summed over the answers of each [units, 3 * BINS]."""
    return intervals(units, expected_error, resamples, seed)["ece"]


def curve(units: Floats) -> list[dict[str, float]]:
    """Per bin that has answers: low and high of the confidence, mean confidence, accuracy, rows."""
    confidence, right, count = units.sum(axis=0).reshape(3, BINS)
    return [
        {
            "low": place / BINS,
            "high": (place + 1) / BINS,
            "confidence": float(confidence[place] / count[place]),
            "accuracy": float(right[place] / count[place]),
            "rows": float(count[place]),
        }
        for place in range(BINS)
        if count[place]
    ]
