"""Quick to start: which libraries a command may not have loaded when it answers.

Modules are counted and not seconds, which depend on the machine.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from text2cinemagraph.data.media import write_image, write_mask

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = (
    "inference_t2c.py",
    "demo/options_page.py",
    "demo/tutorial_assets.py",
    "train_motion.py",
    "train_video.py",
    "test_motion.py",
    "test_video.py",
    "demo/batch.py",
    "demo/gallery.py",
    "demo/gen_mask.py",
    "demo/readme_assets.py",
    "demo/studio/__main__.py",
)
# What takes seconds to load, or belongs to one stage.
LIBRARIES = (
    "starlette",
    "uvicorn",
    "torch",
    "numpy",
    "cv2",
    "PIL",
    "av",
    "numba",
    "scipy",
    "sklearn",
    "skimage",
    "transformers",
    "diffusers",
    "jinja2",
    "matplotlib",
)
ONE_STAGE = ("diffusers", "transformers", "sklearn", "skimage", "torch._dynamo", "torchvision", "accelerate")
OF_SCIPY = ("scipy.sparse", "scipy.spatial")  # numba takes scipy.linalg where it compiles, a hint scipy.ndimage
REPORT = """
import json, runpy, sys
sys.path.insert(0, sys.argv[1])
sys.argv = sys.argv[2:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
    code = 0
except SystemExit as end:
    code = end.code or 0
print("\\n" + json.dumps([code, [name for name in sys.modules if sys.modules[name] is not None]]))
"""


def loaded(script, *words):
    """-> (exit code, names of all modules that a run of the script loaded, what it said as an error)."""
    run = subprocess.run(
        [sys.executable, "-c", REPORT, str(ROOT), str(ROOT / script), *map(str, words)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    code, names = json.loads(run.stdout.splitlines()[-1])
    return code, set(names), run.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_answers_without_the_libraries(script):
    code, names, _ = loaded(script, "--help")
    assert code == 0 and not names & set(LIBRARIES)


@pytest.mark.parametrize(
    "words",
    [
        ("inference_t2c.py", "video.sped=1"),
        ("inference_t2c.py", "--config", "configs/inference_mini.yaml", "video.n_frames=1"),
        ("inference_t2c.py", "--config", "configs/inference_mini.yaml", "--prompt", ""),
        ("inference_t2c.py", "--config", "configs/inference_mini.yaml", "optical_flow.model_name=nowhere"),
        ("train_motion.py", "--batchSize", "0"),
        ("train_video.py", "--no_such_flag"),
        ("test_motion.py", "--seed", "-1"),
        ("test_video.py", "--config", "nowhere.yaml"),
        ("demo/gen_mask.py", "--input", "a"),
    ],
    ids=" ".join,
)
def test_a_wrong_option_answers_without_the_libraries(words):
    code, names, said = loaded(*words)
    assert code == 1 and said.startswith("error: ") and said.count("\n") == 1
    assert not names & set(LIBRARIES)


def test_the_last_stages_load_nothing_of_the_others(tmp_path):
    """Own picture and mask, a direction in words: s5 and s6 need no diffusion, no text encoder, no clusters."""
    torch.manual_seed(0)
    write_image(tmp_path / "a.png", torch.rand(3, 64, 64))
    write_mask(tmp_path / "m.png", torch.arange(64).expand(1, 64, 64) > 20)
    code, names, said = loaded(
        "inference_t2c.py",
        *("--config", "configs/inference_mini_directional.yaml", "--use_hint", "--stage", "s5-s6", "--name", "a"),
        *("--image", tmp_path / "a.png", "--mask", tmp_path / "m.png", f"twin_extraction.exp_path_root={tmp_path}"),
        *("video.n_frames=2", "video.formats=[mp4]"),
    )
    assert code == 0, said
    assert (tmp_path / "a" / "video.mp4").is_file()
    assert "torch" in names and sorted(names & {*ONE_STAGE, *OF_SCIPY}) == []
