"""What a training lets be seen of itself: a progress bar, loss_log.txt, TensorBoard, Weights & Biases, the page of
models/web.py.
"""

import math
from pathlib import Path

from text2cinemagraph.models.web import WebPage
from tqdm import tqdm

LOGS = "logs"  # TensorBoard's folder in <checkpoints_dir>/<name>


class Board:
    """Shows losses and pictures. Only the first process of a training has one; the others have Silence.

    A disk that is full stops the pictures and curves, with one line, not the training: whether that can go on is seen
    when it is saved.
    """

    def __init__(self, folder, total=None, initial=0, tensorboard=False, wandb=False, page=False, width=512, step=0):
        """folder: <checkpoints_dir>/<name>.   total, initial: images in all, and done (total None: not known).
        tensorboard, wandb, page: what to write beside loss_log.txt.   width: px of a picture on the page.   step:
        images already logged.
        """
        self.folder = Path(folder)
        self.bar = tqdm(desc="training", unit="img", total=total, initial=initial, mininterval=5, dynamic_ncols=True)
        self.page = WebPage(self.folder / "web", self.folder.name, width) if page else None
        writers = (tensorboard and tensorboard_writer(self.folder / LOGS, step), wandb and WandB(self.folder))
        self.writers = [writer for writer in writers if writer]

    @property
    def shows_pictures(self):
        """Somebody looks at pictures."""
        return bool(self.page or self.writers)

    def advance(self, images, plan, progress):
        """So many more images are done."""
        if plan.minutes:
            self.bar.set_description(f"training, minute {progress.elapsed / 60:.0f} of {plan.minutes:g}", refresh=False)
        self.bar.update(images)

    def losses(self, progress, terms, lr, seconds):
        """terms: {name: number}.   lr: the rate of this step.   seconds: per image, since the last time."""
        text = " ".join(f"{name}: {value:.4f}" for name, value in terms.items())
        self.bar.set_postfix_str(text, refresh=False)
        self._guard(self._log, f"(epoch: {progress.epoch}, iters: {progress.inside}, time: {seconds:.3f}) {text}\n")
        numbers = {f"loss/{name}": value for name, value in terms.items()}
        numbers |= {"lr": lr, "images_per_second": 1 / seconds if seconds else math.nan, "epoch": progress.epoch}
        for writer in self.writers:
            for name, value in numbers.items():
                self._guard(writer.add_scalar, name, value, progress.images)

    def pictures(self, progress, pictures):
        """pictures: {label: [3,H,W] in [0,1]}, CPU."""
        if self.page:
            self._guard(self.page.add, progress.epoch, pictures)
        for writer in self.writers:
            for label, picture in pictures.items():
                self._guard(writer.add_image, label, picture, progress.images)

    def say(self, text):
        """One line that the bar does not paint over."""
        self.bar.write(text)

    def close(self):
        """No more will come."""
        self.bar.close()
        for writer in self.writers:
            self._guard(writer.close)

    def _log(self, line):
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "loss_log.txt", "a") as file:
            file.write(line)

    def _guard(self, write, *what):
        try:
            write(*what)
        except OSError as error:
            self.say(f"losses and pictures are not written any more: {error}; training goes on")
            self.writers, self.page = [], None


class Silence:
    """The Board of a process that is not the first."""

    shows_pictures = False

    def advance(self, *_):
        """Nothing, like everything here."""

    losses = pictures = say = close = advance


def tensorboard_writer(folder, step):
    """torch's SummaryWriter that forgets what an interrupted run logged after `step`; None, and a line, if TensorBoard
    is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter  # a heavy import that no test of a loop needs
    except ImportError:
        print(
            "no TensorBoard here (pip install tensorboard): losses are in loss_log.txt and pictures in web/index.html"
        )
        return None
    return SummaryWriter(str(folder), purge_step=step or None)


class WandB:
    """Weights & Biases behind the three methods of a SummaryWriter."""

    def __init__(self, folder):
        try:
            import wandb
        except ImportError as error:
            raise ImportError("--wandb needs the package: pip install wandb (and wandb login)") from error
        self._image, self._run = (
            wandb.Image,
            wandb.init(project="text2cinemagraph", name=folder.name, dir=str(folder), resume="allow"),
        )

    def add_scalar(self, name, value, step):
        """One number of a step."""
        self._run.log({name: value}, step=step)

    def add_image(self, name, picture, step):
        """picture: [3,H,W] in [0,1]."""
        self._run.log({name: self._image(picture.permute(1, 2, 0).numpy())}, step=step)

    def close(self):
        """Upload what is left."""
        self._run.finish()
