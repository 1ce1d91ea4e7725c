"""Generator and discriminator with their losses (conditional GAN after pix2pixHD). The discriminator may be left out."""

import torch
import torch.nn.functional as F
from torch import nn

from models import losses
from models.layers import NoiseNorm, initialise
from models.motion import encode_captions, motion_input


class MotionTask(nn.Module):
    """Flow from a MotionBatch, in the units of the network (1/motion_norm)."""

    def __init__(self, net, options, tokenizer=None, text_encoder=None):
        """net: build_motion(options).   options: MotionOptions.   tokenizer, text_encoder: for a network that reads captions."""
        super().__init__()
        self.net, self.options = net, options
        self._read = (tokenizer, text_encoder)                  # a tuple: the frozen text encoder is no part of this module
        self._tokens = {}

    def forward(self, batch):
        """(condition, made flow, true flow): [N,4|6,H,W], [N,2,H,W], [N,2,H,W]."""
        hint = batch.hint if self.options.takes_hint else None
        condition = motion_input(batch.image, batch.mask, hint, self.options.motion_norm)
        context = self.context(batch.caption) if self.options.takes_text else None
        return condition, self.net(condition, context).float(), batch.flow / self.options.motion_norm

    def context(self, captions):
        """Caption tokens [N,S,D]; every caption is encoded once and kept in half precision."""
        new = [caption for caption in dict.fromkeys(captions) if caption not in self._tokens]
        if new:
            self._tokens.update(zip(new, encode_captions(new, *self._read).half()))
        return torch.stack([self._tokens[caption].float() for caption in captions])


class VideoTask(nn.Module):
    """The middle frame from a FrameBatch, in [-1,1]."""

    def __init__(self, net, freeze_norm=False):
        """freeze_norm: norms use their stored statistics while training too, as they will in use (for the last part of it)."""
        super().__init__()
        self.net, self.freeze_norm = net, freeze_norm

    def train(self, mode=True):
        super().train(mode)
        for module in self.modules():
            if self.freeze_norm and isinstance(module, NoiseNorm):
                module.eval()
        return self

    def forward(self, batch):
        """(condition, made frame, true frame): [N,8,H,W], [N,3,H,W], [N,3,H,W]."""
        start, end, middle = (2 * image - 1 for image in (batch.start, batch.end, batch.middle))
        return torch.cat([start, end, batch.flow], 1), self.net(start, end, batch.flow, batch.index).float(), middle


class Pix2Pix(nn.Module):
    """A task's network and, with gan, its critic; knows what each of them should minimise."""

    def __init__(self, task, discriminator=None, use_epe=False, use_l1=False, vgg=None):
        """task: MotionTask or VideoTask.   discriminator: MultiscaleDiscriminator or None (gan off).   vgg: VGGLoss or None."""
        super().__init__()
        self.task, self.discriminator, self.vgg = task, discriminator, vgg
        self.use_epe, self.use_l1 = use_epe, use_l1
        if not (use_epe or use_l1 or vgg or discriminator):
            raise ValueError("nothing to minimise: gan is off and no loss is on; add --use_epe_loss or --use_l1_loss")

    @property
    def generator(self):
        return self.task.net

    def forward(self, batch):
        """(generator's terms, discriminator's terms, made output): two dicts name -> scalar, one tensor.

        The generator minimises the sum of its terms, the discriminator half the sum of its own (empty without gan).
        """
        condition, fake, real = self.task(batch)
        terms, critic = {}, {}
        if self.discriminator is not None:
            terms, critic = self._adversarial(condition, fake, real)
        if self.vgg is not None:
            terms["G_VGG"] = losses.WEIGHT * self.vgg(fake, real)
        if self.use_l1:
            terms["G_L1"] = losses.WEIGHT * F.l1_loss(fake, real)
        if self.use_epe:
            terms["G_EPE"] = losses.WEIGHT * losses.epe(fake, real)
        return terms, critic, fake

    def _adversarial(self, condition, fake, real):
        seen_fake = self.discriminator(torch.cat([condition, fake.detach()], 1))
        seen_real = self.discriminator(torch.cat([condition, real], 1))
        critic = {"D_real": losses.gan(seen_real, True), "D_fake": losses.gan(seen_fake, False)}
        judged = self.discriminator(torch.cat([condition, fake], 1))
        terms = {"G_GAN": losses.gan(judged, True),
                 "G_GAN_Feat": losses.WEIGHT * losses.feature_matching(judged, seen_real)}
        return terms, critic


def start_weights(net, kind):
    """The weights a training from scratch begins with, in place; returns net.

    kind "normal": as published. "default": torch's own, larger. "identity": as published, but 1x1 shortcuts hand their channels
    on as they are, so that the video network begins as a plain splat of the picture's colours and learns the rest.
    """
    if kind == "default":
        return net
    initialise(net)
    for module in net.modules() if kind == "identity" else ():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            nn.init.dirac_(getattr(module, "weight_orig", module.weight))
    return net
