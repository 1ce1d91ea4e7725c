"""A segmenter of landscapes small enough to learn on a CPU: ConvNeXt with a UperNet head, in transformers' form."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from text2cinemagraph.img2img.autoencoder import PatchAutoencoder
from text2cinemagraph.mini.scenes import LABELS, to_tensor
from text2cinemagraph.mini.training import Training, late_decay, write_json
from tqdm import tqdm
from transformers import ConvNextConfig, DPTImageProcessor, UperNetConfig, UperNetForSemanticSegmentation

SEGMENTER = {"hidden_sizes": [32, 64, 112, 160], "depths": [2, 2, 3, 1], "head": 64}
GENERATED_SHARE, STYLED_SHARE = 0.3, 0.4


def build_segmenter():
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


def segmenter_processor():
    """Short side to 256, the size of the training pictures; both sides multiples of 32, so every size is understood."""
    return DPTImageProcessor(
        size={"height": 256, "width": 256},
        keep_aspect_ratio=True,
        ensure_multiple_of=32,
        resample=2,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


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
        picture = cv2.resize(picture[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_LINEAR)
        label = cv2.resize(label[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_NEAREST)
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
    net = build_segmenter().train().to(memory_format=torch.channels_last)  # a third faster on a CPU
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
    """{"natural" | "painted": {kind: {"iou": mean, "worst": lowest, "scene": its id}, "accuracy": share of all
    pixels}}.

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
