"""Pictures to H.264 files: for the drawn data set, and for whoever wants to try a decoder."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

_CRF = 23


def write_h264(
    path: Path, pictures: Iterable[NDArray[np.uint8]], *, width: int, height: int, fps: int
) -> None:
    """Write RGB pictures (height, width, 3) as H.264 in MP4, whatever the ending of ``path``.

    One thread, because the bytes must not depend on the machine's load.
    """
    with av.open(path, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, fps)
        stream.codec_context.thread_count = 1
        stream.options = {"crf": str(_CRF), "preset": "superfast", "g": str(2 * fps)}
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
