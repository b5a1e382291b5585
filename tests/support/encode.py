"""Recordings in every container and codec."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from workers.media.samples import Samples
from workers.messages import SAMPLE_RATE as RATE


def encode(path: Path, form: str, codec: str, samples: Samples, rate: int = RATE, video: str = "") -> Path:
    """A file of mono samples at 16 kHz, in a container and a codec by FFmpeg's names, with a picture if `video`."""
    with av.open(str(path), "w", format=form) as container:
        picture = container.add_stream(video, rate=5) if video else None
        sound = container.add_stream(codec, rate=rate)
        assert isinstance(sound, av.audio.AudioStream)
        sound.layout = "mono"
        resampler = av.AudioResampler(sound.format, "mono", rate, sound.codec_context.frame_size or 1024)
        if picture is not None:
            assert isinstance(picture, av.video.VideoStream)
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
            for number in range(5 * samples.size // RATE):
                image = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number, np.uint8), format="rgb24")
                image.pts, image.time_base = number, Fraction(1, 5)
                container.mux(picture.encode(image))
            container.mux(picture.encode(None))
        frame = av.AudioFrame.from_ndarray(samples[None, :], format="flt", layout="mono")
        frame.sample_rate = RATE
        for part in (*resampler.resample(frame), *resampler.resample(None), None):
            container.mux(sound.encode(part))
    return path
