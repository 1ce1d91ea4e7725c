"""Trains the mini tier's image models from scratch on a CPU: an autoencoder, a text-to-image U-Net on its latents, a segmenter.

    python -m mini.train autoencoder --data dataset/procedural_data/train --output checkpoints/mini --minutes 8 --threads 2
    python -m mini.train unet        --data dataset/procedural_data/train --output checkpoints/mini --minutes 70 --threads 2
    python -m mini.train decoder     --data dataset/procedural_data/train --output checkpoints/mini --minutes 10 --threads 2
    python -m mini.train segmenter   --data dataset/procedural_data/train --output checkpoints/mini --minutes 15
    python -m mini.train export      --data dataset/procedural_data/train --output checkpoints/mini

In this order, on what mini/procedural.py wrote. Checkpoints, the tokenizer and cached latents stay in <output>-work; --resume goes on
from there (unet: else from exported weights), until --minutes in all. Each command ends with the export of its part: float16 weights and a
card.json in <output>/diffusion (a diffusers folder, once all of it is trained) or <output>/segmenter (a transformers folder).
"""

import hashlib
import shutil
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from text2cinemagraph.data.checkpoint import dataset_note
from text2cinemagraph.data.files import atomic, sha256
from text2cinemagraph.img2img.autoencoder import PatchAutoencoder
from text2cinemagraph.mini.captions import wordings
from text2cinemagraph.mini.scenes import read_scenes, to_tensor
from text2cinemagraph.mini.sharpen import sharpen
from text2cinemagraph.mini.train_segmenter import SEGMENTER, segmenter_processor, train_segmenter
from text2cinemagraph.mini.training import Training, cosine, late_decay, read_json, write_json
from text2cinemagraph.options.cli import Parser, run_main
from text2cinemagraph.options.runtime import hardware
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, UperNetForSemanticSegmentation

# ---------------------------------------------------------------- autoencoder
WEIGHTS = "diffusion_pytorch_model.safetensors"
CROP = 64  # px; textures are learned from small windows: four times the pictures per second of 128


AUTOENCODER = {"pack": 1, "latent_channels": 8}  # 32x32x8 for a picture of 256 px, 24 times fewer numbers


def train_autoencoder(scenes, validation, work, minutes, seed, resume=False):
    """Learn PatchAutoencoder: L1 and gradients on three scales, from a linear start (PCA); writes <work>/vae."""
    rng = np.random.default_rng(seed)
    pictures = np.stack([scenes.picture(*variant) for variant in tqdm(scenes.variants(), "reading pictures")])
    vae = PatchAutoencoder(**AUTOENCODER)
    vae.start_from_pca(_patches(autoencoder_batch(pictures, rng, min(2560, 40 * len(pictures))), vae.factor))
    training = Training(
        {"vae": vae.to(memory_format=torch.channels_last)}, work / "autoencoder.pt", 4e-4, (0.9, 0.99), 1e-4, 0.998
    )
    if resume and training.resume() and training.seconds >= minutes * 60 and (work / "vae").is_dir():
        return  # finished; its decoder may have been sharpened since

    def loss_of_batch(count):
        x = autoencoder_batch(pictures, rng, count)
        with torch.autocast("cpu", torch.bfloat16):
            latents = vae.encode_base(x)
            made = vae.decode_base(latents)
        return reconstruction_loss(made.float(), x) + 1e-4 * latents.float().square().mean()

    training.run(loss_of_batch, 16, minutes, cosine, 50, CollapseGuard(vae, to_tensor(pictures[:4])))
    with training.averaged(), torch.no_grad():
        vae.eval()
        some = rng.permutation(len(pictures))[:1000]
        latents = torch.cat([vae.encode_base(to_tensor(pictures[some[i : i + 10]])) for i in range(0, len(some), 10)])
        vae.normalise(latents.mean((0, 2, 3)), latents.std((0, 2, 3)))
        vae.save_pretrained(work / "vae")
        write_json(work / "autoencoder.json", training.notes(scores={"psnr_db": autoencoder_scores(vae, validation)}))


def autoencoder_batch(pictures, rng, count):
    """[N,3,CROP,CROP] in [-1,1]: windows, a quarter of them of twice the size and shrunk, half of them mirrored."""
    return to_tensor([_window(pictures[rng.integers(len(pictures))], rng) for _ in range(count)])


def _window(picture, rng):
    side = CROP * (2 if rng.random() < 0.25 else 1)
    y, x = rng.integers(0, (picture.shape[0] - side) // 2 + 1), rng.integers(0, (picture.shape[1] - side) // 2 + 1)
    window = picture[
        2 * y : 2 * y + side, 2 * x : 2 * x + side
    ]  # even corners keep the pixel pairs of JPEG's colour together
    if side != CROP:
        window = cv2.resize(window, (CROP, CROP), interpolation=cv2.INTER_AREA)
    return window[:, ::-1] if rng.random() < 0.5 else window


def _patches(pictures, size):
    """[N,3,H,W] -> all its tiles [n,3,size,size]."""
    return pictures.unfold(2, size, size).unfold(3, size, size).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, size, size)


def reconstruction_loss(made, wanted):
    """L1, and 0.3 times L1 of the gradients at three scales and of the two coarser pictures below."""
    loss, gradients = (made - wanted).abs().mean(), 0
    difference = made - wanted
    for _ in range(3):
        gradients += difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
        difference = F.avg_pool2d(difference, 2)
        gradients += difference.abs().mean()
    return loss + 0.3 * gradients


def train_decoder(scenes, validation, work, minutes, seed, resume=False):
    """Sharpen the decoder of <work>/vae. The latents stay what they are, and with them a U-Net that is trained already.

    resume: a decoder that was sharpened is left as it is; one that was interrupted begins again, from the autoencoder as it was.
    """
    if resume and read_json(work / "decoder.json").get("vae") == sha256(work / "vae" / WEIGHTS):
        return
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    variants = scenes.variants()
    vae = PatchAutoencoder.from_pretrained(work / "vae").float().to(memory_format=torch.channels_last)

    def draw():
        chosen = [scenes.picture(*variants[rng.integers(len(variants))]) for _ in range(4)]
        return to_tensor([_window(picture, rng) for picture in chosen for _ in range(4)])

    steps = sharpen(vae, draw, reconstruction_loss, minutes * 60)
    vae.eval().save_pretrained(work / "vae")
    write_json(
        work / "decoder.json",
        {
            "steps": steps,
            "minutes": minutes,
            "scores": {"psnr_db": autoencoder_scores(vae, validation)},
            "vae": sha256(work / "vae" / WEIGHTS),
        },
    )


class CollapseGuard:
    """Watches the learned part of the decoder: at high rates it can fall silent for good and leave the linear part alone.

    Called after every step; every 100 steps it keeps the weights, or, when the part's rms has fallen below 0.01, puts the last ones back
    and halves the rate.   probe: pictures [N,3,H,W] to watch with.
    """

    def __init__(self, vae, probe, every=100):
        self.vae, self.probe, self.every, self.kept = vae, probe, every, None

    def __call__(self, training):
        if training.steps % self.every:
            return
        with torch.no_grad():
            rms = self.vae.decoder(self.vae.encode_base(self.probe)).square().mean().sqrt()
        if rms >= 0.01:
            self.kept = [p.detach().clone() for p in training.parameters]
        elif self.kept:
            training.put(self.kept)
            training.rate /= 2
            training.optimizer.state.clear()


@torch.no_grad()
def autoencoder_scores(vae, scenes):
    """Mean PSNR in dB of the validation pictures: {"natural": , "painted": }."""
    found = {"natural": [], "painted": []}
    for index, style in scenes.variants() if scenes else ():
        x = to_tensor([scenes.picture(index, style)])
        made = vae.decode(vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
        found["painted" if style else "natural"].append(10 * np.log10(4 / F.mse_loss(made, x).item()))
    return {kind: round(float(np.mean(values)), 2) for kind, values in found.items() if values}


# ---------------------------------------------------------------- words and the U-Net
WORDS = 32  # tokens of a prompt, both ends counted
TEXT = {
    "hidden_size": 96,
    "intermediate_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": WORDS,
}
# Stable Diffusion's four levels, with self-attention at 32x32, 16x16 and 8x8. "attention_head_dim" is diffusers' name for the number of heads;
# one at 32x32, where the softmax over 1024 places is a third of the work.
UNET = {
    "sample_size": 32,
    "in_channels": 8,
    "out_channels": 8,
    "block_out_channels": (32, 64, 96, 128),
    "layers_per_block": 1,
    "cross_attention_dim": 96,
    "attention_head_dim": (1, 2, 4, 4),
    "norm_num_groups": 16,
    "time_embedding_dim": 256,
}
WORDINGS = 6  # captions per picture
SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
# Words of prompts that no caption holds, so that they become few tokens.
OTHER_WORDS = (
    "in left to right, upwards direction",
    "in right to left, downwards direction",
    "a photograph of the landscape, jungle, hills, cliff, snow, red, blue, green, big, small, boat house city sun moon stars",
)


def train_tokenizer(captions, folder):
    """Byte-pair tokens of the captions, saved so that CLIPTokenizer reads them: lower case, 32 tokens a prompt."""
    start, end = "<|startoftext|>", "<|endoftext|>"
    tokenizer = Tokenizer(models.BPE(unk_token=end, end_of_word_suffix="</w>", continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True
    )
    tokenizer.train_from_iterator(
        [*captions, *OTHER_WORDS * 20],
        trainers.BpeTrainer(
            vocab_size=420,
            special_tokens=[start, end],
            end_of_word_suffix="</w>",
            show_progress=False,
            initial_alphabet=list("abcdefghijklmnopqrstuvwxyz0123456789,.-!'"),
        ),
    )
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.model.save(str(folder))
    write_json(folder / "special_tokens_map.json", special)
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": WORDS, "do_lower_case": True, **special},
    )


def build_text_encoder(tokenizer):
    """A small CLIP text model over the tokenizer's words."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.bos_token_id,
            pad_token_id=tokenizer.eos_token_id,
            **TEXT,
        )
    )


def build_unet():
    """A small U-Net of Stable Diffusion's kind; its residual blocks begin as identities, which trains faster."""
    unet = UNet2DConditionModel(**UNET).to(memory_format=torch.channels_last)
    for module in unet.modules():
        if type(module).__name__ == "ResnetBlock2D":
            torch.nn.init.zeros_(module.conv2.weight)
    return unet


def latents_digest(vae):
    """sha256 of the weights that decide what a picture's latents are; sharpening the decoder leaves it as it is."""
    digest = hashlib.sha256()
    for name, tensor in sorted(vae.state_dict().items()):
        if not name.startswith(("decoder.", "linear_out.")):
            digest.update(name.encode() + tensor.detach().half().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def cached_latents(scenes, vae_folder, path):
    """float16 [n,C,h,w], one per variant of the scenes; encoded once per autoencoder and set of scenes, kept in `path` (.npy)."""
    variants = scenes.variants()
    vae = PatchAutoencoder.from_pretrained(vae_folder).eval().to(memory_format=torch.channels_last)
    key = {"latents_of": latents_digest(vae), "pictures": len(variants)}
    if path.is_file() and read_json(path.with_suffix(".json")) == key:
        return torch.from_numpy(np.load(path))
    batches = [variants[i : i + 16] for i in range(0, len(variants), 16)]
    latents = torch.cat(
        [
            vae.encode(to_tensor([scenes.picture(*v) for v in batch])).latent_dist.mode().half()
            for batch in tqdm(batches, "encoding pictures")
        ]
    )
    with atomic(path) as temporary:
        np.save(temporary, latents.numpy())
    write_json(path.with_suffix(".json"), key)
    return latents


def train_unet(scenes, validation, work, minutes, seed, resume=False, exported=None, words=None):
    """Learn the U-Net and the text encoder together: velocity prediction, a tenth of the captions empty for guidance.

    exported: a diffusers folder to begin from when resuming with neither a checkpoint nor an autoencoder in `work`.
    words: folder of a tokenizer to use; without one, the captions' own is made.
    """
    begin = (
        resume
        and exported is not None
        and (exported / "unet").is_dir()
        and not any((work / p).exists() for p in ("unet.pt", "vae"))
    )
    if begin:
        for part in ("vae", "tokenizer"):
            shutil.copytree(exported / part, work / part, dirs_exist_ok=True)
    if not (work / "vae").is_dir():
        raise FileNotFoundError(
            f"no autoencoder in {work / 'vae'}; train it first: python -m mini.train autoencoder ..."
        )
    rng = np.random.default_rng(seed)
    captions = [wordings(scenes.scenes[index], style, rng, WORDINGS) for index, style in scenes.variants()]
    if not (work / "tokenizer").is_dir() and words is not None and words.is_dir():
        shutil.copytree(words, work / "tokenizer")
    if not (work / "tokenizer").is_dir():
        train_tokenizer([caption for several in captions for caption in several], work / "tokenizer")
    latents = cached_latents(scenes, work / "vae", work / "latents.npy")
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer", local_files_only=True)
    tokens = tokenize(tokenizer, [caption for several in captions for caption in several]).view(-1, WORDINGS, WORDS)
    empty = tokenize(tokenizer, [""])
    torch.manual_seed(seed)
    unet, text_encoder = build_unet(), build_text_encoder(tokenizer)
    if begin:
        unet.load_state_dict(UNet2DConditionModel.from_pretrained(exported / "unet").state_dict())
        text_encoder.load_state_dict(CLIPTextModel.from_pretrained(exported / "text_encoder").state_dict())
    training = Training({"unet": unet, "text_encoder": text_encoder}, work / "unet.pt", 1e-3, (0.9, 0.98), 1e-4, 0.999)
    if resume:
        training.resume()
    alphas, share = (
        DDIMScheduler(**SCHEDULER).alphas_cumprod,
        shares_of_looks([style for _, style in scenes.variants()]),
    )

    def loss_of_batch(count):
        chosen, wording = torch.multinomial(share, count, replacement=True), torch.randint(WORDINGS, (count,))
        words = torch.where(torch.rand(count, 1) < 0.1, empty, tokens[chosen, wording])
        return velocity_loss(unet, text_encoder, latents[chosen].float(), words, alphas)

    training.run(loss_of_batch, 32, minutes, late_decay, 100)
    write_json(
        work / "unet.json",
        training.notes(
            batch=32,
            loss=round(float(np.mean(training.losses or [0])), 4),
            latents_of=read_json(work / "latents.json")["latents_of"],
        ),
    )


def shares_of_looks(looks):
    """float [n]: how often to take each picture, so that every look comes equally often however many pictures it has."""
    counts = Counter(looks)
    return torch.tensor([1 / (len(counts) * counts[look]) for look in looks])


def tokenize(tokenizer, captions):
    """int64 [N,WORDS]; longer captions are cut."""
    return torch.tensor(tokenizer(captions, padding="max_length", max_length=WORDS, truncation=True)["input_ids"])


def velocity_loss(unet, text_encoder, latents, tokens, alphas):
    """Mean squared error of v = sqrt(a) noise - sqrt(1-a) latents at random timesteps (Salimans & Ho, ICLR 2022)."""
    t = torch.randint(0, len(alphas), (len(latents),))
    a, noise = alphas[t].view(-1, 1, 1, 1), torch.randn_like(latents)
    noisy = (a.sqrt() * latents + (1 - a).sqrt() * noise).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):  # a fifth faster where the processor has it, never slower by much
        made = unet(noisy, t, text_encoder(tokens).last_hidden_state).sample.float()
    return F.mse_loss(made, a.sqrt() * noise - (1 - a).sqrt() * latents)


# ---------------------------------------------------------------- export
def export(scenes, work, output, parts=("diffusion", "segmenter")):
    """Write those of the parts that are trained by now: <output>/diffusion, once all of it is there, and <output>/segmenter."""
    card = {"dataset": {**dataset_note(scenes.folder), "pictures": len(scenes.variants())}}
    if "diffusion" in parts and all((work / name).exists() for name in ("vae", "tokenizer", "unet.pt")):
        export_diffusion(work, output / "diffusion", card)
    if "segmenter" in parts and (work / "segmenter").is_dir():
        net = UperNetForSemanticSegmentation.from_pretrained(work / "segmenter").half()
        net.save_pretrained(output / "segmenter")
        segmenter_processor().save_pretrained(output / "segmenter")
        _write_card(output / "segmenter", {"options": SEGMENTER, **card, **read_json(work / "segmenter.json")})


def export_diffusion(work, folder, card):
    """The diffusers folder, with the averaged weights of the latest U-Net checkpoint."""
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer", local_files_only=True)
    unet, text_encoder = build_unet(), build_text_encoder(tokenizer)
    training = Training({"unet": unet, "text_encoder": text_encoder}, work / "unet.pt", 1e-3, (0.9, 0.98), 1e-4, 0.999)
    training.resume()
    vae, learned_on = PatchAutoencoder.from_pretrained(work / "vae"), read_json(work / "latents.json").get("latents_of")
    if learned_on != latents_digest(vae):
        tqdm.write(
            f"{folder} is left as it was: the U-Net in {work} was trained on another autoencoder's latents; train it again: "
            "python -m mini.train unet ..."
        )
        return
    shutil.copytree(work / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    with training.averaged():
        for name, part in {"unet": unet, "text_encoder": text_encoder, "vae": vae}.items():
            part.half().save_pretrained(folder / name)
            part.float()
    DDIMScheduler(**SCHEDULER).save_pretrained(folder / "scheduler")
    write_json(
        folder / "model_index.json",
        {
            "_class_name": "StableDiffusionPipeline",
            "scheduler": ["diffusers", "DDIMScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["img2img.autoencoder", "PatchAutoencoder"],
        },
    )
    _write_card(
        folder,
        {
            "options": {"unet": UNET, "text_encoder": TEXT, "scheduler": SCHEDULER},
            **card,
            "autoencoder": {"options": AUTOENCODER, **read_json(work / "autoencoder.json")},
            "decoder": read_json(work / "decoder.json"),
            "unet": {**read_json(work / "unet.json"), **training.notes()},
        },
    )


def _write_card(folder, card):
    weights = sorted(folder.rglob("*.safetensors"))
    write_json(folder / "card.json", {**card, "sha256": {str(p.relative_to(folder)): sha256(p) for p in weights}})


# ---------------------------------------------------------------- the command line
TRAINERS = {
    "autoencoder": train_autoencoder,
    "unet": train_unet,
    "decoder": train_decoder,
    "segmenter": train_segmenter,
    "export": None,
}


def main(arguments=None):
    """The command line."""
    parser = Parser(prog="python -m mini.train", description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=TRAINERS)
    parser.add_argument("--data", default="dataset/procedural_data/train", help="folder of mini.procedural")
    parser.add_argument("--validation", help="folder to score on (default: validation beside --data, if it is there)")
    parser.add_argument("--output", default="checkpoints/mini")
    parser.add_argument("--minutes", type=float, default=10, help="time for training, resumed runs counted in")
    parser.add_argument(
        "--tokenizer",
        default="checkpoints/mini/diffusion/tokenizer",
        help="folder of the tokenizer to use, so that the "
        "numbers of words never change; made from the captions where it is missing (default: %(default)s)",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in <output>-work")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    torch.manual_seed(options.seed)
    scenes, output = read_scenes(options.data), Path(options.output)
    work = output.with_name(output.name + "-work")
    held_out = Path(options.validation or Path(options.data).with_name("validation"))
    validation = read_scenes(held_out) if options.validation or Path(f"{held_out}_metadata.jsonl").is_file() else None
    if options.part != "export":
        more = {"exported": output / "diffusion", "words": Path(options.tokenizer)} if options.part == "unet" else {}
        TRAINERS[options.part](scenes, validation, work, options.minutes, options.seed, options.resume, **more)
        command = "python -m mini.train " + " ".join(sys.argv[1:] if arguments is None else arguments)
        notes = work / f"{options.part}.json"
        write_json(notes, {"command": command, "seed": options.seed, "hardware": hardware(), **read_json(notes)})
    parts = {"segmenter": ("segmenter",), "export": ("diffusion", "segmenter")}.get(options.part, ("diffusion",))
    export(scenes, work, output, parts)


if __name__ == "__main__":
    run_main(main)
