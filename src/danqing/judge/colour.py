"""Colours as eyes tell them apart: sRGB to CIELAB, and distances there. Knows no scene."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float32]

# sRGB primaries and the D65 white of IEC 61966-2-1.
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])
_TO_WHITE = (_TO_XYZ.T / _WHITE).astype(np.float32)
_LINEAR = np.array(
    [unit / 12.92 if unit <= 0.04045 else ((unit + 0.055) / 1.055) ** 2.4 for unit in np.arange(256) / 255],
    dtype=np.float32,
)


def lab(pixels: NDArray[np.uint8]) -> Reals:
    """sRGB 0..255 in the last axis to CIELAB."""
    xyz = _LINEAR[pixels] @ _TO_WHITE
    bent = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + np.float32(16 / 116))
    light = 116 * bent[..., 1] - 16
    return np.stack(
        [light, 500 * (bent[..., 0] - bent[..., 1]), 200 * (bent[..., 1] - bent[..., 2])], axis=-1
    ).astype(np.float32)


def apart(a: Reals, b: Reals) -> Reals:
    """Distance in CIELAB."""
    return np.asarray(np.linalg.norm(a - b, axis=-1), dtype=np.float32)
