"""The rollout section of a pipeline file: what a candidate has to show on live requests before it serves all of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from mlops.config_base import Section


class RolloutSection(Section):
    """With it a candidate that passed its gate waits at the alias candidate until a server has tried it on live requests.

    share: of the requests that the candidate answers (--canary) or is asked beside the champion (--shadow), where the
    server names no other. min_agreement: mean share of a request's texts that both answer alike. max_error_rate: mean of the
    candidate's failed requests above the champion's. max_latency: times the champion's model time for the same request, at
    the median. alpha: chance that a candidate which breaks a limit is let in, over all looks; the same for one that keeps to
    all of them and is turned down. min_requests: pairs of answers before it may serve. max_requests, max_hours: after which
    the trial ends without it. promote: whether what kept to all limits serves by itself; false leaves it to a person.
    """

    share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    min_agreement: Annotated[float, Field(gt=0, lt=1)] = 0.85
    max_error_rate: Annotated[float, Field(gt=0, lt=1)] = 0.01
    max_latency: Annotated[float, Field(gt=0)] = 1.5
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    min_requests: Annotated[int, Field(ge=1)] = 100
    max_requests: Annotated[int, Field(ge=1)] = 20_000
    max_hours: Annotated[float, Field(gt=0)] = 72.0
    promote: bool = True

    @model_validator(mode="after")
    def _an_end_after_its_start(self) -> RolloutSection:
        if self.max_requests < self.min_requests:
            raise ValueError(
                f"max_requests: found {self.max_requests}; allowed is min_requests, {self.min_requests}, or more"
            )
        return self
