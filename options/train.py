"""Architecture and training options. A checkpoint carries the architecture part, so that testing needs none of these flags."""

from dataclasses import dataclass, field

MOTION_WIDTHS = {"spadexattnunetsd": 320, "spadeunet": 32}    # base channels of the published networks
RESAMPLING = ("none", "Down", "Up")


@dataclass
class MotionOptions:
    """The network that predicts how the masked part moves."""
    netG: str = "spadexattnunetsd"      # spadexattnunetsd: reads a caption | spadeunet: reads none
    input_nc: int = 4                   # RGB + mask = 4; with a direction hint 6
    output_nc: int = 2                  # dx, dy
    nf: int = 0                         # channels of the first level; 0 = as published (320 | 32)
    spade_hidden: int = 128             # channels inside each SPADE modulation
    context_dim: int = 768              # width of the text encoder's tokens (768 = CLIP of Stable Diffusion 1.x)
    heads: int = 8                      # attention heads
    norm: str = "instance"              # any name containing "spectral" makes spadexattnunetsd's convolutions spectral
    no_tanh: bool = False               # True: unbounded output
    motion_norm: float = 64.0           # px/frame that the network calls 1
    use_prompts: bool = True            # spadexattnunetsd needs its caption; spadeunet ignores this
    text_encoder_path: str = ""         # folder with tokenizer/ and text_encoder/ (diffusers layout)
    fineSize: int = 512                 # px: the network sees pictures whose short side is this long
    hint_speed: float = 64.0            # px/frame at fineSize of a hint made from words. 64: the authors feed unit vectors to a network trained
                                        # on flow / 64; training measures it on its data instead and writes it into the card

    def __post_init__(self):
        _one_of("netG", self.netG, tuple(MOTION_WIDTHS))
        _one_of("input_nc", self.input_nc, (4, 6))
        if self.takes_text and not self.use_prompts:
            raise ValueError("use_prompts=false, but netG=spadexattnunetsd reads a caption; use netG=spadeunet to go without")
        if self.takes_text and self.width % 32:
            raise ValueError(f"nf={self.nf} is no multiple of 32, as netG=spadexattnunetsd needs for its group norm; use 32, 64")
        if self.takes_text and self.width % self.heads:
            raise ValueError(f"nf={self.width} cannot be split into heads={self.heads}; choose heads that divide nf")
        if self.width < 4:
            raise ValueError(f"nf={self.nf} is too small; expected 4 or more")

    @property
    def width(self):
        """Channels of the first level."""
        return self.nf or MOTION_WIDTHS[self.netG]

    @property
    def takes_text(self):
        return self.netG == "spadexattnunetsd"

    @property
    def takes_hint(self):
        return self.input_nc == 6

    @property
    def multiple(self):
        """Both sides of the network's input are multiples of this: 8 halvings (spadeunet) or 6."""
        return 64 if self.takes_text else 256


@dataclass
class VideoOptions:
    """The network that turns a picture and its flow into frames (symmetric splatting). Published sizes are the defaults."""
    netG: str = "spadeunet4softmaxsplating"
    encoder_channels: list[int] = field(default_factory=lambda: [32, 32, 32, 64, 64, 64, 64, 65])  # the last channel is Z
    decoder_channels: list[int] = field(default_factory=lambda: [64, 128, 256, 256, 128, 128, 128, 3])
    decoder_resample: list[str] = field(
        default_factory=lambda: ["none", "Down", "Down", "none", "Up", "Up", "none", "none"])
    noise_dim: int = 20                 # length of the (always zero) noise vector of the norm layers
    norm_G: str = "sync:spectral_batch"  # any name containing "spectral" makes the convolutions spectral
    z_max: str = "image"                # exp(Z - max Z): max over each image, or over the whole batch as the authors' code does
    fineSize: int = 512                 # px, side of training and test pictures
    speed: float = 1.0                  # factor on the flow at test time

    def __post_init__(self):
        _one_of("netG", self.netG, ("spadeunet4softmaxsplating",))
        _one_of("z_max", self.z_max, ("image", "batch"))
        for name in self.decoder_resample:
            _one_of("decoder_resample", name, RESAMPLING)
        if len(self.decoder_resample) != len(self.decoder_channels):
            raise ValueError(f"decoder_resample has {len(self.decoder_resample)} entries, decoder_channels "
                             f"{len(self.decoder_channels)}; expected one per block")
        if self.decoder_resample.count("Down") != self.decoder_resample.count("Up"):
            raise ValueError(f"decoder_resample={self.decoder_resample} does not return to full size; use as many Up as Down")
        if self.decoder_channels[-1] != 3:
            raise ValueError(f"decoder_channels ends in {self.decoder_channels[-1]}; expected 3 (RGB)")
        if self.encoder_channels[-1] < 2:
            raise ValueError("encoder_channels must end in 2 or more: features and, last, Z")

    @property
    def multiple(self):
        """Both sides of a picture are multiples of this inside the network."""
        return 2 ** self.decoder_resample.count("Down")


def _one_of(name, value, known):
    if value not in known:
        raise ValueError(f"{name}={value} is unknown; use {', '.join(str(k) for k in known)}")


@dataclass
class TrainOptions:
    """What both trainings share. Names and defaults are the published ones where those exist."""
    name: str = "experiment"            # results go to <checkpoints_dir>/<name>
    checkpoints_dir: str = "checkpoints"
    dataroot: str = "dataset/eulerian_data/train"
    dataset_name: str = ""              # accepted for old commands; the script says what is read
    as_published: bool = False          # the original's rules wherever trained numbers depend on them (docs/fidelity.md)
    gpu_ids: str = "0"                  # "0,1,2,3": one process per GPU, those that this machine has; -1 = CPU
    threads: int = 0                    # CPU threads of torch, 0 = its choice
    nThreads: int = -1                  # processes that read data, per GPU; 0 = the training itself; -1 = 4 on a GPU, 0 on a CPU
    seed: int = 0
    strict: bool = False                # stop at a broken picture instead of going on without it
    max_dataset_size: int = 0           # items, 0 = all
    serial_batches: bool = False        # items in the order of their names, in every epoch
    no_instance: bool = True            # accepted for old commands: instance maps never come in here
    label_nc: int = 0                   # accepted for old commands: no label maps either
    batchSize: int = 1                  # of one step, over all GPUs and pieces together
    gradient_accumulation: int = 1      # pieces in which a GPU computes its part of the batch, to save memory
    gradient_checkpointing: bool = False  # forget activations of SPADE and attention layers and compute them again: less memory, slower
    dtype: str = "fp32"                 # fp32 | bf16 | fp16: what the networks compute in; weights and losses stay fp32
    bf16: bool = False                  # the same as dtype=bf16
    compile: bool = False               # torch.compile the networks: slow to start, then faster
    niter: int = 100                    # epochs at full learning rate
    niter_decay: int = 100              # epochs in which it falls to zero
    minutes: float = 0                  # instead of epochs: a time budget, in which the rate follows a cosine; 0 = epochs count
    lr: float = 2e-4
    beta1: float = 0.5
    gan: bool = True                    # train against a discriminator
    num_D: int = 2                      # discriminators, each seeing half the size of the one before
    n_layers_D: int = 3                 # strided layers of each
    ndf: int = 64                       # channels of their first layer
    norm_D: str = "instance"            # nothing else is published
    no_lsgan: bool = False              # cross-entropy instead of least squares
    no_ganFeat_loss: bool = False       # no matching of the discriminator's features
    lambda_feat: float = 10.0           # weight of that matching, and of the VGG loss
    no_vgg_loss: bool = False           # no perceptual loss (only train_video.py has one)
    vgg_weights: str = ""               # torchvision's vgg19 weights file, for the VGG loss
    use_epe_loss: bool = False          # mean length of the flow's error
    use_l1_loss: bool = False           # mean absolute error
    continue_train: bool = False        # go on from the saved state, optimisers, shuffle position and all
    which_epoch: str = "latest"         # where continue_train begins: another than latest has its networks only, not the optimisers
    load_pretrain: str = ""             # folder of a training whose networks this one begins with
    print_freq: int = 100               # images
    display_freq: int = 100             # images between two pictures in TensorBoard and on the page
    display_winsize: int = 512          # px, width of a picture on the page
    save_latest_freq: int = 2000        # images
    save_epoch_freq: int = 25           # epochs
    tensorboard: bool = True            # write <checkpoints_dir>/<name>/logs
    wandb: bool = False                 # report to Weights & Biases too
    no_html: bool = False               # no <checkpoints_dir>/<name>/web/index.html
    debug: bool = False                 # two epochs of ten items, everything shown at every step
    half: bool = False                  # store the exported weights as float16

    def check_training(self):
        """Raise ValueError for what cannot be trained with, and settle what follows from other options."""
        _one_of("norm_D", self.norm_D, ("instance",))
        self.dtype = "bf16" if self.bf16 else self.dtype
        _one_of("dtype", self.dtype, ("fp32", "bf16", "fp16"))
        if self.debug:
            self.niter, self.niter_decay, self.print_freq, self.display_freq = 1, 1, 1, 1
            self.max_dataset_size = self.max_dataset_size or 10
        if self.label_nc:
            raise ValueError(f"label_nc={self.label_nc}; label maps are not supported, use label_nc=0")
        if self.batchSize < 1 or self.minutes < 0 or self.niter + self.niter_decay < 1:
            raise ValueError(f"batchSize={self.batchSize}, minutes={self.minutes}, niter={self.niter}, "
                             f"niter_decay={self.niter_decay}; expected batches, and some time to train")
        for name in ("print_freq", "display_freq", "save_latest_freq", "save_epoch_freq", "gradient_accumulation"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; expected 1 or more")


# What the original's training commands may also say, and why nothing follows from it here.
FORMER = dict.fromkeys((
    "model", "verbose", "phase", "stage", "loadSize", "resize_or_crop", "data_type", "use_dropout", "tf_log", "pool_size", "ngf",
    "n_downsample_global", "n_blocks_global", "n_local_enhancers", "n_blocks_local", "niter_fix_global", "instance_feat", "label_feat",
    "feat_num", "load_features", "n_downsample_E", "nef", "n_clusters", "degree_file", "load_qk", "prompt", "twin_prompt", "odise_vocab",
    "init_img", "sd_ckpt", "exp_name", "exp_path_root"), "nothing in this code depends on it")
FORMER |= {"bn_noise_misc": "the norms' noise is always zero, as published", "pconv": "there is one kind of partial convolution",
           "refine_model_type": "decoder_channels and decoder_resample say it", "pool_size": "the discriminator sees the newest pictures",
           "tf_log": "TensorBoard is on, see --tensorboard"}


@dataclass
class MotionTrain(MotionOptions, TrainOptions):
    """python train_motion.py"""
    text_encoder_path: str = "checkpoints/stable-diffusion-v1-4"
    ship_text_encoder: bool = False     # put a copy of tokenizer and text encoder beside the exported weights
    attention_weights: str = "auto"     # where the attention blocks start: Stable Diffusion 1.x as a diffusers folder, .safetensors
                                        # or .ckpt; auto = the unet/ beside the text encoder, if there is one; empty = at random
    use_mask: bool = True               # the network always reads a mask
    use_seg_mask: bool = False          # masks of mask_path; without it they are used if the folder exists, except as_published
    mask_path: str = ""                 # folder of <id>_mask.png; empty: masks from where the true flow moves
    captions_file: str = ""             # lines <id>:<caption>, or .jsonl; for netG=spadexattnunetsd
    use_hint: bool = False              # show the network a direction hint (input_nc=6)
    hints_path: str = ""                # folder of generate_flow_hint.py; empty: hints are made while reading
    no_flip: bool = False               # never mirror
    init: str = "normal"                # normal: as published | default: torch's own, larger

    FORMER = FORMER | {"norm_G": "a training of flow has no such network", "frames_basepath": "a training of flow reads no frames",
                       "motion_basepath": "a training of flow reads the true flow", "tr_stage": "a training of flow has one stage",
                       "speed": "test_video.py moves clips"}

    def __post_init__(self):
        super().__post_init__()
        self.check_training()
        _one_of("init", self.init, ("normal", "default"))
        _expect("output_nc", self.output_nc, 2, "dx and dy")
        if self.use_hint != self.takes_hint:
            raise ValueError(f"use_hint={self.use_hint} with input_nc={self.input_nc}; expected 6 channels with a hint, 4 without")
        if not self.use_mask:
            raise ValueError("use_mask=false; the motion network always reads a mask")
        if self.takes_text and not self.captions_file:
            raise ValueError("netG=spadexattnunetsd reads captions, but captions_file is empty; set it, or use netG=spadeunet")


@dataclass
class VideoTrain(VideoOptions, TrainOptions):
    """python train_video.py"""
    input_nc: int = 8                   # two pictures and the flow
    output_nc: int = 3
    tr_stage: str = "stage1"            # stage1: true flow | stage2: flow predicted by test_motion.py
    frames_basepath: str = ""           # empty: dataroot
    motion_basepath: str = ""           # stage 2: folder of the predicted flow
    motion_norm: float = 64.0           # unit of the authors' _Motion.pt in there
    init: str = "normal"                # normal: as published | identity: starts as a plain splat of colours
    freeze_norm: bool = False           # norms keep their statistics; for the last part of a training (--continue_train)
    no_flip: bool = True                # accepted for old commands: frames are never mirrored
    no_tanh: bool = False               # accepted for old commands: the frames' network always ends in tanh
    stills: list[str] = field(default_factory=list)   # folders of pictures to be reproduced standing still
    stills_share: float = 0.0           # how often one of them is shown

    FORMER = FORMER | dict.fromkeys(("norm", "use_prompts", "use_mask", "use_seg_mask", "mask_path", "captions_file", "use_hint", "hints_path",
                                     "text_encoder_path", "tokenizer_path"), "the network of frames reads pictures and flow only")

    def __post_init__(self):
        super().__post_init__()
        self.check_training()
        _one_of("tr_stage", self.tr_stage, ("stage1", "stage2"))
        self.z_max = "batch" if self.as_published else self.z_max
        _one_of("init", self.init, ("normal", "identity"))
        _expect("input_nc", self.input_nc, 8, "start, end, flow")
        _expect("output_nc", self.output_nc, 3, "RGB")
        if self.fineSize % self.multiple:
            raise ValueError(f"fineSize={self.fineSize}; expected a multiple of {self.multiple}")
        if self.tr_stage == "stage2" and not self.motion_basepath:
            raise ValueError("tr_stage=stage2 trains on predicted flow; set motion_basepath (the output of test_motion.py)")


def _expect(name, value, expected, meaning):
    if value != expected:
        raise ValueError(f"{name}={value}; expected {expected} ({meaning})")


@dataclass
class ApplyOptions:
    """What test_motion.py and test_video.py share. Architecture flags count only for a checkpoint without a card (the authors' .pth)."""
    name: str = "experiment"            # the checkpoint is <checkpoints_dir>/<name>
    checkpoints_dir: str = "checkpoints"
    which_epoch: str = "latest"
    dataroot: str = "dataset/eulerian_data/validation"
    dataset_name: str = ""              # accepted for old commands; the script says what is read
    results_dir: str = "results"        # files go to <results_dir>/<name>/<phase>_<which_epoch>/images
    phase: str = "test"
    how_many: int = 0                   # items, 0 = all (published: 500, too few for --phase train)
    batchSize: int = 1                  # pictures per pass of the motion network; a clip fills any machine alone, so test_video makes one
    gpu_ids: str = "0"                  # the first is used if this machine has a GPU; -1 = CPU
    threads: int = 0                    # CPU threads of torch, 0 = its choice
    seed: int = 0                       # draws the angle within a direction's range
    no_instance: bool = True            # accepted for old commands
    label_nc: int = 0                   # accepted for old commands

    @property
    def folder(self):
        """Where the checkpoint lies."""
        return f"{self.checkpoints_dir}/{self.name}"

    @property
    def images(self):
        """Folder of the results."""
        return f"{self.results_dir}/{self.name}/{self.phase}_{self.which_epoch}/images"


@dataclass
class MotionApply(MotionOptions, ApplyOptions):
    """python test_motion.py"""
    text_encoder_path: str = "checkpoints/stable-diffusion-v1-4"
    use_mask: bool = True               # accepted for old commands: there always is a mask
    use_seg_mask: bool = False          # masks of mask_path instead of where the true flow moves
    mask_path: str = ""
    captions_file: str = ""             # captions, for a network that reads; with a direction clause, for one that takes hints; empty:
                                        # <dataroot>_captions.txt, if there is one
    prompt: str = ""                    # instead of captions: one for all pictures
    use_hint: bool = False              # accepted for old commands: the checkpoint knows
    hints_path: str = ""                # hints of generate_flow_hint.py; empty: made from the caption's direction
    hint_speed: float = 0               # px/frame at the network's fineSize; 0: what its card says, 64 for the authors' files

    def __post_init__(self):
        super().__post_init__()
        if self.batchSize < 1:
            raise ValueError(f"batchSize={self.batchSize}; expected 1 picture per pass or more")


@dataclass
class VideoApply(VideoOptions, ApplyOptions):
    """python test_video.py"""
    input_nc: int = 8                   # accepted for old commands
    output_nc: int = 3                  # accepted for old commands
    fineSize: int = 0                   # px of the short side of the frames, 0 = as the picture
    motion_basepath: str = ""           # folder of <id>_flow.npz or <id>_Motion.pt; empty: the true flow of dataroot
    motion_norm: float = 64.0           # unit of the authors' _Motion.pt
    n_frames: int = 60
    fps: int = 30
    clamp: str = "component"            # component: each of dx, dy to +-1 px/frame at 512 px, as published | magnitude | none
    blend: str = "linear"               # linear: as published | smooth: flat at both ends

    def __post_init__(self):
        super().__post_init__()
        _one_of("clamp", self.clamp, ("component", "magnitude", "none"))
        if self.n_frames < 1 or self.fps < 1 or self.fineSize < 0:
            raise ValueError(f"n_frames={self.n_frames}, fps={self.fps}, fineSize={self.fineSize}; expected frames, at some rate and size")
