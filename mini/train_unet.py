"""The small family's U-Net and text encoder: words, latents, and the loss that both learn from."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from text2cinemagraph.data.files import atomic
from text2cinemagraph.img2img.autoencoder import PatchAutoencoder
from text2cinemagraph.mini.album import Deck, to_range
from text2cinemagraph.mini.captions import wordings
from text2cinemagraph.mini.scenes import Scenes
from text2cinemagraph.mini.training import (
    Learning,
    half_precision,
    late_decay,
    learn,
    notes,
    read_json,
    trainer_of,
    write_json,
)
from text2cinemagraph.models.training.config import TrainingConfig
from text2cinemagraph.models.training.trainer import Trainer
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WORDS = 32  # tokens of a prompt, both ends counted
TEXT = {
    "hidden_size": 96,
    "intermediate_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": WORDS,
}
# Stable Diffusion's four levels, with self-attention at 32x32, 16x16 and 8x8. "attention_head_dim" is diffusers' name
# for the number of heads; one at 32x32, where the softmax over 1024 places is a third of the work. 48 channels at
# 32x32 are what draws sharply; 6.9 M weights take 1.45 times the CPU time of 4.97 M with (32, 64, 96, 128).
UNET = {
    "sample_size": 32,
    "in_channels": 8,
    "out_channels": 8,
    "block_out_channels": (48, 64, 128, 144),
    "layers_per_block": 1,
    "cross_attention_dim": 96,
    "attention_head_dim": (1, 2, 4, 4),
    "norm_num_groups": 16,
    "time_embedding_dim": 256,
}
WORDINGS = 6  # captions per picture
SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
# Words of prompts that no caption holds, so that they become few tokens.
OTHER_WORDS = (
    "in left to right, upwards direction",
    "in right to left, downwards direction",
    "a photograph of the landscape, jungle, hills, cliff, snow, red, blue, green, big, small, boat house city sun moon "
    "stars",
)


def train_tokenizer(captions: Sequence[str], folder: Path) -> None:
    """Byte-pair tokens of the captions, saved so that CLIPTokenizer reads them: lower case, 32 tokens a prompt."""
    start, end = "<|startoftext|>", "<|endoftext|>"
    tokenizer = Tokenizer(models.BPE(unk_token=end, end_of_word_suffix="</w>", continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True
    )
    tokenizer.train_from_iterator(
        [*captions, *OTHER_WORDS * 20],
        trainers.BpeTrainer(
            vocab_size=420,
            special_tokens=[start, end],
            end_of_word_suffix="</w>",
            show_progress=False,
            initial_alphabet=list("abcdefghijklmnopqrstuvwxyz0123456789,.-!'"),
        ),
    )
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.model.save(str(folder))
    write_json(folder / "special_tokens_map.json", special)
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": WORDS, "do_lower_case": True, **special},
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A small CLIP text model over the tokenizer's words."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.bos_token_id,
            pad_token_id=tokenizer.eos_token_id,
            **TEXT,
        )
    )


def build_unet(options: dict[str, Any] | None = None) -> UNet2DConditionModel:
    """A small U-Net of Stable Diffusion's kind; its residual blocks begin as identities, which trains faster.

    options: of UNet2DConditionModel, by default UNET.
    """
    unet = UNet2DConditionModel(**(options or UNET)).to(memory_format=torch.channels_last)
    for module in unet.modules():
        if type(module).__name__ == "ResnetBlock2D":
            torch.nn.init.zeros_(module.conv2.weight)
    return unet


def latents_digest(vae: torch.nn.Module) -> str:
    """sha256 of the weights that decide what a picture's latents are; sharpening the decoder leaves it as it is."""
    digest = hashlib.sha256()
    for name, tensor in sorted(vae.state_dict().items()):
        if not name.startswith(("decoder.", "linear_out.")):
            digest.update(name.encode() + tensor.detach().cpu().half().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def cached_latents(scenes: Scenes, vae_folder: Path, path: Path, device: torch.device | str) -> torch.Tensor:
    """float16 [n,C,h,w], one per variant of the scenes; encoded once per autoencoder and set of scenes, kept in `path`
    (.npy).
    """
    variants = scenes.variants()
    vae = PatchAutoencoder.from_pretrained(vae_folder).eval().to(device, memory_format=torch.channels_last)
    key = {"latents_of": latents_digest(vae), "pictures": len(variants)}
    if path.is_file() and read_json(path.with_suffix(".json")) == key:
        return torch.from_numpy(np.load(path))
    batches = [variants[i : i + 16] for i in range(0, len(variants), 16)]
    latents = torch.cat(
        [
            vae.encode(to_range(torch.from_numpy(np.stack([scenes.picture(*v) for v in batch])).to(device)))
            .latent_dist.mode()
            .half()
            .cpu()
            for batch in tqdm(batches, "encoding pictures")
        ]
    )
    with atomic(path) as temporary:
        np.save(temporary, latents.numpy())
    write_json(path.with_suffix(".json"), key)
    return latents


UNET_TRAINING = {  # of its TrainingConfig
    "batch_size": 32,
    "lr": 1e-3,
    "betas": (0.9, 0.98),
    "weight_decay": 1e-4,
    "average": 0.999,
    "decay": late_decay,
    "warmup": 100,
}


def train_unet(
    scenes: Scenes, work: Path, config: TrainingConfig, *, exported: Path | None = None, words: Path | None = None
) -> None:
    """Learn the U-Net and the text encoder together: velocity prediction, a tenth of the captions empty for guidance.

    exported: a diffusers folder to begin from when resuming with neither a checkpoint nor an autoencoder in `work`.
    words: folder of a tokenizer to use; without one, the captions' own is made.
    """
    begin = (
        config.resume
        and exported is not None
        and (exported / "unet").is_dir()
        and not any((work / p).exists() for p in ("unet.pt", "vae"))
    )
    if begin:
        for part in ("vae", "tokenizer"):
            shutil.copytree(exported / part, work / part, dirs_exist_ok=True)
    if not (work / "vae").is_dir():
        raise FileNotFoundError(
            f"no autoencoder in {work / 'vae'}; train it first: python -m mini.train autoencoder ..."
        )
    rng = np.random.default_rng(config.seed)
    variants = scenes.variants()
    captions = [wordings(scenes.scenes[index], style, rng, WORDINGS) for index, style in variants]
    if not (work / "tokenizer").is_dir() and words is not None and words.is_dir():
        shutil.copytree(words, work / "tokenizer")
    if not (work / "tokenizer").is_dir():
        train_tokenizer([caption for several in captions for caption in several], work / "tokenizer")
    latents = cached_latents(scenes, work / "vae", work / "latents.npy", config.device).to(config.device)[:, None]
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer", local_files_only=True)
    tokens = tokenize(tokenizer, [caption for several in captions for caption in several]).view(-1, WORDINGS, WORDS)
    styles = sorted({style for _, style in variants if style})
    looks = torch.tensor([1 + styles.index(style) if style else 0 for _, style in variants])
    torch.manual_seed(config.seed)
    unet, text_encoder = build_unet(), build_text_encoder(tokenizer)
    if begin:
        unet = UNet2DConditionModel.from_pretrained(exported / "unet").float().to(memory_format=torch.channels_last)
        text_encoder.load_state_dict(CLIPTextModel.from_pretrained(exported / "text_encoder").state_dict())
    elif config.resume and (work / "unet-options.json").is_file():
        unet = build_unet(read_json(work / "unet-options.json"))
    write_json(work / "unet-options.json", {key: unet.config[key] for key in UNET})
    path = work / "unet.pt"
    trainer = unet_trainer(unet, text_encoder, config, path)
    deck = Deck(latents, tokens.to(config.device), looks.to(config.device), tokenize(tokenizer, [""]))
    learn(trainer, deck.draw, path)
    loss = round(trainer.loss, 4) if not math.isnan(trainer.loss) else 0
    latents_of = read_json(work / "latents.json")["latents_of"]
    write_json(work / "unet.json", notes(trainer, batch=config.batch_size, loss=loss, latents_of=latents_of))


def unet_trainer(
    unet: UNet2DConditionModel, text_encoder: CLIPTextModel, config: TrainingConfig, path: Path
) -> Trainer:
    """The Trainer of both. A batch is (latents [n,C,h,w], tokens [n,WORDS]) on their device; n may be less than the
    config's where the latents are larger.   path: the file to go on from.
    """
    alphas = DDIMScheduler(**SCHEDULER).alphas_cumprod.to(config.device)

    def loss(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        latents, tokens = batch
        return velocity_loss(unet, text_encoder, latents, tokens, alphas=alphas)

    return trainer_of(Learning({"unet": unet, "text_encoder": text_encoder}, loss), config, path)


def tokenize(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> torch.Tensor:
    """int64 [N,WORDS]; longer captions are cut."""
    return torch.tensor(tokenizer(captions, padding="max_length", max_length=WORDS, truncation=True)["input_ids"])


def velocity_loss(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    latents: torch.Tensor,
    tokens: torch.Tensor,
    *,
    alphas: torch.Tensor,
) -> torch.Tensor:
    """Mean squared error of v = sqrt(a) noise - sqrt(1-a) latents at random timesteps (Salimans & Ho, ICLR 2022)."""
    t = torch.randint(0, len(alphas), (len(latents),), device=latents.device)
    a, noise = alphas[t].view(-1, 1, 1, 1), torch.randn_like(latents)
    noisy = (a.sqrt() * latents + (1 - a).sqrt() * noise).contiguous(memory_format=torch.channels_last)
    with half_precision(latents.device):
        made = unet(noisy, t, text_encoder(tokens).last_hidden_state).sample.float()
    return F.mse_loss(made, a.sqrt() * noise - (1 - a).sqrt() * latents)
