"""The compress section of a pipeline file: what the file that ships may cost, and what it may lose."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator

from mlops.config_base import Section, Share

Form = Literal[
    "auto",
    "fp32",
    "fp16",
    "int8",
    "int8-static",
    "w8",
    "w4",
    "pruned",
    "pruned+int8",
    "pruned+int8-static",
    "pruned+w8",
    "pruned+w4",
    "student",
    "student+int8",
    "student+int8-static",
    "student+w8",
    "student+w4",
]
FORMS: tuple[str, ...] = get_args(Form)[1:]
Positive = Annotated[float, Field(gt=0)]


class TargetSection(Section):
    """What the search tries to reach; none is no wish. It is no limit: those are in verify.

    p95_ms: one row at a time, as rows come. throughput: rows a second in batches. size_mb: of the file. memory_mb: resident,
    of a process with the model loaded and asked.
    """

    p95_ms: Positive | None = None
    throughput: Positive | None = None
    size_mb: Positive | None = None
    memory_mb: Positive | None = None


class CompressSection(Section):
    """variants: a list is made and judged as it is, and the smallest that passes ships; auto searches: from the cheapest form
    that may do upwards, measured and judged on the validation rows, until one keeps the quality. max_drop: of the gate's
    metric, against the model before compression. max_flip_rate: share of rows (of tokens, for tags) with another answer than
    that model's, in the search. students: auto may prune and distil, which trains. epochs: of a student's training. minutes:
    after which a search tries nothing new and stops a training.
    """

    variants: Annotated[tuple[Form, ...], Field(min_length=1)] = ("int8", "fp32")
    target: TargetSection = TargetSection()
    max_drop: Share = 0.01
    max_flip_rate: Share = 0.05
    students: bool = False
    epochs: Annotated[int, Field(ge=1)] = 2
    minutes: Positive = 20.0

    @field_validator("variants", mode="before")
    @classmethod
    def _auto(cls, value: Any) -> Any:
        if isinstance(value, str) and value != "auto":
            raise ValueError(f"found {value!r}; allowed: auto, or a list of {', '.join(FORMS)}")
        return [value] if value == "auto" else value

    @field_validator("variants")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"found {', '.join(value)}; allowed: each once")
        if "auto" in value and len(value) > 1:
            raise ValueError(f"found {', '.join(value)}; allowed: auto alone, or a list of forms")
        return value

    @property
    def searches(self) -> bool:
        """Whether a search chooses the form."""
        return self.variants == ("auto",)
