"""What the sections of a pipeline file have in common: frozen, unknown keys refused, nothing quietly converted."""

from __future__ import annotations

import re
from types import NoneType
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
SourceUri = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """A frozen part of a pipeline file; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_written(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses what pydantic would quietly turn into a number: true, "3", and 64.5 or 64.0 for a whole number."""
        kinds = _kinds(cls.model_fields[info.field_name or ""].annotation)
        if isinstance(value, bool) and bool not in kinds:
            raise ValueError("true and false are not allowed here")
        if isinstance(value, str) and str not in kinds and kinds & {int, float}:
            # YAML 1.1 reads 1e-4 as text: a float is meant.
            if float in kinds and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
                return float(value)
            raise ValueError("should be a number, without quotes")
        if isinstance(value, float) and int in kinds and float not in kinds:
            raise ValueError("should be a whole number, such as 64")
        return value

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, values: Any) -> Any:
        """ "columns:" with nothing below it is the default, except where none means something."""
        if not isinstance(values, dict):
            return values
        fields = {field.alias or name: field for name, field in cls.model_fields.items()}
        may = {name for name, field in fields.items() if NoneType in _kinds(field.annotation) or field.is_required()}
        return {key: value for key, value in values.items() if value is not None or key not in fields or key in may}


def _kinds(annotation: Any) -> set[Any]:
    """The plain types of an annotation such as Annotated[float, …] | None."""
    parts = get_args(annotation)
    if not parts:
        return {annotation}
    # Of Annotated the first is the type; of a literal or a tuple what is inside does not matter here.
    inner = parts[:1] if hasattr(annotation, "__metadata__") else parts
    return {kind for part in inner for kind in (_kinds(part) if not isinstance(part, str) else {str})}
