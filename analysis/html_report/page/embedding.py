"""Bokeh's models as HTML: scripts that hold everything, and a place for each model."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bokeh.document import Document
from bokeh.embed import components
from bokeh.models import CustomJS, Model
from bokeh.resources import Resources


@dataclass(frozen=True)
class Embedded:
    """HTML of Bokeh's models.

    library: BokehJS itself. script: the models, and where they go. places: name -> its element.
    """

    library: str
    script: str
    places: Mapping[str, str]


def embed(models: Mapping[str, Model], ready: Sequence[CustomJS]) -> Embedded:
    """Models in one document; ready: scripts that run when all of them are on the page."""
    document = Document()
    with document.models.freeze():  # else each new root walks through all models again
        for model in models.values():
            document.add_root(model)
    document.js_on_event("document_ready", *ready)
    script, places = components(dict(models))
    renumber = _Renumbering()
    script = renumber(script)
    places = {name: renumber(place) for name, place in places.items()}
    library = Resources("inline", components=["bokeh", "bokeh-widgets"], log_level="warn")
    return Embedded(library.render_js(), script, places)


class _Renumbering:
    """Bokeh's ids in the order in which they come, so that a page is the same every time.

    They are random, or count all models that the process ever made. No text holds one by chance:
    inside Bokeh's JSON quotes are escaped, and numbers have none.
    """

    _ID = re.compile(r'(?<=")(?:p\d+|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?=")')

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        return self._ID.sub(lambda found: self._name(found[0]), text)

    def _name(self, found: str) -> str:
        return self._names.setdefault(found, f"p{len(self._names) + 1}")
