"""Slow, plain references in float64."""

import numpy as np

from pipeline.rows.cluster_sums import ClusterSums


def squared_distances(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """(n, k) float64, by differences."""
    wide = rows.astype(np.float64)
    left, found = np.empty_like(wide), np.empty((len(rows), len(centroids)))
    for j, centroid in enumerate(centroids.astype(np.float64)):
        np.square(np.subtract(wide, centroid, out=left), out=left)  # nothing is allocated anew
        found[:, j] = left.sum(1)
    return found


def sums_of(rows: np.ndarray, labels: np.ndarray, centroids: np.ndarray) -> ClusterSums:
    """Sums by a loop over the rows."""
    sums = ClusterSums.zeros(centroids, rows.dtype)
    origin = np.broadcast_to(sums.origin, sums.sums.shape).astype(sums.sums.dtype)
    for row, label in zip(rows.astype(origin.dtype) - origin[labels], labels, strict=True):
        sums.sums[label] += row
        sums.counts[label] += 1
        sums.squares[label] += row @ row
    return sums


def equal(one: ClusterSums, other: ClusterSums) -> bool:
    """Whether two sums are the same bits."""
    return all(
        a.dtype == b.dtype and np.array_equal(a, b)
        for a, b in zip(vars(one).values(), vars(other).values(), strict=True)
    )


def reflected(images: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """Images as patches of that size with a reflected border are cut from; numpy's own."""
    margins = [(size // 2, size - 1 - size // 2) for size in (rows, cols)]
    return np.pad(images, [(0, 0), *margins, *[(0, 0)] * (images.ndim - 3)], "reflect")


def cut_by_loops(images: np.ndarray, rows: int, cols: int, stride: int, level: float) -> np.ndarray:
    """Patches whose sum is above `level`, image by image, in reading order; the study's loops."""
    kept = []
    for image in images:
        for top in range(0, image.shape[0] - rows + 1, stride):
            for left in range(0, image.shape[1] - cols + 1, stride):
                patch = image[top : top + rows, left : left + cols]
                if patch.sum(dtype=np.float64) > level:
                    kept.append(patch.reshape(-1))
    size = rows * cols * int(np.prod(images.shape[3:]))
    return np.array(kept, images.dtype).reshape(-1, size)


def rebuilt_by_loops(
    image: np.ndarray, centroids: np.ndarray, stride: int, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """The image from nearest centroids and how many lie on each pixel, window by window.

    centroids: (k, rows, cols[, channels]). level: that the sum of a kept patch exceeds.
    """
    rows, cols = centroids.shape[1:3]
    wide = centroids.astype(np.float64)
    total, cover = np.zeros(image.shape), np.zeros(image.shape[:2], np.int64)
    for top in range(0, image.shape[0] - rows + 1, stride):
        for left in range(0, image.shape[1] - cols + 1, stride):
            place = (slice(top, top + rows), slice(left, left + cols))
            patch = image[place].astype(np.float64)
            if patch.sum() > level:
                distances = [((patch - centroid) ** 2).sum() for centroid in wide]
                total[place] += wide[int(np.argmin(distances))]
                cover[place] += 1
    for pixel in np.argwhere(cover > 0):
        total[tuple(pixel)] /= cover[tuple(pixel)]
    return total, cover
