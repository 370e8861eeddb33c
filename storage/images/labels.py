"""Classes of images: of data sets that have a name, and of any images from a CSV file."""

import csv
import io
import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING
from unicodedata import normalize

import numpy as np

from storage.errors import InputError, shortened
from storage.images.datasets import DATASETS, check_split
from storage.images.download import ROUNDS, find_or_fetch, find_or_unpack
from storage.images.embedded import read_digits
from storage.images.formats.cifar import read_classes
from storage.images.formats.folder import natural_order
from storage.images.formats.idx import read_idx
from storage.images.reader import ImageReader
from storage.places.place import Place, place_of

if TYPE_CHECKING:
    from storage.images.source import ImageSource


def open_labels(
    dataset: str, split: str = "train", data_dir: str | Place = "data", *, rounds: int = ROUNDS
) -> np.ndarray | None:
    """The class of each image of a data set, in the order of `open_images`.

    Args:
        dataset: as for `open_images`.
        split: "train" or "test"; a path has only "train".
        data_dir: where downloads are kept; right files found there are used.
        rounds: how often the mirrors are asked for a file that is not there.

    Returns:
        (images,) int64, numbers into `class_names`; None for a path, whose classes nobody knows.

    Raises:
        InputError: an unknown split, or a file that is neither there nor to be had.
    """
    if dataset not in DATASETS or not DATASETS[dataset].class_names:
        return None
    check_split(dataset, split)
    if dataset == "digits":
        return read_digits(split)[1]
    named = DATASETS[dataset]
    names = named.class_names
    if named.archive is not None:
        files = named.batches[split], named.archive
        paths = find_or_unpack(*files, dataset, place_of(data_dir), rounds=rounds)
        labels, path = read_classes(paths), paths[0]
    else:
        path = find_or_fetch(named.labels[split], dataset, place_of(data_dir), rounds=rounds)
        labels = read_idx(path)
    if labels.ndim != 1 or labels.dtype.kind not in "ui":
        raise InputError(
            f"{path} holds {labels.dtype.name} of shape {labels.shape} where whole numbers of shape"
            " (images,) are expected: fetch it again"
        )
    if not 0 <= labels.min() <= labels.max() < len(names):
        raise InputError(
            f"{path} holds classes from {labels.min()} to {labels.max()} where 0 to"
            f" {len(names) - 1} are expected: fetch it again"
        )
    return labels.astype(np.int64)


def read_labels(path: str, reader: ImageReader) -> tuple[tuple[str, ...], np.ndarray]:
    """The classes of images from a CSV file in UTF-8.

    Its lines are name,class for images in files of their own, by their path as the reader names
    them, or by their file's name where one image alone has it. For others they are index,class or,
    a line for each image in order, the class alone. A first line that is of no image, and whose
    class no other line has, is a heading.

    Args:
        path: of the file.
        reader: of the images.

    Returns: names of the classes, in natural order; and the class of each image, (n,) int64.
    Raises: InputError: not such a file, a class of no image, an image without a class or of two.
    """
    lines, own = _lines(path), [""] * len(reader.sizes)
    by_name = getattr(reader, "in_files", False)
    if not by_name and _alone([cells for _, cells in lines]):
        lines = _numbered(path, lines, reader)
    number_of = _number_by_name(path, reader) if by_name else _number_by_index(len(own))
    left_out = set(getattr(reader, "unreadable", ()))
    for at, (line, cells) in enumerate(lines):
        if len(cells) != 2 or not cells[1]:
            kind = "name,class" if by_name else "index,class"
            raise InputError(
                f"{path}, line {line}: {shortened(','.join(cells))} is not {kind}:"
                " write so, with a comma"
            )
        text, name = cells
        if text in left_out:
            continue
        if (number := number_of(text)) is None:
            if at == 0 and all(cells[1:] != [name] for _, cells in lines[1:]):
                continue  # a heading
            raise InputError(f"{path}, line {line}: {reader.where} has no image {shortened(text)}")
        if own[number] not in ("", name):
            raise InputError(
                f"{path}, line {line}: image {shortened(text)} is of class {shortened(name)}, and"
                f" of {shortened(own[number])} before: leave one of them out"
            )
        own[number] = name
    if "" in own:
        raise InputError(
            f"{path} has no class of {reader.name(own.index(''))} ({own.count('')} of"
            f" {len(own)} images have none): give each image a line"
        )
    names = tuple(sorted(set(own), key=natural_order))
    numbers = {name: number for number, name in enumerate(names)}
    return names, np.array([numbers[name] for name in own], np.int64)


def labels_file(images: "ImageSource") -> bytes:
    """The content of the file that states the classes of these images.

    Raises: InputError where it does not fit them, as `read_labels` does.
    """
    if images.labels is None or images.options.labels is None:
        raise InputError(f"no classes are stated of {images.where}: give labels")
    return place_of(images.options.labels).read_bytes()


def _lines(path: str) -> list[tuple[int, list[str]]]:
    """Lines that are not empty, each with its number."""
    place = place_of(path)
    try:
        if not place.is_file():  # a pipe would be waited for
            raise InputError(f"no file of classes {shortened(path)}: give a CSV file")
        text = io.StringIO(place.read_bytes().decode("utf-8-sig"), newline="")
        rows = csv.reader(text, skipinitialspace=True)
        cells = ((rows.line_num, [cell.strip() for cell in row]) for row in rows)
        found = [line for line in cells if any(line[1])]
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text in UTF-8: save the classes as CSV in UTF-8") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except csv.Error as error:
        raise InputError(f"{path} is not CSV ({error}): give lines of name,class") from error
    if not found:
        raise InputError(f"{path} is empty: give lines of name,class")
    return found


def _alone(lines: list[list[str]]) -> bool:
    """Whether lines have a class alone, not an index too, with something else than a comma between.

    Of a space there must be an index in each but a heading, all of them different: "3 cat" may be
    the name of a class, which several images then have.
    """
    if any(len(cells) != 1 for cells in lines) or any(all(s in c[0] for c in lines) for s in ";\t"):
        return False
    first = [cells[0].split()[0] if " " in cells[0] else "" for cells in lines]
    own = first[0 if first[0].isdecimal() else 1 :]
    return len(set(own)) < len(own) or not own or not all(map(str.isdecimal, own))


def _numbered(
    path: str, lines: list[tuple[int, list[str]]], reader: ImageReader
) -> list[tuple[int, list[str]]]:
    """Lines of a class alone, with the number of its image before it."""
    n, (heading, *others) = len(reader.sizes), [cells for _, cells in lines]
    if len(lines) == n + 1 and heading not in others:
        lines = lines[1:]
    if len(lines) != n:
        raise InputError(
            f"{path} has {len(lines)} lines for the {n} images of {reader.where}: give each image"
            " a line, in their order, or write index,class"
        )
    return [(line, [str(number), *cells]) for number, (line, cells) in enumerate(lines)]


def _number_by_index(n: int) -> Callable[[str], int | None]:
    def number_of(text: str) -> int | None:
        index = int(text) if text.isdecimal() and len(text) < 19 else n
        return index if index < n else None

    return number_of


def _number_by_name(path: str, reader: ImageReader) -> Callable[[str], int | None]:
    names = [reader.name(number) for number in range(len(reader.sizes))]
    # macOS takes letters with accents apart, and what writes CSV does not
    apart = len({normalize("NFC", name) for name in names}) < len(names)
    spelt = str if apart else partial(normalize, "NFC")
    where = spelt(os.path.join(reader.where, ""))
    paths = {spelt(name): number for number, name in enumerate(names)}
    files = Counter(map(os.path.basename, paths))
    by_file = {os.path.basename(name): number for name, number in paths.items()}

    def number_of(text: str) -> int | None:
        inside = spelt(os.path.normpath(text)).removeprefix(where)
        parts = inside.replace("\\", "/").split("/")
        ends = ("/".join(parts[first:]) for first in range(len(parts) - 1))  # with a folder
        for place in (inside, *ends):
            if (number := paths.get(place)) is not None:
                return number
        file = parts[-1]
        if files[file] > 1:
            raise InputError(
                f"{path}: {shortened(text)} is no image's path, and {files[file]} images of"
                f" {reader.where} are called {shortened(file)}: give their paths"
            )
        return by_file.get(file)

    return number_of
