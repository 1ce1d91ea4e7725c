"""The experiment folder: what flows between the stages, one file per artifact.

| artifact      | file                        | what `read` gives / `write` takes                                  |
|---------------|-----------------------------|--------------------------------------------------------------------|
| image         | image.png                   | [3,H,W] float32 in [0,1], the artistic picture                      |
| noise         | noise.safetensors           | [1,c,h,w] float32, ~N(0,1), the start latent x_T                    |
| attention     | attention.safetensors       | dict of tensors: what s4 clusters                                   |
| twin          | twin.png                    | [3,H,W] in [0,1], pixel-aligned with image                          |
| mask_odise    | mask_odise.png              | [1,H,W] bool, True = named by the vocabulary                        |
| clusters      | clusters.png                | [3,H,W], the segments of s4 in colours                              |
| mask_self_attn| mask_self_attn.png          | [1,H,W] bool, voted                                                 |
| mask          | mask_self_attn_erosion.png  | [1,H,W] bool, True = may move                                       |
| hint          | hint.png                    | uint8 [H,W,3], the direction hint in colours                        |
| flow          | flow.npz                    | [2,H,W] float32, px/frame at HxW, (dx right, dy down), 0 outside    |
| flow_color    | synthesized_flow.png        | uint8 [H,W,3], the flow in colours                                  |
| video         | video.mp4 (.gif, ...)       | written by data.animation.ClipWriter at `path("video")`             |
| summary       | summary.png                 | written by data.summary.write_summary                               |
"""

import json
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from text2cinemagraph.data.files import atomic, sha256
from text2cinemagraph.data.flow import read_flow, write_flow
from text2cinemagraph.data.media import read_image, read_mask, write_image, write_mask

FILES = {
    "image": "image.png",
    "noise": "noise.safetensors",
    "attention": "attention.safetensors",
    "twin": "twin.png",
    "mask_odise": "mask_odise.png",
    "clusters": "clusters.png",
    "mask_self_attn": "mask_self_attn.png",
    "mask": "mask_self_attn_erosion.png",
    "hint": "hint.png",
    "flow": "flow.npz",
    "flow_color": "synthesized_flow.png",
    "video": "video.mp4",
    "summary": "summary.png",
}
MASKS = ("mask_odise", "mask_self_attn", "mask")


class Experiment:
    """One folder of artifacts. Every write is atomic; reading a missing one says so by name.

    root, name: the folder is root/name; a name with a path in it raises ValueError.
    `kept` holds what is passed between stages of one run in memory only (s1's features for s2); it may be empty.
    """

    def __init__(self, root, name):
        if not re.fullmatch(r"[\w .+-]+", name) or name.strip(". ") == "":
            raise ValueError(
                f"experiment_name {name!r} is not a plain name; use letters, digits, '-', '_' "
                "and give the folder above it in exp_path_root"
            )
        self.folder = Path(root) / name
        self.kept = {}

    def path(self, artifact):
        return self.folder / FILES[artifact]

    def has(self, artifact):
        return self.path(artifact).is_file()

    def read(self, *artifacts):
        """The artifacts in order (one alone is not wrapped in a tuple)."""
        values = tuple(self._read(artifact) for artifact in artifacts)
        return values[0] if len(values) == 1 else values

    def _read(self, artifact):
        path = self.path(artifact)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; run the stage that makes it first")
        if artifact in MASKS:
            return read_mask(path)
        if path.suffix == ".png":
            return read_image(path)
        if path.suffix == ".npz":
            return read_flow(path)
        try:
            tensors = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}); run the stage that makes it again") from error
        return tensors if set(tensors) != {"data"} else tensors["data"]

    def write(self, **artifacts):
        for artifact, value in artifacts.items():
            path = self.path(artifact)
            if artifact in MASKS:
                write_mask(path, value)
            elif path.suffix == ".png":
                write_image(path, value)
            elif path.suffix == ".npz":
                write_flow(path, value)
            else:
                tensors = value if isinstance(value, dict) else {"data": value}
                with atomic(path) as temporary:
                    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary)

    # ------------------------------------------------------------------ the user's own files

    def give(self, **artifacts):
        """Lay the user's own files in the place of a stage's. What belonged to another picture is removed with it."""
        if "image" in artifacts and not self._holds(artifacts["image"]):
            for artifact in ("noise", "attention"):
                self.path(artifact).unlink(missing_ok=True)
        self.write(**artifacts)
        if artifacts:
            record = self.record()
            record["given"] = sorted({*record.get("given", ()), *artifacts})
            self._save(record)

    def _holds(self, image):
        """Whether this very picture lies there already, given by the user."""
        if not (self.given("image") and self.has("image")):
            return False
        there = self.read("image")
        return there.shape == image.shape and bool(
            ((there - image).abs() < 1.5 / 255).all()
        )  # pictures are stored by truncation

    def forget(self, *artifacts):
        """They are the user's no longer: a stage makes them again."""
        record = self.record()
        if set(artifacts) & set(record.get("given", ())):
            record["given"] = [name for name in record["given"] if name not in artifacts]
            self._save(record)

    def options_of(self, stage):
        """The options with which a stage ran last, as a dict; None if it has not run."""
        return self.record().get("stages", {}).get(stage, {}).get("options")

    def given(self, artifact):
        """Whether the artifact is the user's own."""
        return artifact in self.record().get("given", ())

    # ------------------------------------------------------------------ the record: experiment.json

    def record(self):
        """experiment.json as a dict: options, versions, and per stage the sha256 of what it read and made."""
        path = self.folder / "experiment.json"
        try:
            record = json.loads(path.read_text()) if path.is_file() else {}
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise ValueError(f"{path} is damaged; delete it (and give --image again, if the picture is yours)")
        return record

    def note(self, stage, needs, makes, options):
        """Record that `stage` ran: no dates and no durations, so that equal runs leave equal files."""
        record = self.record()
        record["versions"] = {"torch": torch.__version__}
        record.setdefault("stages", {})[stage] = {
            "read": {a: sha256(self.path(a)) for a in needs if self.has(a)},
            "made": {a: sha256(self.path(a)) for a in makes if self.has(a)},
            "options": options,
        }
        record["stages"] = dict(sorted(record["stages"].items()))
        record["given"] = [artifact for artifact in record.get("given", ()) if artifact not in makes]
        self._save(record)

    def _save(self, record):
        with atomic(self.folder / "experiment.json") as temporary:
            temporary.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")

    def stale(self):
        """Stages whose inputs are no longer the ones they read, and those that read what such a stage made; in
        order.
        """
        found, doubtful = [], set()
        for name, entry in sorted(self.record().get("stages", {}).items()):
            if any(
                a in doubtful or self.has(a) and sha256(self.path(a)) != digest for a, digest in entry["read"].items()
            ):
                found.append(name)
                doubtful.update(entry["made"])
        return found
