"""What nobody should hand in: one clear line, exit code 1 and nothing written, for every script, in one process.

The rows come from 916 tries over all scripts. Limits of numbers are not listed by hand: every option brings its own.
"""

import ast
import dataclasses
import importlib.util
import json
import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from text2cinemagraph.data.media import write_image, write_mask
from text2cinemagraph.models.training.commands import reading_processes
from text2cinemagraph.models.training.files import read_state
from text2cinemagraph.options.cli import LONGEST_LINE, run_main
from text2cinemagraph.options.fields import full_name, kind_of
from text2cinemagraph.options.inference import InferenceOptions
from text2cinemagraph.options.runtime import make_runtime
from text2cinemagraph.options.train import MotionApply, MotionTrain, VideoApply, VideoTrain

ROOT = Path(__file__).resolve().parents[1]
FLAT = {
    "train_motion.py": MotionTrain,
    "train_video.py": VideoTrain,
    "test_motion.py": MotionApply,
    "test_video.py": VideoApply,
}
PIPELINE = ("inference_t2c.py", "--config", str(ROOT / "configs" / "inference_mini.yaml"), "--stage", "s6")


def beyond_the_limits(cls):
    """(name, value) for every option: values beyond its limits, and of another type."""
    for field in dataclasses.fields(cls):
        kind, limits = kind_of(cls, field.name), field.metadata
        wrong = []
        if kind.scalar is float and not kind.is_list:
            wrong = ["nan", "inf", "-inf", "1e400", "high"]
        if kind.scalar is int and not kind.is_list:
            wrong = ["1.5", "high", "nan", "true", "9" * 30] if limits["most"] is not None else ["1.5", "high"]
        if kind.scalar is bool:
            wrong = ["2", "maybe"]
        if limits["least"] is not None:
            wrong.append(limits["least"] - 1)
        if limits["above"] is not None:
            wrong.append(limits["above"])
        if limits["most"] is not None:
            wrong.append(limits["most"] * 1000 + 1)
        if limits["below"] is not None:
            wrong.append(limits["below"])
        if limits["choices"] and not kind.is_list:
            wrong.append("nonsense")
        if limits["odd"]:
            wrong.append(4)
        if limits["filled"]:
            wrong.append("")
        for value in wrong:
            yield field.name, f"[{value}]" if kind.is_list and value != "" else value


def one_each(cls):
    """(name, value) for every option once: another kind of mistake for each."""
    wrong = {}
    for name, value in beyond_the_limits(cls):
        wrong.setdefault(name, []).append(value)
    return [(name, values[i % len(values)]) for i, (name, values) in enumerate(wrong.items())]


SECTIONS = [section.default_factory for section in dataclasses.fields(InferenceOptions)]
LIMITS = [
    *((*PIPELINE, f"{cls.SECTION}.{name}={value}") for cls in SECTIONS for name, value in one_each(cls)),
    *((script, f"--{name}={value}") for script, cls in FLAT.items() for name, value in one_each(cls)),
]

ODD = [
    *(
        (*PIPELINE, word)
        for word in (
            "video.formats={a: 1}",
            "video.formats=mp4",
            "video.formats=[avi]",
            "video={}",
            "video=",
            "video[speed]=1",
            "video.speed=&a 1",
            "video.speed=1\nfps: 3",
            "video.speed=[1]",
            "video.speed={a: 1}",
            "video.speed=1e-45",
            "video..speed=1",
            ".=1",
            "=",
            "speed",
            "video.sped=1",
            "vidoe.speed=1",
            "video.speed.x=1",
            "runtime.device=meta",
            "runtime.device=xla",
            "runtime.device=vulkan",
            "runtime.device=cpu:7",
            "runtime.device=cuda:99999",
            "twin_extraction.experiment_name=../x",
            "twin_extraction.experiment_name=..",
            "twin_extraction.prompt=\udcff",
            "attn_mask.input_blocks=[4.5]",
            "attn_mask.input_blocks=[12]",
            "optical_flow.netG=unet",
            "optical_flow.model_name=nowhere",
            "video.model_name=nowhere",
        )
    ),
    *(
        ("inference_t2c.py", *words)
        for words in (
            ("--stage", "s1-"),
            ("--stage", "-s6"),
            ("--stage", "s6-s1"),
            ("--stage", "s7"),
            ("--stage", ""),
            ("--config", "nowhere.yaml"),
            ("--config", "."),
            ("--config", "/dev/null"),
            ("--no_such_flag",),
            ("--stage",),
            ("--invert_mask",),
            ("--image", "nowhere.png", "--name", "x"),
            ("--mask", "nowhere.png", "--name", "x"),
            ("--flow", "nowhere.npz", "--name", "x"),
            ("--name", "a/b"),
            ("--name", ""),
            ("--name", "x" * 5000),
            ("--prompt", ""),
            ("--prompt", "a river in no way direction", "--use_hint"),
            ("x" * 5000,),
            ("x" * 5000 + "=1",),
        )
    ),
    *(
        (script, *words)
        for script in FLAT
        for words in (
            ("--no_such_flag",),
            ("--name", "../x"),
            ("--name", ""),
            ("--name", "/x"),
            ("--which_epoch", "a/b"),
            ("--gpu_ids", "gpu"),
            ("--gpu_ids", ""),
            ("--config", "nowhere.yaml"),
            ("--batchSize",),
            ("surplus",),
            ("--dataroot", "nowhere", "--name", "nothing"),
            ("--dataroot", "\udcff"),
        )
    ),
    *(
        ("train_motion.py", *words)
        for words in (
            ("--label_nc", "3"),
            ("--use_mask", "false"),
            ("--use_hint",),
            ("--netG", "spadexattnunetsd"),
            ("--netG", "spadeunet", "--nf", "2"),
            ("--nf", "33", "--captions_file", "c"),
            ("--niter", "0", "--niter_decay", "0"),
        )
    ),
    *(
        ("train_video.py", *words)
        for words in (
            ("--encoder_channels", "[]"),
            ("--encoder_channels", "[0, 5]"),
            ("--encoder_channels", "[8, -1]"),
            ("--encoder_channels", "8"),
            ("--encoder_channels", "[8, 1]"),
            ("--encoder_channels", "[8, 1000000000]"),
            ("--decoder_channels", "[8, 4]"),
            ("--decoder_resample", "[Down]"),
            ("--decoder_resample", "[sideways]"),
            ("--fineSize", "66"),
            ("--tr_stage", "stage2"),
        )
    ),
    *(("test_motion.py", "--phase", phase) for phase in ("../x", "a/b", "")),
    ("test_video.py", "--fineSize", "7"),
    ("test_video.py", "--speed", "0"),
    *(
        ("demo/gen_mask.py", *words)
        for words in (("--input", "a"), (), ("--input", "nowhere", "--output", "x"), ("--backend", "x"))
    ),
    *(("demo/gallery.py", *words) for words in (("--config", "nowhere.yaml"), ("--no_such_flag",))),
    *(
        (script, *words, f"--{flag}", value)
        for script, words, flags in (
            (
                "dataset/build_from_videos.py",
                ("--videos", "a", "--output", "b"),
                {"size": "1e9", "clip_frames": "-1", "validation_share": "nan", "seed": "9" * 30, "workers": "1000000"}
                | {"max_camera_motion": "inf", "fps": "1e9", "flow_method": "sideways"},
            ),
            (
                "dataset/generate_flow_hint.py",
                ("--dataroot", "a", "--save_path", "b"),
                {"n_clusters": "1000000000", "workers": "0"},
            ),
            (
                "dataset/generate_captions.py",
                ("--dataroot", "a", "--output", "b", "--model", "c"),
                {"batch": "-1"},
            ),
            (
                "evaluate/compute_fvd.py",
                ("--pred_path", "a", "--gt_path", "b"),
                {"batch": "-1", "draws": "1e12", "seed": "-1", "type": "fvd"},
            ),
            ("evaluate/report.py", ("a", "--gt_path", "b"), {"workers": "1000000", "motion_norm": "nan"}),
        )
        for flag, value in flags.items()
    ),
    *(
        (script, "--no_such_flag")
        for script in (
            "data/checkpoint.py",
            "data/fetch.py",
            "dataset/build_from_videos.py",
            "dataset/generate_captions.py",
            "dataset/generate_flow_hint.py",
            "evaluate/compute_fvd.py",
            "evaluate/report.py",
            "evaluate/loop_error.py",
            "mini/procedural.py",
        )
    ),
]


@pytest.fixture(scope="module")
def scripts():
    """{path: module}, each loaded once."""
    modules = {}

    def load(script):
        if script not in modules:
            spec = importlib.util.spec_from_file_location(f"bad_{Path(script).stem}", ROOT / script)
            module = modules[script] = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
        return modules[script]

    return load


@pytest.fixture
def refused(scripts, tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder; check that it ends in one line, and return that."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("T2C_DEBUG", raising=False)

    def run(script, *words):
        before = contents(tmp_path)
        monkeypatch.setattr(sys, "argv", [script, *map(str, words)])
        with pytest.raises(SystemExit) as end:
            run_main(scripts(script).main)
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert end.value.code == 1 and len(lines) == 1 and len(lines[0]) < LONGEST_LINE, lines
        assert contents(tmp_path) == before
        return lines[0]

    return run


def contents(folder):
    """{file: its bytes} of a folder."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("words", LIMITS, ids=lambda words: f"{words[0]} {words[-1]}"[:60])
def test_limits_of_every_option(refused, words):
    name = words[-1].lstrip("-").partition("=")[0]
    assert name.rpartition(".")[2] in refused(*words)


@pytest.mark.parametrize("cls", [*SECTIONS, *FLAT.values()], ids=lambda cls: cls.__name__)
def test_all_limits_hold_in_python_too(cls):
    """As a card or a program gives values, with the types that JSON has."""
    for name, value in beyond_the_limits(cls):
        kind = kind_of(cls, name)
        try:
            value = json.loads(str(value).replace("nan", "NaN").replace("inf", "Infinity"))
        except ValueError:
            pass
        if not (kind.scalar is float and value is True):
            with pytest.raises(ValueError, match=f"^{re.escape(full_name(cls, name))}"):
                cls(**{name: value})


@pytest.mark.parametrize("words", ODD, ids=lambda words: " ".join(words)[:60].encode("ascii", "replace").decode())
def test_odd_words(refused, words):
    refused(*words)


# ---------------------------------------------------------------------- a damaged folder


@pytest.fixture
def experiment(tmp_path):
    """A folder in which s6 or s2 could go on."""
    folder = tmp_path / "outputs" / "a"
    torch.manual_seed(0)
    write_image(folder / "image.png", torch.rand(3, 64, 64))
    write_image(folder / "twin.png", torch.rand(3, 64, 64))
    write_mask(folder / "mask_odise.png", torch.arange(64).expand(1, 64, 64) > 20)
    save_file({"data": torch.randn(1, 4, 8, 8)}, folder / "noise.safetensors")
    return folder


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "7",
        "{",
        "",
        "[" * 100_000,
        '{"given": 5}',
        '{"given": null}',
        '{"given": [1]}',
        '{"stages": []}',
        '{"stages": {"s1": 5}}',
        '{"stages": {"s1": {}}}',
        '{"stages": {"s1": {"read": {}, "made": {}, "options": 3}}}',
        '{"stages": {"s1": {"read": {}, "made": {}, "options": {"twin_extraction": 3}}}}',
        '{"stages": {"s1": {"read": {}, "made": {}, "options": {"twin_extraction": {"scale": "x"}}}}}',
    ],
    ids=lambda text: text[:50],
)
def test_damaged_records(refused, experiment, text):
    (experiment / "experiment.json").write_text(text)
    said = refused("inference_t2c.py", *PIPELINE[1:3], "--name", "a", "--stage", "s2")
    assert "experiment.json" in said or "twin_extraction.scale" in said


@pytest.mark.parametrize(
    "tensors",
    [
        {"a": torch.ones(3)},
        {"maps": torch.ones(4, 2, 4)},
        {"maps": torch.ones(4, 4), "grid": torch.tensor([2, 2])},
        {"maps": torch.ones(4, 2, 4), "grid": torch.tensor([3, 2])},
        {"maps": torch.ones(4, 2, 5), "grid": torch.tensor([2, 2])},
        {"maps": torch.full((4, 2, 4), float("nan")), "grid": torch.tensor([2, 2])},
    ],
    ids=str,
)
def test_wrong_attention(refused, experiment, tensors):
    save_file(tensors, experiment / "attention.safetensors")
    assert "run --stage s1 again" in refused(*PIPELINE[:3], "--name", "a", "--stage", "s4")


def test_an_empty_mask_of_s4_gives_advice(refused, experiment):
    write_mask(experiment / "mask_odise.png", torch.zeros(1, 64, 64, dtype=torch.bool))
    save_file({"maps": torch.rand(64, 2, 64), "grid": torch.tensor([8, 8])}, experiment / "attention.safetensors")
    (experiment / "clusters.png").touch()
    with pytest.raises(AssertionError, match="clusters.png"):  # the picture of the segments is worth looking at
        refused(*PIPELINE[:3], "--name", "a", "--stage", "s4")


# ---------------------------------------------------------------------- damaged cards


@pytest.fixture
def network(tmp_path):
    """A copy of the network of frames, whose card may be changed."""
    folder = tmp_path / "checkpoints" / "v"
    shutil.copytree(ROOT / "checkpoints" / "mini" / "video", folder)
    return folder / "latest_net_G.json"


@pytest.mark.parametrize(
    "options",
    [
        [],
        "x",
        {"noise_dim": -1},
        {"noise_dim": 0},
        {"encoder_channels": []},
        {"encoder_channels": [0, 2]},
        {"encoder_channels": [8, "x"]},
        {"encoder_channels": 8},
        {"encoder_channels": [10**9, 2]},
        {"decoder_resample": ["none"]},
        {"decoder_channels": [8, 4]},
        {"netG": "unet"},
        {"netG": 5},
        {"z_max": None},
        {"norm_G": 3},
    ],
    ids=str,
)
def test_damaged_cards(refused, network, tmp_path, options):
    card = json.loads(network.read_text())
    card["options"] = {**card["options"], **options} if isinstance(options, dict) else options
    network.write_text(json.dumps(card))
    (tmp_path / "data").mkdir()
    write_image(tmp_path / "data" / "00000_input.jpg", torch.rand(3, 64, 64))
    refused("test_video.py", "--name", "v", "--dataroot", "data", "--gpu_ids", "-1")


@pytest.mark.parametrize("state", [[], {}, {"networks": {}}, torch.ones(2, 3, 4), None], ids=str)
def test_states_of_no_training(tmp_path, state):
    path = tmp_path / "train_state.pt"
    torch.save(state, path) if state is not None else path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="train_state.pt .*; remove it to go on from latest_net_G alone") as error:
        read_state(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\x89PNG", [], {"a": 3}], ids=str)
def test_weights_of_no_vgg(scripts, tmp_path, content):
    path = tmp_path / "vgg.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match="vgg.pth") as error:
        scripts("train_video.py").vgg_features(path)
    assert "\n" not in str(error.value)


def test_readers_of_data_and_threads_keep_to_the_machine(capsys):
    assert reading_processes(1, "cpu") == 1 and capsys.readouterr().out == ""
    assert reading_processes(10_000, "cpu") == 4 * os.cpu_count()
    before = torch.get_num_threads()
    try:
        make_runtime("cpu", threads=10_000)
        assert torch.get_num_threads() <= 8 * os.cpu_count() < 10_000
        assert "threads=10000" in capsys.readouterr().out
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "words, said",
    [
        (("twin_extraction.W=8192", "twin_extraction.H=8192", "video.motion=features"), "GB of memory for 60 frames"),
        (("video.n_frames=100000", "twin_extraction.W=4096", "twin_extraction.H=4096"), "GB are free"),
        (("video.n_frames=100000", "video.formats=[mp4,gif]", "twin_extraction.W=2048"), "GB are free"),
        (("video.n_frames=100000", "video.motion=pixels", "twin_extraction.W=4096"), "on a CPU"),
    ],
    ids=str,
)
def test_what_no_machine_holds_is_told_with_the_estimate(refused, monkeypatch, words, said):
    monkeypatch.setattr("text2cinemagraph.pipeline.estimates.free_memory", lambda device: 10 * 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=50 * 10**9))
    monkeypatch.setattr("text2cinemagraph.pipeline.estimates.DAY", 3600)
    formats = () if "formats" in " ".join(words) else ("video.formats=[mp4]",)
    assert said in refused(*PIPELINE[:3], "runtime.device=cpu", *formats, *words)


def test_memory_is_one_line(refused, scripts, monkeypatch):
    """Every script's last words where an allocator gives up, whichever it is."""
    for error in (
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"),
        torch.OutOfMemoryError("CUDA out of memory."),
    ):
        monkeypatch.setattr(
            scripts("test_video.py"), "read_command", lambda *_, error=error: (_ for _ in ()).throw(error)
        )
        assert "not enough memory" in refused("test_video.py")


@pytest.mark.parametrize("room", ["dataset", "evaluate", "mini", "demo", "benchmarks"])
def test_every_number_on_a_command_line_has_limits(room):
    """A flag's type is options.cli.number with limits, never int or float alone."""
    found = 0
    for path in (ROOT / room).rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "add_argument":
                kinds = [word.value for word in call.keywords if word.arg == "type"]
                found += len(kinds)
                assert not any(isinstance(kind, ast.Name) and kind.id in ("int", "float") for kind in kinds), (
                    f"{path.name}: line {call.lineno}"
                )
    assert found > 2


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "[" * 100_000,
        '{"settings": {}, "sides": {}}',
        '{"settings": {}, "sides": {"a": "elsewhere"}, "videos": {}}',
        '{"settings": {}, "sides": {}, "videos": {"a": {"file": "a", "error": "", '
        '"clips": [{"id": "../../x", "refused": ""}]}}}',
    ],
    ids=lambda text: text[:30],
)
def test_damaged_records_of_a_dataset(refused, tmp_path, text):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "clip.mp4").write_bytes(b"not opened")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "build.json").write_text(text)
    assert "build.json" in refused("dataset/build_from_videos.py", "--videos", "videos", "--output", "out")


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"value": "<b>", "interval_95": [1, 2], "n": 2, "feature_dim": 3, "floor": null}'], ids=str
)
def test_results_that_are_no_fvd(scripts, tmp_path, text):
    (tmp_path / "fvd_16_published.json").write_text(text)
    with pytest.raises(ValueError, match="run compute_fvd.py again"):
        scripts("evaluate/report.py").fvd_results(tmp_path)


def test_damaged_features_are_made_again(scripts, tmp_path):
    import numpy as np

    store = scripts("evaluate/compute_fvd.py").FeatureStore(tmp_path, "recipe")
    store.write("clip", np.ones(5, np.float32))
    assert store.read("clip").shape == (5,)
    path = store._path("clip")
    for damaged in (np.ones((5, 2), np.float32), np.full(5, np.nan, np.float32), np.array("flow"), np.array(3.0)):
        with open(path, "wb") as file:
            np.save(file, damaged)
        assert store.read("clip") is None
    with open(path, "wb") as file:
        np.savez(file, flow=np.ones(5))
    assert store.read("clip") is None


def test_a_tokenizer_that_is_not_there_is_told(tmp_path):
    from text2cinemagraph.img2img.single_file import tokenizer_folder

    with pytest.raises(FileNotFoundError, match="nowhere"):
        tokenizer_folder(tmp_path / "model.safetensors", str(tmp_path / "nowhere"))
