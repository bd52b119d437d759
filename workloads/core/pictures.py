"""Grids of images as PNG files."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor


def save_grid(path: Path, images: Tensor, *, columns: int, scale: int = 1) -> None:
    """Write images row by row, one white pixel apart, without stretching their contrast.

    Shape: (N, C, H, W) float in [0, 1]; values outside are clipped. `scale` enlarges pixels without smoothing.
    """
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    sheet = torch.ones(channels, rows * (height + 1) - 1, columns * (width + 1) - 1)
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + 1), (index % columns) * (width + 1)
        sheet[:, top : top + height, left : left + width] = image
    pixels = sheet.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(path)
