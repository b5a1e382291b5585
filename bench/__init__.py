"""Measurements: accuracy, speed, and the demo. Recordings come from ../shared/audio and installed packages."""
