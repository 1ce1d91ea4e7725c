"""Fetching against a local server that plays files, Drive and the hub: whole, or one sentence with the next step."""

import hashlib
import io
import json
import sys
import tarfile
from dataclasses import replace

import gdown  # noqa: F401  its modules are patched
import pytest
import requests
import torch
from safetensors.torch import load_file, save
from text2cinemagraph.data.checkpoint import is_whole
from text2cinemagraph.data.fetch import GROUPS, SOURCES, Source, choose_files, download, fetch, lacking, main, unpack

from tests.published_files import playing

CONTENT = bytes(range(256)) * 12000  # 3 MB; gdown counts in pieces of 512 KB
DIGEST = hashlib.sha256(CONTENT).hexdigest()
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr("text2cinemagraph.data.fetch.WAIT", 0)
    monkeypatch.setattr(sys.modules["gdown.download"].random, "uniform", lambda *_: 0)


@pytest.fixture
def served(monkeypatch):
    """served(**what) -> the address; the hub and Drive are there, too."""
    running = []

    def start(**what):
        context = playing(**what)
        address, handler = context.__enter__()
        running.append(context)
        monkeypatch.setenv("HF_ENDPOINT", address)
        send = requests.Session.send

        def to_us(session, request, **more):
            request.url = request.url.replace("https://drive.google.com", address)
            return send(session, request, **more)

        monkeypatch.setattr(requests.Session, "send", to_us)
        return address, handler

    yield start
    for context in running:
        context.__exit__(None, None, None)


def said(call, kind=OSError):
    """The error's text, which is one line."""
    with pytest.raises(kind) as error:
        call()
    text = str(error.value)
    assert "\n" not in text and len(text) < 400, text
    return text


# ---------------------------------------------------------------- plain files
def test_a_file_comes_whole_and_checked(served, tmp_path):
    address, _ = served(files={"/w.pth": CONTENT})
    download(f"{address}/w.pth", tmp_path / "a" / "weights.pth", DIGEST[:8])
    assert (tmp_path / "a" / "weights.pth").read_bytes() == CONTENT
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["weights.pth"]


def test_a_connection_that_breaks_is_taken_up_again_in_the_same_run(served, tmp_path):
    address, handler = served(files={"/w.pth": CONTENT}, breaks=2)
    download(f"{address}/w.pth", tmp_path / "w.pth", DIGEST)
    assert (tmp_path / "w.pth").read_bytes() == CONTENT and handler.seen["/w.pth"] == 3


@pytest.mark.parametrize("ranges", ["honoured", "ignored", "wrong"])
def test_an_interrupted_download_goes_on_or_begins_again_but_is_never_patched_wrongly(served, tmp_path, ranges):
    address, handler = served(files={"/w.pth": CONTENT}, breaks=100)
    assert "goes on where it stopped" in said(lambda: download(f"{address}/w.pth", tmp_path / "w.pth", DIGEST))
    assert list(tmp_path.glob("*.part")) and not (tmp_path / "w.pth").exists()
    handler.breaks, handler.ranges = 0, ranges
    download(f"{address}/w.pth", tmp_path / "w.pth", DIGEST)
    assert (tmp_path / "w.pth").read_bytes() == CONTENT and [p.name for p in tmp_path.iterdir()] == ["w.pth"]


def test_a_part_that_was_whole_already_is_no_dead_end(served, tmp_path):
    address, _ = served(files={"/w.pth": CONTENT})
    (tmp_path / "w.pth.arrivedabcdefgh.part").write_bytes(CONTENT)
    download(f"{address}/w.pth", tmp_path / "w.pth", DIGEST)
    assert (tmp_path / "w.pth").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "content, digest, word", [(CONTENT, "00" * 32, "sha256"), (b"<!DOCTYPE html>x", "", "web page")]
)
def test_a_wrong_file_is_refused_and_removed(served, tmp_path, content, digest, word):
    address, _ = served(files={"/w.pth": content})
    assert word in said(lambda: download(f"{address}/w.pth", tmp_path / "w.pth", digest), ValueError)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("status, word", [(401, "login"), (404, "moved or removed"), (500, "try later")])
def test_a_server_that_refuses_is_said_with_the_next_step(served, tmp_path, status, word):
    address, _ = served()
    text = said(lambda: download(f"{address}/{status}", tmp_path / "w.pth"))
    assert f"answers {status}" in text and word in text and f"in a browser to {tmp_path / 'w.pth'}" in text


def test_no_route_is_said_and_the_command_ends_with_1(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(SOURCES, "i3d", replace(SOURCES["i3d"], url="http://127.0.0.1:9/x"))
    assert main(["i3d", "--to", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "error: i3d: cannot fetch" in captured.err and "check the connection" in captured.err
    assert "missing" in captured.out


def test_the_i3d_file_is_checked_against_its_public_sha256(tmp_path):
    (tmp_path / "i3d").mkdir()
    (tmp_path / "i3d" / "i3d_torchscript.pt").write_bytes(CONTENT)
    assert "expected bec6519f66ea534e" in said(lambda: fetch(SOURCES["i3d"], tmp_path), ValueError)


# ---------------------------------------------------------------- Google Drive
def authors_tar():
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in SOURCES["authors"].needed:
            info = tarfile.TarInfo(f"./checkpoints/{name}")
            info.size = 4
            tar.addfile(info, io.BytesIO(b"data"))
    return archive.getvalue()


QUOTA = """<html><head><title>Google Drive - Quota exceeded</title></head><body><div class="uc-main">
<p class="uc-error-caption">Sorry, you can't view or download this file at this time.</p>
<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently.</p></body></html>"""


def test_the_authors_tar_comes_from_drive_and_is_unpacked_where_the_configs_look(served, tmp_path):
    source = SOURCES["authors"]
    served(drive={source.url: authors_tar()})
    assert fetch(source, tmp_path) and not lacking(source, tmp_path) and not fetch(source, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(name.split("/")[0] for name in source.needed)


def test_drives_quota_page_is_told_with_all_that_can_be_done(served, tmp_path):
    source = SOURCES["authors"]
    served(drive={source.url: QUOTA})
    text = said(lambda: fetch(source, tmp_path))
    assert "Too many users have viewed or downloaded this file recently" in text and "tomorrow" in text
    assert f"https://drive.google.com/uc?id={source.url}" in text and str(tmp_path / "checkpoints.tar") in text


@pytest.mark.parametrize("name", ["checkpoints.tar", "checkpoints (1).tar"])
def test_an_archive_that_lies_there_is_used_and_nobody_is_asked(served, tmp_path, name):
    source = SOURCES["authors"]
    _, handler = served(drive={source.url: QUOTA})
    (tmp_path / name).write_bytes(authors_tar())
    assert fetch(source, tmp_path) and not lacking(source, tmp_path) and not handler.seen


def test_half_an_archive_that_lies_there_is_fetched_again(served, tmp_path, capsys):
    source = SOURCES["authors"]
    served(drive={source.url: authors_tar()})
    (tmp_path / "checkpoints.tar").write_bytes(authors_tar()[:700])
    assert fetch(source, tmp_path) and "not whole" in capsys.readouterr().out
    assert not list(tmp_path.glob("checkpoints*"))


def test_a_tar_cannot_write_elsewhere_and_a_broken_one_is_told(tmp_path):
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        info = tarfile.TarInfo("../outside.txt")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(ValueError, match="evil.tar"):
        unpack(tmp_path / "evil.tar", tmp_path / "in")
    assert not (tmp_path / "outside.txt").exists()
    (tmp_path / "half.tar").write_bytes(b"no tar at all")
    with pytest.raises(ValueError, match="delete it and fetch it again"):
        unpack(tmp_path / "half.tar", tmp_path / "in")


# ---------------------------------------------------------------- the hub
WEIGHTS = {"w": torch.arange(300.0), "position_ids": torch.arange(7)}


def pickled(tensors=None):
    """The bytes that torch.save writes."""
    file = io.BytesIO()
    torch.save(tensors or WEIGHTS, file)
    return file.getvalue()


def repository(source, form="safetensors"):
    """{file: bytes} of all that a source needs, its weights in one of the published forms."""
    files = {}
    for name in source.needed:
        stem = name.removesuffix(".safetensors")
        if stem == name:
            files[name] = b"{}"
        elif form == "bin":
            files[stem.replace("/model", "/pytorch_model") if "/" in stem else "pytorch_model"] = pickled()
        else:
            files[f"{stem}.{form}"] = save(WEIGHTS)
    return {f"{name}.bin" if content[:2] == b"PK" else name: content for name, content in files.items()}


@pytest.mark.parametrize("name", ["odise-diffusion", "odise-clip", "segmenter", "stable-diffusion"])
@pytest.mark.parametrize("form", ["safetensors", "fp16.safetensors", "bin"])
def test_a_repository_comes_in_whichever_form_it_has_and_pickles_become_safetensors_once(served, tmp_path, name, form):
    source = SOURCES[name]
    files = {**repository(source, form), "tf_model.h5": b"not wanted", "safety_checker/pytorch_model.bin": b"nor this"}
    _, handler = served(repositories={source.url: files}, revisions={source.url: source.revision or "c" * 40})
    assert fetch(source, tmp_path) and lacking(source, tmp_path) == []
    here = {str(p.relative_to(tmp_path / source.path)) for p in (tmp_path / source.path).rglob("*") if p.is_file()}
    here = {file for file in here if not file.startswith(".cache")}
    expected = (
        {file.replace(".safetensors", f".{form}") for file in source.needed} if "fp16" in form else set(source.needed)
    )
    assert here == expected
    weights = next(p for p in (tmp_path / source.path).rglob("*.safetensors"))
    assert {key: tensor.tolist() for key, tensor in load_file(weights).items()} == {
        k: v.tolist() for k, v in WEIGHTS.items()
    }
    handler.seen.clear()
    assert not fetch(source, tmp_path) and not handler.seen


def test_plain_safetensors_are_preferred():
    source = SOURCES["odise-clip"]
    everything = {*source.needed, "pytorch_model.bin", "model.fp16.safetensors", "tf_model.h5"}
    assert set(choose_files(source, everything)) == set(source.needed)
    assert "holds no vocab.json" in said(lambda: choose_files(source, everything - {"vocab.json"}), ValueError)


def test_code_in_a_fetched_pickle_is_refused(served, tmp_path):
    source = SOURCES["odise-clip"]
    evil = io.BytesIO()
    torch.save({"w": torch.ones(1), "b": print}, evil)
    files = {**repository(source, "bin"), "pytorch_model.bin": evil.getvalue()}
    served(repositories={source.url: files}, revisions={source.url: source.revision})
    assert "more than tensors" in said(lambda: fetch(source, tmp_path), ValueError)
    assert "model.safetensors" in lacking(source, tmp_path)


@pytest.mark.parametrize("damage", ["pointer", "short", "empty"])
def test_pointers_and_halves_are_not_taken_for_the_file(served, tmp_path, damage):
    source, whole = SOURCES["odise-clip"], save(WEIGHTS)
    bad = {"pointer": POINTER, "short": whole[:-5], "empty": b""}[damage]
    folder = tmp_path / source.path
    folder.mkdir(parents=True)
    for name, content in repository(source).items():
        (folder / name).write_bytes(bad if name == "model.safetensors" else content)
    assert lacking(source, tmp_path) == ["model.safetensors"]
    served(repositories={source.url: repository(source)}, revisions={source.url: source.revision})
    assert fetch(source, tmp_path) and (folder / "model.safetensors").read_bytes() == whole


@pytest.mark.parametrize(
    "state, words",
    [
        ("gated", ["is gated: accept its licence at https://huggingface.co/CompVis/stable-diffusion-v1-3", "HF_TOKEN"]),
        ("removed", ["removed or renamed", "copy the repository to"]),
        ("login", ["accept its licence", "hf auth login"]),
        ("down", ["cannot fetch", "503", "check the connection", "HF_ENDPOINT"]),
    ],
)
def test_a_repository_that_does_not_come_is_told_with_the_next_step(served, tmp_path, state, words):
    source = SOURCES["odise-diffusion"]
    served(repositories={source.url: state})
    text = said(lambda: fetch(source, tmp_path))
    assert all(word in text for word in words) and str(tmp_path / source.path) in text, text


def test_no_route_to_the_hub_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    text = said(lambda: fetch(SOURCES["odise-clip"], tmp_path))
    assert "cannot fetch openai/clip-vit-large-patch14-336" in text and "copy the repository to" in text


def test_a_pinned_revision_that_is_gone_is_told_and_newest_takes_todays(served, tmp_path):
    source = SOURCES["odise-clip"]
    served(repositories={source.url: repository(source)}, revisions={source.url: "d" * 40})
    assert "--newest" in said(lambda: fetch(source, tmp_path))
    assert fetch(source, tmp_path, newest=True)


def test_a_repository_without_a_needed_file_is_told(served, tmp_path):
    source = SOURCES["odise-clip"]
    files = repository(source)
    del files["merges.txt"]
    served(repositories={source.url: files}, revisions={source.url: source.revision})
    assert "holds no merges.txt" in said(lambda: fetch(source, tmp_path), ValueError)


def test_the_full_checkpoint_is_checked_and_brings_its_tokenizer(served, tmp_path, capsys, monkeypatch):
    full, words, weights = SOURCES["sd-v1-4-full-ema"], SOURCES["clip-tokenizer"], pickled()
    served(repositories={full.url: {"sd-v1-4-full-ema.ckpt": weights}, words.url: repository(words)})
    assert main(["sd-v1-4-full-ema", "--to", str(tmp_path)]) == 1  # not the published file
    assert "is not the published file" in capsys.readouterr().err
    monkeypatch.setitem(SOURCES, "sd-v1-4-full-ema", replace(full, sha256=hashlib.sha256(weights).hexdigest()))
    assert main(["sd-v1-4-full-ema", "--to", str(tmp_path)]) == 0
    folder = tmp_path / "stable-diffusion-v1-4-original"
    assert is_whole(folder / "sd-v1-4-full-ema.ckpt") and (folder / "tokenizer" / "vocab.json").is_file()


# ---------------------------------------------------------------- the command
def test_unknown_names_are_told_and_no_names_list(tmp_path, capsys):
    with pytest.raises(ValueError, match="choose all or some of stable-diffusion"):
        main(["stable-difusion"])
    assert main(["--to", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in SOURCES)
    assert "odise" not in GROUPS["all"] and {"segmenter", "authors", "stable-diffusion"} <= set(GROUPS["all"])


def test_a_fetch_in_part_is_listed_as_such(tmp_path, capsys):
    folder = tmp_path / SOURCES["odise-clip"].path
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({}))
    main(["--to", str(tmp_path)])
    assert next(line for line in capsys.readouterr().out.splitlines() if line.startswith("odise-clip")).split()[
        1:3
    ] == ["in", "part"]


def test_the_captions_come_from_the_authors_repository_at_one_commit(served, tmp_path, monkeypatch):
    address, _ = served(files={f"/{split}.txt": b"a/b:a river\n" for split in ("train", "validation")})
    for split in ("train", "validation"):
        source = SOURCES[f"captions-{split}"]
        assert source.kind == "file" and "/9f6ef67dfb38b250418d2ef9028dbc339c19c509/dataset/captions/" in source.url
        monkeypatch.setitem(SOURCES, f"captions-{split}", replace(source, url=f"{address}/{split}.txt"))
    assert main(["captions", "--to", str(tmp_path / "checkpoints")]) == 0
    assert (tmp_path / "dataset/captions/file2captions-eularian-train-blip2-20-15.txt").read_text() == "a/b:a river\n"


def test_every_source_of_the_hub_names_weights_and_what_describes_them():
    for name, source in SOURCES.items():
        if source.kind == "hub" and name not in ("sd-v1-4-full-ema", "clip-tokenizer"):
            assert any(file.endswith(".safetensors") for file in source.needed), name
            assert any(file.endswith("config.json") for file in source.needed), name
    assert isinstance(SOURCES["i3d"], Source)
