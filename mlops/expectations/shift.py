"""The expectation that new rows are like the old ones of their label: what a poisoned batch breaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops.expectations.finding import Finding, not_judged

if TYPE_CHECKING:
    import pandas as pd


def new_rows(
    frame: pd.DataFrame,
    column: str,
    label: str,
    new: str,
    max_effect: float,
    max_distance: float,
    max_novel: float,
    min_rows: int,
) -> Finding:
    """Per label: do the new rows say what the old ones of this label say?

    Judged are, see `mlops.data.poisoning.Shift`, the largest effect (more new than old rows that a model of the old ones puts
    elsewhere: wrong labels), the largest distance (other words) and the largest share of rows with one novel word (a
    trigger). Observed is how often the worst of them goes into what is allowed.
    """
    if new not in frame.columns:
        return not_judged("there is no earlier snapshot")
    from mlops.data.poisoning import Shift, class_shift

    fresh = frame[new].to_numpy(dtype=bool)
    texts, labels = frame[column].to_numpy(dtype=object), frame[label].to_numpy(dtype=object)
    shifts = class_shift(texts[~fresh], labels[~fresh], texts[fresh], labels[fresh], min_rows=min_rows)
    if not shifts:
        return not_judged(f"no label has {min_rows} new rows ({int(fresh.sum())} in all) and as many old ones")

    def worst(shift: Shift) -> float:
        return max(shift.effect / max_effect, shift.distance / max_distance, shift.novel / max_novel)

    order = sorted(shifts, key=lambda shift: -worst(shift))
    detail = "; ".join(
        f"{shift.label}: effect {shift.effect:.2f}, distance {shift.distance:.2f}, novel {shift.novel:.1%} of {shift.new} "
        f"new rows, told by {', '.join(shift.words) or 'no word'}"
        for shift in order[:3]
        if worst(shift) > 1 or shift is order[0]
    )
    table = tuple(
        (
            *(s.label, str(s.new), str(s.old), f"{s.disagreement:+.1%}", f"{s.effect:.2f}", f"{s.distance:.2f}"),
            *(f"{s.novel:.1%}", " ".join(s.words)),
        )
        for s in order[:50]
    )
    header = (
        "label",
        "new",
        "old",
        "put elsewhere, new less old",
        "effect",
        "distance",
        "novel",
        "words of the new rows",
    )
    return Finding(round(worst(order[0]), 4), worst(order[0]) <= 1, detail, (), header, table)
