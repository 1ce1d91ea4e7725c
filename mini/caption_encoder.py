"""Teach a small text encoder to say where things move, before the mini motion network reads it.

A published CLIP knows "left to right" from "right to left"; one trained on a few thousand pictures does not. Here the
encoder of the mini diffusion learns, from captions and metadata alone, to tell the mean direction of the flow and the
kind of scene. It is frozen afterwards. A minute on one CPU core:

    python -m mini.caption_encoder --source checkpoints/mini/diffusion \\
        --metadata dataset/procedural_data/train_metadata.jsonl \\
        --output checkpoints/mini/motion
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from text2cinemagraph.models.motion import load_text_encoder, tokens_of
from text2cinemagraph.options.cli import Parser, number, run_main
from text2cinemagraph.options.runtime import make_runtime
from torch import nn


def read_examples(path: str | Path) -> list[tuple[str, tuple[float, float], str]]:
    """Captions with what they mean: (caption, unit direction (dx, dy), kind of scene) of a metadata.jsonl."""
    entries = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    examples = []
    for entry in entries:
        flow = torch.tensor(entry["mean_flow"])
        direction = flow / flow.norm().clamp(min=1e-6)
        examples += [(caption, direction, entry["kind"]) for caption in entry["captions"].values()]
    return examples


def teach(
    text_encoder: Any,
    tokenizer: Any,
    examples: Sequence[tuple[str, tuple[float, float], str]],
    *,
    steps: int = 600,
    batch_size: int = 32,
    lr: float = 1e-3,
    seed: int = 0,
) -> list[float]:
    """Train the encoder in place so that each token from the caption's end on tells direction and kind. Returns the
    losses.

    The encoder is causal and pads with its end token, so all these tokens have read the whole caption.
    """
    torch.manual_seed(seed)
    draw = random.Random(seed)
    kinds = sorted({kind for _, _, kind in examples})
    head = nn.Linear(text_encoder.config.hidden_size, 2 + len(kinds))
    text_encoder.train().requires_grad_(True)
    optimizer = torch.optim.AdamW([*text_encoder.parameters(), *head.parameters()], lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    curve = []
    for _ in range(steps):
        captions, directions, names = zip(*draw.choices(examples, k=batch_size))
        tokens = tokens_of(captions, tokenizer)
        told = head(text_encoder(tokens)[0])  # [N,S,2+kinds]
        over = (tokens == tokenizer.eos_token_id).float()
        over = over / over.sum()
        direction = (told[..., :2] - torch.stack(directions)[:, None]).square().sum(-1)
        kind = torch.tensor([kinds.index(name) for name in names])[:, None].expand(tokens.shape)
        surprise = F.cross_entropy(told[..., 2:].transpose(1, 2), kind, reduction="none")
        loss = ((direction + 0.2 * surprise) * over).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        curve.append(float((direction * over).sum().detach()))
    text_encoder.eval().requires_grad_(False)
    return curve


def main() -> None:
    """The command line."""
    parser = Parser(prog="python -m mini.caption_encoder", description=__doc__.splitlines()[0])
    parser.add_argument("--source", required=True, help="folder with tokenizer/ and text_encoder/ to start from")
    parser.add_argument("--metadata", required=True, help="metadata.jsonl of mini/procedural.py")
    parser.add_argument("--output", required=True, help="folder that receives tokenizer/ and the taught text_encoder/")
    parser.add_argument("--steps", type=number(least=1, most=1_000_000), default=600)
    parser.add_argument("--threads", type=number(least=0, most=512), default=0)
    arguments = parser.parse_args()
    if arguments.steps < 1:
        raise ValueError(f"--steps {arguments.steps}: expected 1 or more")
    runtime = make_runtime("cpu", "fp32", threads=arguments.threads)
    tokenizer, text_encoder = load_text_encoder(arguments.source, runtime)
    curve = teach(text_encoder, tokenizer, read_examples(arguments.metadata), steps=arguments.steps)
    text_encoder.save_pretrained(Path(arguments.output) / "text_encoder")
    if Path(arguments.source).resolve() != Path(arguments.output).resolve():
        shutil.copytree(Path(arguments.source) / "tokenizer", Path(arguments.output) / "tokenizer", dirs_exist_ok=True)
    print(f"squared error of the direction: {fmean(curve[:20]):.3f} -> {fmean(curve[-50:]):.3f}")


if __name__ == "__main__":
    run_main(main)
