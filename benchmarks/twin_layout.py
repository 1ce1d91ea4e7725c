"""Does the twin hold the image's layout? Fluid IoU between the segmentations of image and twin, with injection and without.

    python -m benchmarks.twin_layout --pairs 20 --config configs/inference_mini.yaml

Both twins start from the image's own noise, which alone keeps much of the layout: injection must add to that.
"""

import argparse
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.record import FOLDER, keep
from data.hint import find_direction
from data.media import write_image
from img2img.diffusion import load_diffusion
from img2img.prompts import load_nouns, twin_prompt
from img2img.segment import segment
from img2img.twin import FeaturePlan, artistic, twin
from inference_t2c import NOUNS, feature_plan
from options.cli import load_options, run_main
from options.inference import InferenceOptions
from options.runtime import make_runtime

VOCABULARY = "water, waterfall, river, ocean, lake, sea; sky, clouds"


def masks(image, options, runtime):
    """bool [2,H,W]: water, sky; nothing where nothing was found."""
    try:
        found = segment(image, VOCABULARY, options.odise.backend, options.odise.checkpoint, runtime).class_masks
    except ValueError:
        return torch.zeros(2, *image.shape[-2:], dtype=torch.bool)
    return torch.cat(list(found.values()))


def iou(one, other):
    """Of bool masks [...,H,W] together; nan where both are empty."""
    union = (one | other).sum().item()
    return (one & other).sum().item() / union if union else float("nan")


def pair(diffusion, options, prompt, seed, runtime):
    """(image, twin with injection, twin without), each [3,H,W]."""
    o, t, plan = options.twin_extraction, options.twin_generation, feature_plan(options)
    source = find_direction(prompt)[1]
    noise = torch.randn(diffusion.latent_shape(o.H, o.W), generator=torch.Generator().manual_seed(seed))
    made = artistic(diffusion, noise, source, o.scale, o.ddim_steps, plan)
    bare = FeaturePlan((), (), (), plan.resnet_threshold)
    twins = [twin(diffusion, noise, source, twin_prompt(source, load_nouns(NOUNS)), source, o.scale, t.scale, o.ddim_steps, p, f,
                  t.negative_prompt_alpha, t.negative_prompt_schedule)[0][0] for p, f in ((plan, made.features), (bare, None))]
    return made.image[0], *twins


def main():
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.twin_layout", description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/inference_mini.yaml")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--prompts", default="dataset/prompts.txt")
    parser.add_argument("--pictures", help="folder for image | twin | twin without injection, side by side")
    parser.add_argument("--no_keep", action="store_true", help="do not write docs/results/twin_layout.json")
    flags = parser.parse_args()
    options, runtime = load_options(InferenceOptions, flags.config), make_runtime("cpu")
    diffusion = load_diffusion(options.twin_extraction.ckpt, runtime, options.twin_extraction.ema, options.twin_extraction.tokenizer)
    prompts = [line.strip() for line in Path(flags.prompts).read_text().splitlines() if line.strip()]
    scores = {"with_injection": [], "without": []}
    with torch.inference_mode():
        for i in tqdm(range(flags.pairs), "pairs"):
            image, with_injection, without = pair(diffusion, options, prompts[i % len(prompts)], 1000 + i, runtime)
            own = masks(image, options, runtime)
            for key, made in (("with_injection", with_injection), ("without", without)):
                scores[key].append(iou(own[:1], masks(made, options, runtime)[:1]))
            if flags.pictures:
                write_image(Path(flags.pictures) / f"{i:03}.png", torch.cat([image, with_injection, without], -1))
    found = {key: [v for v in values if v == v] for key, values in scores.items()}
    keep("twin_layout", {"config": flags.config, "pairs": flags.pairs, "prompts": flags.prompts,
                         **{f"fluid_iou_{key}": round(sum(v) / max(len(v), 1), 3) for key, v in found.items()},
                         "pairs_with_water": len(found["with_injection"])}, None if flags.no_keep else FOLDER)


if __name__ == "__main__":
    run_main(main)
