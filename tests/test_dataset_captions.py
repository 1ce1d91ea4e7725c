"""Captions by a captioner of random weights: the file, resuming, broken pictures, a missing model."""

import sys
import threading

import pytest
import torch
from text2cinemagraph.data.datasets import read_captions
from text2cinemagraph.data.media import write_image
from text2cinemagraph.dataset.generate_captions import clean, generate_captions, load_captioner, main
from text2cinemagraph.jobs.leases import Leases
from text2cinemagraph.jobs.share import Share
from text2cinemagraph.options.cli import run_main
from text2cinemagraph.options.runtime import make_runtime

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "a", "river", "lake", "in", "the", "sun", ":"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A BLIP of two narrow layers, saved as the hub's folders are."""
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    folder = tmp_path_factory.mktemp("blip")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    processor = BlipProcessor(
        BlipImageProcessor(size={"height": 32, "width": 32}), BertTokenizer(str(folder / "vocab.txt"))
    )
    processor.save_pretrained(folder)
    narrow = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = BlipConfig(
        text_config={
            **narrow,
            "vocab_size": len(WORDS),
            "encoder_hidden_size": 32,
            "bos_token_id": 5,
            "sep_token_id": 3,
            "eos_token_id": 3,
            "pad_token_id": 0,
            "max_position_embeddings": 64,
        },
        vision_config={**narrow, "image_size": 32, "patch_size": 16},
        projection_dim=32,
    )
    BlipForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture
def pictures(tmp_path):
    for n in range(5):
        write_image(tmp_path / "train" / f"v_{n:03d}_input.jpg", torch.rand(3, 40, 60))
    return tmp_path


def test_a_model_from_a_folder_writes_lines_that_the_loader_reads(model, pictures):
    captioner = load_captioner(str(model), make_runtime("cpu"))
    assert generate_captions(pictures / "train", pictures / "my.txt", captioner, batch=2) == (5, [])
    captions = read_captions(pictures / "my.txt")
    assert list(captions) == [f"v_{n:03d}" for n in range(5)]
    assert all(":" not in caption and caption for found in captions.values() for caption in found)


def test_a_run_goes_on_after_the_last_whole_line_and_names_broken_pictures(pictures):
    output = pictures / "my.txt"
    output.write_text("v_000:kept\nv_001:also kept\nv_002:cut o")
    (pictures / "train" / "v_003_input.jpg").write_bytes(b"broken")
    seen = []

    def captioner(batch):
        seen.extend(batch)
        return ["new"] * len(batch)

    written, broken = generate_captions(pictures / "train", output, captioner, batch=2)
    assert written == 2 == len(seen) and len(broken) == 1 and "v_003_input.jpg" in broken[0]
    assert output.read_text() == "v_000:kept\nv_001:also kept\nv_002:new\nv_004:new\n"


def test_two_processes_fill_one_file(pictures):
    """By rank, the second is started after the first has ended; by lease, one waits for what the other holds."""
    for rank in range(2):
        captioner = lambda batch, rank=rank: [f"by {rank}"] * len(batch)  # noqa: E731
        assert (
            generate_captions(pictures / "train", pictures / "my.txt", captioner, batch=2, share=Share(rank, 2))[0]
            == 3 - rank
        )
    expected = "".join(f"v_{n:03d}:by {n % 2}\n" for n in (0, 2, 4, 1, 3))
    assert (pictures / "my.txt").read_text() == expected
    counts, lock = [], threading.Lock()

    def fill():
        with Leases(pictures / "leases", seconds=30) as leases:
            count, _ = generate_captions(
                pictures / "train", pictures / "l.txt", lambda b: ["x"] * len(b), batch=2, share=None, leases=leases
            )
            with lock:
                counts.append(count)

    threads = [threading.Thread(target=fill) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sum(counts) == 5 == len(read_captions(pictures / "l.txt"))


def test_captions_hold_one_line_and_no_colon():
    assert clean(" a lake:\n quiet ") == "a lake, quiet"


def test_missing_and_unsuitable_models_are_one_line(pictures, tmp_path_factory, monkeypatch, capsys):
    with pytest.raises(FileNotFoundError, match="hf download"):
        load_captioner("nobody/nothing", make_runtime("cpu"))
    with pytest.raises(FileNotFoundError, match="no whole model"):
        load_captioner(str(tmp_path_factory.mktemp("empty")), make_runtime("cpu"))
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "captions",
            "--dataroot",
            str(pictures / "train"),
            "--output",
            str(pictures / "my.txt"),
            "--model",
            str(pictures / "nowhere"),
        ],
    )
    with pytest.raises(SystemExit) as stopped:
        run_main(main)
    said = capsys.readouterr().err
    assert stopped.value.code == 1 and said.startswith("error: no captioner") and said.count("\n") == 1


def test_weights_that_lack_something_are_refused(model, tmp_path):
    from safetensors.torch import load_file, save_file

    for path in model.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    state = load_file(model / "model.safetensors")
    state.pop(next(name for name in state if "text_decoder" in name and "query.weight" in name))
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lacks 1 of"):
        load_captioner(str(tmp_path), make_runtime("cpu"))
