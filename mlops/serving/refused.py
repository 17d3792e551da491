"""Every refusal of the server: a status, a reason, and how each protocol writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from mlops.errors import UserError
from mlops.serving.queueing import Expired, Full, Unready

Fault = dict[str, Any]


class Refused(Exception):
    """An answer that is no prediction. faults: one per thing that is wrong with a body, else none and `reason` says it."""

    def __init__(
        self, status: int, reason: str, faults: Sequence[Fault] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(reason)
        self.status, self.reason, self.faults, self.headers = status, reason, list(faults), dict(headers or {})

    def body(self, path: str) -> bytes:
        """As the protocol of this path has it: {"detail": …}, and {"error": "…"} below /v2."""
        if path.startswith("/v2"):
            told = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in self.faults)
            return orjson.dumps({"error": told or self.reason})
        return orjson.dumps({"detail": self.faults or self.reason})


def wrong(place: Sequence[str | int], message: str, kind: str, found: Any = None) -> Fault:
    """One fault of a body. found: shown cut, it may be huge."""
    fault: Fault = {"loc": ["body", *place], "msg": message, "type": kind}
    return fault if found is None else fault | {"found": repr(found)[:100]}


def bad_body(faults: Sequence[Fault], path: str) -> Refused:
    """422 with a reason per fault; 400 where the protocol has no other for it."""
    return Refused(400 if path.startswith("/v2") else 422, faults[0]["msg"], faults)


def refusal(error: Exception, path: str) -> Refused:
    """What an error of the service is to the one who asked."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, Full):
        return Refused(429, str(error), headers={"Retry-After": str(error.seconds)})
    if isinstance(error, Expired):
        return Refused(504, str(error))
    if isinstance(error, Unready):
        return Refused(503, str(error), headers={"Retry-After": "5"})
    if isinstance(error, UserError):
        return bad_body([wrong(["inputs"], str(error), "wrong_input")], path)
    return Refused(500, "a fault of the server's own; its log has more under this request id")
