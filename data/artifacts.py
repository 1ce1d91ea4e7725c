"""The kinds of file that stages hand to each other: how each is read and written. Imports no torch until used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch

OWN_MEGAPIXELS = 1000.0  # what the stages wrote themselves was measured when it came in


@dataclass(frozen=True)
class Artifact:
    """One file of an experiment folder.  name: what stages call it.  file: its name in the folder."""

    name: str
    file: str

    def read(self, path: Path) -> Any:
        raise NotImplementedError

    def write(self, path: Path, value: Any) -> None:
        raise NotImplementedError


class Picture(Artifact):
    """[3,H,W] float32 in [0,1]; written from that or from uint8 [H,W,3]."""

    def read(self, path: str | Path) -> torch.Tensor:
        from text2cinemagraph.data.media import read_image

        return read_image(path, max_megapixels=OWN_MEGAPIXELS)

    def write(self, path: str | Path, value: torch.Tensor) -> None:
        from text2cinemagraph.data.media import write_image

        write_image(path, value)


class Mask(Artifact):
    """[1,H,W] bool, True = may move."""

    def read(self, path: str | Path) -> torch.Tensor:
        from text2cinemagraph.data.media import read_mask

        return read_mask(path, max_megapixels=OWN_MEGAPIXELS)

    def write(self, path: str | Path, value: torch.Tensor) -> None:
        from text2cinemagraph.data.media import write_mask

        write_mask(path, value)


class Flow(Artifact):
    """[2,H,W] float32, px/frame at HxW, (dx right, dy down)."""

    def read(self, path: str | Path) -> torch.Tensor:
        from text2cinemagraph.data.flow import read_flow

        return read_flow(path, max_megapixels=OWN_MEGAPIXELS)

    def write(self, path: str | Path, value: torch.Tensor) -> None:
        from text2cinemagraph.data.flow import write_flow

        write_flow(path, value)


class Classes(Artifact):
    """{name: bool [1,H,W]}, the pixels of each class of the vocabulary, as one palette PNG with the names in its text.

    Classes do not overlap: where two do, the first keeps the pixel.
    """

    def read(self, path: str | Path) -> dict[str, Any]:
        from text2cinemagraph.data.class_masks import read_classes

        return read_classes(path)

    def write(self, path: str | Path, value: dict[str, Any]) -> None:
        from text2cinemagraph.data.class_masks import write_classes

        write_classes(path, value)


class Motion(Artifact):
    """A data.motion_file.DrawnMotion, as motion.json."""

    def read(self, path: str | Path) -> Any:
        from text2cinemagraph.data.motion_file import read_motion_file

        return read_motion_file(path)

    def write(self, path: str | Path, value: Any) -> None:
        from text2cinemagraph.data.motion_file import write_motion_file

        write_motion_file(path, value)


class Tensors(Artifact):
    """A tensor, or a dict of tensors, as safetensors."""

    ALONE: ClassVar[str] = "data"  # the name in the file of a tensor that is no dict's

    def read(self, path: str | Path) -> torch.Tensor | dict[str, torch.Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}); run the stage that makes it again") from error
        return tensors[self.ALONE] if set(tensors) == {self.ALONE} else tensors

    def write(self, path: str | Path, value: torch.Tensor | dict[str, torch.Tensor]) -> None:
        from safetensors.torch import save_file
        from text2cinemagraph.data.files import atomic

        tensors = value if isinstance(value, dict) else {self.ALONE: value}
        with atomic(path) as temporary:
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary)


class Clip(Artifact):
    """A video, written frame by frame by data.animation.ClipWriter at the experiment's `path`."""


class Record(Artifact):
    """A text that a stage leaves for people and other programs (JSON); written by its own module."""


@dataclass(frozen=True)
class Panel:
    """One picture of summary.png, shown where all of `needs` are there.  show: how, a key of data.summary.SHOWS."""

    label: str
    needs: tuple[str, ...]
    show: str
