"""A latent diffusion model of Stable Diffusion's kind: words, latents, pictures and predicted noise."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError
from text2cinemagraph.data.checkpoint import weights_of
from text2cinemagraph.data.wording import tell_cut_words
from text2cinemagraph.img2img.autoencoder import PatchAutoencoder
from text2cinemagraph.img2img.families import (
    BASE,
    FAMILIES,
    Family,
    SecondEncoder,
    added_conditions,
    encode_two,
    family_of,
    read_family,
)
from text2cinemagraph.img2img.single_file import read_single_file, tokenizer_folder
from text2cinemagraph.options.devices import machine_error
from text2cinemagraph.options.places import located
from text2cinemagraph.options.runtime import Runtime
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

AUTOENCODERS = {"AutoencoderKL": AutoencoderKL, "PatchAutoencoder": PatchAutoencoder}
PARTS = BASE
PREDICTIONS = ("epsilon", "v_prediction")
FETCH = "python -m data.fetch stable-diffusion"


class Diffusion:
    """The parts of a diffusers folder, with units kept at its doors: pictures in [0,1] outside, [-1,1] inside.

    alphas_cumprod: [1000] float64.   prediction_type: "epsilon" or "v_prediction", as the scheduler's config says.
    second: the second text encoder of Stable Diffusion XL (img2img.families.SecondEncoder).
    """

    def __init__(
        self,
        tokenizer: Any,
        text_encoder: Any,
        vae: Any,
        unet: Any,
        *,
        alphas_cumprod: torch.Tensor,
        prediction_type: str = "epsilon",
        second: SecondEncoder | None = None,
    ) -> None:
        self.tokenizer, self.text_encoder, self.vae, self.unet = tokenizer, text_encoder, vae, unet
        self.alphas_cumprod, self.prediction_type = alphas_cumprod, prediction_type
        self.second = second

    @property
    def family(self) -> Family:
        """What its U-Net's config says it is, see img2img/families.py."""
        return family_of(dict(self.unet.config))

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @property
    def spatial_factor(self) -> int:
        """Pixels per latent cell, along each side."""
        own = getattr(self.vae, "spatial_factor", None)
        return own or 2 ** (len(self.vae.config.block_out_channels) - 1)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int, int]:
        """(1,c,h,w) for a picture; ValueError unless both sides suit the U-Net's downsampling."""
        multiple = self.spatial_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
        if height % multiple or width % multiple:
            raise ValueError(
                f"a picture of {width}x{height}: both sides must be multiples of {multiple} for this model"
            )
        return 1, self.unet.config.in_channels, height // self.spatial_factor, width // self.spatial_factor

    def drawing_size(self, height: int, width: int, short_side: int) -> tuple[int, int]:
        """The (H, W) nearest in shape that the model takes, with about `short_side` px along the shorter side."""
        multiple = self.spatial_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
        scale = short_side / min(height, width)
        return tuple(max(multiple, round(side * scale / multiple) * multiple) for side in (height, width))

    def encode_text(self, prompts: Iterable[str]) -> Any:
        """list of N strings -> what predict_noise reads of them; what the encoder cuts is told.

        The text encoder's last hidden state [N,tokens,channels], or img2img.families.Words for Stable Diffusion XL.
        """
        prompts = list(prompts)
        tell_cut_words(prompts, self.tokenizer)
        if self.second is None:
            return self._finite(
                "the text encoder",
                self.text_encoder,
                lambda: self.text_encoder(self._tokens(self.tokenizer, prompts)).last_hidden_state,
            )
        return encode_two(self._states_but_one, self.second, self._tokens, prompts)

    def _states_but_one(self, prompts):
        tokens = self._tokens(self.tokenizer, prompts)
        return self.text_encoder(tokens, output_hidden_states=True).hidden_states[-2]

    def _tokens(self, tokenizer, prompts):
        return tokenizer(
            prompts, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
        ).input_ids.to(self.device)

    def encode(self, image: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """[1,3,H,W] in [0,1] -> latent, scaled as the U-Net expects it: the posterior's mode, or a draw from it with a
        generator.
        """

        def encoded():
            posterior = self.vae.encode(image.to(self.device, self.vae.dtype) * 2 - 1).latent_dist
            return posterior.mode() if generator is None else posterior.sample(generator)

        return self._finite("the autoencoder", self.vae, encoded) * self.vae.config.scaling_factor

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """latent -> [1,3,H,W] float32 in [0,1]."""

        def decoded():
            return self.vae.decode(latent.to(self.vae.dtype) / self.vae.config.scaling_factor).sample

        return (self._finite("the autoencoder", self.vae, decoded).float() / 2 + 0.5).clamp(0, 1)

    def predict_noise(self, x: torch.Tensor, t: int, context: Any) -> torch.Tensor:
        """epsilon at timestep t (int) for x [1|N,c,h,w] (repeated to the context's N); float32, whatever the U-Net
        computes in.  context: of encode_text.
        """
        x = x.expand(len(context), -1, -1, -1)

        def noise():
            dtype, words, more = self.unet.dtype, context, {}
            if self.second is not None:
                words, size = context.states, (side * self.spatial_factor for side in x.shape[-2:])
                added = {name: value.to(dtype) for name, value in added_conditions(context, *size).items()}
                more = {"added_cond_kwargs": added}
            return self.unet(x.to(dtype), t, words.to(dtype), **more).sample.float()

        made = self._finite("the U-Net", self.unet, noise)
        if self.prediction_type == "v_prediction":  # v = sqrt(a) epsilon - sqrt(1-a) x0
            a = self.alphas_cumprod[t].item()
            made = a**0.5 * made + (1 - a) ** 0.5 * x
        return made

    def _finite(self, what, network, compute):
        """compute(), which runs `network`; once more in float32, where it then stays, if half precision overflowed.

        Raises ValueError where float32 gives NaN or infinite values too: nothing of that kind is drawn on or written.
        """
        made = compute()
        if made.isfinite().all():
            return made
        if network.dtype != torch.float32:
            tqdm.write(
                f"note: {what} gives NaN or infinite values in {network.dtype}; computed in float32 from here on"
            )
            torch.nn.Module.float(network)
            made = compute()
            if made.isfinite().all():
                return made
        raise ValueError(
            f"{what} gives NaN or infinite values even in float32: its weights are damaged, or a latent of an "
            "earlier run is; fetch the model again, or run from s1"
        )


def scheduler_alphas(scheduler: Any) -> tuple[torch.Tensor, str]:
    """The cumulative products of a DDIMScheduler's betas in float64, and what its model predicts."""
    predicts = scheduler.config.prediction_type
    if predicts not in PREDICTIONS:
        raise ValueError(f"its scheduler says prediction_type {predicts!r}, expected {' or '.join(PREDICTIONS)}")
    return scheduler.alphas_cumprod.double(), predicts


def load_diffusion(
    source: str, runtime: Runtime, ema: bool = False, tokenizer: str = "", *, predicts: str = "auto"
) -> Diffusion:
    """The model of a source on this disk.

    source: a diffusers folder (tokenizer/, text_encoder/, vae/, unet/, scheduler/), the hub id of one that is in the
    local cache, or a single .ckpt or .safetensors file.   ema, tokenizer, predicts: of a single file alone: which of
    the U-Net's two sets of weights to take, the folder with CLIP's vocab.json (looked for beside the file if empty),
    and what its U-Net predicts, see read_single_file.
    Raises FileNotFoundError that says what to fetch; ValueError for a damaged or unsuitable source.
    """
    try:
        path = located(source)
        parts = (
            _single_file(path, tokenizer, runtime, ema=ema, predicts=predicts)
            if path.is_file()
            else _folder(_found_folder(path, source), runtime)
        )
    except FileNotFoundError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, SafetensorError) as error:
        if machine_error(error):
            raise
        raise ValueError(
            f"the diffusion model in {source} cannot be loaded: {str(error).splitlines()[0]}; fetch it again"
        ) from error
    tokenizer, text_encoder, vae, unet, alphas, predicts, *second = parts
    model = Diffusion(
        tokenizer,
        text_encoder,
        vae,
        unet,
        alphas_cumprod=alphas,
        prediction_type=predicts,
        second=second[0] if second else None,
    )
    if runtime.slicing:
        model.unet.set_attention_slice("auto")  # half of the heads at a time
        if hasattr(model.vae, "enable_slicing"):
            model.vae.enable_slicing()
            model.vae.enable_tiling()
    return model


def _found_folder(path, source):
    """The folder itself, or that of a hub id in the local cache."""
    hub_id = not path.is_dir() and len(path.parts) == 2 and path.parts[0] not in ("checkpoints", "/", "..", ".")
    if hub_id:
        try:
            path = Path(snapshot_download(source, local_files_only=True))
        except (LocalEntryNotFoundError, ValueError, OSError) as error:
            raise FileNotFoundError(
                f"no diffusion model at {source}, neither as a folder nor in the local hub cache; fetch Stable "
                f"Diffusion v1.4 with `{FETCH}` or name another folder in twin_extraction.ckpt"
            ) from error
    missing = [part for part in PARTS if not (path / part).is_dir()]
    missing = missing or [part for part in read_family(path).parts if not (path / part).is_dir()]
    if missing:
        raise FileNotFoundError(
            f"no diffusion model at {source} ({', '.join(missing)} missing); fetch Stable Diffusion v1.4 with "
            f"`{FETCH}` (see checkpoints/README.md) or name another folder in twin_extraction.ckpt"
        )
    return path


def _folder(folder, runtime):
    """The arguments of Diffusion, from a diffusers folder."""
    family = read_family(folder)
    parts = (
        _tokenizer(folder / "tokenizer"),
        _part(CLIPTextModel, folder / "text_encoder", runtime, "dtype"),
        _autoencoder(folder / "vae", runtime, family),
        _part(UNet2DConditionModel, folder / "unet", runtime),
        *scheduler_alphas(DDIMScheduler.from_pretrained(folder / "scheduler", local_files_only=True)),
    )
    if "text_encoder_2" not in family.parts:
        return parts
    index = json.loads((folder / "model_index.json").read_text()) if (folder / "model_index.json").is_file() else {}
    return (
        *parts,
        SecondEncoder(
            _tokenizer(folder / "tokenizer_2"),
            _part(CLIPTextModelWithProjection, folder / "text_encoder_2", runtime, "dtype"),
            bool(index.get("force_zeros_for_empty_prompt", True)),
        ),
    )


def _autoencoder(folder, runtime, family):
    """The autoencoder; that of Stable Diffusion XL overflows in fp16, as its config says, and computes in float32."""
    config = json.loads((folder / "config.json").read_text())
    if config.get("force_upcast", True):
        runtime = replace(runtime, dtype=_autoencoder_dtype(runtime, family))
    return _part(_autoencoder_class(folder), folder, runtime)


def _autoencoder_dtype(runtime, family):
    return torch.float32 if family is FAMILIES["sdxl"] and runtime.dtype == torch.float16 else runtime.dtype


def _single_file(path, tokenizer, runtime, **how):
    """The arguments of Diffusion, from one file."""
    made = read_single_file(path, **how)
    folder = tokenizer_folder(path, tokenizer)
    for network in (made.text_encoder, made.vae, made.unet, made.second):
        if network is not None:
            dtype = (
                _autoencoder_dtype(runtime, family_of(dict(made.unet.config))) if network is made.vae else runtime.dtype
            )
            torch.nn.Module.to(network, runtime.device, dtype).eval().requires_grad_(False)  # diffusers' own .to warns
    tokenizers = [_tokenizer(folder, word) for word in made.pads_with]
    parts = tokenizers[0], made.text_encoder, made.vae, made.unet, *scheduler_alphas(made.scheduler)
    if made.second is None:
        return parts
    made.second.text_model.eos_token_id = tokenizers[1].eos_token_id  # where a text ends: no tensor says it
    return *parts, SecondEncoder(tokenizers[1], made.second)


def _tokenizer(folder, pads_with=None):
    if not any((folder / name).is_file() for name in ("vocab.json", "tokenizer.json")):
        raise ValueError("tokenizer/ has no vocab.json")  # transformers would make an empty one without a word
    more = {} if pads_with is None else {"pad_token": pads_with}
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True, **more)


def _autoencoder_class(folder):
    name = json.loads((folder / "config.json").read_text()).get("_class_name")
    if name not in AUTOENCODERS:
        raise ValueError(f"its autoencoder is of class {name}, expected {' or '.join(AUTOENCODERS)}")
    return AUTOENCODERS[name]


def _part(model_class, folder, runtime, dtype_name="torch_dtype"):
    """A frozen network; ValueError unless its weights are all there and no others (both libraries would only warn)."""
    _, variant = weights_of(folder)
    model, report = model_class.from_pretrained(
        folder,
        local_files_only=True,
        output_loading_info=True,
        variant=variant or None,
        **{dtype_name: runtime.dtype},
    )
    wrong = {
        kind: sorted(
            str(key)
            for key in report[f"{kind}_keys"]
            if not (kind == "unexpected" and str(key).endswith(".position_ids"))
        )
        for kind in ("missing", "mismatched", "unexpected")
    }
    wrong = {kind: keys for kind, keys in wrong.items() if keys}
    if wrong:
        said = "; ".join(f"{len(keys)} {kind}, such as {keys[0]}" for kind, keys in wrong.items())
        raise ValueError(f"the weights in {folder.name}/ do not fit ({said})")
    return model.to(runtime.device).eval().requires_grad_(False)
