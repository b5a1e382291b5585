"""How the networks cut time: windows and their frames of activity, pieces and their mel frames. Samples are 16 kHz."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Windows = npt.NDArray[np.float16]  # probabilities of activity: (windows, frames, local speakers)

WINDOW = 80_000  # of the segmentation network
LONG_WINDOW = 160_000  # of segmentation-3.0
FRAMES = 293  # per window
FRAME_STEP = 270  # from one frame to the next
FRAME_CENTER = 495  # from a window's start to the middle of its first frame
LOCAL_SPEAKERS = 3
LOUDNESS = 0.01  # root mean square of a recording as the segmentation network gets it: that of its training meetings
SILENCE = 1e-5  # root mean square: quieter recordings are amplified as if they were as loud as this

TAPS, STRIDE, POOL = 251, 10, 3  # of the segmentation network's first layer, in samples and in filter outputs
BANDS = 80  # of its output

MEL_HOP = 160  # 10 ms
MEL_WINDOW = 400
MELS = 80
EMBEDDING_FRAMES = 160  # 1.6 s of mel frames
DIMENSION = 192  # of an embedding


def lead(window: int) -> int:
    """Frames of a network's window, which is `window` samples long, before its middle WINDOW."""
    return (window - WINDOW) // 2 // FRAME_STEP


def envelope_length(window: int) -> int:
    """Outputs of the first layer for a window."""
    return ((window - TAPS) // STRIDE + 1) // POOL
