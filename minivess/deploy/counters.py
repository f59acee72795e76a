"""What the service counts, in Prometheus' format. No label has values that clients choose."""

from __future__ import annotations

from minivess import __version__

SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)


class Counters:
    """Requests, refusals, seconds and voxels of one process."""

    def __init__(self) -> None:
        import prometheus_client as prometheus

        registry = self._registry = prometheus.CollectorRegistry()
        self._text = prometheus.generate_latest
        self.media_type = prometheus.CONTENT_TYPE_LATEST
        prometheus.ProcessCollector(registry=registry)
        version = prometheus.Gauge(
            "minivess_info", "Version of MiniVess", ["version"], registry=registry
        )
        version.labels(__version__).set(1)
        self.requests = prometheus.Counter(
            "minivess_requests", "Requests for a segmentation", ["status"], registry=registry
        )
        self.problems = prometheus.Counter(
            "minivess_problems", "Requests refused or failed", ["code"], registry=registry
        )
        self.seconds = prometheus.Histogram(
            "minivess_segmentation_seconds",
            "Time of a segmentation, without waiting and transfer",
            buckets=SECONDS,
            registry=registry,
        )
        self.voxels = prometheus.Counter("minivess_voxels", "Voxels segmented", registry=registry)
        self.running = prometheus.Gauge(
            "minivess_running", "Segmentations now running", registry=registry
        )
        self.admitted = prometheus.Gauge(
            "minivess_admitted",
            "Requests uploading, waiting, running or sending",
            registry=registry,
        )

    def text(self) -> bytes:
        """All of them, as Prometheus reads it."""
        return self._text(self._registry)
