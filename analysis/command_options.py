"""Options that several commands have."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from storage.places.place import local, place_of
from storage.places.remote import RemotePlace


class PlacePath(click.Path):
    """A path of this machine, or a URL."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        place = place_of(value)
        return place if isinstance(place, RemotePlace) else super().convert(value, param, ctx)


class LocalPath(click.Path):
    """A path of this machine, to write to."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return super().convert(local(value, "this command"), param, ctx)


def out_option(
    help_text: str, kind: type[LocalPath | PlacePath] = LocalPath
) -> Callable[[Any], Any]:
    """Where a command writes to; kind: whether it may be a URL."""
    return click.option("--out", type=kind(path_type=Path), help=help_text)


experiment_argument = click.argument("experiment", type=PlacePath(path_type=Path))

data_option = click.option(
    "--data",
    type=PlacePath(path_type=Path),
    help="Folder of downloads, if it is another one than the sweep's.",
)

dataset_option = click.option(
    "--dataset", help="File of the images, if it is no longer where the sweep found it."
)

k_option = click.option("--k", type=int, required=True, help="Size of the dictionary.")

split_option = click.option(
    "--split",
    type=click.Choice(["train", "test"]),
    help="Which images: the test images where there are any, else the training images.",
)

stride_option = click.option(
    "--stride", type=int, help="Step between patches in pixels, if not the dictionary's."
)

labels_option = click.option(
    "--labels",
    metavar="FILE.csv",
    type=PlacePath(path_type=Path),
    help="Classes of the images, name,class (of arrays index,class, or the class of each image in"
    " order); kept with the experiment.",
)
