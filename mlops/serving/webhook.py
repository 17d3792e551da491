"""MLflow's webhooks as a reason to look at the alias now: their signature is what lets them in, they carry no key.

EVERGREEN_WEBHOOK_SECRET is the secret that the webhook was made with. The body is not read beyond its signature: what the
alias points to is asked of the registry.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import time
from collections.abc import Mapping

_OLDEST = 300.0  # seconds: a delivery that is sent again later by somebody else is none


def signed(headers: Mapping[str, str], body: bytes) -> bool:
    """Whether MLflow sent this, within the last five minutes; never where no secret is set."""
    secret = os.environ.get("EVERGREEN_WEBHOOK_SECRET", "")
    when, delivery = headers.get("x-mlflow-timestamp", ""), headers.get("x-mlflow-delivery-id", "")
    if not secret or not when.isascii() or not when.isdigit() or abs(time.time() - int(when[:12])) > _OLDEST:
        return False
    content = f"{delivery}.{when}.".encode("utf-8", "surrogateescape") + body
    expected = base64.b64encode(hmac.new(secret.encode(), content, hashlib.sha256).digest()).decode()
    return hmac.compare_digest(f"v1,{expected}".encode(), headers.get("x-mlflow-signature", "").encode())
