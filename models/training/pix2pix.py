"""Generator and discriminator with their losses (conditional GAN after pix2pixHD). The discriminator may be left
out.
"""

import functools
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from text2cinemagraph.data.datasets import FrameBatch, MotionBatch
from text2cinemagraph.data.flow import flow_to_color
from text2cinemagraph.models import losses
from text2cinemagraph.models.layers import NoiseNorm, initialise
from text2cinemagraph.models.motion import encode_captions, motion_input
from text2cinemagraph.models.networks import build_discriminator
from text2cinemagraph.models.training.memory import frozen
from text2cinemagraph.models.training.trainer import Losses
from text2cinemagraph.options.train import MotionOptions, MotionTrain, VideoTrain
from torch import nn

Fields = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class MotionTask(nn.Module):
    """Flow from a MotionBatch, in the units of the network (1/motion_norm)."""

    def __init__(self, net: nn.Module, options: MotionOptions, tokenizer: Any = None, text_encoder: Any = None) -> None:
        """net: build_motion(options).   options: MotionOptions.   tokenizer, text_encoder: for a network that reads
        captions.
        """
        super().__init__()
        self.net, self.options = net, options
        self._read = (tokenizer, text_encoder)  # a tuple: the frozen text encoder is no part of this module
        self._tokens: dict[str, torch.Tensor] = {}

    def forward(self, batch: MotionBatch) -> Fields:
        """(condition, made flow, true flow): [N,4|6,H,W], [N,2,H,W], [N,2,H,W]."""
        hint = batch.hint if self.options.takes_hint else None
        condition = motion_input(batch.image, batch.mask, hint, self.options.motion_norm)
        context = self.context(batch.caption) if self.options.takes_text else None
        return condition, self.net(condition, context).float(), batch.flow / self.options.motion_norm

    @staticmethod
    def pictures(batch: MotionBatch, fake: torch.Tensor) -> dict[str, torch.Tensor]:
        """What to look at, of the first item: {label: [3,H,W] in [0,1]}, CPU.   fake: the made flow [N,2,H,W]."""
        shown = {
            "input_image": batch.image[0],
            "synthesized_flow": _colors(fake[0]),
            "real_flow": _colors(batch.flow[0]),
            "mask": batch.mask[0].float().expand(3, -1, -1),
        }
        if batch.hint is not None:
            shown["hint_flow"] = _colors(batch.hint[0])
        return {label: picture.detach().float().cpu() for label, picture in shown.items()}

    def context(self, captions: Iterable[str]) -> torch.Tensor:
        """Caption tokens [N,S,D]; every caption is encoded once and kept in half precision."""
        new = [caption for caption in dict.fromkeys(captions) if caption not in self._tokens]
        if new:
            self._tokens.update(zip(new, encode_captions(new, *self._read).half()))
        return torch.stack([self._tokens[caption].float() for caption in captions])


class VideoTask(nn.Module):
    """The middle frame from a FrameBatch, in [-1,1]."""

    def __init__(self, net: nn.Module, freeze_norm: bool = False) -> None:
        """freeze_norm: norms use their stored statistics while training too, as they will in use (for the last part of
        it).
        """
        super().__init__()
        self.net, self.freeze_norm = net, freeze_norm

    def train(self, mode: bool = True) -> "VideoTask":
        """As of any module, but for norms that are frozen."""
        super().train(mode)
        for module in self.modules():
            if self.freeze_norm and isinstance(module, NoiseNorm):
                module.eval()
        return self

    def forward(self, batch: FrameBatch) -> Fields:
        """(condition, made frame, true frame): [N,8,H,W], [N,3,H,W], [N,3,H,W]."""
        start, end, middle = (2 * image - 1 for image in (batch.start, batch.end, batch.middle))
        return torch.cat([start, end, batch.flow], 1), self.net(start, end, batch.flow, batch.index).float(), middle

    @staticmethod
    def pictures(batch: FrameBatch, fake: torch.Tensor) -> dict[str, torch.Tensor]:
        """What to look at, of the first item: {label: [3,H,W] in [0,1]}, CPU.   fake: the made middle frame [N,3,H,W]
        in [-1,1].
        """
        shown = {
            "start_image": batch.start[0],
            "end_image": batch.end[0],
            "generated_image": (fake[0] + 1) / 2,
            "real_image": batch.middle[0],
            "real_flow": _colors(batch.flow[0]),
        }
        return {label: picture.detach().float().cpu() for label, picture in shown.items()}


def _colors(flow: torch.Tensor) -> torch.Tensor:
    """A flow [2,H,W] as a picture [3,H,W]."""
    return torch.from_numpy(flow_to_color(flow.float())).permute(2, 0, 1) / 255


class Pix2Pix(nn.Module):
    """A task's network and, with gan, its discriminator; knows what each of them should minimise."""

    def __init__(
        self,
        task: MotionTask | VideoTask,
        discriminator: nn.Module | None = None,
        *,
        use_epe: bool = False,
        use_l1: bool = False,
        vgg: losses.VGGLoss | None = None,
        weight: float = losses.WEIGHT,
        match_features: bool = True,
        least_squares: bool = True,
    ) -> None:
        """task: MotionTask or VideoTask.   discriminator: MultiscaleDiscriminator or None (gan off).

        weight: of feature matching and VGG (lambda_feat).   match_features, least_squares: see losses.feature_matching,
        losses.gan.
        """
        super().__init__()
        self.task, self.discriminator, self.vgg = task, discriminator, vgg
        self.use_epe, self.use_l1 = use_epe, use_l1
        self.weight, self.match_features, self.least_squares = weight, match_features, least_squares
        if not (use_epe or use_l1 or vgg or discriminator):
            raise ValueError("nothing to minimise: gan is off and no loss is on; add --use_epe_loss or --use_l1_loss")

    @property
    def generator(self) -> nn.Module:
        """The task's network."""
        return self.task.net

    @property
    def networks(self) -> dict[str, nn.Module]:
        """What a training saves, by name."""
        both = {"generator": self.generator, "discriminator": self.discriminator}
        return {name: network for name, network in both.items() if network is not None}

    def forward(self, batch: Any) -> Losses:
        """The losses of a batch, and the made output.

        The generator's terms (G_...) are added, the discriminator's (D_...) by half. One backward pass serves both:
        what the generator is told by the discriminator leaves no gradient there.
        """
        condition, fake, real = self.task(batch)
        terms: dict[str, torch.Tensor] = {}
        verdict: dict[str, torch.Tensor] = {}
        if self.discriminator is not None:
            terms, verdict = self._adversarial(self.discriminator, condition, fake, real)
        if self.vgg is not None:
            terms["G_VGG"] = self.weight * self.vgg(fake, real)
        if self.use_l1:
            terms["G_L1"] = losses.WEIGHT * F.l1_loss(fake, real)
        if self.use_epe:
            terms["G_EPE"] = losses.WEIGHT * losses.epe(fake, real)
        total = sum(terms.values(), fake.new_zeros(())) + 0.5 * sum(verdict.values(), fake.new_zeros(()))
        return Losses(total, {**terms, **verdict}, fake)

    def _adversarial(
        self, discriminator: nn.Module, condition: torch.Tensor, fake: torch.Tensor, real: torch.Tensor
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """The generator's terms and the discriminator's."""
        seen_fake = discriminator(torch.cat([condition, fake.detach()], 1))
        seen_real = discriminator(torch.cat([condition, real], 1))
        judge = functools.partial(losses.gan, least_squares=self.least_squares)
        verdict = {"D_real": judge(seen_real, True), "D_fake": judge(seen_fake, False)}
        with frozen(discriminator):
            judged = discriminator(torch.cat([condition, fake], 1))
        terms = {"G_GAN": judge(judged, True)}
        if self.match_features:
            terms["G_GAN_Feat"] = self.weight * losses.feature_matching(judged, seen_real)
        return terms, verdict


def start_discriminator(options: MotionTrain | VideoTrain) -> nn.Module | None:
    """The discriminator of TrainOptions (with input_nc and output_nc) as a training begins with it; None without
    gan.
    """
    if not options.gan:
        return None
    return start_weights(
        build_discriminator(options.input_nc + options.output_nc, options.ndf, options.n_layers_D, options.num_D),
        "normal",
    )


def start_weights(net: nn.Module, kind: str) -> nn.Module:
    """The weights a training from scratch begins with, in place; returns net.

    kind "normal": as published. "default": torch's own, larger. "identity": as published, but 1x1 shortcuts hand their
    channels on as they are, so that the video network begins as a plain splat of the picture's colours and learns the
    rest.
    """
    if kind == "default":
        return net
    initialise(net)
    for module in net.modules() if kind == "identity" else ():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            nn.init.dirac_(getattr(module, "weight_orig", module.weight))
    return net
