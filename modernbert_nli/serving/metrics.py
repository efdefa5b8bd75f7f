"""What a service tells Prometheus: requests, seconds, batches, and how often the model abstains."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)
KNOWN = ("/judge", "/route", "/check", "/health", "/metrics", "/docs", "/openapi.json")


class Metrics:
    """Of one service, in a registry of its own: a process may hold several, as tests do."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        common: dict[str, Any] = {"namespace": "modernbert_nli", "registry": self.registry}
        self._requests = Counter("requests", "Requests answered.", ("path", "status"), **common)
        self._seconds = Histogram(
            "request_seconds", "Seconds of a request.", ("path",), buckets=SECONDS, **common
        )
        self._batches = Histogram("batch_items", "Items that ran together.", buckets=ITEMS, **common)
        self._decisions = Counter("decisions", "Decisions, and whether it abstained.", ("abstain",), **common)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """A request, by its path if it is one of ours: what others make up is no label."""
        path = path if path in KNOWN else "other"
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def ran(self, items: int) -> None:
        """A batch."""
        self._batches.observe(items)

    def decided(self, abstained: int, answered: int) -> None:
        """Decisions of a request."""
        self._decisions.labels("true").inc(abstained)
        self._decisions.labels("false").inc(answered)

    def text(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self.registry)
