from __future__ import annotations

from diarserve.cli.command import Config


def doctor(config: Config = None) -> int:
    """Tell whether this machine has what the configuration needs.

    That is packages, the weights in them, files that the configuration names, and devices.
    """
    from diarserve.cli import doctor

    return doctor.report(config)
