"""Generator and discriminator with their losses (conditional GAN after pix2pixHD). The discriminator may be left
out.
"""

import functools

import torch
import torch.distributed as dist
import torch.nn.functional as F
from text2cinemagraph.data.flow import flow_to_color
from text2cinemagraph.models import losses
from text2cinemagraph.models.layers import SPADE, CrossAttentionBlock, NoiseNorm, PartialConv2d, initialise
from text2cinemagraph.models.motion import encode_captions, motion_input
from text2cinemagraph.models.networks import build_discriminator
from torch import nn
from torch.utils.checkpoint import checkpoint


class MotionTask(nn.Module):
    """Flow from a MotionBatch, in the units of the network (1/motion_norm)."""

    def __init__(self, net, options, tokenizer=None, text_encoder=None):
        """net: build_motion(options).   options: MotionOptions.   tokenizer, text_encoder: for a network that reads
        captions.
        """
        super().__init__()
        self.net, self.options = net, options
        self._read = (tokenizer, text_encoder)  # a tuple: the frozen text encoder is no part of this module
        self._tokens = {}

    def forward(self, batch):
        """(condition, made flow, true flow): [N,4|6,H,W], [N,2,H,W], [N,2,H,W]."""
        hint = batch.hint if self.options.takes_hint else None
        condition = motion_input(batch.image, batch.mask, hint, self.options.motion_norm)
        context = self.context(batch.caption) if self.options.takes_text else None
        return condition, self.net(condition, context).float(), batch.flow / self.options.motion_norm

    @staticmethod
    def pictures(batch, fake):
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

    def context(self, captions):
        """Caption tokens [N,S,D]; every caption is encoded once and kept in half precision."""
        new = [caption for caption in dict.fromkeys(captions) if caption not in self._tokens]
        if new:
            self._tokens.update(zip(new, encode_captions(new, *self._read).half()))
        return torch.stack([self._tokens[caption].float() for caption in captions])


class VideoTask(nn.Module):
    """The middle frame from a FrameBatch, in [-1,1]."""

    def __init__(self, net, freeze_norm=False):
        """freeze_norm: norms use their stored statistics while training too, as they will in use (for the last part of
        it).
        """
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

    @staticmethod
    def pictures(batch, fake):
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


def _colors(flow):
    """A flow [2,H,W] as a picture [3,H,W]."""
    return torch.from_numpy(flow_to_color(flow.float())).permute(2, 0, 1) / 255


class Pix2Pix(nn.Module):
    """A task's network and, with gan, its critic; knows what each of them should minimise."""

    def __init__(
        self,
        task,
        discriminator=None,
        use_epe=False,
        use_l1=False,
        vgg=None,
        weight=losses.WEIGHT,
        match_features=True,
        least_squares=True,
    ):
        """task: MotionTask or VideoTask.   discriminator: MultiscaleDiscriminator or None (gan off).   vgg: VGGLoss or
        None.

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
            terms["G_VGG"] = self.weight * self.vgg(fake, real)
        if self.use_l1:
            terms["G_L1"] = losses.WEIGHT * F.l1_loss(fake, real)
        if self.use_epe:
            terms["G_EPE"] = losses.WEIGHT * losses.epe(fake, real)
        return terms, critic, fake

    def _adversarial(self, condition, fake, real):
        seen_fake = self.discriminator(torch.cat([condition, fake.detach()], 1))
        seen_real = self.discriminator(torch.cat([condition, real], 1))
        judge = functools.partial(losses.gan, least_squares=self.least_squares)
        critic = {"D_real": judge(seen_real, True), "D_fake": judge(seen_fake, False)}
        judged = self.discriminator(torch.cat([condition, fake], 1))
        terms = {"G_GAN": judge(judged, True)}
        if self.match_features:
            terms["G_GAN_Feat"] = self.weight * losses.feature_matching(judged, seen_real)
        return terms, critic


def start_critic(options):
    """The discriminator of TrainOptions (with input_nc and output_nc) as a training begins with it; None without
    gan.
    """
    if not options.gan:
        return None
    return start_weights(
        build_discriminator(options.input_nc + options.output_nc, options.ndf, options.n_layers_D, options.num_D),
        "normal",
    )


def start_weights(net, kind):
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


# ------------------------------------------------------------------ many processes, little memory


class SumOfAll(torch.autograd.Function):
    """The sum of a tensor over all processes, which each of them may differentiate."""

    @staticmethod
    def forward(ctx, x):
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient):
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class WideNorm(NoiseNorm):
    """A NoiseNorm whose batch is the batch of all processes, and whose sums are float32 in half precision too (fp16
    ends at 65504).
    """

    def _batch_statistics(self, x, mask):
        x = x.float()
        count = x.new_tensor(len(x) * x.shape[2] * x.shape[3]) if mask is None else mask.sum()
        sums = torch.cat([x.sum((0, 2, 3)), x.square().sum((0, 2, 3)), count[None]])
        if self.synchronised:
            sums = SumOfAll.apply(sums)
        mean, square = (sums[:-1] / (sums[-1] + (0 if mask is None else 1e-5))).chunk(2)
        var = (square - mean.square()).clamp(min=0)
        self.statistics.update(mean, var)
        return mean, var


class WideConv(PartialConv2d):
    """A PartialConv2d that counts in float32 in half precision too: 1e-8 is 0 in fp16."""

    def reweighted(self, x, mask):
        with torch.autocast(x.device.type, enabled=False):
            covered = F.conv2d(mask.float(), mask.new_ones(1, 1, 3, 3).float(), padding=1) * self.in_channels
            valid = covered.clamp(0, 1)
            ratio = self.in_channels * 9 / (covered + 1e-8) * valid
        out = F.conv2d(x * mask.to(x.dtype), self.weight, padding=1)
        return torch.addcmul(self.bias[:, None, None].to(out.dtype), out, ratio.to(out.dtype)), valid


def widen_norms(net, synchronised):
    """Make the norms and partial convolutions of the video network wide, in place.

    synchronised: statistics over all processes, else each has its own (as the authors' GPUs).
    """
    for module in net.modules():  # as torch converts to SyncBatchNorm: same weights, same names
        if isinstance(module, NoiseNorm):
            module.__class__, module.synchronised = WideNorm, synchronised
        elif isinstance(module, PartialConv2d):
            module.__class__ = WideConv


def checkpoint_layers(net):
    """Let SPADE and attention layers forget their activations and compute them again on the way back, in place.

    These hold most of the memory. They have no spectral weights, whose power iterations would otherwise run twice.
    """
    for module in net.modules():
        if isinstance(module, (SPADE, CrossAttentionBlock)):
            module.forward = functools.partial(
                checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False
            )
