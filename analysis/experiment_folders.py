"""Which experiments there are, from names and attributes alone: a second `make sweep` asks it."""

from storage import InputError, IntegrityError
from storage.dictionary_store import finished_dictionaries
from storage.layout import DICTIONARIES, ExperimentLayout, find_experiments, the_only
from storage.places.place import Place


def experiment_folders(out: Place) -> list[Place]:
    """Folders of the experiments with a finished dictionary: `out` itself, or those under it.

    Damaged ones count: whoever opens one is told what is wrong, and it does not hide the others.

    Raises:
        InputError: there is none.
    """
    if not out.is_dir():
        raise InputError(f"no folder {out}: give the OUT of a sweep, or one experiment's folder")
    if out.name == DICTIONARIES:
        raise InputError(f"{out} is a part of an experiment: give its folder, {out.parent}")
    layouts = find_experiments(out)
    finished = [found.folder for found in layouts if _has_dictionaries(found)]
    if not finished:
        raise InputError(
            f"no finished dictionaries in {out}: run the same sweep again"
            if [found.folder for found in layouts] == [out]
            else f"no finished dictionaries under {out}: run sweep first, with --out {out}"
        )
    return finished


def only_experiment(out: Place) -> Place:
    """The folder of the one experiment in `out`. Raises: InputError where there are several."""
    return the_only(out, experiment_folders(out))


def _has_dictionaries(experiment: ExperimentLayout) -> bool:
    """Whether a dictionary is finished, or damaged."""
    try:
        return bool(finished_dictionaries(experiment.dictionaries))
    except IntegrityError:
        return True
