"""From one sentence to a seamlessly looping cinemagraph: six stages, in paper order.

    python inference_t2c.py --config configs/inference_mini.yaml
    python inference_t2c.py --config configs/inference_mini.yaml --stage s4 attn_mask.threshold=0.5
    python inference_t2c.py --config configs/inference_mini_directional.yaml --use_hint --image photo.jpg --mask mask.png \\
        --prompt "a river flowing in left to right direction"
"""

import argparse
import time
from dataclasses import asdict, dataclass
from typing import Callable

import torch
from tqdm import tqdm

from data.experiment import FILES, Experiment
from data.flow import clamp_flow, flow_to_color, read_flow
from data.hint import DIRECTIONS, direction_hint, find_direction, sample_angle
from data.media import VideoWriter, read_image, read_mask
from img2img.attention_mask import cluster, clusters_picture, components, erode, vote
from img2img.diffusion import load_diffusion
from img2img.features import layer_names
from img2img.prompts import load_nouns, twin_prompt
from img2img.segment import segment
from img2img.twin import artistic, twin
from models.motion import load_motion_model
from models.video import composite, load_video_model
from options.cli import load_options, run_main
from options.inference import InferenceOptions
from options.runtime import make_runtime
from options.train import MotionOptions, VideoOptions

NOUNS = "dataset/nouns.json"


def s1_artistic_image(options, experiment, runtime):
    """Draw the artistic image and remember what s2 and s4 need of its making.  -> image, noise, attention"""
    o = options.twin_extraction
    diffusion = load_diffusion(o.ckpt, runtime)
    _, prompt = find_direction(o.prompt)                           # the direction is for s5; Stable Diffusion would paint it
    noise = torch.randn(diffusion.latent_shape(o.H, o.W), generator=torch.Generator().manual_seed(runtime.seed))
    made = artistic(diffusion, noise, prompt, guidance_scale=o.scale, steps=o.ddim_steps, plan=feature_plan(options, diffusion))
    experiment.write(image=made.image[0], noise=noise, attention=made.attention.tensors())
    experiment.kept["features"] = made.features


def s2_twin(options, experiment, runtime):
    """Draw the picture again as a photograph would show it, holding its layout.  noise -> twin"""
    o, t = options.twin_extraction, options.twin_generation
    diffusion = load_diffusion(o.ckpt, runtime)
    _, source = find_direction(o.prompt)
    prompt = t.prompt or twin_prompt(source, load_nouns(NOUNS))
    tqdm.write(f"s2: twin prompt: {prompt}")
    image = twin(
        diffusion, experiment.read("noise"), source, prompt,
        negative_prompt=source if t.negative_prompt is None else t.negative_prompt,
        source_scale=o.scale, guidance_scale=t.scale, steps=o.ddim_steps,
        negative_alpha=t.negative_prompt_alpha, negative_schedule=t.negative_prompt_schedule,
        plan=feature_plan(options, diffusion), features=experiment.kept.pop("features", None))
    experiment.write(twin=image[0])
