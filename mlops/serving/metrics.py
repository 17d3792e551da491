"""What Prometheus reads at /metrics: requests, latency, what waits, what was computed, which release serves."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from mlops.serving.guard import Call
from mlops.serving.predictions import PredictionLog
from mlops.serving.service import Service

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32)


class Metrics:
    """The numbers of one server; a registry of its own, so that two servers of one process do not share them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = self._counter(
            "requests", "Requests by route and status (499: the client hung up)", "route", "status"
        )
        self.seconds = Histogram(
            "evergreen_request_seconds",
            "From the first byte to the answer",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.texts = self._counter("texts", "Texts answered by version", "version")
        self.tokens = self._counter("tokens", "Tokens of the texts answered, by version", "version")
        self.rounds = self._gauge("rounds", "Calls of a model since the server began")
        self.swaps = self._gauge("swaps", "Releases taken and refused since the server began", "outcome")
        self.waiting = self._gauge("waiting_texts", "Texts that wait for an answer")
        self.ready = self._gauge("ready", "1 where there is a release to answer with and the server is not stopping")
        self.serving = self._gauge("release", "1 for the release that serves", "version", "variant")

    def _counter(self, name: str, told: str, *labels: str) -> Counter:
        return Counter(f"evergreen_{name}", told, labels, registry=self.registry)

    def _gauge(self, name: str, told: str, *labels: str) -> Gauge:
        return Gauge(f"evergreen_{name}", told, labels, registry=self.registry)

    def done(self, call: Call) -> None:
        """Counts a request. Its route is one of the table's: what a stranger makes up is no label."""
        route = call.route or "unlisted"
        self.requests.labels(route, str(call.status)).inc()
        self.seconds.labels(route).observe(call.seconds)
        if call.status == 200 and "tokens" in call.facts:
            version = str(call.facts["version"])
            self.texts.labels(version).inc(call.facts["items"])
            self.tokens.labels(version).inc(call.facts["tokens"])

    def follow(self, predictions: PredictionLog) -> None:
        """Shows what becomes of the prediction log's rows."""
        rows = self._gauge(
            "prediction_log", "Rows written and dropped, parts that failed, since the server began", "outcome"
        )
        rows.labels("written").set_function(lambda: predictions.written)
        rows.labels("dropped").set_function(lambda: predictions.dropped)
        rows.labels("failed").set_function(lambda: predictions.failed)

    def rollout(self, counts: dict[str, int], service: Service) -> None:
        """Shows what a candidate was asked."""
        requests = self._gauge(
            "rollout_requests",
            "Requests that a candidate answered, failed, was compared on, and could not be",
            "outcome",
        )
        for outcome in ("answered", "failed", "pairs"):
            requests.labels(outcome).set_function(functools.partial(counts.__getitem__, outcome))
        requests.labels("skipped").set_function(lambda: service.skipped)

    def written(self, served: Iterable[Any]) -> bytes:
        """The page. served: the releases that answer now."""
        self.serving.clear()
        for each in served:
            self.serving.labels(each.version, each.variant).set(1)
        return generate_latest(self.registry)
