"""A dictionary as a module of torch: its distances to all patches of images are one convolution.

In a file it is its state_dict and the card as a text, which every torch opens with
weights_only=True. A program of torch.export would need no class of ours, but holds for the versions
of torch that its schema knows, and fixes the size of the images.
"""

import io
import json
import pickle
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
import xarray
from torch.nn import functional

from storage import InputError, IntegrityError, PatchSpec
from storage.plain_attributes import parsed

# what torch and its pickle raise for other files, and Python for other content
_NOT_OURS = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, LookupError),
    *(AttributeError, TypeError, ValueError),
)

Output = Literal["codes", "triangle", "distances"]


class TorchDictionary(torch.nn.Module):
    """Codes, features or distances of all patches of images.

    Computes in the type of its centroids: float64, whose codes are those of `assign`; `.float()` is
    faster, and may take another one of two centroids that are as near up to rounding. Patches lie
    as the dictionary's own, blank ones among them. Pixels are levels as the dictionary knows them.

    Args:
        centroids: (k, channels, rows, cols).
        stride: step between patches in pixels.
        reflect: whether images are mirrored at their border, as with the border "reflect".
        output: what a call gives: "codes", "triangle" (features), or "distances".

    Attributes:
        centroids: (k, channels, rows, cols), a buffer, alone in the state_dict.
        card: what is known of the dictionary.
    """

    centroids: torch.Tensor

    def __init__(
        self,
        centroids: torch.Tensor,
        *,
        stride: int = 1,
        reflect: bool = False,
        output: Output = "codes",
    ) -> None:
        super().__init__()
        if output not in get_args(Output):
            raise InputError(f"no output {output!r}: use {', '.join(get_args(Output))}")
        if centroids.ndim != 4:
            raise InputError(
                f"centroids have the shape {tuple(centroids.shape)}: give"
                " (k, channels, rows, cols), of patches"
            )
        self.register_buffer("centroids", centroids.to(torch.float64, copy=True))
        self.stride, self.reflect, self.output = stride, reflect, output
        self.card: dict[str, Any] = {}

    @classmethod
    def load(cls, path: str | Path, *, output: Output = "codes") -> Self:
        """The module in a file that `export` wrote as torch; nothing is unpickled but tensors.

        Raises: InputError: no such file, or another kind of file.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"no file {path}: give one that export wrote as torch")
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
            card, centroids = json.loads(found["card"]), found["state_dict"]["centroids"]
            spec, wide = PatchSpec.from_dict(card["spec"]), centroids.to(torch.float64)
        except _NOT_OURS as error:
            raise IntegrityError(
                f"{path} is not a whole file that export wrote as torch: fetch it again"
            ) from error
        reflect = spec.border == "reflect"
        module = cls(wide, stride=spec.stride, reflect=reflect, output=output)
        module.card = card
        return module

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """What `output` says of images: (n, rows, cols), or (n, channels, rows, cols)."""
        if self.output == "codes":
            return self.codes(images)
        return self.triangle(images) if self.output == "triangle" else self.distances(images)

    def codes(self, images: torch.Tensor) -> torch.Tensor:
        """Index of the nearest centroid of each patch, ties to the lowest.

        Returns: (n, down, across) int64. Memory: n · k · down · across distances.
        """
        return self._scores(self._prepared(images)).argmin(1)

    def distances(self, images: torch.Tensor) -> torch.Tensor:
        """Squared distance of each patch to each centroid, (n, k, down, across)."""
        pixels = self._prepared(images)
        squares = functional.avg_pool2d(
            pixels.square().sum(1, keepdim=True),
            (self.centroids.shape[2], self.centroids.shape[3]),
            self.stride,
            divisor_override=1,
        )
        return (self._scores(pixels) + squares).clamp(min=0)

    def triangle(self, images: torch.Tensor) -> torch.Tensor:
        """How much nearer a centroid is than the mean of all, 0 where it is not.

        max(0, mean distance − distance), not squared: Coates, Lee & Ng, "An analysis of
        single-layer networks in unsupervised feature learning", AISTATS 2011.
        Returns: (n, k, down, across).
        """
        distances = self.distances(images).sqrt()
        return (distances.mean(1, keepdim=True) - distances).clamp(min=0)

    def _scores(self, pixels: torch.Tensor) -> torch.Tensor:
        """|c|² − 2 c·x: the squared distances less |x|², which no code depends on."""
        norms = self.centroids.square().sum((1, 2, 3))
        return functional.conv2d(pixels, -2 * self.centroids, norms, self.stride)

    def _prepared(self, images: torch.Tensor) -> torch.Tensor:
        """Images with their channels and border, in the type of the centroids."""
        _, channels, rows, cols = self.centroids.shape
        pixels = images.unsqueeze(1) if images.ndim == 3 else images
        if pixels.ndim != 4 or pixels.shape[1] != channels:
            raise InputError(
                f"images of shape {tuple(images.shape)} do not fit: give (n, {channels}, rows,"
                " cols)" + (", or (n, rows, cols)" if channels == 1 else "")
            )
        pixels = pixels.to(self.centroids.dtype)
        if self.reflect:
            left, top = cols // 2, rows // 2
            sides = (left, cols - 1 - left, top, rows - 1 - top)
            pixels = functional.pad(pixels, sides, mode="reflect")
        if pixels.shape[2] < rows or pixels.shape[3] < cols:
            raise InputError(
                f"images of {images.shape[-2]}x{images.shape[-1]} pixels are smaller than the"
                f" patches of {rows}x{cols}"
            )
        return pixels


def torch_file(dictionary: xarray.Dataset) -> bytes:
    """The content of a file for a dictionary that was `described`, see `TorchDictionary.load`.

    Raises: InputError where it does not say how its patches were cut.
    """
    card = parsed(dictionary.attrs)
    if "spec" not in card:
        raise InputError(
            "the dictionary does not say how its patches were cut: pass a node of the tree that"
            " open_dictionaries returns"
        )
    centroids = dictionary["centroids"].values
    if centroids.ndim == 3:
        centroids = centroids[..., None]
    weights = torch.from_numpy(centroids.transpose(0, 3, 1, 2).copy())
    file = io.BytesIO()
    torch.save({"state_dict": {"centroids": weights}, "card": json.dumps(card)}, file)
    return file.getvalue()
