"""Fréchet video distance between made and true clips (StyleGAN-V's definition), with what it takes to trust the number.

    python evaluate/compute_fvd.py --pred_path results/video-pretrained/test_latest/images \\
        --gt_path dataset/eulerian_data/validation --type fvd_16

Clips are read one after the other; features are kept in --cache by what is in the files, so that a run that was killed
goes on where it stopped and a second one takes seconds. The result is printed as JSON and written to --output.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from text2cinemagraph.data.files import atomic
from text2cinemagraph.evaluate.backbones import load_backbone
from text2cinemagraph.evaluate.clips import DECODERS, FRAMES, MODES, RESIZES, digest_of, pair, read_clip
from text2cinemagraph.evaluate.fvd import Moments, bootstrap_interval, frechet_distance, split_half_floor
from text2cinemagraph.options.cli import Parser, number, run_main
from text2cinemagraph.options.devices import start_line
from text2cinemagraph.options.fields import SEEDS
from text2cinemagraph.options.runtime import make_runtime
from tqdm import tqdm

if TYPE_CHECKING:
    from text2cinemagraph.evaluate.backbones import Backbone
    from text2cinemagraph.evaluate.clips import Pairing


def compute_fvd(
    pairing: Pairing,
    backbone: Backbone,
    kind: str,
    *,
    mode: str = "published",
    cache: str | Path = "",
    batch: int = 8,
    strict: bool = False,
    draws: int = 200,
    seed: int = 0,
) -> dict[str, Any]:
    """The result as a dict: value, interval_95, n, feature_dim, floor (of evaluate.fvd), how it was made, and warnings.

    pairing: of evaluate.clips.   backbone: of evaluate.backbones.   kind: fvd_16 | fvd_60.   mode: published | clean.
    cache: folder for features, "" = none.   batch: clips in one call of the network.   strict: stop at an unreadable
    clip, at one that is too short, or at a missing prediction, instead of going on without it.   draws: of the
    bootstrap.
    """
    if strict and pairing.missing:
        raise ValueError(
            f"{len(pairing.missing)} true clips have no prediction: {_some(pairing.missing)}; make them, or leave out"
            " --strict"
        )
    store = FeatureStore(cache, f"{kind} {mode} {DECODERS[mode]} {backbone.key}")
    skipped, features = {}, {}
    for side, paths in (("real", pairing.real), ("fake", pairing.fake)):
        features[side] = features_of(
            paths, backbone, FRAMES[kind], mode, store=store, batch=batch, strict=strict, skipped=skipped, side=side
        )
    both = [item for item in pairing.real if item in features["real"] and item in features["fake"]]
    if len(both) < 2:
        reason = f"; the first trouble: {next(iter(skipped.values()))}" if skipped else ""
        raise ValueError(f"{len(both)} pairs of clips can be compared, expected 2 or more{reason}")
    real, fake = (np.stack([features[side][item] for item in both]).astype(np.float64) for side in ("real", "fake"))
    value = frechet_distance(*Moments().add(real).gaussian(), *Moments().add(fake).gaussian())
    low, high = bootstrap_interval(real, fake, draws, seed)
    floor = split_half_floor(real, fake, seed=seed)
    return {
        "type": kind,
        "value": value,
        "interval_95": [low, high],
        "n": len(both),
        "feature_dim": real.shape[1],
        "floor": floor,
        "mode": mode,
        "decoder": DECODERS[mode],
        "resize": RESIZES[mode],
        "features": backbone.name,
        "features_key": backbone.key,
        "frames": f"{FRAMES[kind][0]}, {FRAMES[kind][1]}, ..., {FRAMES[kind][-1]}",
        "missing": pairing.missing,
        "surplus": pairing.surplus,
        "skipped": skipped,
        "warnings": _warnings(value, real, floor, pairing, skipped),
    }


def features_of(
    paths: Mapping[str, Path],
    backbone: Backbone,
    frames: range,
    mode: str,
    *,
    store: FeatureStore,
    batch: int,
    strict: bool,
    skipped: dict[str, str],
    side: str,
) -> dict[str, np.ndarray]:
    """{id: [D]} of the clips that can be read; the others go to `skipped` {path: reason}.

    A batch is computed whole unless the store has all of it, so that a continued run gives the same bits as one that
    was left alone.
    """
    items, found, rows = list(paths.items()), {}, None
    for start in tqdm(range(0, len(items), batch), f"{side} clips", unit="batch"):
        made = _batch(dict(items[start : start + batch]), backbone, frames, mode, store, strict, skipped)
        for item, feature in made.items():
            # Rows of one array: small arrays that stay, laid down between large ones that go, would keep the heap from
            # shrinking.
            rows = np.empty((len(items), len(feature)), np.float32) if rows is None else rows
            if len(feature) != rows.shape[1]:
                raise ValueError(
                    f"features of {len(feature)} numbers beside others of {rows.shape[1]}: --cache is damaged; remove"
                    " that folder"
                )
            rows[len(found)] = feature
            found[item] = rows[len(found)]
    return found


def _batch(paths, backbone, frames, mode, store, strict, skipped):
    """{id: [D]} of the readable ones of these clips."""
    digests = {item: digest_of(path, frames) for item, path in paths.items()}
    kept = {item: feature for item in paths if (feature := store.read(digests[item])) is not None}
    clips = _read({item: path for item, path in paths.items() if item not in kept}, frames, mode, strict, skipped)
    if not clips:
        return kept
    clips |= _read({item: paths[item] for item in kept}, frames, mode, strict, skipped)
    order = [item for item in paths if item in clips]
    made = dict(zip(order, backbone.features([clips[item] for item in order])))
    for item, feature in made.items():
        store.write(digests[item], feature)
    return made


def _read(paths, frames, mode, strict, skipped):
    """{id: frames} of the clips that can be read; what cannot goes to `skipped`, or with `strict` stops the run."""
    clips = {}
    for item, path in paths.items():
        try:
            clips[item] = read_clip(path, frames, mode)
        except (ValueError, OSError) as error:
            if strict:
                raise ValueError(f"{error}; leave out --strict to go on without it") from error
            skipped[str(path)] = str(error)
            print(f"skipped: {error}", file=sys.stderr)
    return clips


class FeatureStore:
    """Feature vectors on disk, by the contents of the clip and how it was read; without a folder, nothing is kept."""

    def __init__(self, folder: str | Path, recipe: str) -> None:
        """recipe: everything besides the file that decides about its features."""
        self._folder = Path(folder) / hashlib.sha256(recipe.encode()).hexdigest()[:16] if folder else None

    def read(self, digest: str) -> np.ndarray | None:
        """float32 [D], or None where it is not there, or damaged: then it is made again."""
        path = self._path(digest)
        if path is None or not path.is_file():
            return None
        try:
            kept = np.load(path, allow_pickle=False)
        except (ValueError, EOFError, OSError):
            return None
        # np.load gives an archive for a zip file, whatever its name.
        whole = isinstance(kept, np.ndarray) and kept.dtype == np.float32 and kept.ndim == 1
        return kept if whole and np.isfinite(kept).all() else None

    def write(self, digest: str, feature: np.ndarray) -> None:
        if self._folder is not None:
            with atomic(self._path(digest)) as temporary:
                np.save(temporary, feature)

    def _path(self, digest):
        return self._folder and self._folder / f"{hashlib.sha256(digest.encode()).hexdigest()[:32]}.npy"


def _warnings(value, real, floor, pairing, skipped):
    found, (n, dimension) = [], real.shape
    if n < dimension:
        found.append(
            f"{n} clips for {dimension} features: the covariances are not of full rank and the distance is mostly"
            " sample size; compare only with values of the same n, and with the floor"
        )
    if floor and floor["value_at_n"] <= floor["high"]:
        found.append(
            f"at {floor['n']} clips the predictions are no further from the true clips ({floor['value_at_n']:.1f}) than"
            f" those from each other (up to {floor['high']:.1f})"
        )
    if pairing.missing:
        found.append(f"{len(pairing.missing)} true clips without a prediction: {_some(pairing.missing)}")
    if pairing.surplus:
        found.append(f"{len(pairing.surplus)} predictions without a true clip: {_some(pairing.surplus)}")
    if skipped:
        found.append(f"{len(skipped)} clips were skipped")
    return found


def _some(names):
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def main() -> None:
    """The command line."""
    parser = Parser(prog="evaluate/compute_fvd.py", description=__doc__)
    parser.add_argument("--pred_path", required=True, help="folder of <id>_video.mp4 (or <id>_input_video.mp4)")
    parser.add_argument("--gt_path", required=True, help="folder of <id>_gt.mp4, or of folders <id>_gt with N.png")
    parser.add_argument(
        "--type",
        default="fvd_16",
        choices=tuple(FRAMES),
        help="16 frames, every third; or the first 60 (default: %(default)s)",
    )
    parser.add_argument(
        "--mode", default="published", choices=MODES, help="how frames are brought to 224 px (default: %(default)s)"
    )
    parser.add_argument(
        "--features", default="i3d", help="i3d | torchvision:r3d_18 | a TorchScript file (default: %(default)s)"
    )
    parser.add_argument(
        "--i3d", default="checkpoints/i3d/i3d_torchscript.pt", help="StyleGAN-V's network (default: %(default)s)"
    )
    parser.add_argument(
        "--weights", default="", help="weights file of a torchvision network (default: torchvision's own cache)"
    )
    parser.add_argument(
        "--strict", action="store_true", help="stop at the first clip that is unreadable, too short or missing"
    )
    parser.add_argument(
        "--batch",
        type=number(least=0, most=4096),
        default=0,
        help="clips in one call of the network, 0 = 8 on a GPU and 1 on a CPU",
    )
    parser.add_argument("--device", default="auto", help="auto | cpu | cuda:N (default: %(default)s)")
    parser.add_argument(
        "--cache", default="results/fvd_features", help='folder of features, "" = none (default: %(default)s)'
    )
    parser.add_argument("--output", default="", help="JSON file (default: <pred_path>/<type>_<mode>.json)")
    parser.add_argument(
        "--draws",
        type=number(least=20, most=100_000),
        default=200,
        help="draws of the bootstrap (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=number(least=0, most=SEEDS - 1), default=0, help="of bootstrap and splits (default: %(default)s)"
    )
    options = parser.parse_args()
    pairing = pair(options.gt_path, options.pred_path)
    runtime = make_runtime(options.device, "fp32")
    print(start_line(runtime), file=sys.stderr, flush=True)  # standard output is the JSON
    backbone = load_backbone(options.features, options.i3d, options.weights, runtime.device)
    batch = options.batch or (1 if runtime.device.type == "cpu" else 8)
    result = compute_fvd(
        pairing,
        backbone,
        options.type,
        mode=options.mode,
        cache=options.cache,
        batch=batch,
        strict=options.strict,
        draws=options.draws,
        seed=options.seed,
    )
    result |= {"pred_path": str(options.pred_path), "gt_path": str(options.gt_path), "command": " ".join(sys.argv)}
    output = Path(options.output or Path(options.pred_path) / f"{options.type}_{options.mode}.json")
    with atomic(output) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    for warning in result["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"saved: {output}", file=sys.stderr)


if __name__ == "__main__":
    run_main(main)
