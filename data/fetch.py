"""Fetches what the full tier needs into checkpoints/. Nothing else in this project touches the network.

    python -m data.fetch                       # the list: what there is, how large, where it goes, what is already here
    python -m data.fetch stable-diffusion authors
    python -m data.fetch all                   # = make checkpoints; the ODISE weights (non-commercial) only by name

An interrupted download goes on where it stopped. What was laid there by hand and is complete is used, and the network
is not asked. Files are checked by sha256 where it is known; hub repositories come at a pinned revision where one is
known.
"""

from __future__ import annotations

import os
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text2cinemagraph.data.checkpoint import convert_pickled, is_whole
from text2cinemagraph.data.files import make_folder, sha256
from text2cinemagraph.options.cli import Parser, run_main
from tqdm import tqdm

TIMEOUT = 60  # s without a byte
ATTEMPTS = 4  # on a connection that breaks; each goes on where the last one stopped
ON_THE_HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Source:
    """One thing to fetch.

    kind: "file" (url), "drive" (url = Google Drive id of a tar), "hub" (url = Hugging Face repository).   path: below
    checkpoints/.   needed: all that the loaders read, below `path` (below checkpoints/ for a tar). Of a hub repository
    a name may also come in another form of the same weights, see alternatives().   wanted: hub files that come too
    where the repository has them.   sha256: hex digest, or its beginning, of the one file.   revision: the commit of a
    hub repository; "" = the newest.   companions: sources that are of use only together with this one, and come with
    it.
    """

    kind: str
    url: str
    path: str
    what: str
    needed: tuple[str, ...] = ()
    size: str = "?"
    sha256: str = ""
    revision: str = ""
    wanted: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()
    by_default: bool = True


NETWORKS = ("motion-pretrained", "motion-direction-pretrained", "video-pretrained")
ORIGINAL = (
    "https://raw.githubusercontent.com/text2cinemagraph/text2cinemagraph/9f6ef67dfb38b250418d2ef9028dbc339c19c509"
)
DIFFUSERS = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "tokenizer/tokenizer_config.json",
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
        DIFFUSERS,
        "4.3 GB",
        revision="133a221b8aa7292a167afc5127cb63fb5005638b",
        wanted=("tokenizer/special_tokens_map.json",),
    ),
    "stable-diffusion-v1-5": Source(
        "hub",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "stable-diffusion-v1-5",
        "Stable Diffusion v1.5, for twin_extraction.ckpt (CreativeML Open RAIL-M licence)",
        DIFFUSERS,
        "4.3 GB",
        revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
        wanted=("tokenizer/special_tokens_map.json",),
        by_default=False,
    ),
    "stable-diffusion-xl": Source(
        "hub",
        "stabilityai/stable-diffusion-xl-base-1.0",
        "stable-diffusion-xl-base-1.0",
        "Stable Diffusion XL, for configs/inference_sdxl.yaml (CreativeML Open RAIL++-M licence)",
        (
            *DIFFUSERS,
            "text_encoder_2/config.json",
            "text_encoder_2/model.safetensors",
            "tokenizer_2/vocab.json",
            "tokenizer_2/merges.txt",
            "tokenizer_2/tokenizer_config.json",
        ),
        "13.9 GB",
        revision="462165984030d82259a11f4367a4eed129e94a7b",
        wanted=("tokenizer/special_tokens_map.json", "tokenizer_2/special_tokens_map.json"),
        by_default=False,
    ),
    "sd-v1-4-full-ema": Source(
        "hub",
        "CompVis/stable-diffusion-v-1-4-original",
        "stable-diffusion-v1-4-original",
        "Stable Diffusion v1.4 as the authors sample it, both sets of weights (CreativeML Open RAIL-M)",
        ("sd-v1-4-full-ema.ckpt",),
        "7.7 GB",
        sha256="14749efc0ae8ef0329391ad4436feb781b402f4fece4883c7ad8d10556d8a36a",
        companions=("clip-tokenizer",),
        by_default=False,
    ),
    "clip-tokenizer": Source(
        "hub",
        "openai/clip-vit-large-patch14",
        "stable-diffusion-v1-4-original/tokenizer",
        "CLIP's list of words, which single files of Stable Diffusion lack (MIT licence)",
        ("vocab.json", "merges.txt", "tokenizer_config.json"),
        "1.5 MB",
        wanted=("special_tokens_map.json",),
        by_default=False,
    ),
    "authors": Source(
        "drive",
        "1Cx64SC12wXzDjg8U0ujnKx8V2G6SbCIb",
        "checkpoints.tar",
        "the authors' flow and video networks",
        tuple(f"{name}/latest_net_G.pth" for name in NETWORKS),
        "about 1.4 GB",
    ),
    "segmenter": Source(
        "hub",
        "tue-mps/ade20k_semantic_eomt_large_512",
        "segmenter",
        "EoMT, a strong segmenter with ADE20K's 150 labels (MIT licence: commercial use too)",
        ("config.json", "preprocessor_config.json", "model.safetensors"),
        "1.3 GB",
    ),
    "odise": Source(
        "file",
        "https://github.com/NVlabs/ODISE/releases/download/v1.0.0/odise_label_coco_50e-b67d2efc.pth",
        "odise/odise_label_coco_50e-b67d2efc.pth",
        "ODISE's trained parts (CC BY-NC-SA 4.0: non-commercial use only)",
        size="0.1 GB",
        sha256="b67d2efc",
        companions=("odise-diffusion", "odise-clip"),
        by_default=False,
    ),
    "odise-diffusion": Source(
        "hub",
        "CompVis/stable-diffusion-v1-3",
        "odise/stable-diffusion-v1-3",
        "the Stable Diffusion v1.3 whose features ODISE reads (CreativeML Open RAIL-M)",
        DIFFUSERS,
        "4.3 GB",
        wanted=("tokenizer/special_tokens_map.json",),
        by_default=False,
    ),
    "odise-clip": Source(
        "hub",
        "openai/clip-vit-large-patch14-336",
        "odise/clip-vit-large-patch14-336",
        "the CLIP that ODISE names things with (MIT licence)",
        ("config.json", "vocab.json", "merges.txt", "tokenizer_config.json", "model.safetensors"),
        "1.7 GB",
        revision="ce19dc912ca5cd21c8a653c79e251e808ccabcd1",
        wanted=("tokenizer.json", "special_tokens_map.json"),
        by_default=False,
    ),
    "i3d": Source(
        "file",
        "https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
        "i3d/i3d_torchscript.pt",
        "the I3D network of StyleGAN-V's FVD (evaluate/compute_fvd.py)",
        size="50 MB or so",
        sha256="bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
    ),
    "vgg19": Source(
        "file",
        "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        "vgg19-dcbb9e9d.pth",
        "torchvision's VGG-19 for train_video.py's VGG loss, which the authors train with",
        size="0.6 GB",
        sha256="dcbb9e9d",
        by_default=False,
    ),
    **{
        f"captions-{split}": Source(
            "file",
            f"{ORIGINAL}/dataset/captions/file2captions-eularian-{split}-blip2-20-15.txt",
            f"../dataset/captions/file2captions-eularian-{split}-blip2-20-15.txt",
            f"the authors' captions of the {split} clips (from their repository; not ours to ship)",
            by_default=False,
        )
        for split in ("train", "validation")
    },
}
GROUPS = {
    "all": tuple(name for name, source in SOURCES.items() if source.by_default),
    "captions": ("captions-train", "captions-validation"),
}


def alternatives(name: str) -> tuple[str, ...]:
    """The forms in which a repository may hold the weights `name` (.safetensors), the best first."""
    if not name.endswith(".safetensors"):
        return (name,)
    stem = name.removesuffix(".safetensors")
    pickled = f"{stem.removesuffix('model')}pytorch_model" if stem.split("/")[-1] == "model" else stem
    return name, f"{stem}.fp16.safetensors", f"{pickled}.bin", f"{pickled}.fp16.bin"


def lacking(source: Source, root: Path) -> list[str]:
    """What a source brings and is not there, or not whole (a git-lfs pointer, a file that was cut off), or still a
    pickle.
    """
    if source.kind == "file":
        return [] if is_whole(root / source.path) else [source.path]
    folder = root if source.kind == "drive" else root / source.path
    forms = {name: [form for form in alternatives(name) if not form.endswith(".bin")] for name in source.needed}
    return [name for name in source.needed if not any(is_whole(folder / form) for form in forms[name])]


def fetch(source: Source, root: str | Path, newest: bool = False) -> bool:
    """Bring one source into `root`. Returns False where all of it was there already.

    newest: take a hub repository as it is today, not at its pinned revision.
    Raises OSError or ValueError that says what to do.
    """
    root = Path(root)
    _convert(source, root)
    if not lacking(source, root):
        _check_digest(source, root)
        return False
    make_folder(root)
    if source.kind == "hub":
        _fetch_hub(source, root / source.path, "" if newest else source.revision)
    elif source.kind == "drive":
        _fetch_drive(source, root)
    else:
        download(source.url, root / source.path, source.sha256)
    _convert(source, root)
    left = lacking(source, root)
    if left:
        raise ValueError(
            f"{source.url} came, but {', '.join(left)} is not in {root} or not whole; fetch it again or by hand "
            "(checkpoints/README.md)"
        )
    if source.kind == "hub":
        _check_digest(source, root)
    return True


def _convert(source, root):
    """Pickled weights of a hub repository become safetensors, once."""
    for name in source.needed if source.kind == "hub" else ():
        forms = [root / source.path / form for form in alternatives(name)]
        if not any(is_whole(form) for form in forms if form.suffix != ".bin"):
            convert_pickled([form for form in forms if form.suffix == ".bin" and is_whole(form)], forms[0])


def _check_digest(source, root):
    """ValueError if the one file whose digest is known is another one."""
    path = root / source.path / source.needed[0] if source.kind == "hub" else root / source.path
    if not source.sha256 or not path.is_file():
        return
    found = sha256(path)
    if not found.startswith(source.sha256):
        raise ValueError(
            f"{path} is not the published file: its sha256 is {found[:16]}..., expected {source.sha256[:16]}...; "
            "delete it and fetch it again"
        )


# ---------------------------------------------------------------- files and Google Drive, through gdown


def download(url: str, path: str | Path, digest: str = "") -> None:
    """Bring the file at `url` to `path`; what an earlier try left (<path>????????.part) is continued.

    digest: sha256 or its beginning; a file that does not match is removed.
    Raises OSError when the server cannot be reached or refuses, ValueError for a wrong file.
    """
    path = Path(path)
    make_folder(path.parent)
    by_hand = f"fetch it in a browser to {path} and run this again"
    arrived = path.with_name(f"{path.name}.arrived")  # so that `path` is there only when it was found right
    try:
        _receive(arrived, url=url)
    except OSError as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status:
            advice = (
                "a login is needed"
                if status in (401, 403)
                else "it was moved or removed"
                if status == 404
                else "try later"
            )
            raise OSError(f"{url} answers {status}: {advice}; or {by_hand}") from error
        raise OSError(
            f"cannot fetch {url} ({_words(error)}); check the connection and run this again, it goes on where it"
            f" stopped; or {by_hand}"
        ) from error
    with open(arrived, "rb") as file:
        is_page = file.read(64).lstrip().lower().startswith((b"<!doctype", b"<html"))
    found = sha256(arrived) if digest and not is_page else ""
    if is_page or not found.startswith(digest):
        arrived.unlink()
        if is_page:
            raise ValueError(f"{url} gave a web page, not a file; {by_hand}")
        raise ValueError(
            f"{url} gave a file with sha256 {found[:16]}..., expected {digest[:16]}...; it was removed; {by_hand}"
        )
    arrived.replace(path)


def _receive(path: Path, **where: str) -> None:
    """gdown's download, with a bar; where: url= or id=.  Raises OSError (its DownloadError too)."""
    gdown = _gdown()
    bar = tqdm(unit="B", unit_scale=True, desc=path.name.removesuffix(".arrived"))

    def show(received: int, total: int | None) -> None:
        bar.total = total
        bar.update(received - bar.n)

    def once() -> None:
        gdown.download(
            output=str(path), quiet=True, use_cookies=False, resume=True, timeout=TIMEOUT, retries=ATTEMPTS - 1,
            progress=show, **where,
        )  # fmt: skip

    parts = list(path.parent.glob(f"{path.name}????????.part"))
    try:
        with bar:
            try:
                once()
            except gdown.exceptions.DownloadError as error:
                if "byte range" not in str(error) or not parts:
                    raise
                for part in parts:  # this server cannot continue, or the part was whole: from the beginning
                    part.unlink(missing_ok=True)
                bar.reset()
                once()
    except gdown.exceptions.FileURLRetrievalError:
        raise
    except gdown.exceptions.DownloadError as error:
        raise OSError(_words(error).partition(". The received bytes")[0].removeprefix("DownloadError: ")) from error


def _gdown() -> Any:
    """The library, 6.5 or later: earlier ones neither try again nor notice a broken range."""
    try:
        import gdown
        import gdown.exceptions
    except ImportError as error:
        raise ImportError('downloads go through gdown: pip install "gdown>=6.5"') from error
    return gdown


def _fetch_drive(source, root):
    archive = root / source.path
    for place in (
        archive,
        *sorted(root.glob(f"{archive.stem} (*{archive.suffix}")),
    ):  # "checkpoints (1).tar", as browsers say
        if place.is_file():
            if _holds(place, source.needed):
                print(f"  unpacking {place}, which lies there", flush=True)
                return unpack(place, root)
            print(f"  {place} lies there, but is not whole: the file is fetched", flush=True)
    by_hand = (
        f"download it in a browser (https://drive.google.com/uc?id={source.url}), put it at {archive} and run this"
        " again: it is unpacked from there"
    )
    gdown, arrived = _gdown(), archive.with_name(f"{archive.name}.arrived")
    try:
        _receive(arrived, id=source.url)
    except gdown.exceptions.FileURLRetrievalError as error:
        raise OSError(
            f"Google Drive does not give the file just now ({_drive_words(error)}); try tomorrow, or {by_hand}"
        ) from error
    except OSError as error:
        raise OSError(
            f"cannot fetch from Google Drive ({_words(error)}); check the connection, or {by_hand}"
        ) from error
    unpack(arrived, root)
    archive.unlink(missing_ok=True)


def _holds(archive, names):
    """Whether a tar can be read to its end and holds all of `names`."""
    try:
        with tarfile.open(archive) as tar:
            return {_place(member) for member in tar.getmembers()}.issuperset(names)
    except (tarfile.TarError, EOFError, OSError):
        return False


def _place(member):
    """Where a member of the archive goes below the folder of checkpoints."""
    return member.name.removeprefix("./").removeprefix("checkpoints/")


def _drive_words(error):
    """What Drive's page said, without gdown's advice around it."""
    text = _words(error)
    return text.partition("url: ")[2].partition(" You may still")[0].removeprefix("FileURLRetrievalError: ") or text


def _words(error: BaseException) -> str:
    """An error's whole message as one line, its type before it."""
    text = " ".join(str(error).split())
    return text if type(error) is OSError and text else f"{type(error).__name__}: {text}".removesuffix(": ")


def unpack(archive: Path, root: Path) -> None:
    """A tar of <name>/... or checkpoints/<name>/... into `root`, then the archive is removed; only plain files inside
    root come out.
    """
    try:
        with tarfile.open(archive) as tar:
            for member in tqdm(tar.getmembers(), f"unpacking {archive.name}"):
                member.name = _place(member)
                if member.isfile() and member.name:
                    tar.extract(member, root, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{archive} is no whole tar file ({_words(error)}); delete it and fetch it again") from error
    archive.unlink()


# ---------------------------------------------------------------- the Hugging Face hub


def _fetch_hub(source, folder, revision):
    """The files that `source` needs, in the best form that the repository has."""
    import huggingface_hub  # comes with diffusers; needed here alone
    from huggingface_hub import errors

    def ask(call: Callable[..., Any], **more: Any) -> Any:
        for attempt in range(ATTEMPTS):
            try:
                return call(source.url, revision=revision or None, **more)
            except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError):
                raise
            except Exception as error:  # httpx's errors of a connection have no common ancestor with the hub's
                status = getattr(getattr(error, "response", None), "status_code", 503)
                if attempt == ATTEMPTS - 1 or (status < 500 and status != 429):
                    raise
                time.sleep(2**attempt * WAIT)
        raise AssertionError("unreachable")

    page, by_hand = f"{ON_THE_HUB}/{source.url}", f"or copy the repository to {folder}"
    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        listed = ask(huggingface_hub.HfApi(endpoint=endpoint).model_info)
        names = choose_files(source, {entry.rfilename for entry in listed.siblings})
        ask(
            huggingface_hub.snapshot_download,
            endpoint=endpoint,
            local_dir=folder,
            allow_patterns=names,
            etag_timeout=TIMEOUT,
        )
    except errors.GatedRepoError as error:
        raise OSError(
            f"{source.url} is gated: accept its licence at {page}, log in with `hf auth login` (or set HF_TOKEN) and"
            f" run this again; {by_hand}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise OSError(
            f"{source.url} no longer has the revision {revision[:12]}; take what is there today with --newest,"
            f" {by_hand}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise OSError(
            f"the hub does not show {source.url}: it was removed or renamed, or wants a login (accept its licence at"
            f" {page}, `hf auth login` or HF_TOKEN); find a copy on the hub, {by_hand}"
        ) from error
    except ValueError:
        raise
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise OSError(
                f"the hub refuses {source.url} ({status}): accept its licence at {page}, log in with `hf auth login`"
                f" (or set HF_TOKEN) and run this again; {by_hand}"
            ) from error
        reason = f"it answers {status}" if status else _words(error.__cause__ or error)
        raise OSError(
            f"cannot fetch {source.url} from the Hugging Face hub ({reason}); check the connection, "
            f"HTTPS_PROXY, and HF_ENDPOINT if a mirror is set; {by_hand}"
        ) from error


WAIT = 1  # s before the second try; doubled for each further one


def choose_files(source: Source, listed: set[str]) -> list[str]:
    """Which of a repository's files to take; ValueError naming what it lacks."""
    chosen, missing = [name for name in source.wanted if name in listed], list[str]()
    for name in source.needed:
        form = next((form for form in alternatives(name) if form in listed), None)
        (missing if form is None else chosen).append(form or name)
    if missing:
        raise ValueError(
            f"{source.url} holds no {', '.join(missing)} (any more); look at {ON_THE_HUB}/{source.url}/tree/main"
        )
    return chosen


# ---------------------------------------------------------------- python -m data.fetch


def listing(root: Path) -> str:
    """One line per source: name, state, size, place, what."""
    rows = []
    for name, source in SOURCES.items():
        left = lacking(source, root)
        started = source.needed and 0 < len(left) < len(source.needed)
        state = "in part" if started else "missing" if left else "here"
        rows.append((name, state, source.size, f"{root / source.path}", source.what))
    return "\n".join(f"{name:19} {state:8} {size:13} {place:45} {what}" for name, state, size, place, what in rows)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = Parser(prog="python -m data.fetch", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"some of: {', '.join((*GROUPS, *SOURCES))}; none: the list")
    parser.add_argument("--to", default="checkpoints", help="folder (default: %(default)s)")
    parser.add_argument("--newest", action="store_true", help="hub repositories as they are today, not as pinned")
    options = parser.parse_args(arguments)
    root, names = Path(options.to), []
    for name in options.names:
        if name not in SOURCES and name not in GROUPS:
            raise ValueError(f"nothing is called {name!r}; choose all or some of {', '.join((*SOURCES, *GROUPS))}")
        for member in GROUPS.get(name, (name,)):
            names += [part for part in (member, *SOURCES[member].companions) if part not in names]
    failed = []
    for name in names:
        print(f"{name}: {SOURCES[name].what}, {SOURCES[name].size}", flush=True)
        try:
            print("  fetched" if fetch(SOURCES[name], root, options.newest) else "  is here already")
        except (OSError, ValueError, ImportError) as error:  # the others may still come
            failed.append(f"{name}: {error}")
    print(listing(root))
    for line in failed:
        print(f"error: {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    run_main(main)
