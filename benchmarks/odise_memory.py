"""ODISE at its released shapes: how much memory it takes in each precision, without weights and without a GPU.

    python -m benchmarks.odise_memory            # a minute; writes docs/results/odise_memory.json

The networks are made on torch's meta device, where every tensor has a shape and no numbers, and walk the real code
over a picture; counted is what is alive at once. Attention is counted as whole matrices, which a GPU's fused kernels
do not make, and a GPU's libraries and context (about 0.5 GB) come on top.
"""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import Any

import torch
from text2cinemagraph.benchmarks.full_tier_memory import stable_diffusion_networks
from text2cinemagraph.data.files import atomic
from text2cinemagraph.img2img.odise import RELEASED, Odise, TrainedParts, reading_size
from text2cinemagraph.options.cli import Parser, run_main
from torch.utils._python_dispatch import TorchDispatchMode

RESULT = Path("docs/results/odise_memory.json")
SIZES = ((512, 512), (480, 640), (1080, 1920))
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16}
CLASSES = [["water", "river"], ["sky"], ["sea"], ["waterfall"], ["lake"], ["clouds"]]


class Alive(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make, while they live.  peak: the most at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return True  # "are all numbers finite?": here there are none
        made = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "meta":
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in self._known:
                    self._known.add(key)
                    self.now += storage.nbytes()
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self._gone, key, storage.nbytes())
        return made

    def _gone(self, key, size):
        self._known.discard(key)
        self.now -= size


def released(dtype: torch.dtype) -> Odise:
    """ODISE with Stable Diffusion 1.3 and CLIP ViT-L/14 at 336 px, on the meta device; the frozen models in `dtype`."""
    from text2cinemagraph.img2img.diffusion import Diffusion
    from text2cinemagraph.options.places import located
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    text = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    unet, vae, words = stable_diffusion_networks()
    with torch.device("meta"):
        both = CLIPConfig(
            text_config={**text, "projection_dim": 768},
            vision_config={**vision, "image_size": 336, "patch_size": 14, "projection_dim": 768},
            projection_dim=768,
        )
        clip, trained = CLIPModel(both), TrainedParts(RELEASED)
    for frozen in (unet, vae, words, clip):
        torch.nn.Module.to(frozen, dtype)
    for network in (unet, vae, words, clip, trained):
        network.eval().requires_grad_(False)
    tokenizer = CLIPTokenizer.from_pretrained(located("checkpoints/mini/diffusion/tokenizer"), local_files_only=True)
    tokenizer.model_max_length = 77
    alphas = torch.linspace(0.99915, 0.0047, 1000).double()
    with Alive():
        return Odise(trained, Diffusion(tokenizer, words, vae, unet, alphas_cumprod=alphas), clip, tokenizer)


def measure(size: tuple[int, int], dtype: torch.dtype) -> dict[str, float]:
    """Bytes of the networks and the most beside them, in GB, for a picture of (H, W) px."""
    model = released(dtype)
    networks = model.trained, model.diffusion.unet, model.diffusion.vae, model.diffusion.text_encoder, model.clip
    weights = sum(t.numel() * t.element_size() for n in networks for t in (*n.parameters(), *n.buffers()))
    with torch.no_grad(), Alive() as alive:
        model.queries(torch.empty(1, 3, *reading_size(*size), device="meta"), CLASSES)
    return {"weights_GB": round(weights / 1e9, 2), "peak_GB": round((weights + alive.peak) / 1e9, 2)}


def main(arguments: list[str] | None = None) -> None:
    """Count all sizes in both precisions and write the table."""
    parser = Parser(prog="python -m benchmarks.odise_memory", description=__doc__)
    parser.add_argument("--out", default=str(RESULT), help="where the numbers go (default: %(default)s)")
    flags = parser.parse_args(arguments)
    rows = {
        f"{width}x{height}": {name: measure((height, width), dtype) for name, dtype in PRECISIONS.items()}
        for height, width in SIZES
    }
    note = f"picture: precision of the frozen models; {len(CLASSES)} classes, attention as whole matrices, no context"
    with atomic(flags.out) as path:
        Path(path).write_text(json.dumps({"what": note, "pictures": rows}, indent=1) + "\n")
    for picture, row in rows.items():
        print(picture, row)


if __name__ == "__main__":
    run_main(main)
