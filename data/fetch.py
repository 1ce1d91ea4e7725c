"""Fetches what the full tier needs into checkpoints/. Nothing else in this project touches the network.

    python -m data.fetch                       # the list: what there is, how large, where it goes, what is already here
    python -m data.fetch stable-diffusion authors
    python -m data.fetch all                   # = make checkpoints; the ODISE weights (non-commercial) only by name

An interrupted download goes on where it stopped. Files are checked by size and sha256 where these are known.
"""

import argparse
import sys
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from text2cinemagraph.data.files import make_folder, sha256
from text2cinemagraph.options.cli import run_main
from tqdm import tqdm

CHUNK = 1 << 20
TIMEOUT = 60  # s without a byte


@dataclass(frozen=True)
class Source:
    """One thing to fetch.

    kind: "file" (url), "drive" (url = Google Drive id, a tar), "hub" (url = Hugging Face repository).   path: below checkpoints/.
    needed: files below `path` (below checkpoints/ for a tar) that say it is complete.   sha256: hex digest or its beginning.
    """

    kind: str
    url: str
    path: str
    what: str
    needed: tuple = ()
    size: str = "?"
    sha256: str = ""
    patterns: tuple = ()
    by_default: bool = True


NETWORKS = ("motion-pretrained", "motion-direction-pretrained", "video-pretrained")
DIFFUSERS = (
    "model_index.json",
    "scheduler/*",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/*",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
)
SOURCES = {
    "stable-diffusion": Source(
        "hub",
        "CompVis/stable-diffusion-v1-4",
        "stable-diffusion-v1-4",
        "Stable Diffusion v1.4 in diffusers form (CreativeML Open RAIL-M licence)",
        (
            "unet/diffusion_pytorch_model.safetensors",
            "vae/diffusion_pytorch_model.safetensors",
            "text_encoder/model.safetensors",
            "tokenizer/vocab.json",
        ),
        "4.3 GB",
        patterns=DIFFUSERS,
    ),
    "authors": Source(
        "drive",
        "1Cx64SC12wXzDjg8U0ujnKx8V2G6SbCIb",
        "checkpoints.tar",
        "the authors' flow and video networks",
        tuple(f"{name}/latest_net_G.pth" for name in NETWORKS),
        "about 1.4 GB",
    ),
    "odise": Source(
        "file",
        "https://github.com/NVlabs/ODISE/releases/download/v1.0.0/odise_label_coco_50e-b67d2efc.pth",
        "odise/odise_label_coco_50e-b67d2efc.pth",
        "ODISE's trained parts (CC BY-NC-SA 4.0: non-commercial use only)",
        size="0.1 GB",
        sha256="b67d2efc",
        by_default=False,
    ),
    "odise-diffusion": Source(
        "hub",
        "CompVis/stable-diffusion-v1-3",
        "odise/stable-diffusion-v1-3",
        "the Stable Diffusion v1.3 whose features ODISE reads (CreativeML Open RAIL-M)",
        (
            "unet/diffusion_pytorch_model.safetensors",
            "vae/diffusion_pytorch_model.safetensors",
            "text_encoder/model.safetensors",
            "tokenizer/vocab.json",
        ),
        "4.3 GB",
        patterns=DIFFUSERS,
        by_default=False,
    ),
    "odise-clip": Source(
        "hub",
        "openai/clip-vit-large-patch14-336",
        "odise/clip-vit-large-patch14-336",
        "the CLIP that ODISE names things with (MIT licence)",
        ("model.safetensors", "tokenizer.json"),
        "1.7 GB",
        patterns=("*.json", "*.txt", "model.safetensors"),
        by_default=False,
    ),
    "segmenter": Source(
        "hub",
        "facebook/mask2former-swin-small-ade-semantic",
        "segmenter",
        "a segmenter with fixed labels, an alternative to ODISE (licence: see its model card)",
        ("config.json", "model.safetensors"),
        "0.3 GB",
        patterns=("*.json", "model.safetensors"),
    ),
    "i3d": Source(
        "file",
        "https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
        "i3d/i3d_torchscript.pt",
        "the I3D network of StyleGAN-V's FVD (evaluate/compute_fvd.py)",
        size="50 MB or so",
    ),
}


def complete(source, root):
    """Whether all that a source brings is there."""
    if source.kind == "file":
        path = root / source.path
        return path.is_file() and not _is_page(path) and (not source.sha256 or sha256(path).startswith(source.sha256))
    folder = root if source.kind == "drive" else root / source.path
    return all((folder / name).is_file() for name in source.needed)


def fetch(source, root):
    """Bring one source into `root`; does nothing where it is complete already.  Raises OSError or ValueError in one line."""
    if complete(source, root):
        return False
    make_folder(root)
    {"file": _fetch_file, "drive": _fetch_drive, "hub": _fetch_hub}[source.kind](source, root)
    if not complete(source, root):
        raise ValueError(
            f"{source.url} came, but not all of {', '.join(source.needed)} is in {root}; fetch it again or by hand "
            "(checkpoints/README.md)"
        )
    return True


def _fetch_file(source, root):
    download(source.url, root / source.path, source.sha256)


def _fetch_hub(source, root):
    import huggingface_hub  # comes with diffusers; needed here alone

    try:
        huggingface_hub.snapshot_download(
            source.url, local_dir=root / source.path, allow_patterns=list(source.patterns) or None
        )
    except Exception as error:  # a library's own errors over requests, httpx and the hub: all mean "it did not come"
        raise OSError(
            f"cannot fetch {source.url} from the Hugging Face hub ({_brief(error)}); check the connection (and HF_ENDPOINT, "
            f"if a mirror is set), or copy the repository to {root / source.path}"
        ) from error


def _fetch_drive(source, root):
    archive = root / source.path
    if _is_whole(archive, source.needed):  # placed by hand, as the message below advises: no network is asked
        unpack(archive, root)
        return
    there = f"; what lies at {archive} is incomplete" if archive.is_file() else ""
    try:
        import gdown  # optional: Google Drive's confirmation pages change too often to follow them here
    except ImportError as error:
        raise ImportError("Google Drive needs gdown: pip install gdown") from error
    try:
        gdown.download(id=source.url, output=str(archive), resume=True)
    except Exception as error:
        raise OSError(
            f"cannot fetch the file {source.url} from Google Drive ({_brief(error)}); check the connection, try later "
            f"(Drive limits popular files), or download it in a browser to {archive} and run this again{there}"
        ) from error
    unpack(archive, root)


def _is_whole(archive, needed):
    """Whether a tar file is there, can be read to its end and holds all that its source brings."""
    try:
        with tarfile.open(archive) as tar:
            names = {_place(member) for member in tar.getmembers()}
    except (tarfile.TarError, EOFError, OSError):
        return False
    return names.issuperset(needed)


def _place(member):
    """Where a member of the archive goes below the folder of checkpoints."""
    return member.name.removeprefix("./").removeprefix("checkpoints/")


def _brief(error):
    return (
        f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160]}"
        if str(error).strip()
        else type(error).__name__
    )


def unpack(archive, root):
    """A tar of <name>/... or checkpoints/<name>/... into `root`, then the archive is removed; only plain files inside root come out."""
    try:
        with tarfile.open(archive) as tar:
            for member in tqdm(tar.getmembers(), f"unpacking {archive.name}"):
                member.name = _place(member)
                if member.isfile() and member.name:
                    tar.extract(member, root, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{archive} is no whole tar file ({_brief(error)}); delete it and fetch it again") from error
    archive.unlink()


def download(url, path, digest=""):
    """url -> path, by way of <path>.part, which a later call continues.

    digest: sha256 or its beginning; a file that does not match is removed.  Raises OSError when the server cannot be reached or the
    connection breaks (the part stays), ValueError for a wrong file.
    """
    path, part = Path(path), Path(f"{path}.part")
    make_folder(path.parent)
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(
        url,
        headers={"Range": f"bytes={have}-", "User-Agent": "text2cinemagraph"}
        if have
        else {"User-Agent": "text2cinemagraph"},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            _receive(answer, part, have if answer.status == 206 else 0, path.name)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: nothing is left to send, the part is whole
            raise OSError(
                f"{url} answers {error.code} {error.reason}; fetch it by hand to {path} (checkpoints/README.md)"
            ) from error
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise OSError(
            f"cannot fetch {url} ({reason}); check the connection and run this again, it goes on where it stopped"
        ) from error
    if _is_page(part):
        part.unlink()
        raise ValueError(f"{url} gave a web page, not a file; fetch it in a browser to {path}")
    found = sha256(part) if digest else ""
    if not found.startswith(digest):
        part.unlink()
        raise ValueError(
            f"{url} gave a file with sha256 {found[:16]}..., expected {digest}...; it was removed, fetch it again"
        )
    part.replace(path)


def _is_page(path):
    """Whether a file is a web page, which servers send in the place of a file that they do not give."""
    with open(path, "rb") as file:
        return file.read(64).lstrip().lower().startswith((b"<!doctype", b"<html"))


def _receive(answer, part, have, name):
    """Append (or write) the body to the part; OSError if it ends before the length that was announced."""
    length = int(answer.headers.get("Content-Length") or 0)
    with (
        open(part, "ab" if have else "wb") as file,
        tqdm(total=have + length or None, initial=have, unit="B", unit_scale=True, desc=name) as progress,
    ):
        while chunk := answer.read(CHUNK):
            file.write(chunk)
            progress.update(len(chunk))
        if length and progress.n < have + length:
            raise ConnectionError(f"the connection broke after {progress.n} of {have + length} bytes")


def listing(root):
    """One line per source: name, state, size, place, what."""
    rows = [
        (name, "here" if complete(source, root) else "missing", source.size, f"{root / source.path}", source.what)
        for name, source in SOURCES.items()
    ]
    return "\n".join(f"{name:17} {state:8} {size:13} {place:45} {what}" for name, state, size, place, what in rows)


def main(arguments=None):
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m data.fetch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"all, or some of: {', '.join(SOURCES)}; none: the list")
    parser.add_argument("--to", default="checkpoints", help="folder (default: %(default)s)")
    options = parser.parse_args(arguments)
    root = Path(options.to)
    names = (
        [name for name, source in SOURCES.items() if source.by_default] if options.names == ["all"] else options.names
    )
    unknown = [name for name in names if name not in SOURCES]
    if unknown:
        raise ValueError(f"nothing is called {unknown[0]!r}; choose all or some of {', '.join(SOURCES)}")
    failed = []
    for name in names:
        print(f"{name}: {SOURCES[name].what}, {SOURCES[name].size}", flush=True)
        try:
            print("  fetched" if fetch(SOURCES[name], root) else "  is here already")
        except (OSError, ValueError, ImportError) as error:  # the others may still come
            failed.append(f"{name}: {error}")
    print(listing(root))
    for line in failed:
        print(f"error: {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    run_main(main)
