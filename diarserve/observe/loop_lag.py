"""How late the event loop is: what blocks it delays every client."""

from __future__ import annotations

import asyncio

from diarserve.observe.metrics import Metrics

_PERIOD = 0.05  # seconds


async def measure_loop_lag(metrics: Metrics) -> None:
    """Sleep again and again, and observe by how many seconds each sleep was too long. Runs until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        expected = loop.time() + _PERIOD
        await asyncio.sleep(_PERIOD)
        metrics.loop_lag.observe(max(0.0, loop.time() - expected))
