"""Images of any size as squares of one size.

Letters beside arrays: N images, C channels, H height, W width.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def square(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The middle of an image (C, H, W), as large as a square can be, resized to (C, side, side) by Lanczos'
    filter, which averages where it shrinks."""
    from PIL import Image

    _, height, width = image.shape
    most = min(height, width)
    top, left = (height - most) // 2, (width - most) // 2
    middle = image[:, top : top + most, left : left + most]
    if most == side:
        return middle
    picture = Image.fromarray(middle[0] if len(middle) == 1 else middle.transpose(1, 2, 0))
    pixels = np.asarray(picture.resize((side, side), Image.Resampling.LANCZOS))
    return pixels.reshape(side, side, -1).transpose(2, 0, 1)
