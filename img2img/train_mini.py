"""Trains the mini tier's image models from scratch on a CPU: an autoencoder, a text-to-image U-Net on its latents, a segmenter.

    python -m img2img.train_mini autoencoder --data dataset/procedural_data/train --output checkpoints/mini --minutes 8 --threads 2
    python -m img2img.train_mini unet        --data dataset/procedural_data/train --output checkpoints/mini --minutes 70 --threads 2
    python -m img2img.train_mini segmenter   --data dataset/procedural_data/train --output checkpoints/mini --minutes 15
    python -m img2img.train_mini export      --data dataset/procedural_data/train --output checkpoints/mini

In this order, on what dataset/procedural.py wrote. Checkpoints, the tokenizer and cached latents stay in <output>-work; --resume goes on
from there (unet: else from exported weights), until --minutes in all. Each command ends with export, which writes float16 weights and a
card.json each to <output>/diffusion (a diffusers folder) and <output>/segmenter (a transformers folder), of whatever is trained by then.
"""

import argparse
import json
import math
import shutil
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    ConvNextConfig,
    DPTImageProcessor,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

from data.files import atomic, sha256
from data.hint import find_direction
from img2img.autoencoder import PatchAutoencoder
from options.cli import run_main

LABELS = ("sky", "mountain", "grass", "tree", "rock", "sand", "river", "waterfall", "lake", "sea")      # as in the label PNGs


# ---------------------------------------------------------------- pictures
class Scenes:
    """What dataset/procedural.py wrote to `folder`: natural and painted pictures, labels, captions.

    scenes: one dict of metadata each, as in <folder>_metadata.jsonl.  Raises FileNotFoundError that says how to render them.
    """

    def __init__(self, folder, scenes):
        self.folder, self.scenes = Path(folder), scenes

    def path(self, index, style=None):
        """The picture of a scene: natural (None) or in one of its styles."""
        name = self.scenes[index]["id"]
        return self.folder / f"{name}_input.jpg" if style is None else Path(f"{self.folder}_styled") / f"{name}_{style}.jpg"

    def picture(self, index, style=None):
        """uint8 [H,W,3], RGB."""
        return read_rgb(self.path(index, style))

    def label(self, index):
        """uint8 [H,W], index into LABELS."""
        return cv2.imread(f"{self.folder}_labels/{self.scenes[index]['id']}_label.png", cv2.IMREAD_GRAYSCALE)

    def caption(self, index, style=None):
        """What was asked for, without the direction of motion, which a still picture does not show."""
        return find_direction(self.scenes[index]["captions"][style or "natural"])[1]

    def variants(self):
        """All pictures as (scene index, style or None)."""
        return [(i, style) for i, scene in enumerate(self.scenes) for style in (None, *scene["styles"])]

    def __len__(self):
        return len(self.scenes)


def read_scenes(folder):
    """Scenes of a folder, sorted by id."""
    listing = Path(f"{Path(folder)}_metadata.jsonl")
    if not listing.is_file():
        raise FileNotFoundError(f"no {listing}; render pictures first: python -m dataset.procedural --output {folder} --count 3000")
    lines = [line for line in listing.read_text().splitlines() if line.strip()]
    return Scenes(folder, sorted(map(json.loads, lines), key=lambda scene: scene["id"]))


def read_rgb(path):
    """uint8 [H,W,3]; FileNotFoundError where there is none."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise FileNotFoundError(f"no readable picture {path}; render the data again (finished scenes are kept)")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def to_tensor(pictures):
    """uint8 pictures [H,W,3] of one size -> [N,3,H,W] in [-1,1]."""
    stacked = np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32)
    return torch.from_numpy(stacked / 127.5 - 1).contiguous(memory_format=torch.channels_last)


# ---------------------------------------------------------------- training
class Training:
    """An optimisation that can stop and go on: modules by name, AdamW, a running average of the weights, the time used.

    path: checkpoint file.   average: decay of the running average; 0 keeps none.
    """

    def __init__(self, modules, path, rate, betas, weight_decay, average=0.0):
        self.modules, self.path, self.rate, self.decay = modules, Path(path), rate, average
        self.parameters = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, rate, betas=betas, weight_decay=weight_decay)
        self.average = [p.detach().clone() for p in self.parameters] if average else []
        self.steps, self.samples, self.seconds, self.losses = 0, 0, 0.0, []

    def resume(self):
        """Go on from the checkpoint file, if there is one; returns whether."""
        if not self.path.is_file():
            return False
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = [tensor.float() for tensor in state["average"]]
        self.steps, self.samples, self.seconds = state["steps"], state["samples"], state["seconds"]
        return True

    def save(self):
        """Write the checkpoint file."""
        state = {"modules": {name: module.state_dict() for name, module in self.modules.items()}, "average": self.average,
                 "optimizer": self.optimizer.state_dict(), "steps": self.steps, "samples": self.samples, "seconds": self.seconds}
        with atomic(self.path) as path:
            torch.save(state, path)

    def run(self, loss_of_batch, batch_size, minutes, schedule, warmup, watch=None, save_seconds=240):
        """Step until `minutes` are used in all.  schedule: share of the time used -> share of the rate.  watch(self): after each step."""
        started, saved = time.monotonic() - self.seconds, time.monotonic()
        progress = tqdm(total=round(minutes * 60), initial=round(min(self.seconds, minutes * 60)), unit="s", desc=self.path.stem)
        while self.seconds < minutes * 60:
            share = self.seconds / (minutes * 60)
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate * min(1, (self.steps + 1) / warmup) * schedule(share)
            self._step(loss_of_batch(batch_size), batch_size)
            if watch:
                watch(self)
            self.seconds = time.monotonic() - started
            progress.update(round(min(self.seconds, minutes * 60)) - progress.n)
            progress.set_postfix(steps=self.steps, loss=f"{np.mean(self.losses):.4f}", refresh=False)
            if time.monotonic() - saved > save_seconds:
                self.save()
                saved = time.monotonic()
        progress.close()
        self.save()

    def _step(self, loss, batch_size):
        if not loss.isfinite():
            raise ValueError(f"the loss became {loss.item()} at step {self.steps}; start again with --resume, or with another --seed")
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.steps, self.samples, self.losses = self.steps + 1, self.samples + batch_size, [*self.losses[-199:], loss.item()]
        if self.average:                                           # the first steps count little: decay grows to its value
            with torch.no_grad():
                torch._foreach_lerp_(self.average, self.parameters, 1 - min(self.decay, (1 + self.steps) / (10 + self.steps)))

    @contextmanager
    def averaged(self):
        """Inside, the modules hold the averaged weights (if there are any)."""
        own = [p.detach().clone() for p in self.parameters]
        self.put(self.average or own)
        try:
            yield
        finally:
            self.put(own)

    @torch.no_grad()
    def put(self, tensors):
        for parameter, tensor in zip(self.parameters, tensors):
            parameter.copy_(tensor)

    def notes(self, **more):
        """For the card."""
        return {"steps": self.steps, "samples": self.samples, "minutes": round(self.seconds / 60, 1), **more}


def cosine(share):
    """From 1 to 0.02 along half a cosine."""
    return 0.02 + 0.49 * (1 + math.cos(math.pi * share))


def late_decay(share):
    """1, falling linearly to 0.02 over the second half."""
    return 1.0 if share < 0.5 else max(0.02, (1 - share) / 0.5)


def write_json(path, content):
    """Readable JSON, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def read_json(path):
    """The content of a JSON file, {} where there is none."""
    return json.loads(Path(path).read_text()) if Path(path).is_file() else {}


# ---------------------------------------------------------------- autoencoder
CROP = 64               # px; textures are learned from small windows: four times the pictures per second of 128


def train_autoencoder(scenes, validation, work, minutes, seed, resume=False):
    """Learn PatchAutoencoder: L1 and gradients on three scales, from a linear start (PCA); writes <work>/vae."""
    rng = np.random.default_rng(seed)
    pictures = np.stack([scenes.picture(*variant) for variant in tqdm(scenes.variants(), "reading pictures")])
    vae = PatchAutoencoder()
    vae.start_from_pca(_patches(autoencoder_batch(pictures, rng, min(2560, 40 * len(pictures))), vae.factor))
    training = Training({"vae": vae.to(memory_format=torch.channels_last)}, work / "autoencoder.pt", 4e-4, (0.9, 0.99), 1e-4, 0.998)
    if resume:
        training.resume()

    def loss_of_batch(count):
        x = autoencoder_batch(pictures, rng, count)
        with torch.autocast("cpu", torch.bfloat16):
            latents = vae.encode_base(x)
            made = vae.decode_base(latents)
        return reconstruction_loss(made.float(), x) + 1e-4 * latents.float().square().mean()

    training.run(loss_of_batch, 16, minutes, cosine, 50, CollapseGuard(vae, to_tensor(pictures[:4])))
    with training.averaged(), torch.no_grad():
        vae.eval()
        some = rng.permutation(len(pictures))[:1000]
        latents = torch.cat([vae.encode_base(to_tensor(pictures[some[i:i + 10]])) for i in range(0, len(some), 10)])
        vae.normalise(latents.mean((0, 2, 3)), latents.std((0, 2, 3)))
        vae.save_pretrained(work / "vae")
        write_json(work / "autoencoder.json", training.notes(scores={"psnr_db": autoencoder_scores(vae, validation)}))


def autoencoder_batch(pictures, rng, count):
    """[N,3,CROP,CROP] in [-1,1]: windows, a quarter of them of twice the size and shrunk, half of them mirrored."""
    return to_tensor([_window(pictures[rng.integers(len(pictures))], rng) for _ in range(count)])


def _window(picture, rng):
    side = CROP * (2 if rng.random() < 0.25 else 1)
    y, x = rng.integers(0, (picture.shape[0] - side) // 2 + 1), rng.integers(0, (picture.shape[1] - side) // 2 + 1)
    window = picture[2 * y:2 * y + side, 2 * x:2 * x + side]       # even corners keep the pixel pairs of JPEG's colour together
    if side != CROP:
        window = cv2.resize(window, (CROP, CROP), interpolation=cv2.INTER_AREA)
    return window[:, ::-1] if rng.random() < 0.5 else window


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


class CollapseGuard:
    """Watches the learned part of the decoder: at high rates it can fall silent for good and leave the linear part alone.

    Called after every step; every 100 steps it keeps the weights, or, when the part's rms has fallen below 0.01, puts the last ones back
    and halves the rate.   probe: pictures [N,3,H,W] to watch with.
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
        x = to_tensor([scenes.picture(index, style)])
        made = vae.decode(vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
        found["painted" if style else "natural"].append(10 * np.log10(4 / F.mse_loss(made, x).item()))
    return {kind: round(float(np.mean(values)), 2) for kind, values in found.items() if values}


# ---------------------------------------------------------------- words and the U-Net
WORDS = 32              # tokens of a prompt, both ends counted
TEXT = {"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": WORDS}
UNET = {"sample_size": 16, "in_channels": 32, "out_channels": 32, "block_out_channels": (64, 96, 128, 128), "layers_per_block": 1,
        "cross_attention_dim": 96, "attention_head_dim": 4, "norm_num_groups": 16}
SCHEDULER = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
             "prediction_type": "v_prediction", "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
# Words of prompts that no caption holds, so that they become few tokens.
OTHER_WORDS = ("in left to right, upwards direction", "in right to left, downwards direction",
               "a photograph of the landscape, jungle, hills, cliff, snow, red, blue, green, big, small, boat house city sun moon stars")


def train_tokenizer(captions, folder):
    """Byte-pair tokens of the captions, saved so that CLIPTokenizer reads them: lower case, 32 tokens a prompt."""
    start, end = "<|startoftext|>", "<|endoftext|>"
    tokenizer = Tokenizer(models.BPE(unk_token=end, end_of_word_suffix="</w>", continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True)
    tokenizer.train_from_iterator([*captions, *OTHER_WORDS * 20], trainers.BpeTrainer(
        vocab_size=420, special_tokens=[start, end], end_of_word_suffix="</w>", show_progress=False,
        initial_alphabet=list("abcdefghijklmnopqrstuvwxyz0123456789,.-!'")))
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.model.save(str(folder))
    write_json(folder / "special_tokens_map.json", special)
    write_json(folder / "tokenizer_config.json",
               {"tokenizer_class": "CLIPTokenizer", "model_max_length": WORDS, "do_lower_case": True, **special})


def build_text_encoder(tokenizer):
    """A small CLIP text model over the tokenizer's words."""
    return CLIPTextModel(CLIPTextConfig(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id,
                                        bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.eos_token_id, **TEXT))


def build_unet():
    """A small U-Net of Stable Diffusion's kind; its residual blocks begin as identities, which trains faster."""
    unet = UNet2DConditionModel(**UNET).to(memory_format=torch.channels_last)
    for module in unet.modules():
        if type(module).__name__ == "ResnetBlock2D":
            torch.nn.init.zeros_(module.conv2.weight)
    return unet


@torch.no_grad()
def cached_latents(scenes, vae_folder, path):
    """float16 [n,C,h,w], one per variant of the scenes; encoded once per autoencoder and set of scenes, kept in `path` (.npy)."""
    variants = scenes.variants()
    key = {"vae": sha256(vae_folder / "diffusion_pytorch_model.safetensors"), "pictures": len(variants)}
    if path.is_file() and read_json(path.with_suffix(".json")) == key:
        return torch.from_numpy(np.load(path))
    vae = PatchAutoencoder.from_pretrained(vae_folder).eval().to(memory_format=torch.channels_last)
    batches = [variants[i:i + 16] for i in range(0, len(variants), 16)]
    latents = torch.cat([vae.encode(to_tensor([scenes.picture(*v) for v in batch])).latent_dist.mode().half()
                         for batch in tqdm(batches, "encoding pictures")])
    with atomic(path) as temporary:
        np.save(temporary, latents.numpy())
    write_json(path.with_suffix(".json"), key)
    return latents


def train_unet(scenes, validation, work, minutes, seed, resume=False, exported=None):
    """Learn the U-Net and the text encoder together: velocity prediction, a tenth of the captions empty for guidance.

    exported: a diffusers folder to begin from when resuming without a checkpoint in `work`.
    """
    begin = resume and not (work / "unet.pt").is_file() and exported is not None and (exported / "unet").is_dir()
    if begin:
        for part in ("vae", "tokenizer"):
            shutil.copytree(exported / part, work / part, dirs_exist_ok=True)
    if not (work / "vae").is_dir():
        raise FileNotFoundError(f"no autoencoder in {work / 'vae'}; train it first: python -m img2img.train_mini autoencoder ...")
    captions = [scenes.caption(*variant) for variant in scenes.variants()]
    if not (work / "tokenizer").is_dir():
        train_tokenizer(captions, work / "tokenizer")
    latents = cached_latents(scenes, work / "vae", work / "latents.npy")
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer", local_files_only=True)
    tokens, empty = tokenize(tokenizer, captions), tokenize(tokenizer, [""])
    torch.manual_seed(seed)
    unet, text_encoder = build_unet(), build_text_encoder(tokenizer)
    if begin:
        unet.load_state_dict(UNet2DConditionModel.from_pretrained(exported / "unet").state_dict())
        text_encoder.load_state_dict(CLIPTextModel.from_pretrained(exported / "text_encoder").state_dict())
    training = Training({"unet": unet, "text_encoder": text_encoder}, work / "unet.pt", 1e-3, (0.9, 0.98), 1e-4, 0.999)
    if resume:
        training.resume()
    alphas = DDIMScheduler(**SCHEDULER).alphas_cumprod

    def loss_of_batch(count):
        chosen = torch.randint(len(latents), (count,))
        words = torch.where(torch.rand(count, 1) < 0.1, empty, tokens[chosen])
        return velocity_loss(unet, text_encoder, latents[chosen].float(), words, alphas)

    training.run(loss_of_batch, 32, minutes, late_decay, 100)
    write_json(work / "unet.json", training.notes(batch=32, loss=round(float(np.mean(training.losses or [0])), 4)))


def tokenize(tokenizer, captions):
    """int64 [N,WORDS]; longer captions are cut."""
    return torch.tensor(tokenizer(captions, padding="max_length", max_length=WORDS, truncation=True)["input_ids"])


def velocity_loss(unet, text_encoder, latents, tokens, alphas):
    """Mean squared error of v = sqrt(a) noise - sqrt(1-a) latents at random timesteps (Salimans & Ho, ICLR 2022)."""
    t = torch.randint(0, len(alphas), (len(latents),))
    a, noise = alphas[t].view(-1, 1, 1, 1), torch.randn_like(latents)
    noisy = (a.sqrt() * latents + (1 - a).sqrt() * noise).contiguous(memory_format=torch.channels_last)
    made = unet(noisy, t, text_encoder(tokens).last_hidden_state).sample
    return F.mse_loss(made, a.sqrt() * noise - (1 - a).sqrt() * latents)


# ---------------------------------------------------------------- segmenter
SEGMENTER = {"hidden_sizes": [32, 64, 112, 160], "depths": [2, 2, 3, 1], "head": 64}
GENERATED_SHARE, STYLED_SHARE = 0.3, 0.4


def build_segmenter():
    """A small ConvNeXt with a UperNet head over LABELS; logits come at the pictures' size, computed at a quarter of it."""
    backbone = ConvNextConfig(hidden_sizes=SEGMENTER["hidden_sizes"], depths=SEGMENTER["depths"], layer_scale_init_value=0.5,
                              out_features=["stage1", "stage2", "stage3", "stage4"])
    return UperNetForSemanticSegmentation(UperNetConfig(
        backbone_config=backbone, hidden_size=SEGMENTER["head"], pool_scales=[1, 3], use_auxiliary_head=False,
        id2label=dict(enumerate(LABELS)), label2id={name: i for i, name in enumerate(LABELS)}))


def segmenter_processor():
    """Short side to 256, the size of the training pictures; both sides multiples of 32, so every size is understood."""
    return DPTImageProcessor(size={"height": 256, "width": 256}, keep_aspect_ratio=True, ensure_multiple_of=32, resample=2,
                             image_mean=[0.5] * 3, image_std=[0.5] * 3)


def segmenter_batch(scenes, vae, rng, count):
    """(pictures [N,3,H,W] in about [-1,1], labels [N,H,W] int64), augmented.

    A share has been through the autoencoder with noise on its latents, because s3 looks at generated pictures.
    """
    pictures, labels = zip(*(_segmenter_example(scenes, rng) for _ in range(count)))
    pictures, labels = to_tensor(pictures), torch.from_numpy(np.stack(labels).astype(np.int64))
    generated = torch.from_numpy(rng.random(count) < GENERATED_SHARE)
    if vae is not None and generated.any():
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            latents = vae.encode(pictures[generated]).latent_dist.mode()
            latents = latents + float(rng.uniform(0, 0.35)) * torch.randn_like(latents)
            pictures[generated] = vae.decode(latents).sample.float().clamp(-1, 1)
    gain = 1 + 0.15 * torch.randn(count, 3, 1, 1) * torch.from_numpy(rng.random(count) < 0.7).view(-1, 1, 1, 1)
    return pictures * gain + 0.08 * torch.randn(count, 3, 1, 1), labels


def _segmenter_example(scenes, rng):
    """One picture and its labels: natural or painted, sometimes a window of it enlarged, mirrored, blurred or noisy."""
    index = int(rng.integers(len(scenes)))
    styles = scenes.scenes[index]["styles"]
    style = styles[rng.integers(len(styles))] if styles and rng.random() < STYLED_SHARE else None
    picture, label = scenes.picture(index, style), scenes.label(index)
    if rng.random() < 0.3:
        size = label.shape[0]
        side = int(size * rng.uniform(0.6, 1))
        y, x = rng.integers(0, size - side + 1, 2)
        picture = cv2.resize(picture[y:y + side, x:x + side], (size, size), interpolation=cv2.INTER_LINEAR)
        label = cv2.resize(label[y:y + side, x:x + side], (size, size), interpolation=cv2.INTER_NEAREST)
    if rng.random() < 0.5:
        picture, label = picture[:, ::-1], label[:, ::-1]
    if rng.random() < 0.4:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.4, 1.8)))
    if rng.random() < 0.3:
        noise = rng.normal(0, rng.uniform(2, 10), picture.shape)
        picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(picture), np.ascontiguousarray(label)


def train_segmenter(scenes, validation, work, minutes, seed, resume=False):
    """Learn build_segmenter() on natural, painted and autoencoded pictures; writes <work>/segmenter."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    vae = PatchAutoencoder.from_pretrained(work / "vae").eval() if (work / "vae").is_dir() else None
    net = build_segmenter().train()
    training = Training({"segmenter": net}, work / "segmenter.pt", 1.5e-3, (0.9, 0.99), 1e-2)
    if resume:
        training.resume()

    def loss_of_batch(count):
        pictures, labels = segmenter_batch(scenes, vae, rng, count)
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(pixel_values=pictures).logits
        return F.cross_entropy(logits.float(), labels)

    training.run(loss_of_batch, 8, minutes, late_decay, 50)
    net.eval().save_pretrained(work / "segmenter")
    segmenter_processor().save_pretrained(work / "segmenter")
    scores = segmenter_scores(net, validation) if validation else {}
    write_json(work / "segmenter.json", training.notes(batch=8, scores=scores))


@torch.no_grad()
def segmenter_scores(net, scenes):
    """{"natural" | "painted": {kind: {"iou": mean, "worst": lowest, "scene": its id}, "accuracy": share of all pixels}}.

    What counts is what s3 asks for: all water together, and the sky where clouds move.
    """
    sky, water = LABELS.index("sky"), [LABELS.index(name) for name in ("river", "waterfall", "lake", "sea")]
    found = {"natural": {}, "painted": {}}
    right = {"natural": [], "painted": []}
    for index, style in tqdm(scenes.variants(), "scoring"):
        look, kind = "painted" if style else "natural", scenes.scenes[index]["kind"]
        label = torch.from_numpy(scenes.label(index))
        made = net(pixel_values=to_tensor([scenes.picture(index, style)])).logits[0].argmax(0)
        wanted = torch.tensor([sky] if kind == "clouds" else water)
        a, b = torch.isin(made, wanted), torch.isin(label.long(), wanted)
        iou = ((a & b).sum() / (a | b).sum().clamp(min=1)).item()
        found[look].setdefault(kind, []).append((iou, scenes.scenes[index]["id"]))
        right[look].append((made == label).float().mean().item())
    return {look: {**{kind: {"iou": round(float(np.mean([iou for iou, _ in ious])), 3), "worst": round(min(ious)[0], 3),
                             "scene": min(ious)[1]} for kind, ious in sorted(kinds.items())},
                   "accuracy": round(float(np.mean(right[look])), 3)} for look, kinds in found.items() if kinds}


# ---------------------------------------------------------------- export
def export(scenes, work, output):
    """Write what is trained by now: <output>/diffusion, once all its parts are there, and <output>/segmenter; float16, with cards."""
    data = {"folder": str(scenes.folder), "scenes": len(scenes), "pictures": len(scenes.variants()),
            "metadata_sha256": sha256(f"{scenes.folder}_metadata.jsonl"), "first_seeds": [s["seed"] for s in scenes.scenes[:3]]}
    card = {"data": data}
    if (work / "vae").is_dir() and (work / "tokenizer").is_dir() and (work / "unet.pt").is_file():
        export_diffusion(work, output / "diffusion", card)
    if (work / "segmenter").is_dir():
        net = UperNetForSemanticSegmentation.from_pretrained(work / "segmenter").half()
        net.save_pretrained(output / "segmenter")
        segmenter_processor().save_pretrained(output / "segmenter")
        _write_card(output / "segmenter", {"options": SEGMENTER, **card, **read_json(work / "segmenter.json")})


def export_diffusion(work, folder, card):
    """The diffusers folder, with the averaged weights of the latest U-Net checkpoint."""
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer", local_files_only=True)
    unet, text_encoder = build_unet(), build_text_encoder(tokenizer)
    training = Training({"unet": unet, "text_encoder": text_encoder}, work / "unet.pt", 1e-3, (0.9, 0.98), 1e-4, 0.999)
    training.resume()
    vae = PatchAutoencoder.from_pretrained(work / "vae")
    shutil.copytree(work / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    with training.averaged():
        for name, part in {"unet": unet, "text_encoder": text_encoder, "vae": vae}.items():
            part.half().save_pretrained(folder / name)
            part.float()
    DDIMScheduler(**SCHEDULER).save_pretrained(folder / "scheduler")
    write_json(folder / "model_index.json", {
        "_class_name": "StableDiffusionPipeline", "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["img2img.autoencoder", "PatchAutoencoder"]})
    _write_card(folder, {"options": {"unet": UNET, "text_encoder": TEXT, "scheduler": SCHEDULER}, **card,
                         "autoencoder": read_json(work / "autoencoder.json"),
                         "unet": {**read_json(work / "unet.json"), **training.notes()}})


def _write_card(folder, card):
    weights = sorted(folder.rglob("*.safetensors"))
    write_json(folder / "card.json", {**card, "sha256": {str(p.relative_to(folder)): sha256(p) for p in weights}})


# ---------------------------------------------------------------- the command line
TRAINERS = {"autoencoder": train_autoencoder, "unet": train_unet, "segmenter": train_segmenter, "export": None}


def main(arguments=None):
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m img2img.train_mini", description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=TRAINERS)
    parser.add_argument("--data", default="dataset/procedural_data/train", help="folder of dataset.procedural")
    parser.add_argument("--validation", help="folder to score on (default: validation beside --data, if it is there)")
    parser.add_argument("--output", default="checkpoints/mini")
    parser.add_argument("--minutes", type=float, default=10, help="time for training, resumed runs counted in")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in <output>-work")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    torch.manual_seed(options.seed)
    scenes, output = read_scenes(options.data), Path(options.output)
    work = output.with_name(output.name + "-work")
    held_out = Path(options.validation or Path(options.data).with_name("validation"))
    validation = read_scenes(held_out) if options.validation or Path(f"{held_out}_metadata.jsonl").is_file() else None
    if options.part != "export":
        more = {"exported": output / "diffusion"} if options.part == "unet" else {}
        TRAINERS[options.part](scenes, validation, work, options.minutes, options.seed, options.resume, **more)
        command = "python -m img2img.train_mini " + " ".join(sys.argv[1:] if arguments is None else arguments)
        notes = work / f"{options.part}.json"
        write_json(notes, {"command": command, "seed": options.seed, **read_json(notes)})
    export(scenes, work, output)


if __name__ == "__main__":
    run_main(main)
