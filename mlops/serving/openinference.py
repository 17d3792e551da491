"""The Open Inference Protocol, version 2, as KServe, Triton and MLServer speak it: tensors of texts in, tensors out.

Inputs are BYTES tensors of shape [n]: "text", or "text_a" and "text_b" for pairs; for tokens a text, or a JSON list of strings.
Outputs: "prediction" has each answer as JSON, "truncated" whether an input was cut, and "label" and "score" where each
input has one.
"""

from __future__ import annotations

import itertools
from typing import Any

import orjson

from mlops.serving.bodies import checked, parse
from mlops.serving.options import Limits
from mlops.serving.queueing import Job
from mlops.serving.refused import Refused, bad_body, wrong
from mlops.serving.releases import Served
from mlops.tasks.base import Kind

PAIR = ("text_a", "text_b")


def asked(body: bytes, limits: Limits, path: str, kind: Kind) -> tuple[list[Any], dict[str, Any]]:
    """(what the model is asked, the request's id and wished outputs); Refused with 400 for what is no such request."""
    found = parse(body, limits, path)
    tensors = found.get("inputs")
    if not isinstance(tensors, list) or not all(isinstance(each, dict) for each in tensors):
        raise bad_body([wrong(["inputs"], "allowed is a list of tensors", "not_tensors", tensors)], path)
    wanted = PAIR if kind == "pair" else ("text",)
    named = {str(each.get("name"))[:100]: each for each in tensors}
    # One tensor of a model that takes one may have any name: clients of other servers have their own.
    if len(wanted) == 1 and len(tensors) == 1:
        named = {wanted[0]: tensors[0]}
    if sorted(named) != sorted(wanted) or len(tensors) != len(wanted):
        told = f"found the tensors {sorted(named)}, allowed are {list(wanted)}"
        raise bad_body([wrong(["inputs"], told, "wrong_tensors")], path)
    columns = [_strings(named[name], name, path) for name in wanted]
    if len({len(column) for column in columns}) != 1:
        raise bad_body([wrong(["inputs"], "the tensors have different lengths", "wrong_shape")], path)
    items: list[Any] = columns[0]
    if kind == "pair":
        items = [dict(zip(PAIR, pair, strict=True)) for pair in zip(*columns, strict=True)]
    elif kind == "tokens":
        items = [_tokens(text) for text in items]
    return checked(items, limits, path, ["inputs"]), _wishes(found, path)


def _strings(tensor: dict[str, Any], name: str, path: str) -> list[str]:
    data, shape = tensor.get("data"), tensor.get("shape")
    if tensor.get("datatype") != "BYTES":
        told = f"{name} has the datatype {str(tensor.get('datatype'))[:40]!r}, allowed is 'BYTES'"
        raise bad_body([wrong(["inputs"], told, "wrong_datatype")], path)
    if not isinstance(data, list):
        told = f"{name} has no list as its data; the binary extension is not spoken here"
        raise bad_body([wrong(["inputs"], told, "wrong_data")], path)
    # [n, 1] is how some clients write a column.
    data = list(itertools.chain.from_iterable(each if isinstance(each, list) else [each] for each in data))
    if shape not in ([len(data)], [len(data), 1]):
        told = f"{name} has the shape {str(shape)[:60]} and {len(data)} values; allowed is [{len(data)}]"
        raise bad_body([wrong(["inputs"], told, "wrong_shape")], path)
    if not all(isinstance(each, str) for each in data):
        raise bad_body([wrong(["inputs"], f"{name} holds more than strings", "wrong_data")], path)
    return data


def _tokens(text: str) -> Any:
    if not text.startswith("["):
        return text
    try:
        found = orjson.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, list) and all(isinstance(token, str) for token in found) else text


def _wishes(found: dict[str, Any], path: str) -> dict[str, Any]:
    own, outputs = found.get("id"), found.get("outputs", [])
    if not (own is None or (isinstance(own, str) and len(own) <= 200)):
        raise bad_body([wrong(["id"], "allowed is a string of at most 200 characters", "wrong_id", own)], path)
    if not isinstance(outputs, list) or not all(isinstance(each, dict) for each in outputs):
        raise bad_body([wrong(["outputs"], "allowed is a list of {name}", "wrong_outputs", outputs)], path)
    return {"id": own, "outputs": [each.get("name") for each in outputs]}


def answer(job: Job, wishes: dict[str, Any], request_id: str, path: str) -> dict[str, Any]:
    """The response; Refused where an output is wished that there is none of."""
    assert job.served is not None
    outputs = {each["name"]: each for each in _outputs(job)}
    wished = wishes["outputs"] or list(outputs)
    if unknown := [name for name in wished if not isinstance(name, str) or name not in outputs]:
        told = f"found the outputs {str(unknown)[:100]}, allowed are {sorted(outputs)}"
        raise bad_body([wrong(["outputs"], told, "wrong_outputs")], path)
    return {
        "model_name": job.served.name,
        "model_version": job.served.version,
        "id": wishes["id"] or request_id,
        "parameters": {"variant": job.served.variant, "request_id": request_id},
        "outputs": [outputs[name] for name in dict.fromkeys(wished)],
    }


def _outputs(job: Job) -> list[dict[str, Any]]:
    def tensor(name: str, datatype: str, data: list[Any]) -> dict[str, Any]:
        return {"name": name, "datatype": datatype, "shape": [len(data)], "data": data}

    found = [tensor("prediction", "BYTES", [orjson.dumps(each).decode() for each in job.answers])]
    for name, datatype in (("label", "BYTES"), ("score", "FP64")):
        if all(isinstance(each, dict) and name in each for each in job.answers):
            found.append(tensor(name, datatype, [each[name] for each in job.answers]))
    return [*found, tensor("truncated", "BOOL", job.truncated)]


def metadata(served: Served) -> dict[str, Any]:
    """The model's own description."""
    kind = served.runtime.task.kind
    inputs = [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in (PAIR if kind == "pair" else ("text",))]
    outputs = [{"name": "prediction", "datatype": "BYTES", "shape": [-1]}]
    outputs += [{"name": "truncated", "datatype": "BOOL", "shape": [-1]}]
    return {
        "name": served.name,
        "versions": [served.version],
        "platform": "onnxruntime_onnx",
        "inputs": inputs,
        "outputs": outputs,
        "parameters": {
            "task": served.runtime.task.key,
            "variant": served.variant,
            "labels": list(served.runtime.labels),
        },
    }


def named(served: Served | None, name: str, version: str | None, ours: str) -> Served:
    """The release, where it is the one that is asked for; Refused where it is not."""
    if name != ours:
        raise Refused(404, f"no model {name[:100]!r} is served here; there is {ours!r}")
    if served is None:
        raise Refused(503, f"{ours} has no release to answer with yet", headers={"Retry-After": "5"})
    if version is not None and version != served.version:
        raise Refused(404, f"{ours} serves version {served.version} now, not {version[:40]!r}")
    return served
