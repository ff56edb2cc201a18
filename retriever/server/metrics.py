"""A server's counters, in Prometheus' text format."""

from __future__ import annotations

from typing import Any

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class ServerMetrics:
    """Counts of one server, in a registry of its own, so that several fit in one process. Safe in many threads."""

    def __init__(self) -> None:
        """All counts at zero. Raises ImportError where prometheus-client is missing."""
        try:
            import prometheus_client as prometheus
        except ImportError as error:
            raise ImportError("the retriever server needs prometheus-client: pip install prometheus-client") from error
        self._render = prometheus.generate_latest
        self.content_type = prometheus.CONTENT_TYPE_LATEST
        self._registry = registry = prometheus.CollectorRegistry()
        self._requests = prometheus.Counter(
            "retriever_requests", "HTTP requests by path and status", ["path", "status"], registry=registry
        )
        self._request_seconds = prometheus.Histogram(
            "retriever_request_seconds", "Time of a request in the app", ["path"], buckets=_SECONDS, registry=registry
        )
        queries = prometheus.Counter(
            "retriever_queries", "Queries by how they were answered", ["answered"], registry=registry
        )
        self._searched, self._shared, self._cached = (
            queries.labels(how) for how in ("by a search", "with an equal one", "from the cache")
        )
        self._batch_queries = prometheus.Histogram(
            "retriever_batch_queries", "Queries in one search of the index", buckets=_SIZES, registry=registry
        )
        self._batch_seconds = prometheus.Histogram(
            "retriever_batch_seconds", "Time of one search of the index", buckets=_SECONDS, registry=registry
        )
        self._waiting = prometheus.Gauge("retriever_waiting_queries", "Queries waiting for a search", registry=registry)
        self._ready = prometheus.Gauge("retriever_ready", "1 while searches are answered", registry=registry)
        self._per_path: dict[tuple[str, int], tuple[Any, Any]] = {}

    def asked(self, searched: int, shared: int, cached: int) -> None:
        """A caller's queries: to be searched, joined to an equal one under way, answered from the cache."""
        for counter, amount in ((self._searched, searched), (self._shared, shared), (self._cached, cached)):
            if amount:
                counter.inc(amount)

    def batch(self, queries: int, seconds: float) -> None:
        """A search of the index is over, well or not."""
        self._batch_queries.observe(queries)
        self._batch_seconds.observe(seconds)

    def waiting(self, queries: int) -> None:
        """So many queries wait now."""
        self._waiting.set(queries)

    def ready(self, is_ready: bool) -> None:
        """Whether searches are answered now."""
        self._ready.set(int(is_ready))

    def request(self, path: str, status: int, seconds: float) -> None:
        """An HTTP request is answered. `path` must come from a small set: each one is a time series."""
        found = self._per_path.get((path, status))
        if found is None:
            found = self._requests.labels(path, str(status)), self._request_seconds.labels(path)
            self._per_path[path, status] = found
        count, histogram = found
        count.inc()
        histogram.observe(seconds)

    def render(self) -> bytes:
        """All counts as GET /metrics answers them."""
        return self._render(self._registry)
