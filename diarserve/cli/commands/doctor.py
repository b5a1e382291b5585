from __future__ import annotations

from diarserve.cli.command import Config


def doctor(config: Config = None) -> int:
    """Tell whether this machine has what the configuration needs.

    That is packages, the weights in them, files that the configuration names, devices and the GPU's driver, limits of
    the process, disk, clock, keys and ports. What is MISSING keeps the server from working (exit code 1), a WARNING
    does not.
    """
    from diarserve.cli import doctor

    return doctor.report(config)
