"""Weights and their card: what is saved is read, and everything wrong with a file is said in one line."""

import builtins
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from text2cinemagraph.data.checkpoint import (
    convert,
    load_weights,
    network_of,
    read_checkpoint,
    read_tensors,
    save_checkpoint,
)
from torch import nn

from tests.golden_numbers import manifest
from tests.published_files import NAMES_IN_FULL_EMA, names_in, rewrite_pickle, save_full_ema


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def same(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(one[k], other[k]) and one[k].dtype == other[k].dtype for k in one
    )


@pytest.fixture
def saved(tmp_path):
    net = small_net()
    save_checkpoint(tmp_path / "latest_net_G.safetensors", net.state_dict(), {"options": {"netG": "small"}})
    return tmp_path, net


def refused(call, *words):
    """The one-line message of the error that `call` raises."""
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        call()
    text = str(error.value)
    assert "\n" not in text and all(word in text for word in words), text
    return text


def test_round_trip_with_card(saved):
    folder, net = saved
    for source in (folder, folder / "latest_net_G.safetensors"):
        state_dict, card = read_checkpoint(source)
        assert same(state_dict, net.state_dict())
        assert card["options"] == {"netG": "small"} and len(card["sha256"]) == 64 and card["parameters"] == 129
    assert sorted(p.name for p in folder.iterdir()) == ["latest_net_G.json", "latest_net_G.safetensors"]


def test_half_storage_comes_back_as_float32(tmp_path):
    net = small_net()
    save_checkpoint(tmp_path / "latest_net_G.safetensors", net.state_dict(), {}, half=True)
    state_dict, _ = read_checkpoint(tmp_path)
    assert all(t.dtype == net.state_dict()[k].dtype for k, t in state_dict.items())
    assert torch.equal(state_dict["0.weight"], net.state_dict()["0.weight"].half().float())
    refused(lambda: save_checkpoint(tmp_path / "b.safetensors", {"a": torch.tensor([1e6])}, {}, half=True), "too large")
    assert not (tmp_path / "b.safetensors").exists() and not (tmp_path / "b.json").exists()


def test_shared_and_strided_tensors_are_saved(tmp_path):
    base = torch.arange(6.0).reshape(2, 3)
    save_checkpoint(tmp_path / "a.safetensors", {"a": base, "b": base, "c": base.T}, {})
    state_dict, _ = read_checkpoint(tmp_path / "a.safetensors")
    assert torch.equal(state_dict["c"], base.T) and torch.equal(state_dict["b"], base)


def test_safetensors_are_preferred_and_pth_is_read(saved):
    folder, net = saved
    torch.save({"other": torch.ones(1)}, folder / "latest_net_G.pth")
    assert "0.weight" in read_checkpoint(folder)[0]
    torch.save(net.state_dict(), folder / "25_net_G.pth")
    state_dict, card = read_checkpoint(folder, "25")
    assert same(state_dict, net.state_dict()) and card is None


def test_missing_files_say_what_to_fetch(saved, tmp_path):
    refused(
        lambda: read_checkpoint(tmp_path / "motion-pretrained"),
        "motion-pretrained",
        "data.fetch authors",
        "checkpoints/<name>/latest_net_G.pth",
    )
    refused(lambda: read_checkpoint(saved[0], "200"), "200_net_G", "it holds: latest")
    (tmp_path / "empty").mkdir()
    refused(lambda: read_checkpoint(tmp_path / "empty"), "latest_net_G.pth", "data.fetch authors")


def test_a_changed_file_or_card_is_noticed(saved):
    folder, _ = saved
    weights = folder / "latest_net_G.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    refused(lambda: read_checkpoint(folder), "sha256")
    (folder / "latest_net_G.json").write_text("{")
    refused(lambda: read_checkpoint(folder), "latest_net_G.json", "damaged")


class Exploit:
    def __reduce__(self):
        return os.mkdir, ("/tmp/t2c_checkpoint_exploit_never_made",)


def test_code_in_a_pth_never_runs(tmp_path):
    for value in (Exploit(), {"a": torch.ones(1), "b": Exploit()}):
        for new in (True, False):
            torch.save(value, tmp_path / "latest_net_G.pth", _use_new_zipfile_serialization=new)
            refused(lambda: read_checkpoint(tmp_path), "more than tensors")
    assert not Path("/tmp/t2c_checkpoint_exploit_never_made").exists()


@pytest.mark.parametrize("name", ["latest_net_G.safetensors", "latest_net_G.pth"])
def test_damaged_files_give_one_line(saved, name):
    folder, net = saved
    torch.save(net.state_dict(), folder / "latest_net_G.pth")
    data = (folder / name).read_bytes()
    for bad in (b"", data[:5], data[: len(data) // 2], data[:-1], b"<!DOCTYPE html>" * 30):
        (folder / f"bad{Path(name).suffix}").write_bytes(bad)
        refused(lambda: read_checkpoint(folder / f"bad{Path(name).suffix}"), "bad", "truncated")
    (folder / "bad.pth").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    refused(lambda: read_checkpoint(folder / "bad.pth"), "git lfs pull")
    torch.save([1, 2], folder / "bad.pth")
    refused(lambda: read_checkpoint(folder / "bad.pth"), "state dict")


# ---------------------------------------------------------------- loading
def test_load_is_exact_and_all_or_nothing():
    source, target = small_net(), nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    load_weights(target, source.state_dict(), "a file")
    assert same(target.state_dict(), source.state_dict())
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    other = {name: tensor + 1 for name, tensor in source.state_dict().items()}
    del other["1.running_mean"]
    text = refused(lambda: load_weights(target, other, "a file"), "a file", "1 missing (1.running_mean)")
    assert "unexpected" not in text and same(target.state_dict(), before)


def test_the_likely_cause_is_named():
    net = small_net()
    state = net.state_dict()
    refused(lambda: load_weights(net, {f"model_ema.{k}": v for k, v in state.items()}, "x"), "EMA")
    refused(lambda: load_weights(net, {"encoder.gblocks.0.a": torch.ones(1)}, "x"), "spadeunet4softmaxsplating")
    wide = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    refused(
        lambda: load_weights(net, wide.state_dict(), "x"),
        "of another shape",
        "(8, 3, 3, 3) for (4, 3, 3, 3)",
        "input_nc",
    )
    refused(lambda: load_weights(net, {**state, "0.bias": torch.full((4,), float("nan"))}, "x"), "NaN")


@pytest.mark.golden
@pytest.mark.parametrize(
    "file, network",
    [
        ("netG_spadexattnunetsd", "spadexattnunetsd"),
        ("netG_spadeunet", "spadeunet"),
        ("netG_spadeunet4softmaxsplating", "spadeunet4softmaxsplating"),
        ("netD_video", "a discriminator"),
    ],
)
def test_networks_are_known_by_their_names(file, network):
    assert network_of([entry["name"] for entry in manifest(file)]) == network


# ---------------------------------------------------------------- convert
def motion_like():
    return {
        "conv1.weight_orig": torch.randn(32, 6, 4, 4),
        "conv1.bias": torch.randn(32),
        "spade_layer8_0.x": torch.randn(2),
    }


def test_convert_reads_the_options_off_the_tensors(tmp_path):
    state = motion_like()
    torch.save({f"module.{k}": v for k, v in state.items()}, tmp_path / "latest_net_G.pth")
    path = convert(tmp_path / "latest_net_G.pth", tmp_path / "out")
    assert path == tmp_path / "out" / "latest_net_G.safetensors"
    found, card = read_checkpoint(tmp_path / "out")
    assert same(found, state)
    assert card["options"] == {"netG": "spadeunet", "input_nc": 6, "nf": 32, "norm": "spectral_instance"}
    refused(lambda: convert(tmp_path / "latest_net_G.pth", tmp_path / "x", "spadexattnunetsd"), "--netG", "spadeunet")


def test_convert_command(tmp_path):
    torch.save(motion_like(), tmp_path / "latest_net_G.pth")
    command = [sys.executable, "-m", "data.checkpoint", "convert"]
    done = subprocess.run(
        [*command, str(tmp_path), str(tmp_path / "a.safetensors"), "--netG", "spadeunet", "--half"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0 and done.stdout.strip().endswith("a.safetensors"), done.stderr


# ---------------------------------------------------------------- Lightning's .ckpt, as sd-v1-4-full-ema.ckpt is
@pytest.mark.parametrize("numpy_core", ["numpy.core", "numpy._core"])
def test_the_published_sd_v1_4_full_ema_is_opened_and_nothing_in_it_is_called(tmp_path, numpy_core, monkeypatch):
    path, tensors = tmp_path / "sd-v1-4-full-ema.ckpt", small_net().state_dict()
    tensors.pop("1.num_batches_tracked")  # the published file holds a LongStorage too; its name is torch's own
    save_full_ema(path, tensors, numpy_core)
    assert names_in(path) == {name.replace("numpy.core", numpy_core) for name in NAMES_IN_FULL_EMA}
    imported = []
    monkeypatch.setattr("builtins.__import__", recording(builtins.__import__, imported))
    found = read_tensors(path)
    monkeypatch.undo()
    assert same(found, tensors)
    assert not [name for name in imported if name.startswith(("pytorch_lightning", "numpy.core"))]


def recording(original, names):
    def record(name, *rest, **more):
        names.append(name)
        return original(name, *rest, **more)

    return record


def test_hyperparameters_and_the_form_before_zip_are_opened_too(tmp_path):
    state = {"w": torch.arange(3.0)}
    sys.modules["pytorch_lightning"] = module = types.ModuleType("pytorch_lightning")
    module.AttributeDict = type("AttributeDict", (dict,), {"__module__": "pytorch_lightning"})
    try:
        given = module.AttributeDict(lr=np.float32(1e-4))
        given.note = "kept beside"
        torch.save({"state_dict": state, "hyper_parameters": given}, tmp_path / "a.ckpt")
    finally:
        del sys.modules["pytorch_lightning"]
    assert same(read_tensors(tmp_path / "a.ckpt"), state)
    torch.save({"state_dict": state, "best": np.float64(1)}, tmp_path / "b.ckpt", _use_new_zipfile_serialization=False)
    assert same(read_tensors(tmp_path / "b.ckpt"), state)


@pytest.mark.parametrize(
    "name", ["os.system", "builtins.eval", "numpy.load", "pytorch_lightning_evil.run", "torch.load"]
)
def test_a_hostile_ckpt_is_still_refused(tmp_path, name):
    path = tmp_path / "evil.ckpt"
    save_full_ema(path, {"w": torch.ones(1)})
    rewrite_pickle(path, "cnumpy.core.multiarray\nscalar\n", "c{}\n{}\n".format(*name.rsplit(".", 1)))
    assert name in names_in(path)
    refused(lambda: read_tensors(path), "more than tensors")
