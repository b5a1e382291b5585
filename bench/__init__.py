"""Measurements: accuracy, speed, and the demo. Recordings come from ../shared/audio and installed packages."""

from workers.runtime.privacy import stop_telemetry

stop_telemetry()  # some measurements load models into their own process
