"""What the metrics say, for the server's own use: /stats shows the same figures as /metrics."""

from __future__ import annotations

from prometheus_client import Histogram


def mean(histogram: Histogram, **labels: str) -> float:
    """Of all that was observed with these labels; 0 without any."""
    total = count = 0.0
    for family in histogram.collect():
        for sample in family.samples:
            if labels.items() <= sample.labels.items():
                total += sample.value if sample.name.endswith("_sum") else 0.0
                count += sample.value if sample.name.endswith("_count") else 0.0
    return total / count if count else 0.0
