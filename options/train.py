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
