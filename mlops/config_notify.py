"""The notify section of a pipeline file: who is told what a retrain came to, and through which of Airflow's
connections."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from mlops.config_base import Section

Event = Literal[
    "promoted", "held", "inconclusive", "rejected", "failed", "awaiting_approval", "awaiting_rollout", "rolled_back"
]


class NotifyEntry(Section):
    """One way to tell people.

    by: what carries it. connection: the id of Airflow's connection, which has the address and the secrets of the
    service; by default that of the provider, such as smtp_default. to: addresses for smtp, one channel for slack,
    tags for apprise. on: what they are told of; by default what changes the model that serves and what needs a person.
    """

    by: Literal["smtp", "slack", "apprise"]
    connection: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-]+$", max_length=200)] | None = None
    to: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    on: tuple[Event, ...] = (
        "promoted",
        "rejected",
        "failed",
        "awaiting_approval",
        "rolled_back",
    )

    @model_validator(mode="before")
    @classmethod
    def _the_word_on(cls, values: Any) -> Any:
        """YAML 1.1 reads the key `on` as true."""
        return (
            {"on" if key is True else key: value for key, value in values.items()}
            if isinstance(values, dict)
            else values
        )

    @field_validator("to")
    @classmethod
    def _one_line_each(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            if not each.isprintable() or each != each.strip():
                raise ValueError(f"{each!r} is no address; allowed is one line without spaces around it")
        return value

    @model_validator(mode="after")
    def _somebody(self) -> NotifyEntry:
        if not self.on:
            raise ValueError(f"on: found none; allowed are one or more of {', '.join(get_args(Event))}")
        if self.by == "smtp":
            wrong = [each for each in self.to if "@" not in each.strip("@") or "," in each]
            if not self.to or wrong:
                raise ValueError(
                    f"to: found {wrong[0] if wrong else 'nothing'!r}; allowed are addresses such as ml@example.org"
                )
        if self.by == "slack" and len(self.to) != 1:
            raise ValueError(f"to: found {list(self.to)}; allowed is one channel, such as ['#models']")
        return self
