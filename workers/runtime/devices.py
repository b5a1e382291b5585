"""Helpers for the device that an engine runs on. Torch is imported only where a GPU is used."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import local
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# Less fragmentation for batches of ever-changing sizes:
# https://pytorch.org/docs/stable/notes/cuda.html#optimizing-memory-usage-with-pytorch-cuda-alloc-conf
ALLOCATOR = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
# numpy's threads spin while they wait for work, which took a tenth of the CPU time that the models got.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}

_thread = local()


def prepare(options: Mapping[str, Any]) -> None:
    """To be called before numpy and torch are imported, with the engine's options."""
    for name, value in (ONE_THREAD | (ALLOCATOR if on_gpu(options) else {})).items():
        os.environ.setdefault(name, value)


def on_gpu(options: Mapping[str, Any]) -> bool:
    return str(options.get("device", "cpu")).startswith("cuda")


def out_of_memory(error: BaseException) -> bool:
    """Whether a step failed because its device's memory is full. torch has a type for it, CTranslate2 a message."""
    return type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and "out of memory" in str(error).lower()
    )


def broken(error: BaseException) -> bool:
    """Whether the process's CUDA context cannot be trusted any more, as after an illegal access: every later call
    fails as well, in this process and in no other."""
    text = str(error)
    return (
        isinstance(error, RuntimeError)
        and not out_of_memory(error)
        and any(sign in text for sign in ("CUDA error", "CUDA failed", "cuDNN error", "CUBLAS_STATUS", "cuBLAS failed"))
    )


def upload(tensor: Tensor, device: Any) -> Tensor:
    """A copy on the device. To a GPU from pinned memory, so that the copy runs beside what the GPU computes."""
    if str(device).startswith("cuda"):
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@contextmanager
def stream(device: Any) -> Iterator[None]:
    """A CUDA stream of this thread's own, so that steps in several threads do not wait for each other."""
    if not str(device).startswith("cuda"):
        yield
        return
    import torch

    if not hasattr(_thread, "stream"):
        _thread.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    with torch.cuda.stream(_thread.stream):
        yield
        _thread.stream.synchronize()


def release() -> None:
    """Free the GPU memory that torch's allocator keeps for later."""
    if torch := _torch():
        torch.cuda.empty_cache()


def trim() -> None:
    """Give the memory that malloc keeps for later back to the operating system."""
    if malloc_trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc's own
        malloc_trim(0)


def memory() -> dict[str, int]:
    """Bytes of GPU memory: what this process's torch uses and keeps, its peak, and the device's free and total.
    Empty without a GPU. CTranslate2's own memory shows in what is free only."""
    torch = _torch()
    if torch is None:
        return {}
    free, total = torch.cuda.mem_get_info()
    return {
        "allocated": torch.cuda.memory_allocated(),
        "reserved": torch.cuda.memory_reserved(),
        "peak": torch.cuda.max_memory_allocated(),
        "free": free,
        "total": total,
    }


def _torch() -> Any:
    """Torch, if this process uses it on a GPU. Another thread may be importing it: then not all of it is there."""
    initialized = getattr(sys.modules.get("torch.cuda"), "is_initialized", None)
    return sys.modules["torch"] if initialized is not None and initialized() else None
