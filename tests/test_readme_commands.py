"""Every command that the documents print: its program, its flags, its values and its files, and Python blocks run.

Commands of the pipeline go their own way up to the first stage; other scripts up to the end of their command line.
"""

import importlib
import re
import runpy
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from text2cinemagraph import inference_t2c
from text2cinemagraph.data.media import write_image, write_mask
from text2cinemagraph.demo.commands import code_blocks, commands_of
from text2cinemagraph.options import cli
from text2cinemagraph.options.inference import InferenceOptions
from text2cinemagraph.options.places import located

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "checkpoints" / "README.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))
COMMANDS = [command for page in PAGES if page.is_file() for command in commands_of(page)]

# What no test can run, and why. The first word, or the first two.
NOT_CHECKED = {
    "pip install": "changes the environment",
    "hf download": "needs the network",
    "hf auth": "needs the network",
    "source": "the shell's own; make builds .venv",
    "cp": "the shell's own",
    "git": "no program of ours",
    "tensorboard": "no program of ours, and an optional one",
    "ray": "no program of ours, and an optional one",
    "sbatch": "a cluster's own",
    "srun": "a cluster's own",
    "ruff": "no program of ours",
    "duplicates": "no program of ours",
    "issues": "no program of ours",
    "python -m pytest": "the tests themselves",
    "python -m venv": "changes the machine",
    "python -m tensorboard": "no program of ours, and an optional one",
    "nvidia-smi": "a machine's own",
}
CONSOLE = {"t2c": "inference_t2c.py", "t2c-mask": "demo/gen_mask.py"}  # as pyproject.toml names them
LAUNCHERS = ("torchrun", "accelerate")  # what follows their own flags is a script of ours

# Files that a command names and the repository does not hold, with the reason.
YOURS = {
    "photo.jpg": "your photograph: the test makes one",
    "painting.jpg": "your painting: the test makes one",
    "jobs.jsonl": "your list of jobs",
    "mask.png": "your mask: the test makes one",
    "strokes.png": "your strokes: the test makes them",
    "motion.json": "your arrows: the test makes them",
    "loop.mp4": "a command writes it",
    "my_pictures": "a folder of yours",
    "my_videos": "a folder of yours",
    "FOLDER": "a folder of yours",
    "sheet.jpg": "a command writes it",
    "out": "a command writes it",
    "../shared/samples": "the authors' samples, which may not be in the repository",
    "demo/0": "a folder of 3D-Cinemagraphy",
    "dataset/my_data": "build_from_videos.py writes it",
    "dataset/procedural_data": "mini.procedural writes it",
    "dataset/eulerian_data": "the Eulerian dataset, fetched by hand",
    "dataset/captions": "generate_captions.py and data.fetch write it",
    "results": "test_motion.py and test_video.py write it",
    "outputs": "inference_t2c.py writes it",
    "checkpoints": "python -m data.fetch, or a training, writes it",
    "/tmp": "a place for what a command writes",
}
OVERRIDE = re.compile(r"\w+\.\w+=")
FILE = re.compile(r"(?:[\w.~-]+/)*[\w.~-]+\.(?:jpg|jpeg|png|webp|jsonl|json|yaml|yml|txt|mp4|gif|npz|pth|py|csv)")


class ReadToTheEnd(Exception):
    """The command line was understood, all of it."""


def test_there_are_commands():
    assert len(COMMANDS) > 60
    assert {"inference_t2c.py", "train_motion.py", "train_video.py"} <= {w for c in COMMANDS for w in c.words}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder that looks like the repository to a command, with the files that are called yours."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("configs", "dataset", "docs", "inference_t2c.py"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "mini").symlink_to(ROOT / "checkpoints" / "mini")
    rows, columns = torch.meshgrid(torch.arange(240), torch.arange(320), indexing="ij")
    water = (rows > 100)[None]  # a lake under a sky, drawn so that the small segmenter knows it
    sky = torch.stack([0.95 - rows / 800, 0.75 + rows / 600, 0.6 + rows / 300])
    waves = 0.08 * torch.sin(rows / 2 + 3 * torch.sin(columns / 25))
    photo = torch.where(water, torch.tensor([0.15, 0.35, 0.5])[:, None, None] + waves, sky)
    write_image(folder / "photo.png", photo.clamp(0, 1))
    from PIL import Image, ImageDraw

    for name in ("photo.jpg", "painting.jpg"):
        Image.open(folder / "photo.png").save(folder / name, quality=95)
    write_mask(folder / "mask.png", water)
    strokes = Image.new("RGBA", (320, 240))
    ImageDraw.Draw(strokes).line((40, 150, 280, 160), (0, 255, 0, 255), 9)
    ImageDraw.Draw(strokes).line((40, 20, 280, 25), (255, 0, 0, 255), 9)
    strokes.save(folder / "strokes.png")
    arrows = '{"arrows": [{"path": [[100, 130], [160, 140]]}], "mask": "mask.png"}'
    (folder / "motion.json").write_text(arrows)
    (folder / "demo" / "0").mkdir(parents=True)
    shutil.copy(folder / "photo.png", folder / "demo" / "0" / "image.png")
    shapes = (
        '{"shape_type": "polygon", "label": "w", "points": [[10, 110], [300, 110], [300, 200], [10, 200]]}',
        '{"shape_type": "line", "label": "a", "points": [[50, 120], [90, 130]]}',
    )
    (folder / "demo" / "0" / "image.json").write_text(
        f'{{"shapes": [{", ".join(shapes)}], "imageWidth": 320, "imageHeight": 240}}'
    )
    return folder


@pytest.fixture
def understood(place, monkeypatch):
    """Run the words of a command as far as its command line, or its first stage, reaches; what stops it is raised."""
    monkeypatch.chdir(place)
    monkeypatch.delenv("T2C_DEBUG", raising=False)
    real_load = cli.load_options

    def stopping(method):
        def parse(parser, *arguments, **settings):
            flags = method(parser, *arguments, **settings)
            if sys._getframe(1).f_code is cli.read_command.__code__:
                return flags  # a flat script goes on to its options
            raise ReadToTheEnd

        return parse

    def load(*arguments):
        real_load(*arguments)
        raise ReadToTheEnd

    def pipeline(words):
        def stop(*_, **__):
            raise ReadToTheEnd

        monkeypatch.setattr(inference_t2c, "run_stages", stop)
        inference_t2c.main(list(words))

    def script(name, words):
        if name == "inference_t2c.py":
            return pipeline(words)
        monkeypatch.setattr(cli, "load_options", load)
        for method in ("parse_args", "parse_intermixed_args"):
            monkeypatch.setattr(cli.Parser, method, stopping(getattr(cli.Parser, method)))
        overrides = [word for word in words if OVERRIDE.match(word)]
        real_load(InferenceOptions, None, overrides)  # those that a script hands on to the pipeline
        monkeypatch.setattr(sys, "argv", [name, *words])
        module = importlib.import_module(f"text2cinemagraph.{name.removesuffix('.py').replace('/', '.')}")
        module.main()

    return script


def script_of(command):
    """(script, its words) of a command that runs Python of ours; None for one of another kind."""
    words = list(command.words)
    if words[0] in LAUNCHERS:
        at = next(i for i, word in enumerate(words) if word.endswith(".py"))
        return words[at], words[at + 1 :]
    if words[0] in CONSOLE:
        return CONSOLE[words[0]], words[1:]
    if words[0] not in ("python", "python3"):
        return None
    if words[1] == "-m":
        module = words[2].replace(".", "/")
        return f"{module}/__main__.py" if (ROOT / module).is_dir() else f"{module}.py", words[3:]
    return words[1], words[2:]


def reason_not_to(command):
    """Why a command is not checked; None where it is."""
    return next((NOT_CHECKED[key] for n in (3, 2, 1) if (key := " ".join(command.words[:n])) in NOT_CHECKED), None)


def is_ours_or_yours(name, place):
    """Whether a file that a command names is here, or on the list of those that are not."""
    here = (ROOT / name).exists() or (place / name).exists() or located(name).exists()
    return here or any(name == known or name.startswith(f"{known}/") for known in YOURS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: f"{c.where} {' '.join(c.words)}"[:80])
def test_command_runs_as_printed(command, place, understood, capsys):
    if reason_not_to(command):
        return
    if command.words[0] == "make":
        done = subprocess.run(["make", "-n", *command.words[1:]], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, f"{command.where}: {command.text}: {done.stderr}"
        return
    found = script_of(command)
    assert found, f"{command.where}: nobody checks {command.text!r}; add a reason to NOT_CHECKED, or ```text"
    script, words = found
    assert (ROOT / script).is_file(), f"{command.where}: there is no {script}"
    missing = [name for word in words for name in FILE.findall(word) if not is_ours_or_yours(name, place)]
    assert not missing, f"{command.where}: no such file: {missing}"
    try:
        understood(script, words)
    except ReadToTheEnd:
        return
    except SystemExit as end:
        assert end.code == 0 and {"--help", "-h"} & set(words), command.where
    except FileNotFoundError as error:  # the large weights, or what another command writes: told after all was read
        fetched = "data.fetch" in str(error) or "hf download" in str(error)
        away = fetched or any(word in str(error) for word in words if word.startswith("outputs/"))
        assert script == "inference_t2c.py" and away, f"{command.where}: {error}"
    except ValueError as error:
        pytest.fail(f"{command.where}: {command.text}: {error}")
    else:
        pytest.fail(f"{command.where}: {script} ended before its command line was read")


@pytest.mark.parametrize(
    "words, said",
    [
        (("inference_t2c.py", "--config", "configs/inference_mini.yaml", "video.sped=1"), "video.speed"),
        (("inference_t2c.py", "--imagee", "photo.jpg"), "--image"),
        (("inference_t2c.py", "--config", "configs/inference_mini.yaml", "--image", "nowhere.jpg"), "nowhere.jpg"),
        (("train_motion.py", "--batchsize", "1"), "--batchSize"),
        (("train_video.py", "--fineSize", "66"), "fineSize"),
        (("demo/gen_mask.py", "--inputs", "a", "--output", "b"), "--input"),
        (("mini/measure.py", "--party", "video"), "--parts"),
        (("demo/gallery.py", "video.sped=1"), "video.speed"),
        (("evaluate/report.py", "results/a", "--gt", "b"), "--gt"),
    ],
    ids=" ".join,
)
def test_a_misspelt_command_fails(words, said, understood):
    """The check above sees slips of the keyboard, in every kind of script."""
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(said)):
        understood(words[0], words[1:])


def test_a_photograph_moves(place, monkeypatch, capsys):
    """The first command of the documents with an own picture and mask, for two frames."""
    monkeypatch.chdir(place)
    command = next(c for c in COMMANDS if "--mask" in c.words and "--arrows" in c.words and "photo.jpg" in c.words)
    inference_t2c.main([*command.words[2:], "video.n_frames=2", "video.formats=[mp4]", "--name", "moves"])
    assert (place / "outputs" / "moves" / "video.mp4").is_file()
    assert "video: " in capsys.readouterr().out


PYTHON = [
    (f"{page.name}:{line}", text)
    for page in (ROOT / "README.md", ROOT / "docs" / "library.md")
    for line, text in code_blocks(page, ("python",))
]


@pytest.mark.parametrize("where, text", PYTHON, ids=[where for where, _ in PYTHON])
def test_python_blocks_run(where, text, place, monkeypatch):
    """As printed, but for the number of frames."""
    monkeypatch.chdir(place)
    before = set(place.iterdir())
    source = re.sub(r"n_frames=\d+", "n_frames=2", text)
    namespace = types.ModuleType("block").__dict__
    exec(compile(source, where, "exec"), namespace)
    made = set(place.iterdir()) - before
    assert any(path.suffix == ".mp4" for path in made)
    for path in made:
        path.unlink()


def test_own_photo_is_shown_as_it_is():
    """The script of the documents has no flags that they do not know."""
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / "demo" / "own_photo.py"))["main"](["--help"])
