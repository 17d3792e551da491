"""What the OpenAPI document says of bodies and answers, with examples that can be sent as they are."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mlops.serving.options import Limits
from mlops.tasks.base import Kind

_LIMITS = Limits()
Text = Annotated[str, Field(max_length=_LIMITS.characters)]


class Pair(BaseModel):
    """Two texts that are judged together."""

    model_config = ConfigDict(extra="forbid")
    text_a: Text
    text_b: Text


class Request(BaseModel):
    """Texts, pairs of texts, or lists of tokens, as the model's task is asked."""

    model_config = ConfigDict(extra="forbid")
    inputs: Annotated[list[Text | Pair | list[Text]], Field(min_length=1, max_length=_LIMITS.items)]


class Model(BaseModel):
    """The release that answered."""

    name: str
    version: str
    variant: str


class Response(BaseModel):
    """One prediction per input, in order. truncated: whether the model read only the beginning of an input.

    text-classification and pairs: {label, score, scores}; with several labels {labels, scores}; ordinal also {position};
    token-classification: a list of {start, end, type, text, score}; text-ranking: {score}.
    """

    model: Model
    request_id: str
    predictions: list[dict[str, Any] | list[dict[str, Any]]]
    truncated: list[bool]


class Feedback(BaseModel):
    """What would have been right for one input of an earlier request. item: its place among that request's inputs."""

    model_config = ConfigDict(extra="forbid")
    request_id: Annotated[str, Field(min_length=1, max_length=64)]
    label: Annotated[str, Field(max_length=10_000)]
    item: Annotated[int, Field(ge=0, lt=_LIMITS.items)] = 0


class Accepted(BaseModel):
    """It will be done; nobody waits for it."""

    status: str


class Tensor(BaseModel):
    """BYTES are strings; shape is [n]."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class Wish(BaseModel):
    """An output that is asked for."""

    name: str


class InferRequest(BaseModel):
    """A request of the Open Inference Protocol."""

    id: Annotated[str | None, Field(max_length=200)] = None
    inputs: list[Tensor]
    outputs: list[Wish] | None = None


class InferResponse(BaseModel):
    """An answer of the Open Inference Protocol."""

    model_name: str
    model_version: str
    id: str
    parameters: dict[str, Any]
    outputs: list[Tensor]


class RolloutCheck(BaseModel):
    """One limit of a trial: pass or fail is shown, inconclusive is not yet."""

    name: str
    observed: float | None
    allowed: float
    outcome: Literal["pass", "fail", "inconclusive"]


class RolloutTrial(BaseModel):
    """A candidate beside the champion. pairs: requests that both have answered."""

    champion: str
    candidate: str
    outcome: Literal["running", "passed", "failed", "undecided"]
    pairs: int
    hours: float
    checks: list[RolloutCheck]


class RolloutEnd(BaseModel):
    """What came of a trial."""

    champion: str
    candidate: str
    what: str


class Rollout(BaseModel):
    """How a candidate is tried by this server. counts: requests that it answered, failed and was compared on."""

    mode: Literal["off", "canary", "shadow"]
    trial: RolloutTrial | None = None
    counts: dict[str, int] = {}
    problem: str = ""
    settled: list[RolloutEnd] = []


class Detail(BaseModel):
    """Why there is no answer: a reason, or one fault each."""

    detail: str | list[dict[str, Any]]


class Error(BaseModel):
    """Why there is no answer."""

    error: str


_ASKED: dict[Kind, dict[str, Any]] = {
    "text": {"texts": ["Shares rose after the merger was announced.", "Late header wins the cup."]},
    "pair": {"pairs": [{"text_a": "How old is the earth?", "text_b": "It formed 4.5 billion years ago."}]},
    "tokens": {"texts": ["Ada Lovelace was born in London."], "tokens": [["Ada", "Lovelace", "was", "born"]]},
}


def examples(kind: Kind | None) -> dict[str, Any]:
    """Bodies of /v1/predict that a model of this kind answers; of every kind where none is loaded yet."""
    kinds: list[Kind] = [kind] if kind else list(_ASKED)
    return {f"{each}: {name}": {"value": {"inputs": inputs}} for each in kinds for name, inputs in _ASKED[each].items()}


FEEDBACK = {"a label": {"value": {"request_id": "0af7651916cd43dd8448eb211c80319c", "label": "business"}}}


def infer_examples(kind: Kind | None) -> dict[str, Any]:
    """The same for the Open Inference Protocol."""
    found: dict[str, Any] = {}
    kinds: list[Kind] = [kind] if kind else list(_ASKED)
    for each in kinds:
        inputs = next(iter(_ASKED[each].values()))
        columns = {"text": inputs} if each != "pair" else {key: [pair[key] for pair in inputs] for key in inputs[0]}
        tensors = [
            {"name": name, "shape": [len(data)], "datatype": "BYTES", "data": data} for name, data in columns.items()
        ]
        found[each] = {"value": {"id": "1", "inputs": tensors}}
    return found
