"""Found first on PYTHONPATH, the server imports it as it starts: time.time() is then off by as many seconds as are
written in the file that TEST_CLOCK names. time.monotonic() stays, as it does when a clock is set."""

import os
import time
from pathlib import Path

_real = time.time
_file = Path(os.environ.get("TEST_CLOCK", os.devnull))  # workers may not have the variable, and keep their time


def _shifted() -> float:
    return _real() + float(_file.read_text() or 0)


vars(time)["time"] = _shifted
