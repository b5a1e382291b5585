from __future__ import annotations

from diarserve.cli.command import Config


def health(config: Config = None) -> int:
    """Ask the server that the same configuration starts on this machine whether it is alive: 0 or 1.

    For a container's health check. The port is the configured one: one that was given to `serve` alone is not known.
    """
    from diarserve.cli import health

    return health.check(config)
