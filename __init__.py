"""Text2Cinemagraph: from one sentence, or one photograph, to a seamlessly looping cinemagraph.

The rooms of this package are the folders beside this file: text2cinemagraph.data, .img2img, .models, ...
(docs/architecture.md).  As a library: `from text2cinemagraph import Cinemagraph` (docs/library.md).
"""

DOORS = {
    "Cinemagraph": "pipeline.cinemagraph",
    "read_image": "data.media",
    "read_mask": "data.media",
    "write_clip": "data.animation",
}


def __getattr__(name):
    """The names of DOORS, imported when they are first asked for: importing the package loads nothing."""
    if name not in DOORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{DOORS[name]}"), name)


def __dir__():
    return sorted([*globals(), *DOORS])
