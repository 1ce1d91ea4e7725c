"""The motion of the small family: flow against true flow, directions obeyed, clips against true clips."""

from __future__ import annotations

import dataclasses
import math
import random
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from text2cinemagraph.data.datasets import random_hint
from text2cinemagraph.data.hint import DIRECTIONS, prompt_hint, sample_angle
from text2cinemagraph.data.media import write_image
from text2cinemagraph.evaluate.flow_error import endpoint_error
from text2cinemagraph.evaluate.loop_error import LoopMeter
from text2cinemagraph.evaluate.steadiness import SteadinessMeter
from text2cinemagraph.mini.scene import KINDS
from text2cinemagraph.models.blend import smooth
from text2cinemagraph.models.motion import load_motion_model
from text2cinemagraph.models.push_pull import push_pull_frames
from text2cinemagraph.pipeline.animating import renderer_of, rendering_of

if TYPE_CHECKING:
    from text2cinemagraph.mini.measure import Bench

BASELINE_SCENES = 100
PSNR_FRAMES = (5, 15, 30, 45)


def _motion_model(bench, with_hint):
    o = bench.options.optical_flow
    name = o.hint_model_name if with_hint else o.model_name
    folder = f"{o.checkpoints_dir}/{name}"
    return bench.networks.get(name, load_motion_model, folder, o.architecture, bench.runtime)


def flow(bench: Bench) -> dict[str, Any]:
    """Endpoint error inside the mask, px/frame at 256 px, per kind: of both networks, of the kind's mean flow and of no
    flow at all.
    """
    told, hinted = _motion_model(bench, False), _motion_model(bench, True)
    usual = {
        kind: torch.stack(
            [
                e.flow[:, e.mask[0]].mean(1)
                for e in bench.scenes("train", count=BASELINE_SCENES, styles=2)
                if e.kind == kind
            ]
        ).mean(0)
        for kind in KINDS
    }
    rows, draw = defaultdict(lambda: defaultdict(list)), random.Random(bench.seed)
    for example in bench.scenes():
        row, mean = rows[example.kind], usual[example.kind]
        hint = random_hint(example.flow, example.mask, draw)
        made = {
            "zero": torch.zeros_like(example.flow),
            "mean_of_kind": mean[:, None, None] * example.mask,
            "hint_itself": hint,
            "text": told.predict(example.image, example.mask, text=example.caption),
            "hint": hinted.predict(example.image, example.mask, hint=hint),
        }
        for name, value in made.items():
            row[name].append(endpoint_error(value, example.flow, example.mask))
    table = {kind: {name: float(np.mean(values)) for name, values in row.items()} for kind, row in rows.items()}
    return {**table, "hint_over_zero": {kind: row["hint"] / row["zero"] for kind, row in table.items()}}


def directions(bench: Bench) -> dict[str, Any]:
    """Mean angle in degrees between a phrase's drawn angle and the predicted mean flow, per phrase, over pictures of
    all kinds.

    without_hint: the baseline, the network that reads the picture's own caption and no phrase.
    """
    o, model, found, ignored = bench.options.optical_flow, _motion_model(bench, True), {}, []
    scenes, told = bench.scenes()[: max(5, bench.n // 5)], _motion_model(bench, False)
    usual = [told.predict(e.image, e.mask, text=e.caption)[:, e.mask[0]].mean(1) for e in scenes]
    for phrase in DIRECTIONS:
        errors = []
        for i, example in enumerate(scenes):
            angle = sample_angle(phrase, bench.seed + i)
            speed = (o.hint_speed or model.options.hint_speed) * min(example.mask.shape[-2:]) / model.options.fineSize
            hint = prompt_hint(f"in {phrase} direction", example.mask, speed, bench.seed + i)
            mean = model.predict(example.image, example.mask, hint=hint)[:, example.mask[0]].mean(1)
            errors.append(_angle_between(mean, angle))
            ignored.append(_angle_between(usual[i], angle))
        found[phrase] = float(np.mean(errors))
    return {**found, "worst_phrase": max(found.values()), "without_hint": float(np.mean(ignored))}


def _angle_between(flow, angle):
    """Degrees from a mean flow (dx, dy), y downwards, to an angle, y upwards."""
    made = math.degrees(math.atan2(-flow[1].item(), flow[0].item()))
    return abs((made - angle + 180) % 360 - 180)


def video(bench: Bench) -> dict[str, Any]:
    """Clips on true flow against true clips: PSNR inside the mask of s6 as its options say, of splatting with the
    network, of splatting with push-pull filling, of a still picture; and sharpness and pulse, also of the true clip.

    still_max: levels outside the mask, before encoding.   frame_0: PSNR of the first frame against the picture.
    """
    o = dataclasses.replace(bench.options.video, n_frames=60, shore=False)  # the masks are exact
    renderer = renderer_of(o, bench.networks, bench.runtime)
    # The true flow as it is, and a fade of 2 px: what is compared is the network.
    rendering = {**rendering_of(o, own_picture=False), "speed": 1.0, "clamp": "none", "feather": 0.0}
    rows = defaultdict(list)
    for i, example in enumerate(bench.scenes(count=max(5, bench.n // 5), video=True)):
        truth = [torch.from_numpy(frame).permute(2, 0, 1).float() / 255 for frame in example.frames]
        picture, where = truth[0], example.mask.expand(3, -1, -1)
        loop = renderer.set_image(picture, example.mask)
        splatted = {**rendering, "motion": "splat", "blend": "smooth"}
        clips = {
            "s6": loop.render(example.flow, **rendering),
            "network": loop.render(example.flow, **splatted),
            "push_pull": push_pull_frames(picture, example.flow, example.mask, o.n_frames, share_of_back=smooth),
            "still": (picture for _ in truth),
            "truth": iter(truth),
        }
        for name, frames in clips.items():
            meter, steady, errors = LoopMeter(example.mask, flow_every=0), SteadinessMeter(example.mask), []
            for n, frame in enumerate(frames):
                pixels = np.uint8((frame * 255).round().permute(1, 2, 0).numpy())
                meter.add(pixels)
                steady.add(pixels)
                if n in PSNR_FRAMES:
                    errors.append(-10 * math.log10(max((frame - truth[n])[where].square().mean().item(), 1e-10)))
                if n == 0 and name == "s6":
                    rows["frame_0"].append(-10 * math.log10(max((frame - picture).square().mean().item(), 1e-10)))
                if n == 15 and bench.pictures:
                    write_image(
                        bench.pictures / "video" / f"{i:03}_{example.kind}_{name}.png", torch.cat([frame, truth[n]], -1)
                    )
            if name != "truth":
                rows[f"psnr_{name}"].append(float(np.mean(errors)))
            loop, look = meter.result(), steady.result()
            rows[f"motion_{name}"].append(loop["motion_inside"])
            rows[f"sharpness_least_{name}"].append(look["sharpness_least"])
            rows[f"pulse_{name}"].append(look["pulse"])
            if name == "push_pull":
                rows["seam_ratio_push_pull"].append(loop["seam_ratio_masked"])
            if name == "s6":
                rows["still_max"].append(loop["still_max"])
                rows["seam_ratio"].append(loop["seam_ratio_masked"])
    result = {name: float(np.mean(values)) for name, values in rows.items()}
    return {
        **result,
        "still_max": max(rows["still_max"]),
        "seam_ratio_worst": max(rows["seam_ratio"]),
        "clips": len(rows["seam_ratio"]),
    }
