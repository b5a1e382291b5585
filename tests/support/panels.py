"""A panel of the dashboards, what its queries are made of, and the panels that several dashboards have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

RATE = "[$__rate_interval]"


@dataclass(frozen=True)
class Panel:
    title: str
    unit: str  # Grafana's name of it
    queries: Mapping[str, str]  # by legend, in which {{label}} is the label's value
    says: str = ""
    needs: str = ""  # what a machine must have for the queries to answer


def rate(name: str, *by: str, where: str = "") -> str:
    return f"sum by ({', '.join(by)}) (rate({name}{where and '{' + where + '}'}{RATE}))"


def quantiles(name: str, *by: str, shares: Sequence[int] = (50, 95), where: str = "") -> dict[str, str]:
    """By legend, of a histogram; shares in percent."""
    buckets = rate(f"{name}_bucket", "le", *by, where=where)
    labels = "".join(f" {{{{{label}}}}}" for label in by)
    return {f"p{share}{labels}": f"histogram_quantile({share / 100:g}, {buckets})" for share in shares}


def mean(name: str, *by: str) -> str:
    return ratio(f"{name}_sum", f"{name}_count", *by)


def share_of(limit: str, taken: str) -> str:
    """Of the server that is nearest to its limit."""
    return f'max({taken} / on (job, instance) diarserve_limit{{name="{limit}"}})'


def recent(name: str, *by: str) -> str:
    return f"sum by ({', '.join(by)}) (increase({name}[10m]))"


def ratio(name: str, other: str, *by: str) -> str:
    return f"{rate(name, *by)} / ({rate(other, *by)} > 0)"


CPU_OF_WORKERS = Panel(
    "CPU of workers",
    "short",
    {"{{lane}} {{worker}}": rate("diarserve_worker_cpu_seconds_total", "lane", "worker")},
    "Cores.",
)
RESTARTS = Panel(
    "Restarts by reason",
    "short",
    {"{{lane}} {{reason}}": recent("diarserve_worker_restarts_total", "lane", "reason")},
    "In ten minutes.",
)
STEPS = Panel("Steps by kind", "ops", {"{{lane}} {{kind}}": rate("diarserve_steps_total", "lane", "kind")})
LOOP_LAG = Panel(
    "Event loop lag",
    "s",
    {"p99 {{instance}}": "diarserve:loop_lag_seconds:p99_rate5m"},
    "Every client waits as long.",
)
