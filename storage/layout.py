"""Where everything lies under OUT; no other module knows.

OUT/patches/NAME.zarr              a patch store, shared by all experiments
OUT/patches/NAME.zarr.partial      one that is being built, or that a killed run left
OUT/EXPERIMENT/dictionaries.zarr   the dictionaries, one group per K
OUT/EXPERIMENT/codes-kK-….zarr      codes of images, .partial while they are being made
OUT/EXPERIMENT/features-kK-….zarr   features of images, the same
OUT/EXPERIMENT/classification.json  how well classes are told by them
OUT/EXPERIMENT/kK-LOOP.unfinished.npz   the state of an unfinished fit
OUT/EXPERIMENT/kK-stageN/           the same of the dictionary of what N - 1 stages leave
OUT/EXPERIMENT/labels.csv               classes of its images, where they were stated
OUT/EXPERIMENT/report.html, figures/    the report
OUT/EXPERIMENT/exports/                 dictionaries in formats of other tools
OUT/compare/                            curves of several experiments
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from storage.errors import InputError
from storage.places.place import Place, in_order, is_url
from storage.places.remote import RemotePlace

PATCHES, DICTIONARIES, STORE_SUFFIX = "patches", "dictionaries.zarr", ".zarr"
COMPARISON = "compare"
PIXELS = "pixels.raw"  # images that are unpacked while a store of theirs is built
SUMS = "tiles.crc32"  # in a store that is being built: checksums of the pixels that it is made of
PARTIAL = ".partial"  # ends the name of what is being written
METADATA = "zarr.json"  # of a group or array of zarr
BEGUN = f"{METADATA}{PARTIAL}"  # of a store that is built in its place, where it ends as METADATA
_STATE_SUFFIX = ".unfinished.npz"
_STAGE = re.compile(r"(k\d+)-stage(\d+)")  # a folder's name


def patch_store_path(out: Place, name: str) -> Place:
    """The place of the patch store of this name."""
    return out / PATCHES / f"{name}{STORE_SUFFIX}"


def patch_stores(out: Place, begins: str = "") -> list[Place]:
    """Patch stores under `out`, whole or not, by name, which begins with this."""
    found = in_order((out / PATCHES).glob(f"{begins}*{STORE_SUFFIX}"))
    return [store for store in found if not is_being_built(store)]


def unfinished_patch_stores(out: Place) -> list[Place]:
    """Patch stores that are being built under `out`, or that killed runs left."""
    ending = "" if isinstance(out, RemotePlace) else PARTIAL
    found = in_order((out / PATCHES).glob(f"*{STORE_SUFFIX}{ending}"))
    return [store for store in found if is_being_built(store)]


def patch_store_locks(out: Place) -> dict[Place, Place]:
    """Lock files of who builds patch stores under `out`, held or not, by the store."""
    locks = in_order((out / PATCHES).glob(f".*{STORE_SUFFIX}.lock"))
    return {lock.with_name(lock.name[1:].removesuffix(".lock")): lock for lock in locks}


def is_being_built(store: Place) -> bool:
    """Whether a patch store of such a name is not whole yet."""
    if not isinstance(store, RemotePlace):
        return store.name.endswith(PARTIAL)
    names = {place.name for place in store.iterdir()}
    return BEGUN in names and METADATA not in names


def is_there(store: Place) -> bool:
    """Whether there is a patch store of this name, whole or damaged."""
    if isinstance(store, RemotePlace):
        return (store / METADATA).is_file()
    return store.exists()


def comparison_folder(out: Place) -> Place:
    """Where the comparison of experiments lies that is given no other place."""
    return out / COMPARISON


def building_place(store: Place) -> Place:
    """The folder in which a store is built; a killed run's is gone on with.

    Behind a URL, where nothing can be renamed, it is the store itself, whose metadata comes last.
    """
    if isinstance(store, RemotePlace):
        return store
    return store.with_name(store.name + PARTIAL)


def retired_place(store: Place) -> Place:
    """Where a damaged patch store waits while the new one takes its name."""
    return store.with_name(f".{store.name}.damaged")


def lock_place(store: Place) -> Place:
    """The lock file of who builds a store."""
    return store.with_name(f".{store.name}.lock")


def group_name(k: int) -> str:
    """Name of the group of the dictionary with k centroids.

    >>> group_name(100)
    'k00100'
    """
    return f"k{k:05d}"


def group_folders(dictionaries: Place) -> dict[int, Place]:
    """The folders of the dictionaries in a store by K, ascending, whole or not.

    Behind a URL one without metadata is none: it was not written to its end.
    """
    groups: Iterable[Place]
    if isinstance(dictionaries, RemotePlace):
        files = [place for place, _ in dictionaries.files() if place.name == METADATA]
        groups = [file.parent for file in files if file.parent.parent == dictionaries]
    else:
        groups = [folder for folder in dictionaries.glob("k*") if folder.is_dir()]
    found = {int(f.name[1:]): f for f in groups if f.name[1:].isdecimal()}
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class ExperimentLayout:
    """The folder of one experiment."""

    folder: Place

    @property
    def dictionaries(self) -> Place:
        return self.folder / DICTIONARIES

    @property
    def labels(self) -> Place:
        """Classes of the images that a sweep or a report was told."""
        return self.folder / "labels.csv"

    @property
    def report(self) -> Place:
        return self.folder / "report.html"

    @property
    def figures(self) -> Place:
        return self.folder / "figures"

    @property
    def exports(self) -> Place:
        return self.folder / "exports"

    @property
    def lock(self) -> Place:
        """The lock file of who sweeps into the experiment."""
        return self.folder / ".lock"

    def locks(self) -> list[Place]:
        """Lock files of who sweeps, encodes or drops in the experiment, held or not."""
        names = (".lock", "*-stage*/.lock", f".*{STORE_SUFFIX}.lock")
        return [lock for name in names for lock in self.folder.glob(name)]

    def patches(self, store_name: str) -> Place:
        """The patch store of this name, beside the experiment."""
        return patch_store_path(self.folder.parent, store_name)

    def stage(self, k: int, number: int) -> "ExperimentLayout":
        """The folder of a later stage, from 2 on, of k centroids."""
        return ExperimentLayout(self.folder / f"{group_name(k)}-stage{number}")

    def stages(self) -> dict[int, int]:
        """By K, ascending, the number of the last stage that follows on all those before."""
        folders = [path.parent.name for path in self.folder.glob(f"*/{DICTIONARIES}")]
        names = filter(None, map(_STAGE.fullmatch, folders))
        there = {(int(name[1][1:]), int(name[2])) for name in names}
        found = {}
        for k in sorted({k for k, _ in there}):
            last = next(number for number in range(2, len(there) + 3) if (k, number) not in there)
            if last > 2:
                found[k] = last - 1
        return found

    def codes(self, k: int, images: str, split: str, stride: int, stages: int = 1) -> Place:
        """Codes of these images by the dictionaries of k centroids, at a stride."""
        of = group_name(k) + (f"x{stages}" if stages > 1 else "")
        return self.folder / f"codes-{of}-{images}-{split}-s{stride}{STORE_SUFFIX}"

    def code_stores(self) -> list[Place]:
        """Codes that lie beside the dictionaries, by name."""
        return self._whole(f"codes-*{STORE_SUFFIX}")

    def feature_stores(self) -> list[Place]:
        """Features that lie beside the dictionaries, by name."""
        return self._whole(f"features-*{STORE_SUFFIX}")

    def _whole(self, pattern: str) -> list[Place]:
        found = in_order(self.folder.glob(pattern))
        return [store for store in found if not is_being_built(store)]

    def made_of(self, k: int) -> list[Place]:
        """What was made of the dictionary of k centroids, whole or not, and states of its fit."""
        group = group_name(k)
        names = [
            f"{kind}-{group}{end}*{STORE_SUFFIX}" for kind in ("codes", "features") for end in "-x"
        ]
        names += [f"{name}{PARTIAL}" for name in names]
        names += [f"{group}-stage*", f"{group}-*{_STATE_SUFFIX}"]
        return in_order(path for name in names for path in self.folder.glob(name))

    def features(self, codes: Place, which: str) -> Place:
        """Features of images, by where their codes would lie; which: of them, as in hard-image."""
        name = codes.stem.replace("codes-", "features-", 1)
        return codes.with_name(f"{name}-{which}{STORE_SUFFIX}")

    @property
    def classification(self) -> Place:
        """How well classes are told by features; see `analysis.classify`."""
        return self.folder / "classification.json"

    def fit_state(self, k: int, loop: str) -> Place:
        """File of the state that one loop of the fit of k centroids keeps."""
        return self.folder / f"{group_name(k)}-{loop}{_STATE_SUFFIX}"

    def fit_states(self, k: int | None = None) -> list[Place]:
        """Files of states that are there, of one K or of all, those written last at the end."""
        group = "k*" if k is None else group_name(k)
        found = self.folder.glob(f"{group}-*{_STATE_SUFFIX}")
        return sorted(found, key=lambda path: path.stat().st_mtime)

    def half_written(self) -> list[Place]:
        """Dictionaries and states that a killed sweep had begun to write.

        Behind a URL the folders of dictionaries that are not written, or removed, to their end.
        """
        if isinstance(self.dictionaries, RemotePlace):
            whole = group_folders(self.dictionaries).values()
            groups = [place for place in self.dictionaries.glob("k*") if place.name[1:].isdecimal()]
            return [place for place in groups if place not in whole]
        begun = (f".{DICTIONARIES}.*{PARTIAL}", f".k*{_STATE_SUFFIX}.*{PARTIAL}")
        return [path for pattern in begun for path in self.folder.glob(pattern)]


def state_size(state: Place) -> int:
    """K of the fit whose state a file holds."""
    return int(state.name.partition("-")[0][1:])


def find_experiments(out: Place) -> list[ExperimentLayout]:
    """Experiments with a dictionary store: `out` itself, or those under it by name."""
    if (out / DICTIONARIES).exists():
        return [ExperimentLayout(out)]
    found = [path.parent for path in in_order(out.glob(f"*/{DICTIONARIES}"))]
    return [ExperimentLayout(folder) for folder in found if not _STAGE.fullmatch(folder.name)]


def the_only(out: Place, folders: Sequence[Place]) -> Place:
    """The folder of the one experiment in `out`. Raises: InputError where there are several."""
    if len(folders) > 1:
        names = ", ".join(folder.name for folder in folders)
        raise InputError(f"{out} holds several experiments: give the folder of one of {names}")
    return folders[0]


def source_parts(text: str) -> tuple[str, str]:
    """The path of images that a text names, and what follows: a pattern below that folder, ::NAME.

    "a/b/*.png" are "a/b" and "/*.png", "a/b.nc::c" are "a/b.nc" and "::c"; a path alone, and what
    is there under its whole text, has nothing that follows.
    """
    found = re.search("::" if is_url(text) else r"::|[*?\[]", text)
    if found is None or os.path.lexists(text):
        return text, ""
    path = text[: found.start()]
    if found[0] != "::":
        path = path.rpartition("/")[0]
    return path, text[len(path) :]


def moved_places(text: str, folder: Place) -> Iterator[str]:
    """Where what a text names lies now, if it was moved together with `folder`: the nearest first.

    Files and folders above `folder` whose path ends as its path does, with what follows that; see
    `source_parts`. Whether one of them is the same only its content can tell.
    """
    if isinstance(folder, RemotePlace) or is_url(text):  # a URL is the same from everywhere
        return
    path, rest = source_parts(text)
    parts = Path(path).parts[1:]
    for height, above in enumerate(folder.resolve().parents):
        # a pattern may lie in OUT or beside it; higher up it might be searched for in all files
        bare = rest.startswith("/") and height < 2
        for first in range(len(parts) + bare):
            place = above.joinpath(*parts[first:])
            if place.exists() and str(place) != path:
                yield f"{place}{rest}"
