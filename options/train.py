"""Options of networks, trainings and tests. A checkpoint carries its network's, so that testing needs none of them."""

from __future__ import annotations

from dataclasses import dataclass

from text2cinemagraph.options import compat
from text2cinemagraph.options.fields import CHANNELS, NAME, PLAIN_NAME, SEEDS, SIDE, Options, option, part_of

MOTION_WIDTHS = {"spadexattnunetsd": 320, "spadeunet": 32}  # base channels of the published networks
SLOWEST = 0.001  # factor on the flow: a hundred frames move a tenth of a pixel at most, which nobody sees


@dataclass
class MotionOptions(Options):
    """The network that predicts how the masked part moves."""

    netG: str = option(
        "spadexattnunetsd",
        "spadexattnunetsd: reads a caption; spadeunet: reads none",
        choices=("spadexattnunetsd", "spadeunet"),
    )
    input_nc: int = option(4, "RGB + mask = 4; with a direction hint 6", choices=(4, 6))
    output_nc: int = option(2, "dx and dy", choices=(2,))
    nf: int = option(
        0,
        "channels of the first level; 0: as published (320 for spadexattnunetsd, 32 for spadeunet)",
        least=0,
        most=CHANNELS,
    )
    spade_hidden: int = option(128, "channels inside each SPADE modulation", least=1, most=CHANNELS)
    context_dim: int = option(
        768, "width of the text encoder's tokens (768: CLIP of Stable Diffusion 1.x)", least=1, most=8192
    )
    heads: int = option(8, "attention heads", least=1, most=256)
    norm: str = option("instance", 'any name containing "spectral" makes spadexattnunetsd\'s convolutions spectral')
    no_tanh: bool = option(False, "the flow is not bounded by motion_norm")
    motion_norm: float = option(64.0, "px/frame that the network calls 1", above=0, most=10000)
    use_prompts: bool = option(True, "spadexattnunetsd needs its caption; spadeunet ignores this")
    text_encoder_path: str = option("", "folder with tokenizer/ and text_encoder/ (diffusers layout)")
    fineSize: int = option(512, "px: the network sees pictures whose short side is this long", least=16, most=SIDE)
    hint_speed: float = option(
        64.0,
        "px/frame at fineSize of a hint made from words. 64: the authors feed unit vectors to a network trained on "
        "flow / 64; training measures it on its data instead and writes it into the card",
        above=0,
        most=1024,
    )

    def __post_init__(self):
        super().__post_init__()
        if self.takes_text and not self.use_prompts:
            raise ValueError(
                "use_prompts=false, but netG=spadexattnunetsd reads a caption; use netG=spadeunet to go without"
            )
        if self.takes_text and self.width % 32:
            raise ValueError(
                f"nf={self.nf} is no multiple of 32, as netG=spadexattnunetsd needs for its group norm; use 32, 64"
            )
        if self.takes_text and self.width % self.heads:
            raise ValueError(f"nf={self.width} cannot be split into heads={self.heads}; choose heads that divide nf")
        if self.width < 4:
            raise ValueError(f"nf={self.nf} is too small; expected 4 or more")

    @property
    def width(self) -> int:
        """Channels of the first level."""
        return self.nf or MOTION_WIDTHS[self.netG]

    @property
    def takes_text(self) -> bool:
        return self.netG == "spadexattnunetsd"

    @property
    def takes_hint(self) -> bool:
        return self.input_nc == 6

    @property
    def multiple(self) -> int:
        """Both sides of the network's input are multiples of this: 8 halvings (spadeunet) or 6."""
        return 64 if self.takes_text else 256


@dataclass
class VideoOptions(Options):
    """The network that turns a picture and its flow into frames (symmetric splatting). Defaults: published sizes."""

    netG: str = option("spadeunet4softmaxsplating", "the network", choices=("spadeunet4softmaxsplating",))
    encoder_channels: list[int] = option(
        [32, 32, 32, 64, 64, 64, 64, 65], "of each block; the last channel is Z", least=1, most=CHANNELS, filled=True
    )
    decoder_channels: list[int] = option(
        [64, 128, 256, 256, 128, 128, 128, 3], "of each block", least=1, most=CHANNELS, filled=True
    )
    decoder_resample: list[str] = option(
        ["none", "Down", "Down", "none", "Up", "Up", "none", "none"],
        "what each block does to the size",
        choices=("none", "Down", "Up"),
    )
    noise_dim: int = option(20, "length of the (always zero) noise vector of the norm layers", least=1, most=CHANNELS)
    norm_G: str = option("sync:spectral_batch", 'any name containing "spectral" makes the convolutions spectral')
    z_max: str = option(
        "image",
        "exp(Z - max Z): max over each image, or over the whole batch as the authors' code does",
        choices=("image", "batch"),
    )
    fineSize: int = option(512, "px, side of training pictures", least=0, most=SIDE)
    speed: float = option(1.0, "factor on the flow at test time, not 0", least=-20, most=20)

    def __post_init__(self):
        super().__post_init__()
        check_speed("speed", self.speed)
        if len(self.decoder_resample) != len(self.decoder_channels):
            raise ValueError(
                f"decoder_resample has {len(self.decoder_resample)} entries, decoder_channels "
                f"{len(self.decoder_channels)}; expected one per block"
            )
        if self.decoder_resample.count("Down") != self.decoder_resample.count("Up"):
            raise ValueError("decoder_resample does not return to full size; use as many Up as Down")
        if self.decoder_channels[-1] != 3:
            raise ValueError(f"decoder_channels ends in {self.decoder_channels[-1]}; expected 3 (RGB)")
        if self.encoder_channels[-1] < 2:
            raise ValueError("encoder_channels must end in 2 or more: features and, last, Z")

    @property
    def multiple(self) -> int:
        """Both sides of a picture are multiples of this inside the network."""
        return 2 ** self.decoder_resample.count("Down")


def check_speed(name: str, value: float) -> None:
    """A factor on the flow that moves nothing is a mistake."""
    if abs(value) < SLOWEST:
        raise ValueError(f"{name}={value}: nothing would move; expected a factor such as 0.5, at least {SLOWEST}")


@dataclass
class TrainOptions(Options):
    """What both trainings share. Names and defaults are the published ones where those exist."""

    name: str = option(
        "experiment",
        "results go to <checkpoints_dir>/<name>",
        pattern=NAME,
        expected="a folder below checkpoints_dir, such as rivers/motion",
    )
    checkpoints_dir: str = option("checkpoints", "where the networks are", filled=True)
    dataroot: str = option("dataset/eulerian_data/train", "folder of the training pictures", filled=True)
    as_published: bool = option(
        False, "the original's rules wherever trained numbers depend on them (docs/fidelity.md)"
    )
    gpu_ids: str = option(
        "0",
        '"0,1,2,3": one process per GPU, those that this machine has; -1: CPU',
        pattern=r"\s*-?\d+\s*(,\s*-?\d+\s*)*",
        expected='numbers of GPUs such as "0" or "0,1", or -1 for the CPU',
    )
    threads: int = option(0, "CPU threads of torch; 0: its choice", least=0, most=512)
    nThreads: int = option(
        -1,
        "processes that read data, per GPU; 0: the training itself; -1: 4 on a GPU, 0 on a CPU",
        least=-1,
        most=256,
    )
    seed: int = option(0, "of everything random", least=0, most=SEEDS - 1)
    strict: bool = option(False, "stop at a broken picture instead of going on without it")
    max_dataset_size: int = option(0, "items; 0: all", least=0)
    serial_batches: bool = option(False, "items in the order of their names, in every epoch")
    batchSize: int = option(1, "of one step, over all GPUs and pieces together", least=1, most=65536)
    gradient_accumulation: int = option(
        1, "pieces in which a GPU computes its part of the batch, to save memory", least=1, most=65536
    )
    gradient_checkpointing: bool = option(
        False,
        "forget activations of SPADE and attention layers and compute them again: less memory, slower",
    )
    dtype: str = option(
        "fp32", "what the networks compute in; weights and losses stay fp32", choices=("fp32", "bf16", "fp16")
    )
    bf16: bool = option(False, "the same as dtype=bf16")
    compile: bool = option(False, "torch.compile the networks: slow to start, then faster")
    niter: int = option(100, "epochs at full learning rate", least=0, most=1_000_000)
    niter_decay: int = option(100, "epochs in which it falls to zero", least=0, most=1_000_000)
    minutes: float = option(
        0,
        "instead of epochs: a time budget, in which the rate follows a cosine; 0: epochs count",
        least=0,
        most=525_600,
    )
    lr: float = option(2e-4, "learning rate of Adam", above=0, most=1)
    beta1: float = option(0.5, "of Adam", least=0, below=1)
    gan: bool = option(True, "train against a discriminator")
    num_D: int = option(2, "discriminators, each seeing half the size of the one before", least=1, most=8)
    n_layers_D: int = option(3, "strided layers of each", least=1, most=8)
    ndf: int = option(64, "channels of their first layer", least=1, most=CHANNELS)
    norm_D: str = option("instance", "nothing else is published", choices=("instance",))
    no_lsgan: bool = option(False, "cross-entropy instead of least squares")
    no_ganFeat_loss: bool = option(False, "no matching of the discriminator's features")
    lambda_feat: float = option(10.0, "weight of that matching, and of the VGG loss", least=0, most=1e6)
    no_vgg_loss: bool = option(False, "no perceptual loss (only train_video.py has one)")
    vgg_weights: str = option("", "torchvision's vgg19 weights file, for the VGG loss")
    use_epe_loss: bool = option(False, "mean length of the flow's error")
    use_l1_loss: bool = option(False, "mean absolute error")
    continue_train: bool = option(False, "go on from the saved state, optimisers, shuffle position and all")
    which_epoch: str = option(
        "latest",
        "where continue_train begins: another than latest has its networks only, not the optimisers",
        pattern=PLAIN_NAME,
        expected="latest or the number of a saved epoch",
    )
    load_pretrain: str = option("", "folder of a training whose networks this one begins with")
    print_freq: int = option(100, "images between two lines of losses", least=1)
    display_freq: int = option(100, "images between two pictures in TensorBoard", least=1)
    save_latest_freq: int = option(2000, "images between two saved states", least=1)
    save_epoch_freq: int = option(25, "epochs between two kept ones", least=1)
    tensorboard: bool = option(True, "write <checkpoints_dir>/<name>/logs")
    wandb: bool = option(False, "report to Weights & Biases too")
    debug: bool = option(False, "two epochs of ten items, everything shown at every step")
    half: bool = option(False, "store the exported weights as float16")

    def __post_init__(self):
        super().__post_init__()
        self.dtype = "bf16" if self.bf16 else self.dtype
        if self.debug:
            self.niter, self.niter_decay, self.print_freq, self.display_freq = 1, 1, 1, 1
            self.max_dataset_size = self.max_dataset_size or 10
        if self.niter + self.niter_decay < 1:
            raise ValueError("niter=0 and niter_decay=0: expected an epoch or more to train")


@dataclass
class MotionTrain(MotionOptions, TrainOptions):
    """python train_motion.py"""

    IDLE = compat.SCRIPTS["train_motion"]

    text_encoder_path: str = option("checkpoints/stable-diffusion-v1-4", "folder with tokenizer/ and text_encoder/")
    ship_text_encoder: bool = option(False, "put a copy of tokenizer and text encoder beside the exported weights")
    attention_weights: str = option(
        "auto",
        "where the attention blocks start: Stable Diffusion 1.x as a diffusers folder, .safetensors or .ckpt; auto: "
        "the unet/ beside the text encoder, if there is one; empty: at random",
    )
    use_seg_mask: bool = option(
        False, "masks of mask_path; without it they are used if the folder exists, except as_published"
    )
    mask_path: str = option("", "folder of <id>_mask.png; empty: masks from where the true flow moves")
    captions_file: str = option("", "lines <id>:<caption>, or .jsonl; for netG=spadexattnunetsd")
    use_hint: bool = option(False, "show the network a direction hint (input_nc=6)")
    hints_path: str = option("", "folder of generate_flow_hint.py; empty: hints are made while reading")
    no_flip: bool = option(False, "never mirror")
    init: str = option("normal", "normal: as published; default: torch's own, larger", choices=("normal", "default"))

    def __post_init__(self):
        super().__post_init__()
        if self.use_hint != self.takes_hint:
            raise ValueError(
                f"use_hint={self.use_hint} with input_nc={self.input_nc}; expected 6 channels with a hint, 4 without"
            )
        if self.takes_text and not self.captions_file:
            raise ValueError(
                "netG=spadexattnunetsd reads captions, but captions_file is empty; set it, or use netG=spadeunet"
            )


@dataclass
class VideoTrain(VideoOptions, TrainOptions):
    """python train_video.py"""

    IDLE = compat.SCRIPTS["train_video"]

    input_nc: int = option(8, "start, end, flow: two pictures and the flow between them", choices=(8,))
    output_nc: int = option(3, "RGB", choices=(3,))
    fineSize: int = option(512, "px, side of training pictures", least=16, most=SIDE)
    tr_stage: str = option(
        "stage1", "stage1: true flow; stage2: flow predicted by test_motion.py", choices=("stage1", "stage2")
    )
    frames_basepath: str = option("", "folder of the clips' frames; empty: dataroot")
    motion_basepath: str = option("", "stage 2: folder of the predicted flow")
    motion_norm: float = option(64.0, "unit of the authors' _Motion.pt in there", above=0, most=10000)
    init: str = option(
        "normal",
        "normal: as published; identity: starts as a plain splat of colours",
        choices=("normal", "identity"),
    )
    freeze_norm: bool = option(False, "norms keep their statistics; for the last part of a training (--continue_train)")
    stills: list[str] = option([], "folders of pictures to be reproduced standing still")
    stills_share: float = option(0.0, "how often one of them is shown", least=0, most=1)

    def __post_init__(self):
        super().__post_init__()
        self.z_max = "batch" if self.as_published else self.z_max
        if self.fineSize % self.multiple:
            raise ValueError(f"fineSize={self.fineSize}; expected a multiple of {self.multiple}")
        if self.tr_stage == "stage2" and not self.motion_basepath:
            raise ValueError(
                "tr_stage=stage2 trains on predicted flow; set motion_basepath (the output of test_motion.py)"
            )


@dataclass
class ApplyOptions(Options):
    """What test_motion.py and test_video.py share. Architecture flags count only for a checkpoint without a card."""

    name: str = option(
        "experiment",
        "the checkpoint is <checkpoints_dir>/<name>",
        pattern=NAME,
        expected="a folder below checkpoints_dir, such as rivers/motion",
    )
    checkpoints_dir: str = option("checkpoints", "where the networks are", filled=True)
    which_epoch: str = option(
        "latest",
        "which saved network",
        pattern=PLAIN_NAME,
        expected="latest or the number of a saved epoch",
    )
    dataroot: str = option("dataset/eulerian_data/validation", "folder of the pictures", filled=True)
    results_dir: str = option("results", "files go to <results_dir>/<name>/<phase>_<which_epoch>/images", filled=True)
    phase: str = option(
        "test", "the first word of the results folder", pattern=PLAIN_NAME, expected="a word such as test"
    )
    how_many: int = option(0, "items; 0: all (published: 500, too few for --phase train)", least=0)
    batchSize: int = option(
        1,
        "pictures per pass of the motion network; a clip fills any machine alone, so test_video makes one",
        least=1,
        most=65536,
    )
    gpu_ids: str = option(
        "0",
        "the first is used if this machine has a GPU; -1: CPU",
        pattern=r"\s*-?\d+\s*(,\s*-?\d+\s*)*",
        expected='numbers of GPUs such as "0" or "0,1", or -1 for the CPU',
    )
    share: str = option(
        "rank",
        "of several processes: rank: each its fixed part; lease: whatever is free, by claims in the results folder, so "
        "that a quick machine makes more and a dead one's items are taken over",
        choices=("rank", "lease"),
    )
    threads: int = option(0, "CPU threads of torch; 0: its choice", least=0, most=512)
    seed: int = option(0, "draws the angle within a direction's range", least=0, most=SEEDS - 1)

    @property
    def folder(self) -> str:
        """Where the checkpoint lies."""
        return f"{self.checkpoints_dir}/{self.name}"

    @property
    def images(self) -> str:
        """Folder of the results."""
        return f"{self.results_dir}/{self.name}/{self.phase}_{self.which_epoch}/images"


@dataclass
class MotionApply(MotionOptions, ApplyOptions):
    """python test_motion.py"""

    IDLE = compat.SCRIPTS["test_motion"]

    text_encoder_path: str = option("checkpoints/stable-diffusion-v1-4", "folder with tokenizer/ and text_encoder/")
    use_seg_mask: bool = option(False, "masks of mask_path instead of where the true flow moves")
    mask_path: str = option("", "folder of <id>_mask.png")
    captions_file: str = option(
        "",
        "captions, for a network that reads; with a direction clause, for one that takes hints; empty: "
        "<dataroot>_captions.txt, if there is one",
    )
    prompt: str = option("", "instead of captions: one for all pictures")
    hints_path: str = option("", "hints of generate_flow_hint.py; empty: made from the caption's direction")
    hint_speed: float = option(
        0,
        "px/frame at the network's fineSize; 0: what its card says, 64 for the authors' files",
        least=0,
        most=1024,
    )

    @property
    def architecture(self) -> MotionOptions:
        """What the flags say of the network, for a checkpoint without a card."""
        return part_of(self, MotionOptions, without=("hint_speed",))


@dataclass
class VideoApply(VideoOptions, ApplyOptions):
    """python test_video.py"""

    IDLE = compat.SCRIPTS["test_video"]

    fineSize: int = option(0, "px of the short side of the frames; 0: as the picture", least=0, most=SIDE)
    motion_basepath: str = option("", "folder of <id>_flow.npz or <id>_Motion.pt; empty: the true flow of dataroot")
    motion_norm: float = option(64.0, "unit of the authors' _Motion.pt", above=0, most=10000)
    n_frames: int = option(60, "frames of a clip", least=1, most=100_000)
    fps: int = option(30, "frames per second", least=1, most=240)
    clamp: str = option(
        "component",
        "component: each of dx, dy to +-1 px/frame at 512 px, as published; magnitude: the length",
        choices=("component", "magnitude", "none"),
    )
    blend: str = option("linear", "linear: as published; smooth: flat at both ends", choices=("linear", "smooth"))
    keep_detail: bool = option(False, "as in s6: what the network loses of the picture travels with it; not published")
    lookup: str = option(
        "nearest",
        "as in s6: how the flow is read along a path; nearest: as published; bilinear: between the pixels",
        choices=("nearest", "bilinear"),
    )
    composite: bool = option(
        True, "as in s6: pixels whose flow is 0 are the picture's, exactly; the original decodes them"
    )

    def __post_init__(self):
        super().__post_init__()
        if 0 < self.fineSize < 16:
            raise ValueError(f"fineSize={self.fineSize}: expected 16 px or more, or 0 for the picture's own size")

    @property
    def architecture(self) -> VideoOptions:
        """What the flags say of the network, for a checkpoint without a card."""
        return part_of(self, VideoOptions, without=("fineSize",))
