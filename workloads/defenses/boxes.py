"""Boxes on images: where they lie, which pixels they cover, and how much of a training they covered in all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from workloads.defenses.base import Evidence

AREA_BINS = 20
PENDING_IMAGES = 1024


@dataclass(frozen=True)
class Boxes:
    """The same number of boxes for each of B images; a box without area covers nothing.

    A box that passes the bottom or the right edge continues at the opposite edge. The four tensors have shape
    (B, boxes), int64, and are in pixels.
    """

    top: Tensor
    """First row, in [0, H)."""
    left: Tensor
    """First column, in [0, W)."""
    height: Tensor
    """Number of rows, in [0, H]."""
    width: Tensor
    """Number of columns, in [0, W]."""

    def select(self, images: Tensor) -> Boxes:
        """The boxes of some of the images. Shape: images (N,) int64, positions in [0, B)."""
        return Boxes(self.top[images], self.left[images], self.height[images], self.width[images])

    def to(self, device: torch.device) -> Boxes:
        """The same boxes on a device."""
        return Boxes(*(field.to(device) for field in (self.top, self.left, self.height, self.width)))

    def masks(self, size: tuple[int, int]) -> Tensor:
        """The pixels under each box. Shape: size (H, W) to (B, boxes, H, W) bool."""
        lines, columns = (torch.arange(side, device=self.top.device) for side in size)
        in_rows = (lines - self.top[..., None]) % size[0] < self.height[..., None]
        in_columns = (columns - self.left[..., None]) % size[1] < self.width[..., None]
        return in_rows[..., :, None] & in_columns[..., None, :]

    def pieces(self, size: tuple[int, int]) -> Tensor:
        """The boxes cut at the edges of the image, as [top, bottom, left, right] with bottom and right excluded.

        Shape: size (H, W) to (B, boxes, pieces, 4); one piece per box if no box passes an edge, else four, of which
        some are empty. On a GPU it is always four, as the host would have to wait to see whether a box passes an edge.
        """
        bottom, right = self.top + self.height, self.left + self.width
        if self.top.device.type == "cpu" and not ((bottom > size[0]) | (right > size[1])).any():
            return torch.stack((self.top, bottom, self.left, right), dim=-1)[:, :, None]
        rows = _cut(self.top, bottom, size[0])[:, :, :, None].expand(-1, -1, -1, 2, -1)
        columns = _cut(self.left, right, size[1])[:, :, None].expand(-1, -1, 2, -1, -1)
        return torch.cat((rows, columns), dim=-1).flatten(2, 3)


def _cut(start: Tensor, end: Tensor, size: int) -> Tensor:
    """The part of an interval before the edge, and the part that continues at 0. Shape: (...) to (..., 2 parts, 2)."""
    before = torch.stack((start, end.clamp(max=size)), dim=-1)
    after = torch.stack((torch.zeros_like(end), (end - size).clamp(min=0)), dim=-1)
    return torch.stack((before, after), dim=-2)


def paint_over(images: Tensor, boxes: Boxes, colour: Tensor) -> Tensor:
    """Images with one colour under all boxes, in place on a CPU. Shape: images (B, C, H, W), kept; colour (C, 1, 1).

    A CPU goes from box to box, and other pixels are not even read; a GPU paints all at once.
    """
    if images.device.type != "cpu":
        return torch.where(boxes.masks((images.shape[2], images.shape[3])).any(1)[:, None], colour, images)
    for region, _, _ in regions(images, boxes):
        region.copy_(colour)
    return images


def regions(images: Tensor, boxes: Boxes) -> Iterator[tuple[Tensor, int, int]]:
    """Views of the pixels under each box, with the numbers of image and box; a box that passes an edge gives several.

    Shape: images (B, C, H, W) to views (C, h, w).
    """
    channels, height, width = images.shape[1:]
    step, *steps = images.stride()
    for image, boxes_of_image in enumerate(boxes.pieces((height, width)).tolist()):
        start = images.storage_offset() + image * step
        for box, pieces in enumerate(boxes_of_image):
            for top, bottom, left, right in pieces:
                if top < bottom and left < right:
                    # One strided view costs half of what three slices cost, and the calls are most of the time.
                    shape = (channels, bottom - top, right - left)
                    yield images.as_strided(shape, steps, start + top * steps[1] + left * steps[2]), image, box


class Coverage:
    """Counts how much of each image was covered and how often each pixel was; exact, even if boxes overlap or wrap."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._pending: list[Boxes] = []
        self._uncovered = torch.zeros((), dtype=torch.int64)
        self._histogram = torch.zeros(AREA_BINS, dtype=torch.int64)
        # Second differences of the map: a rectangle is then four numbers however large it is.
        self._corners = torch.zeros(size[0] + 1, size[1] + 1, dtype=torch.int64)

    def add(self, boxes: Boxes) -> None:
        """Count one batch; those on a GPU only when `count` is called, because the counts are the host's."""
        # Counting takes many small operations for any number of images: batch by batch it would cost half the erasing.
        self._pending.append(boxes)
        on_cpu = boxes.top.device.type == "cpu"
        if on_cpu and sum(len(batch.top) for batch in self._pending) >= PENDING_IMAGES:
            self.count()

    def count(self) -> None:
        """Count the batches that were added; this waits for a GPU."""
        if self._pending:
            fields = zip(*((batch.top, batch.left, batch.height, batch.width) for batch in self._pending), strict=True)
            self._pending = []
            self._count(Boxes(*torch.stack([torch.cat(field) for field in fields]).cpu()).pieces(self._size))

    def _count(self, pieces: Tensor) -> None:
        """Count images whose boxes are these. Shape: (B, boxes, pieces, 4), as from `Boxes.pieces`."""
        rows, columns, covered = _cells(pieces.flatten(1, 2))
        areas = (covered * rows.diff()[:, :, None] * columns.diff()[:, None]).sum((1, 2))
        self._uncovered += (areas == 0).sum()
        bins = (areas * AREA_BINS).div(self._size[0] * self._size[1], rounding_mode="floor").clamp(max=AREA_BINS - 1)
        self._histogram += bins.bincount(minlength=AREA_BINS)
        steps = F.pad(covered, (1, 1, 1, 1)).diff(dim=1).diff(dim=2)
        places = rows[:, :, None] * self._corners.shape[1] + columns[:, None]
        self._corners.view(-1).index_add_(0, places.flatten(), steps.flatten())

    def state(self) -> dict[str, Tensor]:
        """Copies of all counts."""
        self.count()
        counts = {"uncovered": self._uncovered, "histogram": self._histogram, "corners": self._corners}
        return {name: tensor.clone() for name, tensor in counts.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned; anything counted since is dropped."""
        self._pending = []
        self._uncovered, self._histogram, self._corners = (
            state[name].clone() for name in ("uncovered", "histogram", "corners")
        )

    def evidence(self) -> Evidence:
        """What was covered: number of images, mean, uncovered share and histogram; and a map (H, W).

        The histogram counts images by covered fraction, in 20 equal bins over [0, 1]; the map says for each pixel in
        which fraction of the images it was covered. Before the first image all are 0.
        """
        self.count()
        images = int(self._histogram.sum())
        erased = self._corners.cumsum(0).cumsum(1)[:-1, :-1].double() / max(images, 1)
        facts = {
            "images_seen": images,
            "mean_erased_area": erased.mean().item(),
            "unerased_share": self._uncovered.item() / max(images, 1),
            "area_histogram": self._histogram.tolist(),
        }
        return Evidence(facts, {"erased_map": erased.float()})


def _cells(rectangles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where to cut each image to follow all edges of its rectangles, and which of the cells between cuts are covered.

    Shape: (B, R, 4) to rows (B, 2R), columns (B, 2R), both sorted, and covered (B, 2R - 1, 2R - 1) int64, 0 or 1.
    """
    rows, in_rows = _cuts(rectangles[:, :, 0:2])
    columns, in_columns = _cuts(rectangles[:, :, 2:4])
    return rows, columns, (in_rows @ in_columns.mT > 0).long()


def _cuts(intervals: Tensor) -> tuple[Tensor, Tensor]:
    """Sorted ends (B, 2R) of intervals (B, R, 2), and which interval holds which gap between ends: (B, 2R - 1, R)."""
    ends = intervals.flatten(1).sort(1).values
    gaps = ends[:, :-1, None]
    return ends, ((intervals[:, None, :, 0] <= gaps) & (gaps < intervals[:, None, :, 1])).float()
