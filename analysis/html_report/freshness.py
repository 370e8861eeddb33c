"""Whether the report of an experiment is still that of its dictionaries.

Light on purpose: a second `make sweep` asks this and little else.
"""

import hashlib
import json
import re
from html import unescape
from pathlib import Path

from storage.dictionary_store import finished_dictionaries
from storage.layout import ExperimentLayout
from storage.places.place import Place, read_start

CODE = (".py", ".html", ".css", ".js")  # of which a page is made
_META = re.compile(r'<meta name="patchdict-(digest|figures)" content="([^"]*)">')
_HEAD_BYTES = 4096  # the <meta> tags stand within


def digest_of(folder: Place) -> str:
    """SHA-256 (hex) of what a report depends on.

    The attributes of all dictionaries, also of later stages, which hold their scores and
    configuration, the classes that were stated, and the code of `analysis`: a page that another
    version made is made again.
    """
    layout = ExperimentLayout(folder)
    found = finished_dictionaries(layout.dictionaries)
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode())
    for k, last in layout.stages().items():
        for number in range(2, last + 1):
            later = finished_dictionaries(layout.stage(k, number).dictionaries)
            digest.update(json.dumps(later, sort_keys=True).encode())
    if layout.labels.is_file():
        digest.update(layout.labels.read_bytes())
    for path in sorted(Path(__file__).parents[1].rglob("*")):
        if path.suffix in CODE:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def with_classification(digest: str, folder: Place) -> str:
    """The same, and of how well classes are told, which a report may find out by itself."""
    path = ExperimentLayout(folder).classification
    if not path.is_file():
        return digest
    return hashlib.sha256(digest.encode() + path.read_bytes()).hexdigest()


def read_marks(page: Place) -> tuple[str, list[str]]:
    """Digest that a page was made from, and names of its figures; empty where it has none."""
    if not page.is_file():
        return "", []
    head = read_start(page, _HEAD_BYTES).decode("utf-8", errors="replace")
    marks = {name: unescape(content) for name, content in _META.findall(head)}
    return marks.get("digest", ""), marks.get("figures", "").split()
