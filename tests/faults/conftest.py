from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.callbacks import Callbacks, receiving

pytest.register_assert_rewrite("tests.support.target")


@pytest.fixture
def callbacks() -> Iterator[Callbacks]:
    """A receiver of callbacks that stays while servers come and go."""
    with receiving() as begun:
        yield begun
