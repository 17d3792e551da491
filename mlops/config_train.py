"""The model and train sections of a pipeline file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mlops.config_base import Section, Share, SourceUri


class ModelSection(Section):
    """base: URI of the pretrained model. max_length: tokens, the special ones included."""

    base: SourceUri
    max_length: Annotated[int, Field(ge=4, le=8192)] = 128


class TrainSection(Section):
    """Hyper-parameters. batch_tokens: most tokens in a batch, padding included. warmup: share of the steps."""

    epochs: Annotated[int, Field(ge=1, le=1000)] = 3
    learning_rate: Annotated[float, Field(ge=0, le=1)] = 5.0e-5
    batch_tokens: Annotated[int, Field(ge=16, le=10_000_000)] = 2048
    warmup: Share = 0.1
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 13
