from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.callbacks import Callbacks, receiving

if TYPE_CHECKING:
    from tests.support.target import Holdings, Target

pytest.register_assert_rewrite("tests.support.target")


@pytest.fixture
def callbacks() -> Iterator[Callbacks]:
    """A receiver of callbacks that stays while servers come and go."""
    with receiving() as begun:
        yield begun


@pytest.fixture
def before(target: Target) -> Holdings:
    """What the module's server holds before the test's harm."""
    return target.holdings()
