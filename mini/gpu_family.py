"""Trains the small family's image models in minutes on one GPU: renders, encodes, learns, sharpens, exports.

    python -m mini.gpu_family --minutes 7.5 --workers 15 --output $OUT
    python -m mini.gpu_family --install $OUT --into checkpoints/mini      # afterwards, anywhere

Other processes render new landscapes all the while, and the networks learn from what is there: first the autoencoder
(beginning with the weights of --source), then the U-Net with the text encoder (from nothing), then the decoder against
a discriminator, then the segmenter (from --source's weights). Each part has its share of --minutes by the clock, so
that the whole never takes longer, and is written as soon as it is there, the U-Net once a minute:

    DIR/autoencoder.tar   DIR/unet.tar (with text encoder, tokenizer, scheduler)   DIR/segmenter.tar
    DIR/family.json       what was done, for the cards          DIR/log.txt     a line per event
    DIR/samples.jpg       a picture per prompt, 256 px; the last row 384 px
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from text2cinemagraph.data.files import atomic
from text2cinemagraph.img2img.autoencoder import PatchAutoencoder
from text2cinemagraph.img2img.ddim import alpha_pairs, step
from text2cinemagraph.img2img.diffusion import Diffusion, scheduler_alphas
from text2cinemagraph.mini.album import Page, deck_of, power_above, to_range
from text2cinemagraph.mini.export import segmenter_card, write_card, write_diffusion
from text2cinemagraph.mini.procedural import STYLES, Job
from text2cinemagraph.mini.scene_stream import SceneStream
from text2cinemagraph.mini.sharpen import sharpen
from text2cinemagraph.mini.train_autoencoder import (
    AUTOENCODER,
    AUTOENCODER_TRAINING,
    DECODER_TRAINING,
    autoencoder_trainer,
    finish_autoencoder,
    learn_autoencoder,
    reconstruction_loss,
)
from text2cinemagraph.mini.train_segmenter import (
    SEGMENTER_TRAINING,
    build_segmenter,
    segmenter_batch,
    segmenter_processor,
    segmenter_trainer,
    start_from,
)
from text2cinemagraph.mini.train_unet import (
    SCHEDULER,
    TEXT,
    UNET,
    UNET_TRAINING,
    WORDINGS,
    WORDS,
    build_text_encoder,
    build_unet,
    latents_digest,
    tokenize,
    unet_trainer,
)
from text2cinemagraph.mini.training import config_of, learn, notes, read_json, write_json
from text2cinemagraph.models.training.config import TrainingConfig
from text2cinemagraph.models.training.trainer import Trainer
from text2cinemagraph.options.cli import Parser, number, run_main
from text2cinemagraph.options.fields import SEEDS
from text2cinemagraph.options.runtime import hardware, make_runtime
from transformers import CLIPTokenizer

SIZES = 256, 384  # px of the pictures, multiples of 64; every eighth scene is of the larger size
LARGE_EVERY = 8
LARGE_STEPS = 0.2  # share of the U-Net's steps that see the larger size
HELD = 40  # scenes of the smaller size that nothing learns from
PAINTINGS, EDITION = 1, 2  # styles per scene; of the renderer, see mini/styles.py
ENDS = {"gather": 0.06, "autoencoder": 0.21, "unet": 0.78, "decoder": 0.88, "segmenter": 0.97}  # shares of the time
# What a step takes: as many pictures (windows, latents) as fill a GPU; a CPU trying this out takes CPU_BATCH.
BATCHES = {"autoencoder": 128, "unet": 384, "decoder": 32, "segmenter": 64}
CPU_BATCH = 4
RATES = {"autoencoder": 4e-4, "unet": 1.2e-3, "decoder": 1.2e-4, "segmenter": 1e-3}
TRAININGS = {
    "autoencoder": AUTOENCODER_TRAINING,
    "unet": UNET_TRAINING,
    "decoder": DECODER_TRAINING,
    "segmenter": SEGMENTER_TRAINING,
}
AVERAGE = 0.9995
DETAIL = 0.7  # share of power above a quarter cycle per px that the sharpened decoder shall keep
SAMPLER = {"steps": 30, "scale": 3.5}
PROMPTS = (
    "river, nature, bright, realistic, photography, 4k",
    "a large waterfall falling from a cliff, realistic photography",
    "a lake in front of mountains at sunset, photograph",
    "sea at a sandy beach, realistic photography",
    "clouds over hills, photograph",
    "river, winter, nature, bright, realistic, photography, 4k",
    "a winding river in the style of starry nights painting",
    "a waterfall in autumn in the style of Leonid Afremov",
    "a calm lake in the style of watercolor",
    "sea in the style of japanese woodblock print",
    "a river in the style of low poly",
    "clouds in the style of oil painting",
)


class Clock:
    """The time there is, and a log of what it was used for."""

    def __init__(self, minutes: float, output: Path, ends: dict[str, float]) -> None:
        self.total, self.started, self.ends = minutes * 60, time.monotonic(), ends
        self.path = output / "log.txt"

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.started

    def left(self, phase: str) -> float:
        """Minutes until the phase has to end."""
        return max(0.0, self.ends[phase] * self.total - self.seconds) / 60

    def say(self, text: str) -> None:
        """Print a line and keep it in the log."""
        line = f"[{self.seconds:6.1f} s] {text}"
        print(line, flush=True)
        with open(self.path, "a") as log:
            print(line, file=log)


class Family:
    """The pages that grow, the networks, and what was done with them."""

    def __init__(self, stream: SceneStream, clock: Clock, options: Any, device: torch.device) -> None:
        self.stream, self.clock, self.options, self.device = stream, clock, options, device
        self.output, self.source = Path(options.output), Path(options.source)
        self.tokenizer = CLIPTokenizer.from_pretrained(self.source / "diffusion/tokenizer", local_files_only=True)
        small, large = self.sizes = tuple(options.sizes)
        n_large = options.scenes // LARGE_EVERY
        wordings = (WORDINGS, WORDS)
        self.pages = {
            size: Page(size, max(n, 1), 1 + PAINTINGS, device, wordings=wordings)
            for size, n in ((small, options.scenes - n_large), (large, n_large))
        }
        self.held = Page(small, options.held, 1 + PAINTINGS, device)
        self.notes = {"hardware": hardware(device), "torch": torch.__version__, "seed": options.seed}

    def config_of(self, phase: str) -> TrainingConfig:
        """How a part is trained, in the time that is left for it."""
        batch = BATCHES[phase] if self.device.type == "cuda" else CPU_BATCH
        return config_of(
            **TRAININGS[phase]
            | {"minutes": self.clock.left(phase), "batch_size": self.options.batch or batch, "lr": RATES[phase]}
            | {"average": AVERAGE, "seed": self.options.seed, "device": self.device}
        )

    # ------------------------------------------------------------ pictures
    def feed(self, wait: bool = False) -> None:
        """Take the scenes that are finished."""
        for scene in self.stream.collect(wait):
            page = self.pages[scene.label.shape[0]]
            if page.size == self.sizes[0] and not self.held.full(len(scene.looks)):
                self.held.add(scene.pictures, scene.looks, scene.label)
            elif not page.full(len(scene.looks)):
                page.add(scene.pictures, scene.looks, scene.label, scene.tokens)
        if self.stream.failure:
            self.clock.say(f"no more scenes: {self.stream.failure}")
            self.stream.failure = ""

    def gather(self) -> None:
        """Wait for the first scenes: those that are held back and as many again."""
        while self.pages[self.sizes[0]].scenes < self.options.held or not self.pages[self.sizes[1]].scenes:
            if self.stream.over:
                raise RuntimeError("the renderers ended before there were scenes to learn from; see the log")
            self.feed(wait=True)
            if not self.clock.left("gather") and self.pages[self.sizes[0]].scenes >= 8:
                return  # slow renderers: what there is, is enough to begin with

    def filled(self) -> list[Page]:
        """Pages that have pictures."""
        return [page for page in self.pages.values() if page.count]

    def windows(self, count: int, side: int) -> torch.Tensor:
        """Windows of all sizes of pictures, the smaller size three times as often."""
        self.feed()
        large, side = count // 4, min(side, self.sizes[0])
        pages = self.filled()
        parts = [count - large, large] if len(pages) == 2 else [count]
        made = [page.windows(n, side) for page, n in zip(pages, parts) if n]
        return torch.cat(made).contiguous(memory_format=torch.channels_last)

    def scenes(self) -> int:
        """How many scenes there are to learn from."""
        return sum(page.scenes for page in self.pages.values())

    # ------------------------------------------------------------ the parts
    def learn_autoencoder(self) -> None:
        """Begin with the source's weights, if there are any; learn; set the latents' unit."""
        config, folder = self.config_of("autoencoder"), self.source / "diffusion/vae"
        if (folder / "config.json").is_file() and not self.options.fresh:
            self.vae = PatchAutoencoder.from_pretrained(folder).float().to(self.device)
        else:
            self.vae = PatchAutoencoder(**AUTOENCODER)
            patches = to_range(self.pages[self.sizes[0]].pictures[:60].cpu())
            tiles = patches.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 8, 8)
            self.vae.start_from_pca(tiles)
            self.vae.to(self.device)
        path, probe = Path("autoencoder"), to_range(self.held.pictures[:4])
        trainer = autoencoder_trainer(self.vae, config, path)
        learn_autoencoder(trainer, lambda n: self.windows(n, 64), probe, path, save=lambda: None)
        trainer.take_average()
        finish_autoencoder(self.vae, self.filled(), 500 if self.device.type == "cuda" else 20)
        self.notes["autoencoder"] = notes(trainer, batch=config.batch_size, scores=self.reconstruction())
        self.write_autoencoder()

    @torch.no_grad()
    def reconstruction(self) -> dict[str, Any]:
        """PSNR in dB and kept detail above a quarter cycle per px, of the scenes that were held back."""
        found, looks = {}, self.held.looks[: self.held.count]
        self.vae.eval()
        for name, rows in (("natural", looks == 0), ("painted", looks > 0)):
            psnr, kept = [], []
            for picture in self.held.pictures[: self.held.count][rows]:
                x = to_range(picture[None])
                made = self.vae.decode(self.vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
                psnr.append(10 * torch.log10(4 / F.mse_loss(made, x)))
                kept.append((power_above(made, 1 / 4) / power_above(x, 1 / 4)).mean())
            if psnr:
                found[name] = {
                    "psnr_db": round(torch.stack(psnr).mean().item(), 2),
                    "detail_above_4th": round(torch.stack(kept).mean().item(), 3),
                }
        return found

    def learn_unet(self) -> None:
        """From nothing, on everything that is there by then, with what comes in the meantime."""
        unet, text_encoder = build_unet().to(self.device), build_text_encoder(self.tokenizer).to(self.device)
        self.unet, self.text_encoder = unet.train(), text_encoder.train()
        empty, draws, decks = tokenize(self.tokenizer, [""]), 0, {}

        def draw(count: int) -> tuple[torch.Tensor, torch.Tensor]:
            nonlocal draws
            if draws % 50 == 0:
                self.feed()
                for page in self.filled():
                    page.encode(self.vae)
                    decks[page.size] = deck_of(page, empty)
            draws += 1
            size = self.sizes[1] if self.sizes[1] in decks and np.random.random() < LARGE_STEPS else self.sizes[0]
            return decks[size].draw(max(1, round(count * (self.sizes[0] / size) ** 2)))

        draw(self.config_of("unet").batch_size)
        self.clock.say(f"encoded {self.scenes()} scenes")
        self.write_unet()  # what cannot be written is known before minutes are spent on it
        config = dataclasses.replace(self.config_of("unet"), save_seconds=60)
        trainer = unet_trainer(unet, text_encoder, config, Path("unet"))
        told = [time.monotonic()]

        def watch(trainer: Trainer, _: object) -> None:
            steps, samples = trainer.state.steps, trainer.state.images
            if steps % 20 == 0 and time.monotonic() - told[0] > 15:
                told[0] = time.monotonic()
                self.clock.say(
                    f"U-Net step {steps}, {samples} samples, loss {trainer.loss:.4f}, {self.scenes()} scenes"
                )

        def save() -> None:
            self.notes["unet"] = notes(
                trainer,
                batch=config.batch_size,
                rate=config.lr,
                loss=None if math.isnan(trainer.loss) else round(trainer.loss, 4),
                latents_of=latents_digest(self.vae),
            )
            with trainer.averaged():
                self.write_unet()

        learn(trainer, draw, Path("unet"), save=save, watch=watch)
        trainer.take_average()

    def sharpen(self) -> None:
        """The decoder against a discriminator, on painted and natural pictures alike."""
        config = self.config_of("decoder")
        self.vae.train()
        steps = sharpen(
            self.vae,
            lambda count: self.windows(count, 128),
            reconstruction_loss,
            config,
            channels=64,
            detail=DETAIL,
            report=self.clock.say,
        )
        self.notes["decoder"] = {
            "steps": steps,
            "samples": steps * config.batch_size,
            "minutes": round(config.minutes or 0, 2),
            "scores": self.reconstruction(),
        }
        self.write_autoencoder()

    def learn_segmenter(self) -> None:
        """Begin with the source's weights as far as they fit."""
        config, page, path = self.config_of("segmenter"), self.pages[self.sizes[0]], Path("segmenter")
        self.segmenter = build_segmenter()
        if not self.options.fresh:
            start_from(self.segmenter, self.source / "segmenter")
        trainer = segmenter_trainer(self.segmenter, config, path)
        learn(trainer, lambda n: segmenter_batch(page, self.vae, n), path, save=lambda: None)
        trainer.take_average()
        self.notes["segmenter"] = notes(trainer, batch=config.batch_size, scores=self.pixels_right())
        with self.packed("segmenter.tar") as folder:
            self.segmenter.eval().cpu().half().save_pretrained(folder / "segmenter")
            segmenter_processor().save_pretrained(folder / "segmenter")

    @torch.no_grad()
    def pixels_right(self) -> dict[str, float]:
        """Share of pixels with the right label, of natural and painted pictures that were held back."""
        found, held = {}, self.held
        looks = held.looks[: held.count]
        self.segmenter.eval()
        for name, rows in (("natural", looks == 0), ("painted", looks > 0)):
            right = [
                (self.segmenter(pixel_values=to_range(picture[None])).logits.argmax(1) == label).float().mean()
                for picture, label in zip(
                    held.pictures[: held.count][rows], held.labels[held.scene[: held.count][rows]]
                )
            ]
            if right:
                found[f"accuracy_{name}"] = round(torch.stack(right).mean().item(), 4)
        return found

    # ------------------------------------------------------------ files
    def packed(self, name: str) -> _Packed:
        """Context: a folder whose content becomes output/<name>; family.json beside it."""
        return _Packed(self.output / name, lambda: self.write_notes())

    def write_autoencoder(self) -> None:
        """autoencoder.tar"""
        with self.packed("autoencoder.tar") as folder:
            write_diffusion(folder / "diffusion", {"vae": self.vae})

    def write_unet(self) -> None:
        """unet.tar"""
        with self.packed("unet.tar") as folder:
            write_diffusion(folder / "diffusion", {"unet": self.unet, "text_encoder": self.text_encoder})
            shutil.copytree(self.source / "diffusion/tokenizer", folder / "diffusion/tokenizer")

    def write_notes(self) -> None:
        """family.json"""
        self.notes |= {
            "options": {"unet": UNET, "text_encoder": TEXT, "scheduler": SCHEDULER, "autoencoder": AUTOENCODER},
            "dataset": {
                "root": "rendered while training",
                "scenes": self.scenes(),
                "pictures": sum(page.count for page in self.pages.values()),
                "sizes": {str(size): page.scenes for size, page in self.pages.items()},
                "seed": self.options.seed,
                "edition": EDITION,
            },
            "seconds": round(self.clock.seconds, 1),
        }
        write_json(self.output / "family.json", self.notes)

    @torch.no_grad()
    def draw_samples(self) -> None:
        """samples.jpg: what PROMPTS draw, in rows of six."""
        self.unet.eval(), self.text_encoder.eval(), self.vae.eval()
        alphas, predicts = scheduler_alphas(DDIMScheduler(**SCHEDULER))
        drawing = Diffusion(
            self.tokenizer,
            self.text_encoder,
            self.vae,
            self.unet,
            alphas_cumprod=alphas,
            prediction_type=predicts,
        )
        generator = torch.Generator().manual_seed(self.options.seed)
        rows, steps = [], self.options.sampler_steps
        for size, prompts in ((self.sizes[0], PROMPTS), (self.sizes[1], PROMPTS[:4])):
            context = drawing.encode_text([*prompts, *[""] * len(prompts)])
            x = torch.randn(len(prompts), AUTOENCODER["latent_channels"], size // 8, size // 8, generator=generator)
            x = x.to(self.device)
            for t, a_from, a_to in alpha_pairs(alphas, steps):
                asked, plain = drawing.predict_noise(torch.cat([x, x]), t, context).chunk(2)
                x = step(x, plain + SAMPLER["scale"] * (asked - plain), a_from, a_to)
            pictures = [drawing.decode(latent[None])[0].permute(1, 2, 0).cpu().numpy() for latent in x]
            per_row = 6 * self.sizes[0] // size
            rows += [np.concatenate(pictures[i : i + per_row], 1) for i in range(0, len(pictures), per_row)]
        width = max(row.shape[1] for row in rows)
        rows = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
        sheet = np.uint8(np.round(np.concatenate(rows) * 255))[..., ::-1]
        with atomic(self.output / "samples.jpg") as path:
            cv2.imwrite(str(path), sheet, [cv2.IMWRITE_JPEG_QUALITY, 92])


class _Packed:
    def __init__(self, path: Path, done: Callable[[], None]) -> None:
        self.path, self.done = path, done

    def __enter__(self) -> Path:
        self.folder = tempfile.TemporaryDirectory()
        return Path(self.folder.name)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            with atomic(self.path) as path, tarfile.open(path, "w") as archive:
                for item in sorted(Path(self.folder.name).iterdir()):
                    archive.add(item, item.name)
            self.done()
        self.folder.cleanup()


def train_family(family: Family) -> list[str]:
    """All phases, each until its end on the clock; one that fails is told and passed over, what it needs was written
    before.
    """
    say = family.clock.say
    phases = (
        ("gather", family.gather),
        ("autoencoder", family.learn_autoencoder),
        ("unet", family.learn_unet),
        ("decoder", family.sharpen),
        ("segmenter", family.learn_segmenter),
        ("samples", family.draw_samples),
    )
    failed = []
    for name, phase in phases:
        began = family.clock.seconds
        if name == "decoder":
            family.stream.close()  # the processor is free for what follows
        try:
            phase()
        except Exception as error:  # nobody is there to repeat it: the other parts go on
            failed.append(name)
            say(f"{name} failed: {type(error).__name__}: {str(error)[:300]}")
            if name in ("gather", "autoencoder"):
                break
        said = json.dumps(family.notes.get(name, {}))
        memory = torch.cuda.max_memory_allocated() / 2**30 if family.device.type == "cuda" else 0
        say(f"{name}: {family.clock.seconds - began:.1f} s, {family.scenes()} scenes, {memory:.1f} GiB; {said}")
    family.write_notes()
    return failed


def install(folder: str | Path, into: str | Path) -> None:
    """Unpack what a run left in `folder` into a family's folder, and write the cards."""
    folder, into = Path(folder), Path(into)
    notes = read_json(folder / "family.json")
    if not notes:
        raise FileNotFoundError(f"no family.json in {folder}; expected the --output of a run of mini.gpu_family")
    for name in ("autoencoder.tar", "unet.tar", "segmenter.tar"):
        if (folder / name).is_file():
            with tarfile.open(folder / name) as archive:
                archive.extractall(into, filter="data")
    told = {key: notes[key] for key in ("dataset", "hardware", "torch", "seed", "command") if key in notes}
    options = {key: notes["options"][key] for key in ("unet", "text_encoder", "scheduler")}
    autoencoder = {"options": notes["options"]["autoencoder"], **notes.get("autoencoder", {})}
    parts = {"autoencoder": autoencoder, "decoder": notes.get("decoder", {}), "unet": notes.get("unet", {})}
    write_card(into / "diffusion", {"options": options, **told, **parts})
    if (folder / "segmenter.tar").is_file():
        write_card(into / "segmenter", segmenter_card({**told, **notes.get("segmenter", {})}))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Parser(prog="python -m mini.gpu_family", description=__doc__)
    parser.add_argument("--output", default="outputs/gpu_family", help="folder for what is trained (%(default)s)")
    parser.add_argument(
        "--minutes",
        type=number(float, least=0, most=100_000),
        default=7.5,
        help="for everything (default: %(default)s)",
    )
    parser.add_argument(
        "--workers", type=number(least=1, most=512), default=15, help="processes that render (default: %(default)s)"
    )
    parser.add_argument(
        "--scenes", type=number(least=1, most=1_000_000), default=24000, help="at most (default: %(default)s)"
    )
    parser.add_argument(
        "--sizes",
        type=number(least=32, most=8192),
        nargs=2,
        default=SIZES,
        help="of the pictures, in px (default: 256 384)",
    )
    parser.add_argument(
        "--held",
        type=number(least=1, most=100_000),
        default=HELD,
        help="scenes held back for scores (default: %(default)s)",
    )
    parser.add_argument("--source", default="checkpoints/mini", help="tokenizer and first weights (%(default)s)")
    parser.add_argument("--fresh", action="store_true", help="take the tokenizer alone from --source")
    parser.add_argument(
        "--batch", type=number(least=0, most=65_536), default=0, help="of every part (default: each its own)"
    )
    parser.add_argument(
        "--sampler_steps",
        type=number(least=1, most=1000),
        default=SAMPLER["steps"],
        help="of samples.jpg (%(default)s)",
    )
    parser.add_argument("--device", default="auto", help="auto (a GPU if there is one) | cpu | cuda")
    parser.add_argument(
        "--seed",
        type=number(least=0, most=SEEDS - 1),
        default=0,
        help="of landscapes and weights (default: %(default)s)",
    )
    parser.add_argument("--install", help="folder of a finished run to unpack instead")
    parser.add_argument("--into", default="checkpoints/mini", help="where to unpack it (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.install:
        install(options.install, options.into)
        print(f"{options.into} holds the family of {options.install}")
        return
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    clock = Clock(options.minutes, output, ENDS)
    tokenizer = CLIPTokenizer.from_pretrained(Path(options.source) / "diffusion/tokenizer", local_files_only=True)
    jobs = (
        Job(
            i,
            None,
            options.sizes[i % LARGE_EVERY == LARGE_EVERY - 1],
            options.seed,
            n_styles=PAINTINGS,
            edition=EDITION,
        )
        for i in range(options.scenes + options.held)
    )
    stream = SceneStream(jobs, options.workers, WORDINGS, lambda captions: tokenize(tokenizer, captions).numpy())
    device = make_runtime(options.device, threads=1).device
    torch.manual_seed(options.seed)
    np.random.seed(options.seed)
    torch.set_float32_matmul_precision("high")
    family = Family(stream, clock, options, device)
    family.notes["command"] = "python -m mini.gpu_family " + " ".join(sys.argv[1:] if arguments is None else arguments)
    clock.say(f"{hardware(device)}, torch {torch.__version__}, styles {', '.join(STYLES)}")
    failed = train_family(family)
    stream.close()
    clock.say(f"done; failed: {', '.join(failed) or 'nothing'}")


if __name__ == "__main__":
    run_main(main)
