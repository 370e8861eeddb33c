"""The report of an experiment: report.html and its figures as PNG files, written atomically."""

import os
import time
import uuid
from pathlib import Path
from typing import Any

from analysis.stored import digest_of, find_experiments, read_marks
from storage import PatchDictError

PAGE, FIGURES = "report.html", "figures"
ORPHANED = 60  # seconds after which a half-written file is nobody's


def report(
    out: str | Path, *, data: Path | None = None, only_stale: bool = False
) -> list[dict[str, Any]]:
    """Write the reports of all experiments under a sweep's OUT, or of one experiment's folder.

    An experiment that cannot be reported does not keep the others from it.

    Args:
        out: a sweep's OUT, or an experiment's folder.
        data: folder of downloads; None: the one that the sweep used.
        only_stale: leave a report as it is that was made from exactly the present dictionaries.

    Returns: for each experiment plain JSON: report (path), made, seconds, figures (paths).
    Raises: InputError where there are no dictionaries, or images or patches are gone;
        IntegrityError where they are damaged or others.
    """
    results, failures = [], []
    for folder in find_experiments(Path(out)):
        try:
            results.append(report_experiment(folder, data=data, only_stale=only_stale))
        except PatchDictError as error:
            failures.append(error)
    if failures:
        raise type(failures[0])("; ".join(map(str, failures)))
    return results


def report_experiment(
    folder: Path, *, data: Path | None = None, only_stale: bool = False
) -> dict[str, Any]:
    """Write the report of one experiment; see `report`."""
    started = time.perf_counter()
    page = folder / PAGE
    digest = digest_of(folder)
    if only_stale:
        marks = read_marks(page)
        paths = [_figure_path(folder, name) for name in marks.figures] if marks else []
        if marks and marks.digest == digest and all(path.is_file() for path in paths):
            return _result(page, paths, made=False, started=started)
    # Heavy (torch, matplotlib), and not needed where every report is up to date.
    from analysis.answers import answers
    from analysis.experiment import open_experiment
    from analysis.exploration import choose_images
    from analysis.investigation import investigate
    from analysis.page.document import render
    from analysis.page.interaction import interactive_parts
    from analysis.paper.figures import draw_figures

    experiment = open_experiment(folder, data)
    found, material = investigate(experiment)
    figures = draw_figures(experiment, found, material)
    parts = interactive_parts(experiment, found, choose_images(experiment))
    text = render(experiment, found, answers(found), figures, digest, parts)
    paths = [_figure_path(folder, figure.name) for figure in figures]
    (folder / FIGURES).mkdir(exist_ok=True)
    for path, figure in zip(paths, figures, strict=True):
        _write(path, figure.png)
    # Last: it says that the figures are there. Paths may hold bytes that are no text.
    _write(page, text.encode(errors="backslashreplace"))
    return _result(page, paths, made=True, started=started)


def _figure_path(folder: Path, name: str) -> Path:
    return folder / FIGURES / f"{name}.png"


def _result(page: Path, figures: list[Path], *, made: bool, started: float) -> dict[str, Any]:
    return {
        "report": str(page),
        "made": made,
        "seconds": time.perf_counter() - started,
        "figures": [str(path) for path in figures],
    }


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    for orphan in path.parent.glob(f".{path.name}.*.partial"):
        if time.time() - orphan.stat().st_mtime > ORPHANED:  # of a killed run
            orphan.unlink(missing_ok=True)
    staging = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        staging.write_bytes(content)
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)
