"""Reading the golden files: weights and inputs from numpy recipes, numbers from the original code (SPEC section 0)."""

import functools
import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import torch

from tests.comparison import assert_near

GOLDEN = Path(os.environ.get("T2C_GOLDEN", Path(__file__).parent / "golden"))


@functools.cache
def recipe():
    spec = importlib.util.spec_from_file_location("golden_recipe", GOLDEN / "recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def manifest(name):
    return json.loads((GOLDEN / "manifests" / f"{name}.json").read_text())


def load_golden(name):
    file = np.load(GOLDEN / f"{name}.npz")
    return file, json.loads(str(file["recipe"]))


def evaluate(expression, **names):
    """A recipe expression such as `m=mask(seed,...); concat([image(...), m], 1)` as a tensor."""
    names.update(vars(recipe()), concat=np.concatenate)
    *statements, last = expression.split(";")
    for statement in statements:
        exec(statement.strip(), names)
    return torch.from_numpy(np.asarray(eval(last.strip(), names)))


def load_recipe(net, name, seed):
    """Recipe weights, tensor by tensor (the largest network has 320 million)."""
    own = net.state_dict()
    assert [(e["name"], e["shape"]) for e in manifest(name)] == [(k, list(v.shape)) for k, v in own.items()]
    for entry in manifest(name):
        key = entry["name"]
        if not key.endswith((".weight_u", ".weight_v")):
            own[key].copy_(torch.from_numpy(recipe().tensor(seed, key, entry["shape"], entry["dtype"])))
        if key.endswith(".weight_orig"):
            u, v = recipe().spectral_uv(seed, key, own[key].numpy())
            own[key[:-4] + "u"].copy_(torch.from_numpy(u))
            own[key[:-4] + "v"].copy_(torch.from_numpy(v))
    return net.eval()


def windows(value, height, width, step=8):
    """Every window of that size, on a grid of `step` (where a crop lies is not in the files)."""
    for y in range(0, value.shape[-2] - height + 1, step):
        for x in range(0, value.shape[-1] - width + 1, step):
            yield value[..., y : y + height, x : x + width]


def stride_of(file, key):
    """The step of `<key>.stride<step>` and that array."""
    (name,) = (name for name in file.files if name.startswith(f"{key}.stride"))
    return int(name.rsplit("stride", 1)[1]), file[name]


def check(file, key, value, within=1e-4):
    """Compare a tensor with everything the golden file keeps of it; within: as in assert_near."""
    value, compared = value.detach().numpy(), 0
    for name in file.files:
        if not name.startswith(key + "."):
            continue
        kind, expected = name[len(key) + 1 :], file[name]
        if kind == "shape":
            assert list(value.shape) == list(expected), name
        elif kind.startswith("stride"):
            step = int(kind[6:])
            assert_near(value[..., ::step, ::step], expected, within, message=name)
        elif kind == "crop":
            off = min(np.abs(window - expected).max() for window in windows(value, *expected.shape[-2:]))
            assert off <= within * np.abs(expected).max(), name
        elif kind == "summary":
            assert_near(recipe().summary(value), expected, within, message=name)
        elif kind == "channel_mean":
            assert np.abs(value.mean((0, 2, 3)) - expected).max() <= within * np.abs(value).max(), name
        else:
            raise AssertionError(f"{name}: nothing here compares a {kind}")
        compared += 1
    assert compared, f"the golden file has nothing called {key}"
