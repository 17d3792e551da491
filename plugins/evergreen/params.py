"""The trigger form of a retraining DAG, and what was filled in as overrides of the pipeline file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import Param

from mlops import config as pipeline_file
from mlops.config import PipelineConfig

# Field of the form -> key of the pipeline file.
PLACES = {
    "epochs": "train.epochs",
    "learning_rate": "train.learning_rate",
    "base_model": "model.base",
    "promote": "promote",
}


def defaults(config: PipelineConfig) -> dict[str, Any]:
    """What the pipeline file says for each field of the form."""
    return {
        "epochs": config.train.epochs,
        "learning_rate": config.train.learning_rate,
        "base_model": config.model.base,
        "promote": config.promote,
    }


def trigger_form(config: PipelineConfig) -> dict[str, Param]:
    """The fields with type, bounds and the pipeline file's own values as defaults."""
    given = defaults(config)
    return {
        "force": Param(
            False,
            type="boolean",
            title="Force",
            description="Retrain although nothing has changed, and reuse nothing from earlier runs.",
        ),
        "epochs": Param(
            given["epochs"],
            type="integer",
            minimum=1,
            maximum=1000,
            title="Epochs",
            description="Passes over the training rows (train.epochs).",
        ),
        "learning_rate": Param(
            given["learning_rate"],
            type="number",
            minimum=0,
            maximum=1,
            title="Learning rate",
            description="The highest learning rate (train.learning_rate).",
        ),
        "base_model": Param(
            given["base_model"],
            type="string",
            minLength=1,
            title="Base model",
            description="URI of the pretrained model: package://…, hf://…, s3://… or a path (model.base).",
        ),
        "promote": Param(
            given["promote"],
            type="string",
            enum=["approve-first", "auto", "approval"],
            title="Promote",
            description=(
                "auto: a candidate that passes serves at once. approval: it is registered and waits. approve-first: only the "
                "first one waits."
            ),
        ),
        "overrides": Param(
            {},
            type="object",
            title="Overrides",
            description='Any other key of the pipeline file, such as {"data.take": 0.6}; fields above win.',
        ),
    }


def chosen(path: str, filled_in: Mapping[str, Any], given: Mapping[str, Any]) -> PipelineConfig:
    """The pipeline as the form asks for it; only fields that differ from their defaults override the file.

    Raises ConfigError with every fault at once.
    """
    overrides = dict(filled_in.get("overrides") or {})
    for field, place in PLACES.items():
        if field in filled_in and filled_in[field] != given[field]:
            overrides[place] = filled_in[field]
    return pipeline_file.load(path, overrides)
