"""When a server of several asks for queued tasks: diarserve/tasks/wakeups.py."""

from __future__ import annotations

from functools import partial

import pytest

from diarserve.tasks.store.protocol import Changed
from diarserve.tasks.wakeups import Wakeups
from tests.support.waiting import until

QUEUED, CLAIMED = Changed("a", queued=True), Changed("a", claimed=True)


async def _woken(*changes: Changed) -> bool:
    woken: list[None] = []
    waiting = Wakeups(lambda: woken.append(None), lambda: 0)
    for change in changes:
        waiting.hear(change)
    await until(lambda: waiting._timer is None)
    return bool(woken)


@pytest.mark.parametrize(
    "changes",
    [
        (QUEUED,),
        (Changed(None, queued=True),),  # the connection is new: what was queued before is not known
        (CLAIMED, QUEUED),  # given back
        (QUEUED, CLAIMED, QUEUED),
        (QUEUED, Changed("b", queued=True), CLAIMED),
        (Changed(None, queued=True), CLAIMED),
    ],
)
async def test_a_server_asks_for_what_is_queued(changes: tuple[Changed, ...]) -> None:
    assert await _woken(*changes)


@pytest.mark.parametrize("end", [CLAIMED, Changed("a", ended=True)])
async def test_a_server_does_not_ask_for_what_another_has_claimed_or_was_cancelled(end: Changed) -> None:
    assert not await _woken(QUEUED, end)


async def test_the_server_with_the_least_to_do_asks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda least, most: most)
    asked: list[int] = []
    servers = [Wakeups(partial(asked.append, running), partial(int, running)) for running in (3, 0, 1)]
    for server in servers:
        server.hear(QUEUED)
    await until(lambda: len(asked) == 3)
    assert asked == [0, 1, 3]
