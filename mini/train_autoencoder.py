"""The small family's autoencoder: learned from windows of pictures, its decoder sharpened afterwards."""

import numpy as np
import torch
import torch.nn.functional as F
from text2cinemagraph.data.files import sha256
from text2cinemagraph.img2img.autoencoder import PatchAutoencoder
from text2cinemagraph.mini.album import page_of, to_range
from text2cinemagraph.mini.scenes import to_tensor
from text2cinemagraph.mini.sharpen import sharpen
from text2cinemagraph.mini.training import Training, cosine, half_precision, read_json, write_json
from tqdm import tqdm

WEIGHTS = "diffusion_pytorch_model.safetensors"
CROP = 64  # px; textures are learned from small windows: four times the pictures per second of 128
AUTOENCODER = {"pack": 1, "latent_channels": 8}  # 32x32x8 for a picture of 256 px, 24 times fewer numbers
BATCH, RATE = 16, 4e-4


def train_autoencoder(scenes, validation, work, plan):
    """Learn PatchAutoencoder on Scenes of one size, from a linear start (PCA); writes <work>/vae."""
    torch.manual_seed(plan.seed)
    page = page_of(scenes, plan.device, lambda items: tqdm(items, "reading pictures"))
    vae = PatchAutoencoder(**AUTOENCODER)
    some = page.windows(min(2560, 40 * page.count), CROP).cpu()
    vae.start_from_pca(_patches(some, vae.factor))
    training = autoencoder_training(vae.to(plan.device), work / "autoencoder.pt", plan)
    if plan.resume and training.resume() and training.seconds >= plan.minutes * 60 and (work / "vae").is_dir():
        return  # finished; its decoder may have been sharpened since
    learn_autoencoder(training, lambda count: page.windows(count, CROP), to_range(page.pictures[:4]), plan)
    with training.averaged():
        finish_autoencoder(vae, [page])
        vae.save_pretrained(work / "vae")
        write_json(work / "autoencoder.json", training.notes(scores={"psnr_db": autoencoder_scores(vae, validation)}))


def autoencoder_training(vae, path, plan):
    """The Training of an autoencoder that is on its device already."""
    vae.to(memory_format=torch.channels_last)
    return Training({"vae": vae}, path, plan.rate or RATE, (0.9, 0.99), 1e-4, plan.average or 0.998)


def learn_autoencoder(training, draw, probe, plan, save=None):
    """L1 and gradients on three scales.

    draw(count): windows [count,3,h,w] in [-1,1].   probe [N,3,H,W]: pictures to watch the decoder with.
    save(): every few minutes, instead of the training's own file.
    """
    vae = training.modules["vae"]

    def loss_of_batch(count):
        x = draw(count)
        with half_precision(x.device):
            latents = vae.encode_base(x)
            made = vae.decode_base(latents)
        return reconstruction_loss(made.float(), x) + 1e-4 * latents.float().square().mean()

    training.run(
        loss_of_batch,
        plan.batch or BATCH,
        plan.minutes,
        cosine,
        50,
        CollapseGuard(vae, probe),
        samples=plan.samples,
        save=save,
    )


@torch.no_grad()
def finish_autoencoder(vae, pages, count=1000):
    """Set what makes the latents unit-like, as measured on `count` pictures of the pages."""
    vae.eval()
    sums, squares, n = 0, 0, 0
    for page in pages:
        rows = torch.randperm(page.count)[: count // len(pages)].to(page.device)
        for i in range(0, len(rows), 10):
            latents = vae.encode_base(to_range(page.pictures[rows[i : i + 10]])).double()
            sums, squares = sums + latents.sum((0, 2, 3)), squares + latents.square().sum((0, 2, 3))
            n += latents[:, 0].numel()
    mean = sums / n
    vae.normalise(mean.float(), (squares / n - mean**2).clamp(min=1e-12).sqrt().float())


def _patches(pictures, size):
    """[N,3,H,W] -> all its tiles [n,3,size,size]."""
    return pictures.unfold(2, size, size).unfold(3, size, size).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, size, size)


def reconstruction_loss(made, wanted):
    """L1, and 0.3 times L1 of the gradients at three scales and of the two coarser pictures below."""
    loss, gradients = (made - wanted).abs().mean(), 0
    difference = made - wanted
    for _ in range(3):
        gradients += difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
        difference = F.avg_pool2d(difference, 2)
        gradients += difference.abs().mean()
    return loss + 0.3 * gradients


def train_decoder(scenes, validation, work, plan):
    """Sharpen the decoder of <work>/vae. The latents stay what they are, and with them a U-Net that is trained already.

    plan.resume: a decoder that was sharpened is left as it is; one that was interrupted begins again, from the
    autoencoder as it was.
    """
    if plan.resume and read_json(work / "decoder.json").get("vae") == sha256(work / "vae" / WEIGHTS):
        return
    torch.manual_seed(plan.seed)
    page = page_of(scenes, plan.device, lambda items: tqdm(items, "reading pictures"))
    vae = PatchAutoencoder.from_pretrained(work / "vae").float().to(plan.device, memory_format=torch.channels_last)
    more = {"rate": plan.rate} if plan.rate else {}
    steps = sharpen(
        vae, lambda: page.windows(plan.batch or BATCH, CROP), reconstruction_loss, plan.minutes * 60, **more
    )
    vae.eval().save_pretrained(work / "vae")
    write_json(
        work / "decoder.json",
        {
            "steps": steps,
            "minutes": plan.minutes,
            "scores": {"psnr_db": autoencoder_scores(vae, validation)},
            "vae": sha256(work / "vae" / WEIGHTS),
        },
    )


class CollapseGuard:
    """Watches the learned part of the decoder: at high rates it can fall silent for good and leave the linear part
    alone.

    Called after every step; every 100 steps it keeps the weights, or, when the part's rms has fallen below 0.01, puts
    the last ones back and halves the rate.   probe: pictures [N,3,H,W] to watch with.
    """

    def __init__(self, vae, probe, every=100):
        self.vae, self.probe, self.every, self.kept = vae, probe, every, None

    def __call__(self, training):
        if training.steps % self.every:
            return
        with torch.no_grad():
            rms = self.vae.decoder(self.vae.encode_base(self.probe)).square().mean().sqrt()
        if rms >= 0.01:
            self.kept = [p.detach().clone() for p in training.parameters]
        elif self.kept:
            training.put(self.kept)
            training.rate /= 2
            training.optimizer.state.clear()


@torch.no_grad()
def autoencoder_scores(vae, scenes):
    """Mean PSNR in dB of the validation pictures: {"natural": , "painted": }."""
    found = {"natural": [], "painted": []}
    for index, style in scenes.variants() if scenes else ():
        x = to_tensor([scenes.picture(index, style)]).to(vae.device)
        made = vae.decode(vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
        found["painted" if style else "natural"].append(10 * np.log10(4 / F.mse_loss(made, x).item()))
    return {kind: round(float(np.mean(values)), 2) for kind, values in found.items() if values}
