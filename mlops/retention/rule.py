"""The rule by which things are kept, and what it found to remove."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlops.errors import UserError

DAY = 86_400.0
# Airflow ends a retrain after a day and its hours for an approval, of which there are 720 at most: what runs longer
# is dead.
LONGEST_DAYS = 32.0


@dataclass(frozen=True)
class Rule:
    """keep: the last so many versions and runs of each model stay. days: and so does what served or was used within
    them.

    ahead: seconds from now at which it is read, to know what it will remove by then.
    """

    keep: int = 5
    days: float = 90.0
    ahead: float = 0.0

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise UserError(f"--keep: found {self.keep}; allowed are 1 version and more")
        if not 1 <= self.days < float("inf"):
            raise UserError(
                f"--days: found {self.days:g}; allowed are 1 and more: what is younger may be used by a retrain"
            )

    def __str__(self) -> str:
        return f"keep {self.keep}, {self.days:g} days"

    @property
    def now(self) -> float:
        return time.time() + self.ahead

    def recent(self, when: str) -> bool:
        """Whether an ISO time lies within the days."""
        return self.now - datetime.datetime.fromisoformat(when).timestamp() < self.days * DAY

    def unused_seconds(self, running_since: float | None) -> float:
        """The age from which a file is unused, as a listing tells ages: the days, or more where a retrain has run for
        longer."""
        return max(self.days * DAY, self.now - running_since if running_since else 0.0) - self.ahead


@dataclass(frozen=True)
class Removal:
    """Something that goes. size: bytes that it frees. why: for people."""

    kind: str
    name: str
    size: int
    why: str
    remove: Callable[[], None]

    def told(self) -> dict[str, Any]:
        """JSON-safe."""
        return {"kind": self.kind, "name": self.name, "bytes": self.size, "why": self.why}
