"""Long computations leave the event loop, short ones stay: a thread costs 0.1 ms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


async def offload(
    large: bool, function: Callable[Arguments, Result], *arguments: Arguments.args, **options: Arguments.kwargs
) -> Result:
    """The function's result, computed in a thread where its input is `large`.

    body = await offload(document.words > 1000, encode, document)

    A single call into C that keeps the interpreter's lock blocks the loop from any thread: such a function has to do
    its work in parts.
    """
    if large:
        return await asyncio.to_thread(function, *arguments, **options)
    return function(*arguments, **options)
