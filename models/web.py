"""The page of a training, as users of pix2pixHD know it: web/index.html with the pictures of every epoch, the newest first."""

import html
import re
from pathlib import Path

import torch.nn.functional as F
from text2cinemagraph.data.files import atomic
from text2cinemagraph.data.media import write_image

NAME = re.compile(r"epoch(\d+)_(\w+)\.jpg")


class WebPage:
    """Writes <folder>/index.html and <folder>/images/epochNNN_<label>.jpg; pictures of earlier runs stay on the page."""

    def __init__(self, folder, title, width=512):
        """folder: <checkpoints_dir>/<name>/web.   title: the training's name.   width: px of a picture on the page."""
        self.folder, self.title, self.width = Path(folder), title, width

    def add(self, epoch, pictures):
        """Show pictures {label: [3,H,W] in [0,1]} as those of an epoch, instead of what it showed before."""
        for label, picture in pictures.items():
            if picture.shape[-1] > self.width:  # [3,H,W] keeps its aspect
                size = round(picture.shape[1] * self.width / picture.shape[2]), self.width
                picture = F.interpolate(picture[None], size, mode="bilinear", align_corners=False, antialias=True)[0]
            write_image(self.folder / "images" / f"epoch{epoch:03}_{label}.jpg", picture)
        with atomic(self.folder / "index.html") as path:
            path.write_text(self._text(list(pictures)), encoding="utf-8")

    def _text(self, order):
        epochs = {}
        for path in sorted((self.folder / "images").glob("epoch*.jpg")):
            if found := NAME.fullmatch(path.name):
                epochs.setdefault(int(found[1]), {})[found[2]] = path.name
        rows = [self._row(epoch, epochs[epoch], order) for epoch in sorted(epochs, reverse=True)]
        name = html.escape(self.title)
        return (
            f'<!DOCTYPE html>\n<html>\n<head><meta charset="utf-8"><meta http-equiv="refresh" content="60"><title>{name}</title>\n'
            "<style>body { font-family: sans-serif } td { text-align: center; padding: 2px } "
            f"img {{ max-width: {self.width}px }}</style></head>\n<body>\n<h1>{name}</h1>\n"
            + "\n".join(rows)
            + "\n</body>\n</html>\n"
        )

    def _row(self, epoch, files, order):
        labels = sorted(files, key=lambda label: (order.index(label) if label in order else len(order), label))
        cells = "".join(
            f'<td><a href="images/{files[label]}"><img src="images/{files[label]}" alt="{label}" loading="lazy"></a>'
            f"<br>{label}</td>"
            for label in labels
        )
        return f"<h3>epoch [{epoch}]</h3>\n<table><tr>{cells}</tr></table>"
