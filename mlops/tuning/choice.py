"""What `tune` chose, and a pipeline that goes by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlops.config import PipelineConfig
from mlops.config_train import TrainSection
from mlops.errors import UserError
from mlops.types import Tuned


def with_train(config: PipelineConfig, train: Mapping[str, Any]) -> PipelineConfig:
    """The pipeline with some keys of its train section replaced; pydantic's ValidationError where they do not go together."""
    section = TrainSection.model_validate(config.train.model_dump(mode="json") | dict(train))
    return config.model_copy(update={"train": section})


def as_tuned(
    config: PipelineConfig, inputs: Mapping[str, Any], choice: Tuned | None
) -> tuple[PipelineConfig, dict[str, Any]]:
    """(config, inputs) of fine_tune after a search: the chosen base and train section on all rows."""
    if choice is None:
        return config, dict(inputs)
    return with_train(config, choice.train), dict(inputs) | {"base": choice.base, "snapshot": choice.snapshot}


def no_choice(name: str, minutes: float, failed: list[str], stopped: int) -> UserError:
    """Why a study has nothing to choose from. failed: the reasons."""
    said = []
    if failed:
        said.append(f"{len(failed)} failed, the first one: {failed[0]}")
    if stopped:
        said.append(f"{stopped} were stopped before their end")
    told = "; ".join(said) or "none was begun"
    return UserError(
        f"tune: no trial of the study {name} was completed within tune.timeout ({minutes:g} minutes): {told}. "
        "Give it more minutes, a smaller tune.rows, or another tune.space"
    )
