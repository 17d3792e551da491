"""The error tree. Every message says what was found, what is allowed and what to do.

EvergreenError            exit 1   our own fault, or the machine's
├── StoreError            exit 1   the store lost or changed something
├── RegistryError         exit 1   MLflow answered something that must not be
└── UserError             exit 2   the user can mend it
    ├── ConfigError       exit 2   the pipeline file, all faults at once
    ├── SourceError       exit 2   the data cannot be reached or read at all
    ├── BaseModelError    exit 2   the pretrained model cannot be reached or used
    └── NotFound          exit 2   no such model, version, alias, step or artifact
Rejected                  exit 3   a data set or a candidate was judged and failed
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops.types import Verdict


class EvergreenError(Exception):
    """A fault that is not the user's."""

    exit_code = 1


class StoreError(EvergreenError):
    """An artifact is missing, incomplete or not what its digest says."""


class RegistryError(EvergreenError):
    """The model registry is in a state that must not be."""


class UserError(EvergreenError):
    """Something that the user can mend."""

    exit_code = 2


class ConfigError(UserError):
    """Faults of a pipeline file; `faults` has one line each."""

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        self.source = source
        self.faults = tuple(faults)
        count = f"{len(self.faults)} fault{'s' if len(self.faults) != 1 else ''}"
        super().__init__(f"{source}: {count}\n" + "\n".join(f"  - {fault}" for fault in self.faults))


class SourceError(UserError):
    """Data that cannot be reached or read at all."""


class BaseModelError(UserError):
    """A pretrained model that cannot be reached or used."""


class NotFound(UserError):
    """A name that does not exist; the message lists what does."""


class Rejected(EvergreenError):
    """A judgement that failed; carries the verdict."""

    exit_code = 3

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        super().__init__(verdict.explain())
