"""Bokeh's models as HTML: scripts that hold everything, and a place for each model."""

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

    def charts(self, figure: str) -> list[str]:
        """Places of the charts that stand in for a figure of the paper, in order."""
        names = [name for name in self.places if name.rpartition("-")[0] == figure]
        return [self.places[name] for name in sorted(names)]


def embed(models: Mapping[str, Model], ready: Sequence[CustomJS]) -> Embedded:
    """Models in one document; ready: scripts that run when all of them are on the page."""
    document = Document()
    with document.models.freeze():  # else each new root walks through all models again
        for model in models.values():
            document.add_root(model)
    document.js_on_event("document_ready", *ready)
    script, places = components(dict(models))
    library = Resources("inline", components=["bokeh", "bokeh-widgets"], log_level="warn")
    return Embedded(library.render_js(), script, places)
