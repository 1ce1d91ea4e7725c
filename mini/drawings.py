"""The pictures of the small family: what the autoencoder keeps, what samples and twins show, what the masks find."""

from __future__ import annotations

import json
import math
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from text2cinemagraph.data.media import write_image
from text2cinemagraph.img2img.attention_mask import attention_maps, cluster, components, erode, vote
from text2cinemagraph.img2img.diffusion import load_diffusion
from text2cinemagraph.img2img.prompts import load_nouns, twin_prompt
from text2cinemagraph.img2img.segment import EmptyMask, segment
from text2cinemagraph.img2img.twin import FeaturePlan, artistic, invert_picture, twin
from text2cinemagraph.inference_t2c import NOUNS
from text2cinemagraph.mini.held_out import LOOKS, NATURAL
from text2cinemagraph.mini.look import LookClassifier
from text2cinemagraph.mini.scene import FLUIDS, KINDS, LABELS
from text2cinemagraph.mini.styles import STYLE_NAMES
from text2cinemagraph.pipeline.drawing import feature_plan
from text2cinemagraph.pipeline.segmenting import segmenter_of

if TYPE_CHECKING:
    from text2cinemagraph.img2img.diffusion import Diffusion
    from text2cinemagraph.mini.held_out import Example
    from text2cinemagraph.mini.measure import Bench

WATER, SKY = "water, waterfall, river, ocean, lake, sea", "sky, clouds"
MEANT = {
    "river": "river",
    "waterfall": "waterfall",
    "lake": "lake",
    "sea": "sea",
    "clouds": "sky",
}  # the label a prompt asks for
CLASSIFIER_SCENES = 60
INVERSION_STEPS = 37  # a divisor of 999; more change nothing that the clusters show
DETAIL = {
    "detail_above_8th": 1 / 8,
    "detail_above_4th": 1 / 4,
}  # cycles per px: finer than 8 px, the side of a latent's cell; than 4 px


def diffusion_of(bench: Bench) -> Diffusion:
    """The Diffusion that the options name; loaded once."""
    o = bench.options.twin_extraction
    return bench.networks.get("diffusion", load_diffusion, o.ckpt, bench.runtime, o.ema, o.tokenizer)


# ---------------------------------------------------------------- autoencoder
def autoencoder(bench: Bench) -> dict[str, Any]:
    """PSNR against PCA with as many numbers per picture, and how much of the energy of fine detail remains.

    before_sharpening: what the card says of the decoder before its adversarial phase, on the training set's validation
    pictures.
    """
    diffusion, scenes = diffusion_of(bench), bench.scenes()
    codes = math.prod(diffusion.latent_shape(256, 256)[1:]) / (256 * 256)  # numbers per pixel
    tile = 8
    learn = [
        p for e in bench.scenes("train", count=CLASSIFIER_SCENES, styles=2) for p in (e.image, *e.painted.values())
    ]
    pca = PCA(round(codes * tile * tile), random_state=0).fit(np.concatenate([_tiles(p, tile)[::7] for p in learn]))
    found = defaultdict(lambda: defaultdict(list))
    for example in scenes:
        for look, picture in ((NATURAL, example.image), *((("painted"), p) for p in example.painted.values())):
            made = diffusion.decode(diffusion.encode(picture[None], torch.Generator().manual_seed(0)))[0].clamp(0, 1)
            tiles = _tiles(picture, tile)
            error = pca.inverse_transform(pca.transform(tiles)) - tiles
            found[look]["psnr"].append(_psnr(((made - picture) ** 2).mean().item()))
            found[look]["psnr_pca"].append(_psnr((error**2).mean()))
            for name, cycles in DETAIL.items():
                found[look][name].append(energy_above(made, cycles) / energy_above(picture, cycles))
    card = Path(bench.options.twin_extraction.ckpt) / "card.json"
    told = json.loads(card.read_text()).get("autoencoder", {}).get("scores", {}) if card.is_file() else {}
    return {
        **{look: {key: float(np.mean(values)) for key, values in rows.items()} for look, rows in found.items()},
        "before_sharpening": told,
    }


def energy_above(picture: torch.Tensor, cycles: float) -> float:
    """Power of a picture [3,H,W] above a spatial frequency in cycles per px."""
    power = torch.fft.fft2(picture - picture.mean((1, 2), keepdim=True)).abs().square().sum(0)
    fy, fx = (torch.fft.fftfreq(n).abs() for n in picture.shape[-2:])
    return power[(fy[:, None] ** 2 + fx[None] ** 2).sqrt() > cycles].sum().item()


def _tiles(picture, side):
    tiles = picture.unfold(1, side, side).unfold(2, side, side).permute(1, 2, 0, 3, 4)
    return tiles.reshape(-1, 3 * side * side).numpy()


def _psnr(mean_square):
    return -10 * math.log10(mean_square)


# ---------------------------------------------------------------- samples and twins
def prompt_of(kind: str, look: str) -> str:
    """A plain prompt for a kind in a look."""
    noun = kind if kind == "clouds" else f"a {kind}"
    return (
        f"{kind}, nature, bright, realistic, photography, 4k"
        if look == NATURAL
        else f"{noun} in the style of {STYLE_NAMES[look][0]}"
    )


def look_classifier(bench: Bench, diffusion: Diffusion) -> LookClassifier:
    """A LookClassifier that has seen what the autoencoder and imperfect latents do to pictures."""
    images, looks, generator = [], [], torch.Generator().manual_seed(bench.seed)
    for example in bench.scenes("train", count=CLASSIFIER_SCENES, styles=2):
        for look, picture in ((NATURAL, example.image), *example.painted.items()):
            latent = diffusion.encode(picture[None], generator)
            for noise in (0.0, 0.3):
                noisy = (latent + noise * torch.randn(latent.shape, generator=generator)) / (1 + noise**2) ** 0.5
                images.append(diffusion.decode(noisy)[0].clamp(0, 1))
                looks.append(look)
    return LookClassifier(images, looks)


def samples_and_twins(bench: Bench) -> dict[str, Any]:
    """What plain prompts draw, and whether twins hold its layout and look natural.

    Baselines: for the named class, how often it is in the picture of another kind's prompt; for the look, the commonest
    answer; for the twin's layout, the same noise without injection; for its look, the picture itself
    (image_called_natural).
    """
    o, t, diffusion = bench.options.twin_extraction, bench.options.twin_generation, diffusion_of(bench)
    plan = feature_plan(bench.options, diffusion.unet, diffusion.spatial_factor)
    classify = look_classifier(bench, diffusion)
    bare, nouns = FeaturePlan((), (), (), plan.resnet_threshold), load_nouns(NOUNS)
    rows, made = [], {"image": [], "twin": [], "without": []}
    for i in range(bench.n):
        kind, look = KINDS[i % len(KINDS)], LOOKS[(i // len(KINDS)) % len(LOOKS)]
        prompt = prompt_of(kind, look)
        noise = torch.randn(
            diffusion.latent_shape(o.H, o.W), generator=torch.Generator().manual_seed(1000 * bench.seed + i)
        )
        drawn = artistic(diffusion, noise, prompt, o.scale, steps=o.ddim_steps, plan=plan)
        natural = twin_prompt(prompt, nouns)
        twins = [
            twin(
                diffusion,
                noise,
                prompt,
                natural,
                negative_prompt=prompt,
                source_scale=o.scale,
                guidance_scale=t.scale,
                steps=o.ddim_steps,
                plan=p,
                features=f,
                negative_alpha=t.negative_prompt_alpha,
                negative_schedule=t.negative_prompt_schedule,
            )[0][0]
            for p, f in ((plan, drawn.features), (bare, None))
        ]
        for name, picture in zip(made, (drawn.image[0], *twins)):
            made[name].append(picture)
        rows.append(
            (
                kind,
                look,
                fluid(drawn.image[0], kind, bench),
                [fluid(picture, kind, bench) for picture in twins],
                _share(drawn.image[0], MEANT[kind], bench),
                _share(drawn.image[0], MEANT[_next_kind(kind)], bench),
            )
        )
        if bench.pictures:
            write_image(
                bench.pictures / "samples" / f"{i:03}_{kind}_{look}.png", torch.cat([drawn.image[0], *twins], -1)
            )
    shown, twin_looks = classify(made["image"]), classify(made["twin"])
    ious = {
        "injection": [_iou(row[2], row[3][0]) for row in rows],
        "without": [_iou(row[2], row[3][1]) for row in rows],
    }
    pairs = [i for i, row in enumerate(rows) if row[2].any()]
    return {
        "named_class_shown": float(np.mean([row[4] >= 0.03 for row in rows])),
        "another_class_shown": float(np.mean([row[5] >= 0.03 for row in rows])),
        "fluid_shown": float(np.mean([row[2].float().mean().item() >= 0.03 for row in rows])),
        "named_class_by_kind": {
            kind: float(np.mean([row[4] >= 0.03 for row in rows if row[0] == kind])) for kind in KINDS
        },
        "look_recognised": float(np.mean([a == row[1] for a, row in zip(shown, rows)])),
        "commonest_look": max(Counter(row[1] for row in rows).values()) / len(rows),
        "look_by_look": {
            look: float(np.mean([a == look for a, row in zip(shown, rows) if row[1] == look]))
            for look in LOOKS
            if any(row[1] == look for row in rows)
        },
        "classifier_on_true_pictures": classifier_accuracy(bench, diffusion, classify),
        "twin_pairs": len(pairs),
        "twin_fluid_iou": {name: float(np.nanmean([values[i] for i in pairs])) for name, values in ious.items()},
        "twin_natural": float(np.mean([look == NATURAL for look in twin_looks])),
        "image_called_natural": float(np.mean([look == NATURAL for look in shown])),
    }


def classifier_accuracy(bench: Bench, diffusion: Diffusion, classify: LookClassifier) -> dict[str, Any]:
    """Of the classifier itself, on held-out pictures that went through the autoencoder."""
    pairs = [(look, picture) for e in bench.scenes()[:30] for look, picture in ((NATURAL, e.image), *e.painted.items())]
    seen = [
        diffusion.decode(diffusion.encode(p[None], torch.Generator().manual_seed(0)))[0].clamp(0, 1) for _, p in pairs
    ]
    return float(np.mean([a == look for a, (look, _) in zip(classify(seen), pairs)]))


def fluid(picture: torch.Tensor, kind: str, bench: Bench) -> np.ndarray:
    """bool [H,W]: what would move in a picture of this kind, as the segmenter sees it."""
    return _find(picture, SKY if kind == "clouds" else WATER, bench)


def _share(picture, label, bench):
    return _find(picture, label, bench).float().mean().item()


def _find(picture, vocabulary, bench):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of words without a label: the vocabulary is the YAML's whole grammar
        try:
            return segment(picture, vocabulary, segmenter_of(bench.options, bench.networks, bench.runtime)).mask[0]
        except EmptyMask:
            return torch.zeros(picture.shape[-2:], dtype=torch.bool)


def _next_kind(kind):
    return KINDS[(KINDS.index(kind) + 1) % len(KINDS)]


def _iou(one, other):
    union = (one | other).sum().item()
    return (one & other).sum().item() / union if union else float("nan")


# ---------------------------------------------------------------- masks
def masks(bench: Bench) -> dict[str, Any]:
    """s3 on natural pictures whose labels are known, and s4 after inverting them; the worst scene of each kind is told.

    usual: the baseline, where most training scenes of the kind have their fluid.

    s4 uses the YAML's attn_mask options; the pictures are inverted in INVERSION_STEPS steps to have attention to
    cluster.
    """
    o, m, diffusion = bench.options.twin_extraction, bench.options.attn_mask, diffusion_of(bench)
    plan = feature_plan(bench.options, diffusion.unet, diffusion.spatial_factor)
    found = defaultdict(lambda: {"usual": [], "s3": [], "s4": []})
    known = bench.scenes("train", count=CLASSIFIER_SCENES, styles=2)
    usual = {
        kind: torch.stack([true_fluid(e).float() for e in known if e.kind == kind]).mean(0) >= 0.5 for kind in KINDS
    }
    for i, example in enumerate(bench.scenes()):
        true = true_fluid(example)
        seen = fluid(example.image, example.kind, bench)
        noise = invert_picture(diffusion, example.image, INVERSION_STEPS, torch.Generator().manual_seed(0))
        drawn = artistic(diffusion, noise, "", 1.0, steps=o.ddim_steps, plan=plan)
        segments = components(
            cluster(*attention_maps(drawn.attention.tensors()), m.n_clusters, m.cluster_type, seed=bench.seed)
        )
        sharpened = (
            erode(vote(segments, seen[None], m.threshold, m.combine), m.erosion_ksize, m.erosion_iter)[0]
            if seen.any()
            else seen
        )
        for name, mask in (("usual", usual[example.kind]), ("s3", seen), ("s4", sharpened)):
            found[example.kind][name].append((_iou(mask, true), i))
        if bench.pictures:
            layers = [mask[None].float().expand(3, -1, -1) for mask in (true, seen, sharpened)]
            write_image(
                bench.pictures / "masks" / f"{i:03}_{example.kind}.png", torch.cat([example.image, *layers], -1)
            )
    return {
        kind: {
            name: {
                "iou": float(np.mean([iou for iou, _ in values])),
                "worst": min(values)[0],
                "worst_scene": min(values)[1],
            }
            for name, values in rows.items()
        }
        for kind, rows in found.items()
    }


def true_fluid(example: Example) -> np.ndarray:
    """bool [H,W]: what would move in a scene of this kind, by its labels."""
    labels = FLUIDS["clouds"] if example.kind == "clouds" else ("river", "waterfall", "lake", "sea")
    return torch.isin(
        torch.from_numpy(example.labels.astype(np.int64)), torch.tensor([LABELS.index(name) for name in labels])
    )
