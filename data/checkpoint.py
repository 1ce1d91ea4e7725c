"""Network weights with a card: saved together, checked when read, loaded strictly. No file is ever unpickled as code.

A checkpoint is `<which>_net_G.safetensors` and beside it `<which>_net_G.json`, its card: the options that build the
network, how it was trained, and the sha256 of the weights. The authors' bare `<which>_net_G.pth` is read too, and can
be converted:

    python -m data.checkpoint convert checkpoints/motion-pretrained/latest_net_G.pth checkpoints/motion-pretrained
"""

from __future__ import annotations

import json
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text2cinemagraph.data.files import atomic, read_json, sha256
from text2cinemagraph.options.cli import Parser, run_main
from text2cinemagraph.options.devices import machine_error
from text2cinemagraph.options.places import located

if TYPE_CHECKING:
    import torch

# A name only this network has, the most particular first.
SIGNS = {
    "spadexattnunetsd": "attn_middle_block.",
    "spadeunet4softmaxsplating": "encoder.gblocks.",
    "spadeunet": "spade_layer8_0.",
    "a discriminator": "scale0_layer0.",
    "a diffusion U-Net": "down_blocks.",
}
FETCH = (
    "fetch the authors' networks (python -m data.fetch authors), so that checkpoints/<name>/latest_net_G.pth exists, or"
    " train one"
)
SHRINK, LEAST = 20, 10**9  # a file may claim so many times its bytes, and so many bytes more
FRAMEWORKS = ("pytorch_lightning", "lightning", "lightning_fabric")
# What a pickle names for a NumPy scalar or array, before and since NumPy 2: a training's best score, never a weight.
NUMPY_NAMES = {
    *(f"numpy.{core}.multiarray.{maker}" for core in ("core", "_core") for maker in ("scalar", "_reconstruct")),
    *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
    "numpy.dtype",
    "numpy.ndarray",
    "_codecs.encode",
}
LIBRARY_WEIGHTS = (  # of diffusers and of transformers, in the order in which they look
    ("diffusion_pytorch_model", ".safetensors"),
    ("model", ".safetensors"),
    ("diffusion_pytorch_model", ".bin"),
    ("pytorch_model", ".bin"),
)


def save_checkpoint(
    path: str | Path, state_dict: dict[str, torch.Tensor], card: dict[str, Any], half: bool = False
) -> None:
    """Write weights to `path` (.safetensors) and their card beside it (.json), both or neither.

    card: JSON-able dict (its "options" rebuild the network); "sha256" and "parameters" are added.
    half: store floating tensors as float16 (half the size; read_checkpoint gives float32 back).
    """
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"cannot save weights as {path}: expected a name ending in .safetensors")
    tensors = {name: _stored(tensor, half) for name, tensor in state_dict.items()}
    lost = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if lost:
        raise ValueError(
            f"{path}: {len(lost)} tensors hold NaN or values too large to store ({_some(lost)}); not saved"
        )
    with atomic(path) as weights, atomic(path.with_suffix(".json")) as text:
        save_file(tensors, weights)
        card = {**card, "sha256": sha256(weights), "parameters": sum(t.numel() for t in tensors.values())}
        Path(text).write_text(json.dumps(card, indent=1) + "\n")


def dataset_note(root: str | Path) -> dict[str, Any]:
    """What a card says about the training data: its folder, and for procedural landscapes which ones: their number,
    seeds and list's sha256.
    """
    root, listed = Path(root), Path(f"{root}_metadata.jsonl")
    if not listed.is_file():
        return {"root": str(root)}
    scenes = [json.loads(line) for line in listed.read_text().splitlines()]
    return {
        "root": str(root),
        "scenes": len(scenes),
        "first_seeds": [scene["seed"] for scene in scenes[:3]],
        "metadata_sha256": sha256(listed),
    }


def _stored(tensor, half):
    """A contiguous CPU copy that shares no memory, as safetensors wants it."""
    import torch

    dtype = torch.float16 if half and tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to("cpu", dtype, copy=True).contiguous()


def read_checkpoint(source: str | Path, which: str = "latest") -> tuple[dict[str, torch.Tensor], dict[str, Any] | None]:
    """Read (state_dict on the CPU, card or None).

    source: a folder holding `<which>_net_G.safetensors` (preferred) or `<which>_net_G.pth`, or such a file itself.
    Half precision tensors come back as float32. Raises FileNotFoundError that says what to fetch, and ValueError for a
    damaged file, a file with code in it, or weights that do not match the sha256 of their card.
    """
    import torch

    path = find_checkpoint(source, which)
    card = _read_card(path.with_suffix(".json"))
    if card and "sha256" in card and path.suffix == ".safetensors" and sha256(path) != card["sha256"]:
        raise ValueError(
            f"{path} is not the file its card {path.stem}.json describes (sha256 differs); fetch both again"
        )
    state_dict = read_tensors(path)
    wide = {torch.float16: torch.float32, torch.bfloat16: torch.float32}
    return {name: tensor.to(wide.get(tensor.dtype, tensor.dtype)) for name, tensor in state_dict.items()}, card


def find_checkpoint(source: str | Path, which: str = "latest") -> Path:
    """The weights file of a folder (or the file itself); FileNotFoundError that says what to fetch."""
    source = located(source)
    if source.is_file():
        return source
    candidates = [source / f"{which}_net_G{suffix}" for suffix in (".safetensors", ".pth")]
    for path in candidates:
        if path.is_file():
            return path
    if not source.is_dir():
        raise FileNotFoundError(f"no checkpoint at {source}; {FETCH}")
    others = sorted({path.name.split("_net_G")[0] for path in source.glob("*_net_G.*")})
    advice = f"it holds: {', '.join(others)}; choose one of these" if others else FETCH
    raise FileNotFoundError(f"no {candidates[0].name} or {candidates[1].name} in {source}; {advice}")


def _read_card(path):
    if not path.is_file():
        return None
    card = read_json(path, "it is the card of the weights beside it: fetch both again")
    if not isinstance(card.get("options") or {}, dict):
        raise ValueError(f"{path} is damaged (its options are no mapping): fetch it and the weights beside it again")
    return card


class Ignored:
    """Stands for what a .ckpt holds beside its tensors: it takes any arguments and state, and does nothing."""

    def __init__(self, *_, **__) -> None:
        pass

    def __setstate__(self, _):
        pass


def _load_torch(path):
    """torch.load of data alone. Nothing that the file names beside tensors is imported or called: a training
    framework's own objects and NumPy's scalars become Ignored (or a plain mapping), whichever NumPy wrote or reads
    them; any other name is refused.
    """
    import torch

    whole = zipfile.is_zipfile(path)  # else the form before torch 1.6, whose names cannot be listed beforehand
    if whole:
        with zipfile.ZipFile(path) as archive:
            _check_unpacked(sum(member.file_size for member in archive.infolist()), path)
    named = torch.serialization.get_unsafe_globals_in_checkpoint(path) if whole else ()
    foreign = NUMPY_NAMES.union(name for name in named if name.split(".")[0] in FRAMEWORKS)
    stand_ins = [(OrderedDict if name.endswith("Dict") else Ignored, name) for name in sorted(foreign)]
    with torch.serialization.safe_globals(stand_ins):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True if whole else None)


def is_lfs_pointer(path: str | Path) -> bool:
    """Whether a file is the note that git leaves in the place of a large file which was not fetched."""
    with open(path, "rb") as file:
        return file.read(40).startswith(b"version https://git-lfs")


def is_whole(path: str | Path) -> bool:
    """Whether a file is there with all its bytes, as far as its form tells: no git-lfs pointer, no .safetensors shorter
    than its header says, no torch file or tar without its end.
    """
    path = Path(path)
    if not path.is_file() or not path.stat().st_size or is_lfs_pointer(path):
        return False
    if path.suffix == ".safetensors":
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            try:
                header = json.loads(file.read(min(length, 100_000_000)))
            except ValueError:
                return False
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return path.stat().st_size == 8 + length + max(ends, default=0)
    if path.suffix in (".bin", ".ckpt", ".pth"):
        with open(path, "rb") as file:
            return file.read(2) != b"PK" or zipfile.is_zipfile(path)  # a zip's list of contents is its end
    return True


def weights_of(folder: str | Path) -> tuple[Path, str]:
    """(the file with a part's weights, its variant: "" or "fp16"), as both libraries name them; ValueError for a
    git-lfs pointer, a file that was cut off, or none.  A file of several shards is (its index, variant).
    """
    folder = Path(folder)
    for variant in ("", "fp16"):
        mark = f".{variant}" if variant else ""
        for stem, ending in LIBRARY_WEIGHTS:
            for name in (f"{stem}{mark}{ending}", f"{stem}{ending}.index{mark}.json"):
                path = folder / name
                if path.is_file():
                    if is_lfs_pointer(path):
                        raise ValueError(f"{path} is only a git-lfs pointer; run: git lfs pull")
                    if not is_whole(path):
                        raise ValueError(f"{path} was cut off")
                    return path, variant
    raise ValueError(f"{folder} holds no weights, such as {LIBRARY_WEIGHTS[0][0]}{LIBRARY_WEIGHTS[0][1]}")


def convert_pickled(sources: Sequence[Path], target: Path) -> None:
    """Write the first of the pickled `sources` that is there as `target` (.safetensors, as transformers and diffusers
    read it) and remove it; nothing where `target` is whole or there is none.  The file is opened as data; raises as
    read_tensors does.
    """
    from safetensors.torch import save_file

    source = next((path for path in map(Path, sources) if path.is_file()), None)
    if source is None or is_whole(target):
        return
    tensors = {name: tensor.contiguous().clone() for name, tensor in read_tensors(source).items()}
    with atomic(target) as path:
        save_file(tensors, path, metadata={"format": "pt"})
    source.unlink()


def read_tensors(path: str | Path) -> dict[str, torch.Tensor]:
    """{name: tensor} of a .safetensors or torch file; every way in which a file can be wrong becomes one line
    (ValueError).
    """
    import torch
    from safetensors.torch import load_file

    path = Path(path)
    if is_lfs_pointer(path):
        raise ValueError(f"{path} is only a git-lfs pointer; run: git lfs pull")
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _load_torch(path)
    except Exception as error:  # a damaged file makes these parsers raise nearly anything
        if machine_error(error):
            raise
        if "it was not loaded" in str(error):
            raise
        if "GLOBAL" in str(error):
            raise ValueError(
                f"{path} holds more than tensors (pickled objects can run code) and was not opened; "
                "expected a bare state dict, as torch.save(net.state_dict(), ...) writes"
            ) from error
        raise ValueError(f"{path} is truncated or no weight file; download or train it again") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if isinstance(content, dict) and content.keys() - {"optimizer"} and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not content or not all(isinstance(t, torch.Tensor) for t in content.values()):
        raise ValueError(f"{path} holds no state dict; expected a mapping of names to tensors")
    _check_unpacked(sum(tensor.numel() * tensor.element_size() for tensor in content.values()), path)
    return unwrapped(content)


def _check_unpacked(size, path):
    """ValueError for a file that claims far more bytes than it has: weights do not shrink in an archive."""
    if size > SHRINK * path.stat().st_size + LEAST:
        raise ValueError(
            f"{path} has {path.stat().st_size / 1e6:.1f} MB and claims {size / 1e9:.0f} GB of weights; it was not"
            " loaded"
        )


def unwrapped(state_dict: dict) -> dict:
    """The state dict without what torch.compile (`_orig_mod.`, anywhere) and DataParallel (`module.`, before every
    name) put into its names, in whatever order they were applied.
    """
    while True:
        names = {name: name.replace("_orig_mod.", "") for name in state_dict}
        if all(name.startswith("module.") for name in names.values()):
            names = {name: short.removeprefix("module.") for name, short in names.items()}
        if all(name == short for name, short in names.items()):
            return dict(state_dict)
        state_dict = {names[name]: tensor for name, tensor in state_dict.items()}


def load_weights(module: torch.nn.Module, state_dict: dict[str, torch.Tensor], source: str | Path) -> None:
    """Load a state dict into a module, all of it or nothing: names and shapes must agree exactly.

    source: where the weights came from, for the message.  Raises ValueError with counts, a few names and the likely
    cause.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in state_dict]
    unexpected = [name for name in state_dict if name not in own]
    resized = [
        f"{name} {tuple(state_dict[name].shape)} for {tuple(own[name].shape)}"
        for name in own
        if name in state_dict and state_dict[name].shape != own[name].shape
    ]
    if missing or unexpected or resized:
        found = [
            f"{len(names)} {word} ({_some(names)})"
            for names, word in ((missing, "missing"), (unexpected, "unexpected"), (resized, "of another shape"))
            if names
        ]
        raise ValueError(
            f"the weights {source} do not fit the network of {len(own)} tensors: {', '.join(found)}; "
            f"{_likely_cause(own, state_dict)}"
        )
    broken = [name for name, tensor in state_dict.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if broken:
        raise ValueError(
            f"the weights {source} hold NaN or infinite values ({_some(broken)}); fetch or train them again"
        )
    module.load_state_dict(state_dict)


def _some(names, count=3):
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def network_of(names: Iterable[str]) -> str | None:
    """Which netG (or other network) state-dict names belong to; None if unknown."""
    return next((network for network, sign in SIGNS.items() if any(sign in name for name in names)), None)


def _likely_cause(own, state_dict):
    built, found = network_of(own), network_of(state_dict)
    if any("ema" in name.lower().split(".")[0] for name in state_dict):
        return "it looks like an EMA (averaged) file; use the plain *_net_G file"
    if found and found != built:
        return f"they belong to {found}; set netG (or the checkpoint folder) accordingly"
    if set(own) == set(state_dict):
        return "same network, other sizes: check input_nc, nf and the other options of the checkpoint"
    return "check netG and the options it was trained with"


# ---------------------------------------------------------------- python -m data.checkpoint
def convert(source: str | Path, target: str | Path, netG: str | None = None, half: bool = False) -> Path:
    """Turn a .pth (or .safetensors) into safetensors + card; `target` is a folder or a .safetensors name. Returns its
    path.

    The card's options (netG, input_nc, norm) are read off the tensors; netG given: it must agree.
    """
    source, target = Path(source), Path(target)
    path = find_checkpoint(source)
    state_dict, card = read_checkpoint(path)
    found = network_of(state_dict)
    if netG and found and netG != found:
        raise ValueError(f"--netG {netG} was asked for, but {path} holds {found}; leave --netG out or fix it")
    if not (netG or found):
        raise ValueError(
            f"{path} holds no network of this project (its first name: {next(iter(state_dict))}); give --netG if it"
            " does"
        )
    options = {"netG": netG or found, **_shape_options(netG or found, state_dict)}
    card = card or {"options": options, "converted_from": path.name, "source_sha256": sha256(path)}
    target = target if target.suffix == ".safetensors" else target / f"{path.stem}.safetensors"
    save_checkpoint(target, state_dict, card, half)
    _check_written(target, state_dict, half)
    return target


def _check_written(path, state_dict, half):
    """ValueError unless a written file reads back as what went into it."""
    import torch

    back, _ = read_checkpoint(path)
    differs = [
        name
        for name, tensor in state_dict.items()
        if name not in back
        or not torch.allclose(back[name].double(), tensor.double(), rtol=1e-3 if half else 0, atol=1e-7 if half else 0)
    ]
    if differs or len(back) != len(state_dict):
        path.unlink()
        raise ValueError(f"{path} did not read back as it was written ({_some(differs)}); is the disk full?")


def _shape_options(netG, state_dict):
    """The options that the tensors themselves show."""
    if netG not in ("spadexattnunetsd", "spadeunet"):
        return {}
    first = state_dict.get("conv1.weight_orig", state_dict.get("conv1.weight"))
    if first is None:
        raise ValueError(f"the file holds no conv1, which netG={netG} begins with; check --netG")
    spectral = "conv1.weight_orig" in state_dict
    return {"input_nc": first.shape[1], "nf": first.shape[0], "norm": "spectral_instance" if spectral else "instance"}


def main() -> None:
    """The command line: convert."""
    parser = Parser(prog="python -m data.checkpoint", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("convert", help="a .pth (or .safetensors) to safetensors + card")
    command.add_argument("source", help="file, or folder holding latest_net_G.*")
    command.add_argument("target", help="folder, or a name ending in .safetensors")
    command.add_argument(
        "--netG", help="spadexattnunetsd | spadeunet | spadeunet4softmaxsplating; default: as the tensors show"
    )
    command.add_argument("--half", action="store_true", help="store float16")
    arguments = parser.parse_args()
    print(convert(arguments.source, arguments.target, arguments.netG, arguments.half))


if __name__ == "__main__":
    run_main(main)
