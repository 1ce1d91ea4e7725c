"""Options of inference_t2c.py: one dataclass per section of the YAML, with the original's names.

Keys that the original had and that decide nothing here are kept, so that its configuration files load; their comment says "unused".
"""

from dataclasses import dataclass, field
from typing import Optional

from text2cinemagraph.options.train import MotionOptions, VideoOptions


@dataclass
class TwinExtraction:
    """s1: the artistic image."""
    experiment_name: str = "example"          # the folder under exp_path_root; a plain name
    exp_path_root: str = "outputs"
    prompt: str = ""                          # a clause "in left to right direction" is for s5 only; s1 does not see it
    init_img: str = ""                        # a picture of your own in place of s1's (same as --image)
    inversion_steps: int = 999                # your own picture is inverted to noise, so that s2 can draw a twin: a divisor of 999
                                              # (999 best, as published; 111 is quick); 0: no inversion, it is its own twin
    seed: int = 23                            # -1: another picture every time
    scale: float = 5.0                        # guidance_scale: 1 ignores nothing, 5 follows the prompt, 15 exaggerates it
    ddim_steps: int = 50
    ddim_eta: float = 0.0                     # only 0 (deterministic) is supported: s2 needs s1 to be repeatable
    H: int = 512
    W: int = 512
    ckpt: str = "checkpoints/stable-diffusion-v1-4"   # a diffusers folder, a hub id in the local cache, or one .ckpt/.safetensors file
    ema: bool = False                         # of a single file with both: the averaged weights (the authors sample with the others)
    tokenizer: str = ""                       # of a single file: folder with CLIP's vocab.json; empty: looked for beside it
    precision: str = "autocast"               # unused: see runtime.dtype
    save_all_features: bool = True            # unused: what s2 and s4 need is kept, nothing else
    save_feature_timesteps: int = 50          # unused: every step that s2 needs is kept
    C: int = 4                                # unused: the VAE knows
    f: int = 8                                # unused: the VAE knows
    model_config: str = ""                    # unused: the folder of ckpt knows

    def __post_init__(self):
        if self.ddim_eta != 0:
            raise ValueError(f"twin_extraction.ddim_eta={self.ddim_eta}: only 0 is supported (s2 repeats s1 exactly)")
        if self.inversion_steps and (self.inversion_steps < 0 or 999 % self.inversion_steps):
            raise ValueError(f"twin_extraction.inversion_steps={self.inversion_steps}: expected 0 (off) or a divisor of 999: "
                             "27, 37, 111, 333 or 999")
        if self.seed >= 2**32:
            raise ValueError(f"twin_extraction.seed={self.seed}: expected less than 2^32")
        _at_least("twin_extraction.ddim_steps", self.ddim_steps, 1)
        _at_least("twin_extraction.H", self.H, 64)
        _at_least("twin_extraction.W", self.W, 64)


@dataclass
class TwinGeneration:
    """s2: the natural-looking twin, by feature injection."""
    prompt: Optional[str] = None              # empty: the nouns of the prompt + ", nature, bright, realistic, photography, 4k, 8k"
    scale: float = 7.5
    num_ddim_sampling_steps: Optional[int] = None     # must equal ddim_steps: source and twin walk the same steps
    feature_injection_threshold: int = 40     # last step (from 0, inclusive) that gets the source's ResNet features
    negative_prompt: Optional[str] = None     # empty: the artistic prompt
    negative_prompt_alpha: float = 0.75       # 1 - alpha is the negative prompt's weight in the first step
    negative_prompt_schedule: str = "linear"  # linear | constant | exp
    attention_layers: list[str] = field(default_factory=list)   # U-Net modules; empty: output blocks 4..11 of SD 1.x
    feature_memory_gb: float = 4.0            # main memory that s1's features may take on their way to s2; beyond it (or 0), s2 computes
                                              # them again: two more U-Net rows a step, the same twin
    feature_layers: list[str] = field(default_factory=list)     # U-Net ResNets; empty: output block 4 of SD 1.x

    def __post_init__(self):
        _one_of("twin_generation.negative_prompt_schedule", self.negative_prompt_schedule, ("linear", "constant", "exp"))


@dataclass
class Odise:
    """s3: the mask of what the vocabulary names. The section keeps the original's name, whatever the backend."""
    vocab: str = "water, waterfall, river, ocean, lake, sea"     # ';' separates classes, ',' their synonyms
    backend: str = "auto"                     # auto | odise | odise-package | transformers | clipseg | sam3; auto: the best that is here
    checkpoint: str = ""                      # folder, or hub id in the local cache; empty: the backend's own place under checkpoints/
    config_file: str = ""                     # unused
    init_from: str = ""                       # unused
    input: Optional[str] = None               # unused
    output: Optional[str] = None              # unused
    labels: list[str] = field(default_factory=list)              # unused


INPUT_BLOCKS, OUTPUT_BLOCKS = (4, 5), (6, 7, 8)     # as published


@dataclass
class AttnMask:
    """s4: the mask sharpened by clusters of the artistic image's self-attention."""
    n_clusters: int = 5
    cluster_type: str = "spectral"            # spectral | kmeans
    threshold: float = 0.7                    # share of a segment inside the s3 mask from which the segment is kept
    combine: str = "segments"                 # segments: kept ones whole, as published | intersection: kept ones cut by the s3 mask
    fallback: bool = False                    # no segment kept: stop with advice (false) or go on with the s3 mask (true)
    erosion_ksize: int = 5                    # px
    erosion_iter: int = 0
    layers: list[str] = field(default_factory=list)              # U-Net modules; empty: the blocks below, SD 1.x numbering
    input_blocks: list[int] = field(default_factory=lambda: list(INPUT_BLOCKS))
    output_blocks: list[int] = field(default_factory=lambda: list(OUTPUT_BLOCKS))
    max_timestep: int = 541                   # attention is averaged over t <= this; 541 is the original's
    res: Optional[int] = None                 # unused: the layers know

    def __post_init__(self):
        _one_of("attn_mask.cluster_type", self.cluster_type, ("spectral", "kmeans"))
        _one_of("attn_mask.combine", self.combine, ("segments", "intersection"))
        _at_least("attn_mask.n_clusters", self.n_clusters, 2)
        _at_least("attn_mask.erosion_ksize", self.erosion_ksize, 1)
        if self.layers and (tuple(self.input_blocks), tuple(self.output_blocks)) != (INPUT_BLOCKS, OUTPUT_BLOCKS):
            raise ValueError("attn_mask.input_blocks or output_blocks are given, but attn_mask.layers names the layers; leave one out "
                             "(attn_mask.layers=[] for the block numbers)")
        _at_least("attn_mask.erosion_iter", self.erosion_iter, 0)
        if not 0 < self.threshold <= 1:
            raise ValueError(f"attn_mask.threshold={self.threshold}: expected a share in (0, 1]")


@dataclass
class OpticalFlow:
    """s5: how the twin moves. Architecture keys count only where the checkpoint has no card of its own (the authors' .pth)."""
    model_name: str = "motion-pretrained"     # folder under checkpoints_dir
    checkpoints_dir: str = "checkpoints"
    use_hint: bool = False                    # follow the direction clause of the prompt (--use_hint)
    hint_model_name: str = ""                 # the model to use under use_hint; empty: model_name
    hint_speed: Optional[float] = None        # px/frame at the network's fineSize; empty: what its card says, 64 for the authors' files
    netG: str = "spadexattnunetsd"            # spadexattnunetsd | spadeunet
    input_nc: int = 4                         # 3 image + 1 mask (+ 2 hint)
    output_nc: int = 2
    norm: str = "instance"
    fineSize: int = 512                       # px of the picture's short side at which the network works
    use_prompts: bool = True
    tokenizer_path: str = "checkpoints/stable-diffusion-v1-4"    # folder with tokenizer/ and text_encoder/
    motion_norm: float = 64.0                 # px/frame per unit of the network
    batchSize: int = 1                        # unused
    no_instance: bool = True                  # unused
    label_nc: int = 0                         # unused

    def __post_init__(self):
        _at_least("optical_flow.fineSize", self.fineSize, 64)

    @property
    def folder(self) -> str:
        """The checkpoint folder of the network that s5 takes."""
        return f"{self.checkpoints_dir}/{(self.use_hint and self.hint_model_name) or self.model_name}"

    @property
    def architecture(self) -> MotionOptions:
        """What the YAML says of the network, for a checkpoint without a card."""
        return MotionOptions(netG=self.netG, input_nc=self.input_nc, output_nc=self.output_nc, norm=self.norm, fineSize=self.fineSize,
                             use_prompts=self.use_prompts, motion_norm=self.motion_norm, text_encoder_path=self.tokenizer_path)


@dataclass
class Video:
    """s6: the looping video."""
    model_name: str = "video-pretrained"
    checkpoints_dir: str = "checkpoints"
    n_frames: int = 60                        # 60 for small motion (waterfall), 120 for large bodies (sea)
    speed: float = 0.5                        # factor on the flow; [0.25, 3] is sane
    clamp: str = "component"                  # component: each of dx, dy to +-1 px/frame before speed, as published | magnitude | none
    blend: str = "linear"                     # how forward and backward motion cross-fade: linear, as published | smooth (no kink at the seam)
    keep_detail: bool = False                 # what the network loses of the picture travels with it, holes show it at rest; not published
    holes: str = "network"                    # where nothing lands: network, as published (grey when the flow is fast) | still, the picture at rest
    composite: bool = True                    # pixels outside the mask are the input picture's, exactly
    fps: int = 30
    formats: list = field(default_factory=lambda: ["mp4"])     # besides video.mp4, which is always written: gif | webp | apng
    engine: str = "torch"                     # what runs the decoder: torch | compile (minutes at first, for GPUs) | openvino (pip install)
    dtype: str = "auto"                       # auto: fp32 on a CPU, bf16 on a GPU | fp32 | bf16 | fp16
    static_reuse: bool = True                 # what cannot change is decoded once per clip (engine torch on a CPU)
    netG: str = "spadeunet4softmaxsplating"
    norm_G: str = "sync:spectral_instance"
    input_nc: int = 8
    output_nc: int = 3
    fineSize: int = 512                       # unused: the video has the picture's own size
    batchSize: int = 1                        # unused
    no_instance: bool = True                  # unused
    label_nc: int = 0                         # unused

    def __post_init__(self):
        for name in self.formats:
            _one_of("video.formats", name, ("mp4", "gif", "webp", "apng"))
        _one_of("video.blend", self.blend, ("linear", "smooth"))
        _one_of("video.holes", self.holes, ("network", "still"))
        _one_of("video.engine", self.engine, ("torch", "compile", "openvino"))
        _one_of("video.dtype", self.dtype, ("auto", "fp32", "bf16", "fp16"))
        _one_of("video.clamp", self.clamp, ("component", "magnitude", "none"))
        _at_least("video.n_frames", self.n_frames, 2)
        _at_least("video.fps", self.fps, 1)
        if not 0 < abs(self.speed) <= 20:
            raise ValueError(f"video.speed={self.speed}: expected a factor such as 0.5, at most 20 and not 0")

    @property
    def folder(self) -> str:
        """The checkpoint folder of the network that s6 takes."""
        return f"{self.checkpoints_dir}/{self.model_name}"

    @property
    def architecture(self) -> VideoOptions:
        """What the YAML says of the network, for a checkpoint without a card."""
        return VideoOptions(netG=self.netG)


@dataclass
class Inputs:
    """Your own files in the place of what a stage would make (--image, --twin, --mask, --flow)."""
    image: str = ""
    twin: str = ""
    mask: str = ""                            # white may move; any mode, also of another size if the shape is the picture's
    invert_mask: bool = False                 # black may move
    flow: str = ""


@dataclass
class RuntimeOptions:
    """Where the numbers are computed."""
    device: str = "auto"                      # auto | cpu | cuda | cuda:1 | mps
    dtype: str = "auto"                       # auto | fp32 | fp16 | bf16
    threads: int = 0                          # CPU threads; 0: torch decides
    slicing: bool = False                     # attention and autoencoder in slices: slower, for GPUs of less than 6 GB


@dataclass
class InferenceOptions:
    """Everything inference_t2c.py can be told."""
    twin_extraction: TwinExtraction = field(default_factory=TwinExtraction)
    twin_generation: TwinGeneration = field(default_factory=TwinGeneration)
    odise: Odise = field(default_factory=Odise)
    attn_mask: AttnMask = field(default_factory=AttnMask)
    optical_flow: OpticalFlow = field(default_factory=OpticalFlow)
    video: Video = field(default_factory=Video)
    inputs: Inputs = field(default_factory=Inputs)
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)


def _one_of(name, value, choices):
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(choices)}")


def _at_least(name, value, least):
    if value < least:
        raise ValueError(f"{name}={value}: expected at least {least}")
