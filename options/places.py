"""Where files that ship with the code are found, from whatever folder a command is run."""

from pathlib import Path

SHIPPED = Path(__file__).resolve().parents[1]  # the repository's root, or the installed package


def located(path: str | Path) -> Path:
    """The path as it is; where nothing lies there and it is relative, the same path beside the code, if it exists."""
    path = Path(path)
    if path.is_absolute() or path.exists():
        return path
    beside = SHIPPED / path
    return beside if beside.exists() else path


def located_config(name: str | Path) -> Path:
    """A configuration by path, or by its plain name: "inference_mini" is configs/inference_mini.yaml."""
    path = located(name)
    return path if path.suffix or path.exists() else located(Path("configs") / f"{name}.yaml")
