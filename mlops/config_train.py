"""The model and train sections of a pipeline file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from mlops.config_base import Section, Share, SourceUri

Count = Annotated[int, Field(ge=1, strict=True)]


class ModelSection(Section):
    """base: URI of the pretrained model. max_length: tokens, the special ones included."""

    base: SourceUri
    max_length: Annotated[int, Field(ge=4, le=8192)] = 128


class LoraSection(Section):
    """Low-rank updates of frozen weights (Hu et al., "LoRA", 2021), added into the weights before the model is saved.

    rank: of the updates. alpha: an update counts alpha / rank times. dropout: on its input. targets: names of linear
    layers, or how these names end; none is all of the encoder's attention. The head is trained in full.
    """

    rank: Annotated[int, Field(ge=1, le=1024)] = 8
    alpha: Annotated[float, Field(gt=0)] = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Annotated[tuple[str, ...], Field(min_length=1)] | None = None


class LaunchSection(Section):
    """processes: that train together on this machine; auto is one per GPU, one without. strategy: ddp, each has the whole
    model; fsdp, each has a share of it (for a model that does not fit)."""

    processes: Literal["auto"] | Count = "auto"
    strategy: Literal["ddp", "fsdp"] = "ddp"


class WarmStartSection(Section):
    """replay: share of the rows that the champion was trained on which are trained on again, besides the new ones."""

    replay: Share = 0.3


class TrainSection(Section):
    """Hyper-parameters.

    epochs: passes over the training rows. learning_rate: the highest one. weight_decay: not on biases and LayerNorm. seed: of
    everything that is drawn. batch_tokens: most tokens in a batch, padding included. accumulate: batches per optimizer step,
    over all processes. warmup: share of the steps. schedule: what the learning rate does after warm-up: falls to 0 by a line
    or a half cosine, or stays. max_grad_norm: the gradient is clipped to it. class_weights: balanced counts a row by the
    inverse frequency of its label. label_smoothing: share of a target that is spread over all labels. patience: epochs
    without a better one after which training ends; none is never. layer_decay: factor on the learning rate per layer below
    the head. freeze_embeddings, freeze_layers: what keeps its pretrained weights, the latter the lowest encoder layers and
    the embeddings. precision: auto is bf16 and TF32 where a GPU has them, fp32 on a processor. checkpoint_seconds: between
    two checkpoints inside an epoch; 0 is after every step. warm_start: begins with the champion's weights; none is never.
    """

    epochs: Annotated[int, Field(ge=1, le=1000)] = 3
    learning_rate: Annotated[float, Field(ge=0, le=1)] = 5.0e-5
    batch_tokens: Annotated[int, Field(ge=16, le=10_000_000)] = 2048
    accumulate: Annotated[int, Field(ge=1, le=10_000)] = 1
    warmup: Share = 0.1
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 13
    class_weights: Literal["balanced"] | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    patience: Annotated[int, Field(ge=1)] | None = None
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    freeze_embeddings: Annotated[bool, Field(strict=True)] = False
    freeze_layers: Annotated[int, Field(ge=0)] = 0
    lora: LoraSection | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 300.0
    launch: LaunchSection = LaunchSection()
    warm_start: WarmStartSection | None = None

    @field_validator("class_weights", mode="before")
    @classmethod
    def _none_by_name(cls, value: object) -> object:
        """YAML's word for nothing is null; "none" is what people write."""
        return None if value == "none" else value
