"""Pages are written here, all of them: a template of this folder, filled, as one HTML file.

What is shown is text until a template says otherwise: Jinja2 escapes it. A template has a name for everything it shows;
a name that it is not given is an error. Pages need no network: style and scripts are in them, pictures and clips lie
beside them or are data URIs.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from text2cinemagraph.data.files import atomic

TEMPLATES = Path(__file__).parent


def write_page(path: str | Path, template: str, **shown: Any) -> Path:
    """Write a page, whole or not at all.  template: its file in this folder.   shown: what the template names.

    Returns the path.  Characters that UTF-8 cannot hold (of file names in other encodings) become "?".
    """
    text = _templates().get_template(template).render(shown)
    with atomic(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "replace"))
    return Path(path)


def address(path: str | Path) -> str:
    """A relative path as a link: its bytes percent-encoded, so that no name ends the link or leads elsewhere."""
    return quote(os.fsencode(path))


@cache
def _templates():
    """The templates of this folder, compiled when first asked for; they ship with the code and do not change."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["address"] = address
    return templates
