"""A latent diffusion model of the Stable Diffusion 1.x shape: words, latents, pictures and predicted noise."""

import json
from functools import lru_cache
from pathlib import Path

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from img2img.autoencoder import PatchAutoencoder

AUTOENCODERS = {"AutoencoderKL": AutoencoderKL, "PatchAutoencoder": PatchAutoencoder}
PARTS = ("tokenizer", "text_encoder", "vae", "unet", "scheduler")


class Diffusion:
    """The five parts of a diffusers folder, with units kept at its doors: pictures in [0,1] outside, [-1,1] inside.

    alphas_cumprod: [1000] float64.   prediction_type: "epsilon" or "v_prediction", as the scheduler's config says.
    """

    def __init__(self, tokenizer, text_encoder, vae, unet, alphas_cumprod, prediction_type="epsilon"):
        self.tokenizer, self.text_encoder, self.vae, self.unet = tokenizer, text_encoder, vae, unet
        self.alphas_cumprod, self.prediction_type = alphas_cumprod, prediction_type

    @property
    def device(self):
        return self.unet.device

    @property
    def spatial_factor(self):
        """Pixels per latent cell, along each side."""
        own = getattr(self.vae, "spatial_factor", None)
        return own or 2 ** (len(self.vae.config.block_out_channels) - 1)

    def latent_shape(self, height, width):
        """(1,c,h,w) for a picture; ValueError unless both sides suit the U-Net's downsampling."""
        multiple = self.spatial_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
        if height % multiple or width % multiple:
            raise ValueError(f"a picture of {width}x{height}: both sides must be multiples of {multiple} for this model")
        return 1, self.unet.config.in_channels, height // self.spatial_factor, width // self.spatial_factor

    def encode_text(self, prompts):
        """list of N strings -> [N,tokens,channels], the text encoder's last hidden state; longer prompts are cut."""
        tokens = self.tokenizer(list(prompts), padding="max_length", max_length=self.tokenizer.model_max_length,
                                truncation=True, return_tensors="pt").input_ids
        return self.text_encoder(tokens.to(self.device)).last_hidden_state

    def encode(self, image):
        """[1,3,H,W] in [0,1] -> latent, the mode of the posterior, scaled as the U-Net expects it."""
        pictures = image.to(self.device, self.unet.dtype) * 2 - 1
        return self.vae.encode(pictures).latent_dist.mode() * self.vae.config.scaling_factor

    def decode(self, latent):
        """latent -> [1,3,H,W] float32 in [0,1]."""
        pictures = self.vae.decode(latent.to(self.unet.dtype) / self.vae.config.scaling_factor).sample
        return (pictures.float() / 2 + 0.5).clamp(0, 1)

    def predict_noise(self, x, t, context):
        """epsilon at timestep t (int) for x [1|N,c,h,w] (repeated to the context's N); float32, whatever the U-Net computes in."""
        x = x.expand(len(context), -1, -1, -1)
        made = self.unet(x.to(self.unet.dtype), t, context).sample.float()
        if self.prediction_type == "v_prediction":                 # v = sqrt(a) epsilon - sqrt(1-a) x0
            a = self.alphas_cumprod[t].item()
            made = a**0.5 * made + (1 - a) ** 0.5 * x
        return made


def scheduler_alphas(scheduler):
    """The cumulative products of a DDIMScheduler's betas in float64, and what its model predicts."""
    return scheduler.alphas_cumprod.double(), scheduler.config.prediction_type


@lru_cache(maxsize=1)
def load_diffusion(source, runtime):
    """The model in a diffusers folder (tokenizer/, text_encoder/, vae/, unet/, scheduler/), from disk only; the last one is kept.

    Raises FileNotFoundError that says what to fetch; ValueError for a damaged or unsuitable folder.
    """
    folder = Path(source)
    if folder.is_file():
        raise ValueError(f"{source} is a single file; expected a folder in diffusers form, such as checkpoints/stable-diffusion-v1-4")
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise FileNotFoundError(f"no diffusion model at {source} ({', '.join(missing)} missing); fetch Stable Diffusion v1.4 in diffusers "
                                "form to checkpoints/stable-diffusion-v1-4 (see checkpoints/README.md) or name another folder in ckpt")
    try:
        vae_class = AUTOENCODERS[json.loads((folder / "vae/config.json").read_text())["_class_name"]]
        kind = {"torch_dtype": runtime.dtype, "local_files_only": True}
        diffusion = Diffusion(
            CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
            _frozen(CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=runtime.dtype, local_files_only=True), runtime),
            _frozen(vae_class.from_pretrained(folder / "vae", **kind), runtime),
            _frozen(UNet2DConditionModel.from_pretrained(folder / "unet", **kind), runtime),
            *scheduler_alphas(DDIMScheduler.from_pretrained(folder / "scheduler", local_files_only=True)))
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"the diffusion model in {source} cannot be loaded: {str(error).splitlines()[0]}; fetch it again") from error
    return diffusion


def _frozen(model, runtime):
    return model.to(runtime.device).eval().requires_grad_(False)
