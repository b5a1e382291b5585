"""Memory and utilization of the machine's NVIDIA GPUs, by NVML, where there is a driver."""

from __future__ import annotations

import logging
from typing import NamedTuple

import pynvml

log = logging.getLogger(__name__)


class Gpu(NamedTuple):
    device: str  # NVML's index
    memory_used: int  # bytes, by all processes
    memory_total: int  # bytes
    utilization: float  # share of the last sample period in which a kernel ran, from 0 to 1


class Gpus:
    """gpus = Gpus()
    gpus.read()  # [Gpu("0", 1_468_006_400, 85_520_809_984, 0.37)]; [] where there is no driver
    """

    def __init__(self) -> None:
        self._handles: list[object] | None = None  # None: not asked yet

    def read(self) -> list[Gpu]:
        """Safe in any thread, one at a time. The driver's library is loaded at the first call."""
        if self._handles is None:
            self._handles = _handles()
        found = []
        for index, handle in enumerate(self._handles):
            try:
                memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
                utilization = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
            except pynvml.NVMLError as error:  # a part of a GPU (MIG) has no utilization of its own
                log.debug("GPU %d cannot be read: %s", index, error)
                continue
            found.append(Gpu(str(index), memory.used, memory.total, utilization))
        return found


def _handles() -> list[object]:
    try:
        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:  # its library is not there, or no driver answers
        log.debug("no GPU is watched: %s", error)
        return []
