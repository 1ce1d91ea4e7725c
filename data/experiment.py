"""The experiment folder: what flows between the stages, one file per artifact (inference_t2c.STAGES declares them)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text2cinemagraph.data.artifacts import Artifact, Picture
from text2cinemagraph.data.files import atomic, read_json, sha256

if TYPE_CHECKING:
    import torch

SUMMARY = Picture("summary", "summary.png")  # the stages side by side, written by data.summary


class Experiment:
    """One folder of artifacts. Every write is atomic; reading a missing one says so by name.

    root, name: the folder is root/name; a name with a path in it raises ValueError.
    artifacts: what the folder may hold, in the order of the stages that make it.
    """

    def __init__(self, root: str | Path, name: str, artifacts: tuple[Artifact, ...]) -> None:
        if not re.fullmatch(r"[\w .+-]+", name) or name.strip(". ") == "":
            raise ValueError(
                f"experiment_name {name!r} is not a plain name; use letters, digits, '-', '_' "
                "and give the folder above it in exp_path_root"
            )
        self.folder = Path(root) / name
        self.artifacts = {artifact.name: artifact for artifact in (*artifacts, SUMMARY)}

    def path(self, artifact: str) -> Path:
        return self.folder / self.artifacts[artifact].file

    def has(self, artifact: str) -> bool:
        return self.path(artifact).is_file()

    def digest(self, artifact: str) -> str:
        """The sha256 of an artifact's file."""
        return sha256(self.path(artifact))

    def read(self, *artifacts: str) -> Any:
        """The artifacts in order (one alone is not wrapped in a tuple)."""
        values = tuple(self._read(artifact) for artifact in artifacts)
        return values[0] if len(values) == 1 else values

    def _read(self, artifact):
        path = self.path(artifact)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; run the stage that makes it first")
        return self.artifacts[artifact].read(path)

    def write(self, **artifacts: Any) -> None:
        for name, value in artifacts.items():
            self.artifacts[name].write(self.path(name), value)

    # ------------------------------------------------------------------ the user's own files

    def give(self, **artifacts: Any) -> None:
        """Lay the user's own files in the place of a stage's. What belonged to another picture is removed with it."""
        if "photograph" in artifacts or "image" in artifacts and not self.holds(artifacts["image"]):
            for artifact in ("noise", "attention"):
                self.path(artifact).unlink(missing_ok=True)
        self.write(**artifacts)
        if artifacts:
            record = self.record()
            record["given"] = sorted({*record.get("given", ()), *artifacts})
            self._save(record)

    def holds(self, image: torch.Tensor, artifact: str = "image") -> bool:
        """Whether this very picture [3,H,W] lies there already as that artifact, given by the user."""
        if not (self.given(artifact) and self.has(artifact)):
            return False
        there = self.read(artifact)
        return there.shape == image.shape and bool(
            ((there - image).abs() < 1.5 / 255).all()
        )  # pictures are stored by truncation

    def forget(self, *artifacts: str) -> None:
        """They are the user's no longer: a stage makes them again."""
        record = self.record()
        if set(artifacts) & set(record.get("given", ())):
            record["given"] = [name for name in record["given"] if name not in artifacts]
            self._save(record)

    def options_of(self, stage: str) -> dict[str, Any] | None:
        """The options with which a stage ran last, as a dict; None if it has not run."""
        return self.record().get("stages", {}).get(stage, {}).get("options")

    def given(self, artifact: str) -> bool:
        """Whether the artifact is the user's own."""
        return artifact in self.record().get("given", ())

    # ------------------------------------------------------------------ the record: experiment.json

    def record(self) -> dict[str, Any]:
        """experiment.json as a dict: options, versions, and per stage the sha256 of what it read and made."""
        path = self.folder / "experiment.json"
        advice = "delete it (and give --image again, if the picture is yours)"
        record = read_json(path, advice) if path.is_file() else {}
        if not _is_record(record):
            raise ValueError(f"{path} is damaged (not what a run writes); {advice}")
        return record

    def note(self, stage: str, needs: Iterable[str], makes: Iterable[str], options: dict[str, Any]) -> None:
        """Record that `stage` ran: no dates and no durations, so that equal runs leave equal files."""
        import torch

        record = self.record()
        record["versions"] = {"torch": torch.__version__}
        record.setdefault("stages", {})[stage] = {
            "read": {a: self.digest(a) for a in needs if self.has(a)},
            "made": {a: self.digest(a) for a in makes if self.has(a)},
            "options": options,
        }
        record["given"] = [artifact for artifact in record.get("given", ()) if artifact not in makes]
        self._save(record)

    def _save(self, record):
        with atomic(self.folder / "experiment.json") as temporary:
            temporary.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")

    def stale(self) -> list[str]:
        """Stages whose inputs are no longer the ones they read, and those that read what such stages made, in order."""
        found, doubtful, order = [], set(), list(self.artifacts)
        stages = self.record().get("stages", {}).items()
        known = {name: [order.index(a) for a in entry["made"] if a in order] for name, entry in stages}
        for name, entry in sorted(stages, key=lambda item: min(known[item[0]], default=len(order))):
            if any(a in doubtful or self.has(a) and self.digest(a) != digest for a, digest in entry["read"].items()):
                found.append(name)
                doubtful.update(entry["made"])
        return found


def _is_record(record) -> bool:
    """Whether an experiment.json has the parts that are read of it, in their types."""
    given, stages = record.get("given", []), record.get("stages", {})
    return (
        isinstance(given, list)
        and all(isinstance(name, str) for name in given)
        and isinstance(stages, dict)
        and all(
            isinstance(entry, dict)
            and all(isinstance(entry.get(part), dict) for part in ("read", "made", "options"))
            and all(isinstance(section, dict) for section in entry["options"].values())
            for entry in stages.values()
        )
    )
