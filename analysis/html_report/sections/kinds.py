"""What are the centroids?"""

from collections.abc import Mapping

import numpy as np
import xarray
from matplotlib.figure import Figure

from analysis.html_report.figures.axes import lines_over_k, name_panel
from analysis.html_report.figures.figure import (
    ReportFigure,
    finished,
    long_table,
    table,
    table_of_lines,
    with_unit,
)
from analysis.html_report.figures.image_boards import (
    BOARD_WIDTH,
    GAP,
    TILE,
    Board,
    dots,
    rows_of_images,
)
from analysis.html_report.figures.style import new_figure
from analysis.html_report.measured import Measured
from analysis.html_report.section import Section
from analysis.measures.gallery import grid_shape, tiled
from analysis.measures.kinds import KINDS, MEANINGS, plural, rule_of
from analysis.measures.pixel_scale import PixelScale, scale_to
from analysis.measures.similarity_grid import similarity_grid
from analysis.text import count, listed, percent

RARE = 0.01  # kinds below this share are not listed
NAMELESS = 0.2  # share of the kind "other"
EXAMPLES = 15  # of a kind; as many as fit
MIN_GALLERY_TILE = 12
LABEL, LETTER = 1.12, 0.063  # inches: room for names, and for each of their letters, at least
GALLERY_TILE = dots(0.42)  # of a centroid at most


def _paragraphs(measured: Measured) -> list[str]:
    first_k, last_k = measured.sizes[0], measured.sizes[-1]
    shares = _shares(measured, "of_centroids", last_k)
    first, second = sorted(shares, key=lambda kind: -shares[kind])[:2]
    told = rule_of(measured.experiment.patch_shape)
    rule = f"How they were told apart: {told} The limits were chosen by eye."
    if (shown := measured.pictures).narrowed:
        rule += f" “The largest level” is the range that pictures show, {shown.span:g}."
    if last_k == 1:
        return [f"The only centroid, the mean patch, is of the kind “{first}”.", rule]
    text = (
        f"Most of the {last_k:,} centroids are {MEANINGS[first]} ({percent(shares[first])})."
        if shares[first] > 0.5
        else f"The two largest groups of the {last_k:,} centroids are {MEANINGS[first]}"
        f" ({percent(shares[first])}), and {MEANINGS[second]} ({percent(shares[second])})."
    )
    text += f" All kinds at K = {last_k:,}: {_listed(shares)}."
    if first_k < last_k:
        text += f" At K = {first_k:,}: {_listed(_shares(measured, 'of_centroids', first_k))}."
    used = _listed(_shares(measured, "of_patches", last_k))
    return [f"{text} By the patches nearest to them, at K = {last_k:,}: {used}.", rule]


def _shares(measured: Measured, of: str, k: int) -> dict[str, float]:
    """Kind -> share; of: of_centroids or of_patches."""
    values = measured.kind_shares[of].sel(k=k).values.tolist()
    return dict(zip(KINDS, values, strict=True))


def _listed(shares: dict[str, float]) -> str:
    """Kinds from the most to the least frequent, rare ones left out."""
    ranked = sorted(shares, key=lambda kind: -shares[kind])
    named = [f"{plural(kind)} {percent(shares[kind])}" for kind in ranked if shares[kind] >= RARE]
    return listed(named, most=len(ranked))


def _caveats(measured: Measured) -> list[str]:
    """Centroids without a name, patches too narrow to have an inside."""
    caveats = []
    nameless = _shares(measured, "of_centroids", measured.sizes[-1])["other"]
    if nameless >= NAMELESS:
        caveats.append(f"The rule has no name for {percent(nameless)} of the centroids.")
    if min(measured.experiment.patch_shape[:2]) < 3:
        caveats.append(
            f"A patch of {measured.patch} pixels has no inside, so there are no dots, and few line"
            " ends."
        )
    return caveats


def _figures(measured: Measured) -> list[ReportFigure]:
    return [_examples(measured), *_curves(measured), *_galleries(measured)]


def _examples(measured: Measured) -> ReportFigure:
    """Examples of each kind of centroid of the largest dictionary."""
    k = measured.sizes[-1]
    centroids = measured.experiment.centroids(k)
    counts, kinds = measured.counts[k], measured.kinds[k]
    shares = _shares(measured, "of_centroids", k)
    by_use = np.argsort(-counts, kind="stable")
    rows: dict[str, np.ndarray] = {}
    lines: list[tuple[int, str, int, int, int]] = []
    for index, kind in enumerate(KINDS):
        of_kind = by_use[kinds[by_use] == index]
        if len(of_kind):
            places = np.linspace(0, len(of_kind) - 1, min(EXAMPLES, len(of_kind))).astype(int)
            rows[f"{plural(kind)}, {percent(shares[kind])}"] = centroids[of_kind[places]]
            lines += [
                (k, kind, place, int(atom), int(counts[atom]))
                for place, atom in enumerate(of_kind[places])
            ]
    caption = (
        f"The share of each kind among the {count(k, 'centroid')} of the largest dictionary, and"
        " examples, from the most used to the least used of the kind in even steps."
    )
    csv = table_of_lines(("k", "kind", "place", "atom", "count"), lines)
    figure = kinds_plate(rows, measured.pictures)
    return finished("kinds", "Kinds of centroids.", caption, figure, csv)


def kinds_plate(rows: Mapping[str, np.ndarray], pixels: PixelScale) -> Figure:
    """Some centroids of each kind; rows: its name and share -> (m, *patch_shape)."""
    scale = scale_to(TILE, max(max(tiles.shape[1:3]) for tiles in rows.values()))
    label = dots(max(LABEL, LETTER * max(map(len, rows))))
    return rows_of_images(rows, pixels, scale, label, GAP)


def _curves(measured: Measured) -> list[ReportFigure]:
    """Shares of each kind against K, where there are several."""
    if len(measured.sizes) == 1:
        return []
    shares = measured.kind_shares
    caption = (
        "The share of each kind of centroid against K: a, among the centroids; b, among the"
        " training patches that are nearest to them."
    )
    figure, csv = kinds_figure(shares), long_table(shares)
    return [finished("kinds-share", "Kinds of centroids against K.", caption, figure, csv)]


def kinds_figure(shares: xarray.Dataset) -> Figure:
    """Shares of the kinds of centroids that there are against K, among centroids and patches.

    shares: of_centroids and of_patches over (k, kind), 0 … 1.
    """
    height = 2.9
    figure = new_figure(height)
    panels = {
        "of_centroids": ("a", "among the centroids", "per cent of the centroids"),
        "of_patches": ("b", "among the patches", "per cent of the patches"),
    }
    there = (shares[[*panels]].max("k").to_array() > 0).any("variable")
    shares = shares.isel(kind=there.values)
    highest = 100 * max(float(shares[name].max()) for name in panels)
    kinds = [str(kind) for kind in shares["kind"].values]
    for axes, (name, (letter, title, unit)) in zip(
        figure.subplots(1, 2), panels.items(), strict=True
    ):
        axes.set_ylabel(unit)
        name_panel(axes, letter, title)
        values = 100 * shares[name].transpose("kind", "k").values
        lines = dict(zip(kinds, values, strict=True))
        lines_over_k(axes, shares["k"].values, lines, 1.05 * highest, height)
    return figure


def _galleries(measured: Measured) -> list[ReportFigure]:
    """All centroids of the smallest and of the largest dictionary."""
    sizes = {"smallest": measured.sizes[0], "largest": measured.sizes[-1]}
    if len(measured.sizes) == 1:
        sizes.pop("smallest")
    figures = []
    for word, k in sizes.items():
        which = word if len(sizes) > 1 else "only"
        caption = (
            f"The {count(k, 'centroid')} of the {which} dictionary, {measured.patch} pixels each,"
            " placed so that neighbours look alike (linear assignment sorting, Barthel et al."
            " 2023). The thin blue lines only separate them."
            if k > 1
            else f"The only centroid of the {which} dictionary, {measured.patch} pixels."
        )
        figure, order = gallery_plate(measured.experiment.centroids(k), measured.pictures)
        csv, title = _places(measured, k, order), f"All centroids of K = {k:,}."
        # The page has the atlas.
        figures.append(finished(f"gallery-{word}", title, caption, figure, csv, shown=False))
    return figures


def gallery_plate(
    centroids: np.ndarray, pixels: PixelScale, seed: int = 0
) -> tuple[Figure, np.ndarray]:
    """All centroids, ordered; exactly as large as its tiles and the lines between them need.

    Tiles are an even number of dots apart, so that a screen that shows two dots as one shows all
    lines alike.
    Returns: the figure; (rows, columns) int64, which centroid stands where, -1 for none.
    """
    longer = max(centroids.shape[1:3])
    smallest = longer + 2 - longer % 2
    most_cols = max(1, BOARD_WIDTH // max(smallest, MIN_GALLERY_TILE))
    rows, cols = grid_shape(len(centroids), most_cols)
    order = similarity_grid(centroids, rows, cols, seed)
    scale = scale_to(min(GALLERY_TILE, BOARD_WIDTH // cols) - 1, longer)
    line = 2 - (centroids.shape[2] * scale) % 2
    picture = tiled(
        centroids, order, white=pixels.white, black=pixels.black, scale=scale, line=line
    )
    board = Board(picture.shape[1], picture.shape[0])
    board.image(picture, 0, 0, frame=False)
    return board.finished(), order


def _places(measured: Measured, k: int, order: np.ndarray) -> bytes:
    """Where each centroid stands in its gallery, how it is used, and what it is."""
    rows, cols = np.nonzero(order >= 0)
    atoms = order[rows, cols]
    use = measured.usage[k].isel(atom=atoms)
    return table(
        {
            "atom": atoms,
            "row": rows,
            "col": cols,
            "kind": np.array(KINDS)[measured.kinds[k][atoms]],
            "count": use["count"].values,
            "share": use["share"].values,
            "sse_share": use["sse_share"].values,
            with_unit("mse", measured.pixels.unit): use["mse"].values,
        }
    )


NATURE = Section("nature", _figures, "Kinds", "What are the centroids?", _paragraphs, _caveats)
