"""A segmenter of landscapes small enough to learn on a CPU: ConvNeXt with a UperNet head, in transformers' form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from text2cinemagraph.img2img.autoencoder import PatchAutoencoder
from text2cinemagraph.mini.album import Page, page_of
from text2cinemagraph.mini.scenes import LABELS, Scenes, to_tensor
from text2cinemagraph.mini.training import Learning, half_precision, late_decay, learn, notes, trainer_of, write_json
from text2cinemagraph.mini.weathering import as_photographs, enlarged
from text2cinemagraph.models.training.config import TrainingConfig
from text2cinemagraph.models.training.trainer import Trainer
from tqdm import tqdm
from transformers import ConvNextConfig, DPTImageProcessor, UperNetConfig, UperNetForSemanticSegmentation

SEGMENTER = {"hidden_sizes": [32, 64, 112, 160], "depths": [2, 2, 3, 1], "head": 64}
GENERATED_EVERY, PAINTED_SHARE, ZOOMED_SHARE = 3, 0.4, 0.3
SEGMENTER_TRAINING = {  # of its TrainingConfig
    "batch_size": 8,
    "lr": 1.5e-3,
    "betas": (0.9, 0.99),
    "weight_decay": 1e-2,
    "decay": late_decay,
    "warmup": 50,
}


def build_segmenter() -> UperNetForSemanticSegmentation:
    """A small ConvNeXt with a UperNet head over LABELS; logits come at the pictures' size, computed at a quarter
    of it.
    """
    backbone = ConvNextConfig(
        hidden_sizes=SEGMENTER["hidden_sizes"],
        depths=SEGMENTER["depths"],
        layer_scale_init_value=0.5,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    return UperNetForSemanticSegmentation(
        UperNetConfig(
            backbone_config=backbone,
            hidden_size=SEGMENTER["head"],
            pool_scales=[1, 3],
            use_auxiliary_head=False,
            id2label=dict(enumerate(LABELS)),
            label2id={name: i for i, name in enumerate(LABELS)},
        )
    )


def start_from(net: UperNetForSemanticSegmentation, folder: str | Path) -> None:
    """Take the weights of another segmenter as far as they fit: labels that it did not know begin anew."""
    own, theirs = net.state_dict(), UperNetForSemanticSegmentation.from_pretrained(folder).float().state_dict()
    for name, tensor in own.items():
        other = theirs.get(name)
        if other is not None and other.shape[1:] == tensor.shape[1:]:
            rows = min(len(other), len(tensor)) if tensor.ndim else ...
            tensor[rows if rows is ... else slice(rows)] = other[rows if rows is ... else slice(rows)]
    net.load_state_dict(own)


def segmenter_processor() -> DPTImageProcessor:
    """Short side to 256, the size of the training pictures; both sides multiples of 32, so every size is understood."""
    return DPTImageProcessor(
        size={"height": 256, "width": 256},
        keep_aspect_ratio=True,
        ensure_multiple_of=32,
        resample=2,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


def segmenter_batch(page: Page, vae: PatchAutoencoder | None, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(pictures [count,3,H,W] in about [-1,1], labels int64 [count,H,W]): natural and painted, zoomed, mirrored, and
    then made to look like other cameras' pictures.

    A third has been through the autoencoder with noise on its latents, because s3 looks at generated pictures.
    """
    pictures, labels = page.labelled(count, PAINTED_SHARE)
    zoomed = round(count * ZOOMED_SHARE)
    pictures[:zoomed], labels[:zoomed] = enlarged(pictures[:zoomed], labels[:zoomed])
    generated = slice(None, None, GENERATED_EVERY)  # always as many: a new shape costs a GPU seconds
    if vae is not None:
        with torch.no_grad(), half_precision(pictures.device):
            latents = vae.encode(pictures[generated]).latent_dist.mode()
            latents = latents + 0.35 * torch.rand(1, device=latents.device) * torch.randn_like(latents)
            pictures[generated] = vae.decode(latents).sample.float().clamp(-1, 1)
    return as_photographs(pictures), labels


def train_segmenter(scenes: Scenes, work: Path, config: TrainingConfig, validation: Scenes | None = None) -> None:
    """Learn build_segmenter() on natural, painted and autoencoded pictures; writes <work>/segmenter."""
    torch.manual_seed(config.seed)
    page = page_of(scenes, config.device, lambda items: tqdm(items, "reading pictures"))
    vae = PatchAutoencoder.from_pretrained(work / "vae").eval().to(config.device) if (work / "vae").is_dir() else None
    net, path = build_segmenter(), work / "segmenter.pt"
    trainer = segmenter_trainer(net, config, path)
    learn(trainer, lambda count: segmenter_batch(page, vae, count), path)
    net.eval().save_pretrained(work / "segmenter")
    segmenter_processor().save_pretrained(work / "segmenter")
    scores = segmenter_scores(net, validation) if validation else {}
    write_json(work / "segmenter.json", notes(trainer, batch=config.batch_size, scores=scores))


def segmenter_trainer(net: UperNetForSemanticSegmentation, config: TrainingConfig, path: Path) -> Trainer:
    """The Trainer of a segmenter: cross entropy of the labels.   path: the file to go on from."""

    def loss(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        pictures, labels = batch
        with half_precision(pictures.device):
            logits = net(pixel_values=pictures).logits
        return F.cross_entropy(logits.float(), labels)

    net.train().to(memory_format=torch.channels_last)  # a third faster on a CPU
    return trainer_of(Learning({"segmenter": net}, loss), config, path)


@torch.no_grad()
def segmenter_scores(net: Any, scenes: Scenes) -> dict[str, Any]:
    """{"natural" | "painted": {kind: {"iou": mean, "worst": lowest, "scene": its id}, "accuracy": share of all
    pixels}}.

    What counts is what s3 asks for: all water together, and the sky where clouds move.
    """
    device = next(net.parameters()).device if isinstance(net, torch.nn.Module) else "cpu"
    sky, water = LABELS.index("sky"), [LABELS.index(name) for name in ("river", "waterfall", "lake", "sea")]
    found = {"natural": {}, "painted": {}}
    right = {"natural": [], "painted": []}
    for index, style in tqdm(scenes.variants(), "scoring"):
        look, kind = "painted" if style else "natural", scenes.scenes[index]["kind"]
        label = torch.from_numpy(scenes.label(index))
        made = net(pixel_values=to_tensor([scenes.picture(index, style)]).to(device)).logits[0].argmax(0).cpu()
        wanted = torch.tensor([sky] if kind == "clouds" else water)
        a, b = torch.isin(made, wanted), torch.isin(label.long(), wanted)
        iou = ((a & b).sum() / (a | b).sum().clamp(min=1)).item()
        found[look].setdefault(kind, []).append((iou, scenes.scenes[index]["id"]))
        right[look].append((made == label).float().mean().item())
    return {
        look: {
            **{
                kind: {
                    "iou": round(float(np.mean([iou for iou, _ in ious])), 3),
                    "worst": round(min(ious)[0], 3),
                    "scene": min(ious)[1],
                }
                for kind, ious in sorted(kinds.items())
            },
            "accuracy": round(float(np.mean(right[look])), 3),
        }
        for look, kinds in found.items()
        if kinds
    }
