"""How the site of the documentation is built: `make docs`.

Its pages are those of this folder, the READMEs and the notebooks as they stand, and the docstrings.
"""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / ".packaging"), str(ROOT / "docs")]

project = "patchdict"
author = "the authors of patchdict"
release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "links",
]
root_doc = "docs/index"
include_patterns = ["docs/**", "README.md", "**/README.md", "analysis/*.ipynb"]
exclude_patterns = [".*", "build", "runs", "data", "**/__pycache__"]

nb_execution_mode = "off"  # notebooks are shown as they are stored; tests run them
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # notebooks and READMEs begin as they like

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say types with shapes and units
python_maximum_signature_line_length = 76
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
strip_signature_backslash = True  # else napoleon loses the _ at the end of names
pygments_style, pygments_dark_style = "friendly", "github-dark"
default_role = "py:obj"  # `name` is a link where it is one of ours, and code elsewhere
add_module_names = False

html_theme = "furo"
html_title = "patchdict"
html_static_path = ["style.css"]
html_css_files = ["style.css"]
html_copy_source = False
html_show_copyright = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1f5f9e", "color-brand-content": "#1f5f9e"},
    "dark_css_variables": {"color-brand-primary": "#8fc1f0", "color-brand-content": "#8fc1f0"},
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def setup(app: object) -> None:
    """The first page stands at the top of the site, too; napoleon takes no words for types."""
    told: dict[str, list[str]] = {}

    # of an attribute it takes what stands before a colon, as in "full: on all rows", for its type
    def keep(app: object, what: str, name: str, obj: object, options: object, lines: list) -> None:
        if what in ("attribute", "property"):
            told[name] = [*lines]

    def restore(app: object, what: str, name: str, *others: object) -> None:
        if name in told:
            others[-1][:] = told.pop(name)

    app.connect("autodoc-process-docstring", keep, priority=400)
    app.connect("autodoc-process-docstring", restore, priority=600)

    def lead_on(app: object, error: Exception | None) -> None:
        first = f"{root_doc}.html"
        page = f'<!doctype html><meta http-equiv="refresh" content="0; url={first}">'
        Path(app.outdir, "index.html").write_text(f'{page}<a href="{first}">{project}</a>')

    app.connect("build-finished", lead_on)
