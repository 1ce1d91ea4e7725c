"""Options of inference_t2c.py: one dataclass per section of the YAML, with the original's names.

What the original's files say besides and what decides nothing here is in compat.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from text2cinemagraph.options import compat
from text2cinemagraph.options.fields import SEEDS, SIDE, Options, check, option, section
from text2cinemagraph.options.train import MotionOptions, VideoOptions, check_speed

INVERSIONS = (0, 1, 3, 9, 27, 37, 111, 333, 999)  # 0 and the divisors of 999
INPUT_BLOCKS, OUTPUT_BLOCKS = [4, 5], [6, 7, 8]  # as published


@dataclass
class TwinExtraction(Options):
    """s1: the artistic image."""

    SECTION, IDLE = "twin_extraction", compat.SECTIONS["twin_extraction"]

    experiment_name: str = option("example", "the folder under exp_path_root; a plain name", filled=True)
    exp_path_root: str = option("outputs", "where experiment folders are", filled=True)
    prompt: str = option("", 'what to draw; a clause "in left to right direction" is for s5 only, s1 does not see it')
    init_img: str = option("", "a picture of your own in place of s1's (same as --image)")
    inversion_steps: int = option(
        999,
        "your own picture is inverted to noise in this many steps, so that s2 can draw a twin: a divisor of 999 (999 "
        "is the best, as published; 111 is quick); 0: no inversion, it is its own twin",
        choices=INVERSIONS,
        expected="0 (off) or a divisor of 999: 27, 37, 111, 333 or 999",
    )
    seed: int = option(23, "of everything random; -1: another picture every time", least=-1, most=SEEDS - 1)
    scale: float = option(
        5.0, "guidance_scale: 1 ignores nothing, 5 follows the prompt, 15 exaggerates it", least=0, most=1000
    )
    ddim_steps: int = option(50, "steps from noise to picture", least=1, most=999)
    ddim_eta: float = option(0.0, "only 0 is supported: s2 needs s1 to be repeatable", choices=(0.0,))
    H: int = option(512, "px, height of the picture", least=64, most=SIDE)
    W: int = option(512, "px, width of the picture", least=64, most=SIDE)
    ckpt: str = option(
        "checkpoints/stable-diffusion-v1-4",
        "a diffusers folder, a hub id in the local cache, or one .ckpt/.safetensors file",
        filled=True,
    )
    ema: bool = option(False, "of a single file with both: the averaged weights (the authors sample with the others)")
    tokenizer: str = option(
        "", "of a single file: folder with CLIP's vocab.json; empty: it is looked for beside the file"
    )
    predicts: str = option(
        "auto",
        "of a single file of Stable Diffusion 2.x, which does not say it: auto: v_prediction, but epsilon where its "
        "name has base or 512",
        choices=("auto", "epsilon", "v_prediction"),
    )


@dataclass
class TwinGeneration(Options):
    """s2: the natural-looking twin, by feature injection (or by an image-editing model, see twin_editing)."""

    SECTION = "twin_generation"

    method: str = option(
        "inject",
        "inject: drawn again with the picture's features, as published; edit: asked of an image-editing model",
        choices=("inject", "edit"),
    )
    prompt: Optional[str] = option(
        None, "empty: the nouns of the prompt + ', nature, bright, realistic, photography, 4k, 8k'"
    )
    scale: float = option(7.5, "guidance_scale of the twin", least=0, most=1000)
    num_ddim_sampling_steps: Optional[int] = option(
        None, "must equal ddim_steps: source and twin walk the same steps", least=1, most=999
    )
    feature_injection_threshold: int = option(
        40, "last step (from 0, inclusive) that gets the source's ResNet features; -1: none", least=-1, most=1000
    )
    negative_prompt: Optional[str] = option(None, "empty: the artistic prompt")
    negative_prompt_alpha: float = option(
        0.75, "1 - alpha is the negative prompt's weight in the first step", least=0, most=1
    )
    negative_prompt_schedule: str = option(
        "linear", "how that weight changes from step to step", choices=("linear", "constant", "exp")
    )
    attention_layers: list[str] = option([], "U-Net modules; empty: output blocks 4 to 11 of Stable Diffusion 1.x")
    feature_memory_gb: float = option(
        4.0,
        "main memory that s1's features may take on their way to s2; beyond it (or 0), s2 computes them again: two "
        "more U-Net rows a step, the same twin",
        least=0,
        most=1e6,
    )
    feature_layers: list[str] = option([], "U-Net ResNets; empty: output block 4 of Stable Diffusion 1.x")


@dataclass
class TwinEditing(Options):
    """s2 under twin_generation.method=edit: an image-editing model is asked for the twin; any picture has one so."""

    SECTION = "twin_editing"

    model: str = option(
        "checkpoints/twin-editor",
        "a diffusers folder, or hub id in the local cache, whose pipeline takes a picture and a prompt: FLUX.2 klein, "
        "Qwen-Image-Edit, ...",
        filled=True,
    )
    instruction: Optional[str] = option(
        None, "empty: the same scene as a photograph, everything in its place, with the twin's words"
    )
    steps: int = option(0, "0: what the model's card says (FLUX.2 klein 4, Qwen-Image-Edit 40)", least=0, most=999)
    scale: Optional[float] = option(None, "guidance_scale; empty: what the model's card says", least=0, most=1000)
    megapixels: float = option(
        1.0, "at which the model works; the twin comes back at the picture's size", least=0.01, most=16
    )
    drift: float = option(
        3.0,
        "px at a short side of 512, the median way of edges that both have: a twin that moved more is refused. Of our "
        "painters' pictures nine in ten measure less than 2.8 (docs/results/twin_drift.json)",
        above=0,
        most=512,
    )
    shared: float = option(
        0.4,
        "share of the picture's edges that the twin must have (of another photograph mostly below 0.38)",
        least=0,
        most=1,
    )


@dataclass
class Odise(Options):
    """s3: the mask of what the vocabulary names. The section keeps the original's name, whatever the backend."""

    SECTION, IDLE = "odise", compat.SECTIONS["odise"]

    vocab: str = option("water, waterfall, river, ocean, lake, sea", "';' separates classes, ',' their synonyms")
    backend: str = option(
        "auto", "auto | odise | odise-package | transformers | clipseg | sam3; auto: the best whose weights are here"
    )
    checkpoint: str = option(
        "", "folder, or hub id in the local cache; empty: the backend's own place under checkpoints/"
    )
    dtype: str = option(
        "auto",
        "of ODISE's frozen models (others compute in fp32): fp32 takes 10 GB, fp16 6 GB; auto: fp16 on a GPU of less "
        "than 12 GB, else fp32",
        choices=("auto", "fp32", "fp16"),
    )
    to_edges: bool = option(False, "move the mask of your own picture to the picture's edges (GrabCut)")


@dataclass
class AttnMask(Options):
    """s4: the mask sharpened by clusters of the artistic image's self-attention."""

    SECTION, IDLE = "attn_mask", compat.SECTIONS["attn_mask"]

    n_clusters: int = option(5, "clusters of the self-attention", least=2, most=1000)
    cluster_type: str = option("spectral", "how they are found", choices=("spectral", "kmeans"))
    threshold: float = option(
        0.7, "share of a segment inside the s3 mask from which the segment is kept", above=0, most=1
    )
    combine: str = option(
        "segments",
        "segments: kept ones whole, as published; intersection: kept ones cut by the s3 mask",
        choices=("segments", "intersection"),
    )
    fallback: bool = option(False, "no segment kept: stop with advice (false) or go on with the s3 mask (true)")
    erosion_ksize: int = option(5, "px, side of the square that erodes", least=1, most=255, odd=True)
    erosion_iter: int = option(0, "how often it erodes", least=0, most=1000)
    layers: list[str] = option([], "U-Net modules; empty: the blocks below, in Stable Diffusion 1.x's numbering")
    input_blocks: list[int] = option(INPUT_BLOCKS, "input blocks whose self-attention is read", least=0, most=11)
    output_blocks: list[int] = option(OUTPUT_BLOCKS, "output blocks likewise", least=0, most=11)
    max_timestep: int = option(541, "attention is averaged over t <= this; 541 is the original's", least=0, most=1000)

    def __post_init__(self):
        super().__post_init__()
        if self.layers and (self.input_blocks, self.output_blocks) != (INPUT_BLOCKS, OUTPUT_BLOCKS):
            raise ValueError(
                "attn_mask.input_blocks or output_blocks are given, but attn_mask.layers names the layers; leave one "
                "out (attn_mask.layers=[] for the block numbers)"
            )


@dataclass
class OpticalFlow(Options):
    """s5: how the twin moves. Architecture keys count only where the checkpoint has no card (the authors' .pth)."""

    SECTION, IDLE = "optical_flow", compat.SECTIONS["optical_flow"]

    model_name: str = option("motion-pretrained", "folder under checkpoints_dir", filled=True)
    checkpoints_dir: str = option("checkpoints", "where the networks are", filled=True)
    use_hint: bool = option(False, "follow the direction clause of the prompt (--use_hint)")
    hint_model_name: str = option("", "the model to use under use_hint; empty: model_name")
    method: str = option(
        "auto",
        "auto: arrows where some are drawn, else network; network: words or arrows as a hint that it refines; "
        "constant: the words' direction, 0 at shores; arrows: exactly what they say, without a network",
        choices=("auto", "network", "constant", "arrows"),
    )
    suggest: int = option(0, "write the flow as so many arrows into motion.json; 0: none", least=0, most=200)
    hint_speed: Optional[float] = option(
        None,
        "px/frame at the network's fineSize; empty: what its card says, 64 for the authors' files",
        above=0,
        most=1024,
    )
    netG: str = option("spadexattnunetsd", "the network", choices=("spadexattnunetsd", "spadeunet"))
    input_nc: int = option(4, "3 image + 1 mask (+ 2 hint)", choices=(4, 6))
    output_nc: int = option(2, "dx and dy", choices=(2,))
    norm: str = option("instance", 'any name containing "spectral" makes spadexattnunetsd\'s convolutions spectral')
    fineSize: int = option(512, "px of the picture's short side at which the network works", least=64, most=SIDE)
    use_prompts: bool = option(True, "spadexattnunetsd needs its caption; spadeunet ignores this")
    tokenizer_path: str = option("checkpoints/stable-diffusion-v1-4", "folder with tokenizer/ and text_encoder/")
    motion_norm: float = option(64.0, "px/frame per unit of the network", above=0, most=10000)

    @property
    def folder(self) -> str:
        """The checkpoint folder of the network that s5 takes for what the words say."""
        return self.folder_for(self.use_hint)

    def folder_for(self, hinted: bool) -> str:
        """The checkpoint folder of the network that s5 takes.  hinted: it gets a hint, from words or arrows."""
        return f"{self.checkpoints_dir}/{(hinted and self.hint_model_name) or self.model_name}"

    @property
    def architecture(self) -> MotionOptions:
        """What the YAML says of the network, for a checkpoint without a card."""
        return MotionOptions(
            netG=self.netG,
            input_nc=self.input_nc,
            output_nc=self.output_nc,
            norm=self.norm,
            fineSize=self.fineSize,
            use_prompts=self.use_prompts,
            motion_norm=self.motion_norm,
            text_encoder_path=self.tokenizer_path,
        )


@dataclass
class Video(Options):
    """s6: the looping video."""

    SECTION, IDLE = "video", compat.SECTIONS["video"]

    model_name: str = option("video-pretrained", "folder under checkpoints_dir", filled=True)
    checkpoints_dir: str = option("checkpoints", "where the networks are", filled=True)
    n_frames: int = option(60, "60 for small motion (waterfall), 120 for large bodies (sea)", least=2, most=100_000)
    speed: float = option(
        0.5, "factor on the flow, not 0; 0.25 to 3 is sane, below 0 runs backward", least=-20, most=20
    )
    clamp: str = option(
        "component",
        "component: each of dx, dy to +-1 px/frame before speed, as published; magnitude: the length",
        choices=("component", "magnitude", "none"),
    )
    motion: str = option(
        "auto",
        "splat: features thrown forward, as published; features, pixels: each pixel read where it comes from, with "
        "and without the network; auto: splat for a drawn picture, pixels for your own",
        choices=("auto", "splat", "features", "pixels"),
    )
    blend: str = option(
        "auto",
        "how forward and backward motion cross-fade: linear, as published; smooth: no kink at the seam; variance: "
        "and no blur in the middle (not for splat); auto: linear for splat, else variance",
        choices=("auto", "linear", "smooth", "variance"),
    )
    light: str = option(
        "auto",
        "rests: shadows and reflections stay while ripples move (not for splat); auto: where s3's classes are still "
        "waters (lake, sea, pool), else travels",
        choices=("auto", "travels", "rests"),
    )
    shore: bool = option(
        True, "what near the mask's edge has the shore's colour stands still (not for splat); false: the mask is exact"
    )
    feather: float = option(
        0.0, "fade at the mask's edge, as a share of the short side; at least 2 px", least=0, most=0.1
    )
    keep_detail: bool = option(
        False,
        "what the network loses of the picture travels with it, holes show the picture at rest; not published",
    )
    holes: str = option(
        "network",
        "where nothing lands: network, as published (grey when the flow is fast); still: the picture at rest",
        choices=("network", "still"),
    )
    lookup: str = option(
        "nearest",
        "how splat reads the flow along a path: nearest: at the nearest pixel, as published; bilinear: between four; "
        "features and pixels are always bilinear",
        choices=("nearest", "bilinear"),
    )
    composite: bool = option(True, "pixels outside the mask are the input picture's, exactly")
    fps: int = option(30, "frames per second", least=1, most=240)
    seconds: float = option(0.0, "length of the loop, in place of n_frames; 0: n_frames counts", least=0, most=600)
    preview: bool = option(False, "a quick look: short side 384 px, every second frame, at half the rate")
    quality: int = option(5, "constant quantiser of the video file: 0 is lossless, 18 small and good", least=0, most=51)
    formats: list[str] = option(
        ["mp4"], "files besides video.mp4, which is always written", choices=("mp4", "webm", "gif", "webp", "apng")
    )
    alpha: bool = option(
        False, "webm, webp and apng hold what moves alone, faded at its edge by alpha; video.mp4 the whole picture"
    )
    engine: str = option(
        "torch",
        "what runs the decoder; compile: minutes at first, for GPUs; openvino: pip install openvino",
        choices=("torch", "compile", "openvino"),
    )
    dtype: str = option("auto", "auto: fp32 on a CPU, bf16 on a GPU", choices=("auto", "fp32", "bf16", "fp16"))
    static_reuse: bool = option(True, "what cannot change is decoded once per clip (engine torch on a CPU)")
    netG: str = option("spadeunet4softmaxsplating", "the network", choices=("spadeunet4softmaxsplating",))

    def __post_init__(self):
        super().__post_init__()
        check_speed("video.speed", self.speed)
        if self.seconds:
            self.n_frames = max(2, round(self.seconds * self.fps))
            check(self)
        if self.motion == "splat" and (self.blend == "variance" or self.light == "rests"):
            found = "blend=variance" if self.blend == "variance" else "light=rests"
            raise ValueError(f"video.{found} needs video.motion=pixels or features; found motion=splat")

        if self.alpha and ("gif" in self.formats or not {"webm", "webp", "apng"} & set(self.formats)):
            raise ValueError(
                f"video.alpha=true: mp4 and gif carry no alpha, found video.formats=[{','.join(self.formats)}]; "
                "choose of webm, webp, apng (video.mp4 is written besides, with the whole picture)"
            )
        if self.alpha and not self.composite:
            raise ValueError("video.alpha=true needs video.composite=true, found false: the mask is what alpha shows")

    def motion_of(self, own_picture: bool) -> str:
        """splat, features or pixels, for a picture of the user's own or one that s1 drew."""
        asked = "pixels" if self.blend == "variance" or self.light == "rests" or own_picture else "splat"
        return asked if self.motion == "auto" else self.motion

    def blend_of(self, motion: str) -> str:
        """linear, smooth or variance, for that motion."""
        return ("linear" if motion == "splat" else "variance") if self.blend == "auto" else self.blend

    @property
    def folder(self) -> str:
        """The checkpoint folder of the network that s6 takes."""
        return f"{self.checkpoints_dir}/{self.model_name}"

    @property
    def architecture(self) -> VideoOptions:
        """What the YAML says of the network, for a checkpoint without a card."""
        return VideoOptions(netG=self.netG)


@dataclass
class Painting(Options):
    """s1 for a photograph of your own, which is its own twin (--style); see docs/painting.md."""

    SECTION = "painting"

    style: str = option(
        "",
        "oil, starry, watercolor, ukiyo, lowpoly, pastel, ink, pointillism or pencil (method diffusion: any words); "
        "empty: no paint",
    )
    method: str = option(
        "rule",
        "rule: by a painter, without a network; diffusion: drawn by the prompt in that style, with the photograph's "
        "features injected as s2 does (its options count)",
        choices=("rule", "diffusion"),
    )
    strength: float = option(
        1.0,
        "of method rule: 0 is the photograph; from 0.5 on all of it is paint, and the brushes grow",
        least=0,
        most=1,
    )


@dataclass
class Inputs(Options):
    """Your own files in the place of what a stage would make (--image, --twin, --mask, --flow)."""

    SECTION = "inputs"

    image: str = option("", "your picture, in place of s1's")
    twin: str = option("", "your twin, in place of s2's")
    mask: str = option("", "white may move; any mode, also of another size if the shape is the picture's")
    invert_mask: bool = option(False, "black may move")
    mask_strokes: str = option("", "strokes over the picture: green or blue on what may move, red on what must not")
    mask_labels: str = option("", 'numbers or names of the labels that may move, "1, 15"; empty: all but 0')
    max_megapixels: float = option(
        64.0, "larger pictures, masks and flows are refused before they are unpacked", least=0.01, most=10_000
    )
    flow: str = option("", "your flow in px/frame, in place of s5's")
    arrows: str = option("", 'how it moves: motion.json, a labelme JSON, or "100,200>180,210; 300,50>300,120"')


@dataclass
class RuntimeOptions(Options):
    """Where the numbers are computed."""

    SECTION = "runtime"

    device: str = option("auto", "auto | cpu | cuda | cuda:1 | mps", filled=True)
    dtype: str = option("auto", "auto: fp16 on a GPU, else fp32", choices=("auto", "fp32", "fp16", "bf16"))
    threads: int = option(0, "CPU threads; 0: torch decides", least=0, most=512)
    slicing: bool = option(False, "attention and autoencoder in slices: slower, for GPUs of less than 6 GB")
    noise: str = option(
        "cpu",
        "where s1's noise is drawn: cpu: one picture on every device | device: as the authors do on their GPU",
        choices=("cpu", "device"),
    )


@dataclass
class InferenceOptions(Options):
    """Everything inference_t2c.py can be told."""

    twin_extraction: TwinExtraction = section(TwinExtraction)
    twin_generation: TwinGeneration = section(TwinGeneration)
    twin_editing: TwinEditing = section(TwinEditing)
    odise: Odise = section(Odise)
    attn_mask: AttnMask = section(AttnMask)
    optical_flow: OpticalFlow = section(OpticalFlow)
    video: Video = section(Video)
    painting: Painting = section(Painting)
    inputs: Inputs = section(Inputs)
    runtime: RuntimeOptions = section(RuntimeOptions)

    @property
    def inverts(self) -> bool:
        """Whether s1 looks for the noise behind a picture of the user's own, so that it can be drawn again."""
        painting = bool(self.painting.style)
        again = self.painting.method == "diffusion" if painting else self.twin_generation.method == "inject"
        return again and self.twin_extraction.inversion_steps > 0
