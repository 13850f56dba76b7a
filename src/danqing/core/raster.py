"""Pixels in memory. Knows neither files nor formats; Pillow and torch meet it at the edges of their own rooms."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

_HEAD = struct.Struct(">4sIIB")
_MAGIC = b"DQR1"
CHANNELS = (1, 3, 4)


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in pixels."""

    width: int
    height: int

    @property
    def area(self) -> int:
        """Pixels in all."""
        return self.width * self.height

    @property
    def ratio(self) -> float:
        """Width over height."""
        return self.width / self.height

    def __str__(self) -> str:
        return f"{self.width}×{self.height}"


@dataclass(frozen=True, slots=True)
class Raster:
    """An sRGB picture of 8 bits a channel: rows top down, channels interleaved, 3 (RGB) or 4 (RGBA) of them; or a mask
    of one."""

    size: Size
    channels: int
    data: bytes

    def __post_init__(self) -> None:
        if self.channels not in CHANNELS:
            raise ValueError(f"a raster has 1, 3 or 4 channels, not {self.channels}")
        if len(self.data) != self.size.area * self.channels:
            raise ValueError(
                f"{len(self.data)} bytes do not make a {self.size} picture of {self.channels} channels"
            )

    def pack(self) -> bytes:
        """The raster as bytes for a socket or a store; `unpack` reads them back."""
        return _HEAD.pack(_MAGIC, self.size.width, self.size.height, self.channels) + self.data

    @staticmethod
    def unpack(packed: bytes) -> Raster:
        """The inverse of `pack`; raises ValueError on anything else."""
        size, channels = Raster.peek(packed)
        return Raster(size, channels, packed[_HEAD.size :])

    @staticmethod
    def peek(packed: bytes) -> tuple[Size, int]:
        """Size and channels of a packed raster, without copying its pixels; raises ValueError as `unpack` does."""
        if len(packed) < _HEAD.size:
            raise ValueError("too short for a packed raster")
        magic, width, height, channels = _HEAD.unpack_from(packed)
        if (
            magic != _MAGIC
            or channels not in CHANNELS
            or len(packed) != _HEAD.size + width * height * channels
        ):
            raise ValueError("not a packed raster")
        return Size(width, height), channels

    def digest(self) -> str:
        """SHA-256 of the packed form, in hex: the name of this content."""
        return hashlib.sha256(self.pack()).hexdigest()
