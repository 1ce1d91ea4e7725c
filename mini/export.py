"""Writes what was trained as the folders that the pipeline reads: float16 weights, and a card that says where from."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from diffusers import DDIMScheduler
from text2cinemagraph.data.checkpoint import dataset_note
from text2cinemagraph.data.files import sha256
from text2cinemagraph.img2img.autoencoder import PatchAutoencoder
from text2cinemagraph.mini.scenes import Scenes
from text2cinemagraph.mini.train_autoencoder import AUTOENCODER
from text2cinemagraph.mini.train_segmenter import SEGMENTER, segmenter_processor
from text2cinemagraph.mini.train_unet import (
    SCHEDULER,
    TEXT,
    UNET_TRAINING,
    build_text_encoder,
    build_unet,
    latents_digest,
    unet_trainer,
)
from text2cinemagraph.mini.training import config_of, notes, read_json, write_json
from tqdm import tqdm
from transformers import CLIPTokenizer, UperNetForSemanticSegmentation


def export(scenes: Scenes, work: Path, output: Path, parts: Collection[str] = ("diffusion", "segmenter")) -> None:
    """Write those of the parts that are trained by now: <output>/diffusion, once all of it is there, and
    <output>/segmenter.
    """
    card = {"dataset": {**dataset_note(scenes.folder), "pictures": len(scenes.variants())}}
    if "diffusion" in parts and all((work / name).exists() for name in ("vae", "tokenizer", "unet.pt")):
        export_diffusion(work, output / "diffusion", card)
    if "segmenter" in parts and (work / "segmenter").is_dir():
        net = UperNetForSemanticSegmentation.from_pretrained(work / "segmenter").half()
        net.save_pretrained(output / "segmenter")
        segmenter_processor().save_pretrained(output / "segmenter")
        write_card(output / "segmenter", segmenter_card({**card, **read_json(work / "segmenter.json")}))


def export_diffusion(work: Path, folder: Path, card: dict[str, Any]) -> None:
    """The diffusers folder, with the averaged weights of the latest U-Net checkpoint."""
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer", local_files_only=True)
    options = read_json(work / "unet-options.json")
    unet, text_encoder = build_unet(options), build_text_encoder(tokenizer)
    trainer = unet_trainer(unet, text_encoder, config_of(**UNET_TRAINING, resume=True), work / "unet.pt")
    vae, learned_on = PatchAutoencoder.from_pretrained(work / "vae"), read_json(work / "latents.json").get("latents_of")
    if learned_on != latents_digest(vae):
        tqdm.write(
            f"{folder} is left as it was: the U-Net in {work} was trained on another autoencoder's latents; train it "
            "again: python -m mini.train unet ..."
        )
        return
    shutil.copytree(work / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    with trainer.averaged():
        write_diffusion(folder, {"unet": unet, "text_encoder": text_encoder, "vae": vae})
    write_card(
        folder,
        {
            "options": {"unet": options, "text_encoder": TEXT, "scheduler": SCHEDULER},
            **card,
            "autoencoder": {"options": AUTOENCODER, **read_json(work / "autoencoder.json")},
            "decoder": read_json(work / "decoder.json"),
            "unet": {**read_json(work / "unet.json"), **notes(trainer)},
        },
    )


def segmenter_card(card: dict[str, Any]) -> dict[str, Any]:
    """The card of a segmenter: its options before what is known of its training."""
    return {"options": SEGMENTER, **card}


def write_diffusion(folder: Path, networks: dict[str, Any]) -> None:
    """A diffusers folder of networks (of "unet", "text_encoder", "vae", those that are given) in float16."""
    for name, network in networks.items():
        half = copy.deepcopy(network).to("cpu").half()
        half.save_pretrained(folder / name)
    DDIMScheduler(**SCHEDULER).save_pretrained(folder / "scheduler")
    write_json(
        folder / "model_index.json",
        {
            "_class_name": "StableDiffusionPipeline",
            "scheduler": ["diffusers", "DDIMScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["img2img.autoencoder", "PatchAutoencoder"],
        },
    )


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """card.json with the digests of the weights beside it."""
    weights = sorted(folder.rglob("*.safetensors"))
    write_json(folder / "card.json", {**card, "sha256": {str(p.relative_to(folder)): sha256(p) for p in weights}})
