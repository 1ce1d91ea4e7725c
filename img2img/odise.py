"""ODISE, an open-vocabulary panoptic segmenter on the features of Stable Diffusion and CLIP, for users who hold its
released weights.

Written from a description of its behaviour, not from its code. The weights are CC BY-NC-SA 4.0 and never fetched
unasked; s3 tells the licence where it takes this backend.
References: ODISE, arXiv 2303.04803; the CLIP that sees one mask at a time is MaskCLIP, arXiv 2208.08984.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from safetensors import SafetensorError
from text2cinemagraph.data.checkpoint import is_whole, read_tensors, weights_of
from text2cinemagraph.img2img.diffusion import PARTS, Diffusion, load_diffusion
from text2cinemagraph.img2img.odise_decoder import OdiseSizes, TrainedParts
from text2cinemagraph.img2img.segment import Found
from text2cinemagraph.options.devices import machine_error
from text2cinemagraph.options.runtime import Runtime
from torchvision.transforms.functional import pil_to_tensor, to_pil_image
from transformers import CLIPModel, CLIPTokenizer

WEIGHTS = "odise_label_coco_50e-b67d2efc.pth"
DIFFUSION, CLIP = "stable-diffusion-v1-3", "clip-vit-large-patch14-336"  # folders looked for beside the weights
RELEASED = OdiseSizes()
OPTIONAL = {"criterion.empty_weight"}  # the training loss's class weights; in the file, of no use here

SHORT_SIDE, LONG_SIDE = 1024, 2560  # px at which the picture is read
PADDED_TO = 64  # px; the coarsest feature's stride
ENCODER_TAPS = ("down_blocks.2.resnets.1", "down_blocks.3.resnets.1")
UNET_TAPS = tuple(f"up_blocks.{i}.resnets.2" for i in range(4))
TAP_STRIDES = (4, 8, 32, 32, 16, 8, 8, 4)  # px per cell of the map that a tap adds to (the third tap has 64)
NOISE_SEED, NOISE_SIDE = 42, 64  # of the noise at t = 0, which is no part of the released file
SEEN_WEIGHT, UNSEEN_WEIGHT = 0.35, 0.65  # CLIP's share of the label; the demo's, as text2cinemagraph has it
MAX_SCALE = 100  # of cosines, as in CLIP
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

# A class with one of these words counts as seen in training. COCO's own 133 names, and the further ones for scenes that
# move;
# the authors' list has more synonyms, so that a few classes of other vocabularies count as unseen here.
SEEN = frozenset(
    word.strip()
    for word in """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign, parking
meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag, tie,
suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis
racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog,
pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard, cell
phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear, hair drier, toothbrush,
banner, blanket, bridge, cardboard, counter, curtain, door, floor, flower, fruit, gravel, house, light, mirror, net,
pillow, platform, playingfield, railroad, river, road, roof, sand, sea, shelf, snow, stairs, tent, towel, wall, water,
window, tree, fence, ceiling, sky, cabinet, table, pavement, mountain, grass, dirt, paper, food, building, rock, rug,
sea wave, wave, waves, clouds""".split(",")
)


class Odise:
    """The trained parts with the frozen models that they read.

    diffusion: img2img.diffusion.Diffusion of the SD 1.x shape.   clip, tokenizer: transformers' CLIPModel and its
    tokenizer. The frozen models may be in half precision; the trained parts, and all that comes between, are in
    float32.
    """

    def __init__(
        self,
        trained: TrainedParts,
        diffusion: Diffusion,
        clip: CLIPModel,
        tokenizer: Any,
        *,
        sizes: OdiseSizes = RELEASED,
    ) -> None:
        self.trained, self.diffusion, self.clip, self.tokenizer, self.sizes = trained, diffusion, clip, tokenizer, sizes
        self.clip_side = clip.config.vision_config.image_size
        noise = torch.randn(1, 4, NOISE_SIDE, NOISE_SIDE, generator=torch.Generator().manual_seed(NOISE_SEED))
        side = sizes.crop // diffusion.spatial_factor
        self.noise = resize(noise, (side, side), "bicubic").to(diffusion.device)
        self.empty_context = diffusion.encode_text([""]).float()  # [1,tokens,context]

    def queries(self, pixels: torch.Tensor, classes: list[list[str]]) -> tuple[torch.Tensor, torch.Tensor]:
        """What the model sees in a picture [1,3,H,W] in [0,1], already of the size at which it is read.

        -> (mask logits [Q,H,W], probabilities [Q,K+1] of the K classes and, last, of none of them)
        """
        height, width = pixels.shape[-2:]
        padded = F.pad(pixels, (0, -width % PADDED_TO, 0, -height % PADDED_TO))
        masks, embeddings = self.trained.masks(self.maps(padded))
        if not masks.isfinite().all():
            raise ValueError(f"ODISE gives NaN or infinite values in {self.diffusion.unet.dtype}; use odise.dtype=fp32")
        probabilities = self.classify(pixels, masks, embeddings[0], classes)
        return resize(masks, padded.shape[-2:])[0, :, :height, :width], probabilities

    def maps(self, pixels: torch.Tensor) -> dict[int, torch.Tensor]:
        """{stride: [1,projected,H/stride,W/stride]} of a padded picture: the mean of the crops that cover a cell."""
        height, width = pixels.shape[-2:]
        side = min(self.sizes.crop, height, width)
        shapes = {stride: (height // stride, width // stride) for stride in TAP_STRIDES}
        sums = {stride: pixels.new_zeros(1, self.sizes.projected, *shape) for stride, shape in shapes.items()}
        counts = {stride: pixels.new_zeros(1, 1, *shape) for stride, shape in shapes.items()}
        for top in crop_origins(height, side):
            for left in crop_origins(width, side):
                for stride, made in self.crop_maps(pixels[..., top : top + side, left : left + side]).items():
                    rows, columns = (slice(start // stride, (start + side) // stride) for start in (top, left))
                    sums[stride][..., rows, columns] += made
                    counts[stride][..., rows, columns] += 1
        return {stride: sums[stride] / counts[stride] for stride in shapes}

    def crop_maps(self, crop: torch.Tensor) -> dict[int, torch.Tensor]:
        """{stride: [1,projected,side/stride,side/stride]} of a square crop [1,3,side,side]."""
        side = crop.shape[-1]
        maps: dict[int, torch.Tensor] = {}
        features = self.features(resize(crop, (self.sizes.crop, self.sizes.crop), "bicubic"))
        projections = self.trained.backbone["feature_projections"].children()
        for project, feature, stride in zip(projections, features, TAP_STRIDES, strict=True):
            made = project(F.interpolate(feature, (side // stride, side // stride), mode="nearest"))
            maps[stride] = maps[stride] + made if stride in maps else made
        return maps

    def features(self, crop: torch.Tensor) -> list[torch.Tensor]:
        """The eight tapped features of [1,3,sizes.crop,sizes.crop]: what goes into blocks of the autoencoder and the
        U-Net.
        """
        context, time_embedding = self.caption(crop)
        with _inputs_of(self.diffusion.vae.encoder, ENCODER_TAPS) as encoder_features:
            latent = self.diffusion.encode(crop).float()
        kept = self.diffusion.alphas_cumprod[0].item()  # t = 0: hardly any noise
        noisy = kept**0.5 * latent + (1 - kept) ** 0.5 * self.noise
        handle = self.diffusion.unet.time_embedding.register_forward_hook(
            lambda module, inputs, output: output + time_embedding.to(output.dtype)
        )
        try:
            with _inputs_of(self.diffusion.unet, UNET_TAPS) as unet_features:
                dtype = self.diffusion.unet.dtype
                self.diffusion.unet(noisy.to(dtype), 0, context.to(dtype))
        finally:
            handle.remove()
        found = [*encoder_features, *unet_features, *self._decoder_features(latent)]
        return [feature.float() for feature in found]

    def _decoder_features(self, latent):
        """Inputs of up_blocks.0.resnets.2 and up_blocks.1.resnets.2, for the clean latent; the rest, and dearest, is
        left out.
        """
        vae = self.diffusion.vae
        scaled = (latent / vae.config.scaling_factor).to(vae.dtype)
        x = vae.decoder.mid_block(vae.decoder.conv_in(vae.post_quant_conv(scaled)))
        tapped, (first, second) = [], vae.decoder.up_blocks[:2]
        for block, resnet in [(first, 0), (first, 1), (first, 2), (second, 0), (second, 1)]:
            x = block.resnets[resnet](x, None)
            if resnet == 1:
                tapped.append(x)
            if resnet == 2:
                x = block.upsamplers[0](x)
        return tapped

    def caption(self, crop: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The implicit caption of a crop: (context [1,tokens,context], what is added to the time embedding
        [1,4*unet]).
        """
        embedding = self.clip.get_image_features(self._clip_pixels(crop, "bicubic")).pooler_output.float()
        context, time_embedding = self.trained.backbone["feature_extractor"](embedding)
        return self.empty_context + context, time_embedding

    def _clip_pixels(self, pixels, mode):
        mean, std = (pixels.new_tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
        return ((resize(pixels, (self.clip_side, self.clip_side), mode) - mean) / std).to(self.clip.dtype)

    def classify(
        self, pixels: torch.Tensor, masks: torch.Tensor, embeddings: torch.Tensor, classes: list[list[str]]
    ) -> torch.Tensor:
        """[Q,K+1]: probabilities from the queries' embeddings [Q,hidden] and, where there are several classes, from
        CLIP.

        With one class CLIP has nothing to choose between, so it is not asked.
        """
        words, counts = [word for words in classes for word in words], [len(words) for words in classes]
        head = self.trained.category_head
        scale = self.trained.sem_seg_head["predictor"].get_parameter("post_mask_embed.logit_scale")
        texts = head.text_proj(torch.cat([self.encode_words(words), head.null_embed]))
        *named, none = word_logits(embeddings, texts, [*counts, 1], scale).unbind(-1)
        by_clip = None
        if len(classes) > 1:
            prompts = self.encode_words([f"a photo of a {word}." for word in words])
            by_clip = word_logits(self.look_at_masks(pixels, masks), prompts, counts, self.clip.logit_scale.float())
        return combine(torch.stack(named, -1), none, by_clip, [not SEEN.isdisjoint(words) for words in classes])

    def encode_words(self, texts: list[str]) -> torch.Tensor:
        """list of N strings -> [N,clip], CLIP's text embeddings, not normalised."""
        tokens = self.tokenizer(
            texts,
            padding="max_length",
            max_length=self.clip.config.text_config.max_position_embeddings,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return self.clip.get_text_features(tokens.to(self.clip.device)).pooler_output.float()

    def look_at_masks(self, pixels: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """CLIP's embedding of each mask alone: [1,3,H,W] and logits [1,Q,h,w] -> [Q,clip].

        Copies of the class token, one per mask, look at the class token and the patches that their mask touches;
        nothing looks at them.
        """
        vision = self.clip.vision_model
        hidden = vision.pre_layrnorm(vision.embeddings(self._clip_pixels(pixels, "bilinear")))
        inside = resize(masks, (self.clip_side, self.clip_side)).sigmoid()
        touched = F.max_pool2d(inside, self.clip.config.vision_config.patch_size)[0].flatten(1) >= 0.5  # [Q,patches]
        count = len(touched)
        allowed = torch.zeros(count + hidden.shape[1], count + hidden.shape[1], dtype=torch.bool, device=hidden.device)
        allowed[:, count:] = True
        allowed[:count, count + 1 :] = touched
        bias = torch.zeros_like(allowed, dtype=hidden.dtype).masked_fill(~allowed, float("-inf"))[None, None]
        hidden = torch.cat([hidden[:, :1].expand(-1, count, -1), hidden], 1)
        seen = vision.encoder(inputs_embeds=hidden, attention_mask=bias).last_hidden_state[0, :count]
        return self.clip.visual_projection(vision.post_layernorm(seen)).float()


@contextmanager
def _inputs_of(root, names):
    """Within the block, the first input of each named module is put on the list given, in the order in which they
    run.
    """
    seen = []
    handles = [
        root.get_submodule(name).register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        for name in names
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def resize(x: torch.Tensor, size: Sequence[int], mode: str = "bilinear") -> torch.Tensor:
    """F.interpolate without antialiasing, also downwards: the released weights were trained under torchvision 0.14,
    which had none.
    """
    return x if tuple(x.shape[-2:]) == tuple(size) else F.interpolate(x, tuple(size), mode=mode, align_corners=False)


def crop_origins(length: int, side: int) -> list[int]:
    """Where crops of `side` px begin on a side of `length` px: one after the other, the last one shifted back
    inside.
    """
    return [min(start, length - side) for start in range(0, length, side)]


def word_logits(embeddings: torch.Tensor, texts: torch.Tensor, counts: list[int], scale: torch.Tensor) -> torch.Tensor:
    """[Q,C] and [W,C] -> [Q,K]: each class's best word by cosine times exp(scale).  counts: words per class."""
    cosines = F.normalize(embeddings, dim=-1) @ F.normalize(texts, dim=-1).T
    return torch.stack([part.amax(-1) for part in (cosines * scale.exp().clamp(max=MAX_SCALE)).split(counts, -1)], -1)


def combine(named: torch.Tensor, none: torch.Tensor, by_clip: torch.Tensor | None, seen: list[bool]) -> torch.Tensor:
    """Probabilities [Q,K+1] from logits: of the classes [Q,K], of none [Q], and CLIP's of the classes [Q,K] (None: not
    asked).

    seen: bool per class. CLIP counts for more where a class is new to the trained parts.
    """
    nothing = torch.cat([named, none[:, None]], -1).softmax(-1)[:, -1:]
    logs = named.log_softmax(-1)
    if by_clip is not None:
        share = torch.where(torch.tensor(seen, device=named.device), SEEN_WEIGHT, UNSEEN_WEIGHT)
        logs = ((1 - share) * logs + share * by_clip.log_softmax(-1)).log_softmax(-1)
    return torch.cat([logs.exp() * (1 - nothing), nothing], -1)


def panoptic(masks: torch.Tensor, probabilities: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each pixel's query: [H,W] int64, -1 where there is none; and its score, probability times mask, [H,W] in [0,1].

    masks: [Q,H,W] in [0,1].   probabilities: [Q,K+1]; queries whose likeliest label is the last, "none", take no part.
    """
    scores, labels = probabilities.max(-1)
    weighted = scores[:, None, None] * masks
    weighted[labels == probabilities.shape[-1] - 1] = -1
    best, winner = weighted.max(0)
    inside = (best > 0) & (masks.gather(0, winner[None])[0] >= 0.5)
    return torch.where(inside, winner, -1), best.clamp(min=0)


def reading_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) at which a picture is read: short side 1024 px, unless the long one would exceed 2560."""
    scale = min(SHORT_SIDE / min(height, width), LONG_SIDE / max(height, width))
    return int(height * scale + 0.5), int(width * scale + 0.5)


def odise(image: torch.Tensor, classes: list[list[str]], model: Odise) -> Found:
    """Segment by words of one's own.

    image: [3,H,W] in [0,1], any size.   classes: lists of synonyms.   model: of load_odise.
    -> ({class's first word: bool [1,H,W]}, {class's first word: mean score of its pixels in [0,1]}, []: no word is
    unknown)
    """
    height, width = image.shape[-2:]
    rows, columns = reading_size(height, width)
    picture = to_pil_image((image * 255).round().byte().cpu()).resize((columns, rows), Image.Resampling.BILINEAR)
    logits, probabilities = model.queries(pil_to_tensor(picture)[None].to(model.diffusion.device) / 255, classes)
    winner, scores = (x.cpu() for x in panoptic(resize(logits[None], (height, width))[0].sigmoid(), probabilities))
    labels, masks, confidences = probabilities.argmax(-1).cpu(), {}, {}
    for index, words in enumerate(classes):
        mask = (winner >= 0) & (labels[winner] == index)
        masks[words[0]], confidences[words[0]] = mask[None], float(scores[mask].mean()) if mask.any() else 0.0
    return masks, confidences, []


def load_odise(
    checkpoint: str,
    runtime: Runtime,
    diffusion: str | None = None,
    clip: str | None = None,
    *,
    sizes: OdiseSizes = RELEASED,
) -> Odise:
    """The model from disk; its frozen models in the runtime's dtype, the trained parts in float32.

    checkpoint: the released file (.pth or .safetensors), or the folder that holds it.   diffusion, clip: folders in
    diffusers' and in transformers' form; None: `stable-diffusion-v1-3` and `clip-vit-large-patch14-336` beside the
    file. Raises FileNotFoundError that says what to fetch; ValueError for files that are damaged or do not fit.
    """
    file = _weights_file(Path(checkpoint))
    folders = Path(diffusion or file.parent / DIFFUSION), Path(clip or file.parent / CLIP)
    _require_folders(*folders)
    trained = load_trained_parts(file, sizes).to(runtime.device).eval().requires_grad_(False)
    latent_diffusion = load_diffusion(str(folders[0]), runtime)
    clip_model, tokenizer = _load_clip(folders[1], runtime)
    _check_fit(latent_diffusion, clip_model, sizes, *folders)
    return Odise(trained, latent_diffusion, clip_model, tokenizer, sizes=sizes)


def _weights_file(path):
    """The file itself, or the one ODISE file in a folder."""
    found = [path] if path.is_file() else sorted(f for f in path.glob("odise*") if f.suffix in (".pth", ".safetensors"))
    if not found:
        raise FileNotFoundError(
            f"no ODISE weights at {path}; fetch {WEIGHTS} (112 MB, CC BY-NC-SA 4.0: not for commercial use) from the"
            " releases of https://github.com/NVlabs/ODISE (`python -m data.fetch odise`) and name it, or its folder,"
            " in odise.checkpoint"
        )
    if len(found) > 1:
        raise ValueError(
            f"{path} holds {len(found)} ODISE files ({', '.join(f.name for f in found)}); name one in odise.checkpoint"
        )
    return found[0]


def lacking_parts(checkpoint: str, diffusion: str | None = None, clip: str | None = None) -> list[str]:
    """What is not there, or not whole, of the three models that ODISE is; [] = it can run.  Arguments as load_odise's;
    nothing is read but the ends of files.
    """
    try:
        file = _weights_file(Path(checkpoint))
    except (FileNotFoundError, ValueError) as error:
        return [str(error)]
    lacking = [] if is_whole(file) else [f"{file} is a git-lfs pointer or was cut off; fetch it again"]
    return lacking + _lacking_folders(Path(diffusion or file.parent / DIFFUSION), Path(clip or file.parent / CLIP))


def _lacking_folders(diffusion, clip):
    """The same of the two frozen models' folders."""
    lacking = []
    for what, folder, parts, advice in (
        ("Stable Diffusion 1.3", diffusion, PARTS, "odise-diffusion"),
        ("CLIP", clip, ("",), "odise-clip"),
    ):
        try:
            for part in parts:
                if not (folder / part).is_dir() or not any((folder / part).glob("*.json")):
                    raise ValueError(f"{folder / part} is missing")
                if part not in ("tokenizer", "scheduler"):
                    weights_of(folder / part)
        except ValueError as error:
            lacking.append(f"{what}: {error}; fetch it: `python -m data.fetch {advice}`")
    return lacking


def _require_folders(diffusion, clip):
    """FileNotFoundError for whichever of the two frozen models is not there, or not all of it."""
    lacking = _lacking_folders(diffusion, clip)
    if lacking:
        raise FileNotFoundError("ODISE reads two further models; fetch what is missing. " + "; ".join(lacking))


def _load_clip(folder, runtime):
    try:
        if not any((folder / name).is_file() for name in ("vocab.json", "tokenizer.json")):
            raise ValueError("it has no vocab.json")  # transformers would make an empty tokenizer without a word
        _, variant = weights_of(folder)
        model, report = CLIPModel.from_pretrained(
            folder, variant=variant or None, local_files_only=True, output_loading_info=True, dtype=runtime.dtype
        )
        wrong = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
        if wrong:
            raise ValueError(f"{len(wrong)} weights are missing or of another shape, such as {wrong[0]}")
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, KeyError, RuntimeError, ValueError, SafetensorError) as error:
        if machine_error(error):
            raise
        raise ValueError(
            f"the CLIP model in {folder} cannot be loaded: {str(error).splitlines()[0]}; fetch openai/{CLIP} again"
        ) from error
    return model.to(runtime.device).eval().requires_grad_(False), tokenizer


def _check_fit(diffusion, clip, sizes, diffusion_folder, clip_folder):
    """ValueError unless the frozen models have the widths that the trained parts expect."""
    if not isinstance(diffusion.vae, AutoencoderKL):
        raise ValueError(f"the model in {diffusion_folder} has no AutoencoderKL; ODISE reads Stable Diffusion 1.3")
    vae, unet = diffusion.vae.config, diffusion.unet.config
    for what, found, expected, folder in (
        (
            "autoencoder channels",
            tuple(vae.block_out_channels),
            tuple(sizes.vae * m for m in (1, 2, 4, 4)),
            diffusion_folder,
        ),
        (
            "U-Net channels",
            tuple(unet.block_out_channels),
            tuple(sizes.unet * m for m in (1, 2, 4, 4)),
            diffusion_folder,
        ),
        ("U-Net context", unet.cross_attention_dim, sizes.context, diffusion_folder),
        ("CLIP embedding", clip.config.projection_dim, sizes.clip, clip_folder),
    ):
        if found != expected:
            raise ValueError(
                f"{what}: {found} in {folder}, but ODISE expects {expected}; it reads Stable Diffusion 1.3 and"
                f" openai/{CLIP}"
            )


def load_trained_parts(file: Path, sizes: OdiseSizes = RELEASED) -> TrainedParts:
    """The network with the weights of one file; ValueError that names the keys unless they are all there, of the right
    shape, and no others.
    """
    with torch.device("meta"):
        trained = TrainedParts(sizes)
    expected = {key: tuple(value.shape) for key, value in trained.state_dict().items()}
    state = {key: value for key, value in _read_state(file).items() if key not in OPTIONAL}
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    wrong = {
        "missing": [f"{key} {list(expected[key])}" for key in expected if key not in shapes],
        "unexpected": [f"{key} {list(shapes[key])}" for key in shapes if key not in expected],
        "of another shape": [
            f"{key} {list(shapes[key])} instead of {list(expected[key])}"
            for key in expected
            if key in shapes and shapes[key] != expected[key]
        ],
    }
    said = "; ".join(
        f"{len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for kind, keys in wrong.items()
        if keys
    )
    if said:
        raise ValueError(
            f"{file} does not hold ODISE's label model: {said}. Expected the {len(expected)} tensors of {WEIGHTS}"
        )
    trained.load_state_dict({key: value.float() for key, value in state.items()}, strict=True, assign=True)
    return trained


def _read_state(file):
    """{key: tensor} of a .safetensors file or of a .pth file, there perhaps under "model", with or without "module."
    before the keys.
    """
    try:
        state = read_tensors(file)
    except ValueError as error:
        raise ValueError(
            f"{error} ({file.stat().st_size} bytes cannot be read; expected {WEIGHTS}, about 112 MB)"
        ) from error
    return {key.removeprefix("module."): value for key, value in state.items()}
