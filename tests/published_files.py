"""Published files made small: sd-v1-4-full-ema.ckpt, diffusers folders, a server that plays hub and Drive."""

import json
import pickletools
import shutil
import sys
import threading
import types
import zipfile
from collections import Counter, OrderedDict
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

MINI = Path(__file__).parents[1] / "checkpoints" / "mini" / "diffusion"

# Every name in the pickle of sd-v1-4-full-ema.ckpt, but for the storages of other types.
NAMES_IN_FULL_EMA = {
    "_codecs.encode",
    "collections.OrderedDict",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "torch.FloatStorage",
    "torch._utils._rebuild_tensor_v2",
}


def save_full_ema(path, tensors, numpy_core="numpy.core"):
    """Write float32 `tensors` beside a training's bookkeeping that names exactly NAMES_IN_FULL_EMA.

    numpy_core: "numpy.core", as NumPy 1 writes its scalars, or "numpy._core", as NumPy 2 does.
    """
    names = ["pytorch_lightning", "pytorch_lightning.callbacks", "pytorch_lightning.callbacks.model_checkpoint"]
    sys.modules.update({name: types.ModuleType(name) for name in names})
    kind = sys.modules[names[-1]].ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": names[-1]})
    best = {"monitor": "val/loss_simple_ema", "best_model_score": np.float64(0.25), "current_score": np.float64(0.5)}
    content = {"epoch": 0, "state_dict": OrderedDict(tensors), "callbacks": {kind: best}, "lr_schedulers": []}
    try:
        torch.save(content, path)
    finally:
        for name in names:
            del sys.modules[name]
    for core in ("numpy._core", "numpy.core"):
        rewrite_pickle(path, f"c{core}.multiarray\n", f"c{numpy_core}.multiarray\n")


def rewrite_pickle(path, old, new):
    """Replace text in the pickle of a torch file."""
    with zipfile.ZipFile(path) as archive:
        records = {entry.split("/", 1)[1]: archive.read(entry) for entry in archive.namelist()}
    records["data.pkl"] = records["data.pkl"].replace(old.encode(), new.encode())
    writer = torch._C.PyTorchFileWriter(str(path))
    for name, data in records.items():
        if not name.startswith(".") and name != "version":  # the writer makes these itself
            writer.write_record(name, data, len(data))
    writer.write_end_of_file()


def names_in(path):
    """What the pickle of a torch file names."""
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read(next(entry for entry in archive.namelist() if entry.endswith("/data.pkl")))
    return {value.replace(" ", ".") for code, value, _ in pickletools.genops(pickled) if code.name == "GLOBAL"}


def save_weights(model, folder, form, stem="diffusion_pytorch_model"):
    """A network as the hub's folders of 2022 hold it.  form: safetensors | fp16.safetensors | bin | fp16.bin."""
    folder.mkdir(parents=True, exist_ok=True)
    (model.config.to_json_file(folder / "config.json") if stem == "model" else model.save_config(folder))
    state = {}
    for name, tensor in model.state_dict().items():
        if stem == "model":
            name = f"text_model.{name.removeprefix('text_model.')}"
        elif "downsample" not in name and "mid_block.attentions" in name and isinstance(model, AutoencoderKL):
            for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
                name = name.replace(new, old)
        state[name] = (tensor.half() if "fp16" in form else tensor).contiguous().clone()
    if stem == "model":
        state["text_model.embeddings.position_ids"] = torch.arange(model.config.max_position_embeddings)[None]
        stem = "pytorch_model" if form.endswith("bin") else stem
    path = folder / f"{stem}.{form}"
    torch.save(state, path) if form.endswith("bin") else save_file(state, path, metadata={"format": "pt"})


def save_stable_diffusion(folder, form="safetensors"):
    """A tiny Stable Diffusion 1.x with random weights, named as in CompVis' folders. Returns its U-Net."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=32,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    text = CLIPTextConfig(hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4)
    save_weights(unet, folder / "unet", form)
    save_weights(AutoencoderKL(block_out_channels=(32,)), folder / "vae", form)
    save_weights(CLIPTextModel(text), folder / "text_encoder", form, "model")
    shutil.copytree(MINI / "tokenizer", folder / "tokenizer")
    (folder / "scheduler").mkdir()
    scheduler = {
        "_class_name": "PNDMScheduler",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
    }
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    return unet


class Published(BaseHTTPRequestHandler):
    """Plain files, Google Drive and the Hugging Face hub.

    files: {path: bytes}.   repositories: {name: {file: bytes} or an error: "gated", "removed", "login", "down"}.
    revisions: {name: commit}.   drive: {id: bytes, or the text of its quota page}.
    ranges: "honoured" | "ignored" | "wrong".   breaks: answers that end after 600 KB, counted down.
    """

    files, repositories, revisions, drive, ranges, breaks, seen = {}, {}, {}, {}, "honoured", 0, Counter()

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body=True):
        path = urlsplit(self.path).path
        type(self).seen[path] += 1
        if path.startswith("/api/models/"):
            return self._repository(path.removeprefix("/api/models/"))
        if "/resolve/" in path:
            name, rest = path[1:].split("/resolve/")
            commit, file = rest.split("/", 1)
            return self._send(
                self.repositories[name][file], body, {"X-Repo-Commit": commit, "ETag": f'"{abs(hash(file))}"'}
            )
        if path == "/uc":  # Drive
            found = self.drive.get(self.path.split("id=")[1].split("&")[0])
            if isinstance(found, bytes):
                return self._send(found, body, {"Content-Disposition": 'attachment; filename="checkpoints.tar"'})
            return self._send((found or "<html>nothing</html>").encode(), body, {"Content-Type": "text/html"})
        if path not in self.files:
            return self.send_error(int(path[1:]) if path[1:].isdigit() else 404)
        return self._send(self.files[path], body)

    def _repository(self, rest):
        name, _, tree = rest.partition("/tree/")
        name, _, revision = name.partition("/revision/")
        found, commit = self.repositories.get(name, "removed"), self.revisions.get(name, "c" * 40)
        refusals = {
            "gated": (403, "GatedRepo"),
            "removed": (404, "RepoNotFound"),
            "login": (401, ""),
            "down": (503, ""),
        }
        status, code = refusals[found] if isinstance(found, str) else (200, "")
        if status == 200 and revision not in ("", "main", commit):
            status, code = 404, "RevisionNotFound"
        if status != 200:
            return self._send(b"{}", True, {"X-Error-Code": code} if code else {}, status)
        listed = {"id": name, "sha": commit, "siblings": [{"rfilename": file} for file in found]}
        if tree:
            listed = [{"type": "file", "path": file, "size": len(found[file]), "oid": "0" * 40} for file in found]
        return self._send(json.dumps(listed).encode(), True, {"Content-Type": "application/json"})

    def _send(self, content, body, headers=None, status=200):
        asked = self.headers.get("Range", "")
        start = int(asked.split("=")[1].split("-")[0]) if asked and self.ranges != "ignored" and status == 200 else 0
        if start:
            if start >= len(content):
                return self.send_error(416)
            status, first = 206, start if self.ranges == "honoured" else 0
            headers = {**(headers or {}), "Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"}
            content = content[first:]
        self.send_response(status)
        for key, value in {"Content-Type": "application/octet-stream", **(headers or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body and self.breaks > 0:
            type(self).breaks -= 1
            content = content[:600_000]
        if body:
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def playing(**what):
    """(address, the Handler class that counts what was asked) of a running server with attributes of Published."""
    handler = type("Playing", (Published,), {"seen": Counter(), **what})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{running.server_port}", handler
        finally:
            running.shutdown()
