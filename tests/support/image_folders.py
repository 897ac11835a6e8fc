"""Folders of images for tests."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from data_checks import NOWHERE
from PIL import Image

from bench.data import folder
from bench.data.datasets import Dataset, Images, load


def write(root: Path, name: str, mode: str = "L", size: tuple[int, int] = (6, 5), seed: int = 0) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = () if mode in ("L", "1") else (len(mode),)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *channels), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def of_folder(root: Path, **options: bool) -> Dataset:
    return load(f"folder:{root}", data_root=NOWHERE, offline=True, **options)


def folder_images(root: Path) -> Images:
    return Images(*folder.read_folder(str(root)))


def of_noise(size: tuple[int, int] = (6, 5), mode: str = "L", seed: int = 0) -> Image.Image:
    channels = () if mode == "L" else (len(mode),)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *channels), np.uint8)
    return Image.fromarray(pixels)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, chunks: bytes = b"") -> bytes:
    """A PNG whose pixels are all zero, and that packs them as tightly as it can."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunks + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
