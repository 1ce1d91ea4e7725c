"""The package as it is installed elsewhere: a wheel, in a folder of its own, among packages of the same plain names."""

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
QUICK = "twin_extraction.ddim_steps=4 twin_generation.feature_injection_threshold=2 video.n_frames=4".split()


def run(*words, **more):
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=300, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """bin/ of a fresh environment that holds our wheel; what the wheel needs is the tests' own."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    apart = shutil.ignore_patterns(".*", "outputs", "results", "build", "tests", "__pycache__", "*_data", "docs")
    shutil.copytree(ROOT, folder / "source", ignore=apart)  # a build leaves its own folders behind
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder / "dist", folder / "source")
    venv.create(folder / "env", with_pip=False)
    run(
        *pip,
        "--python",
        folder / "env" / "bin" / "python",
        "install",
        "--no-deps",
        "--no-compile",
        *(folder / "dist").iterdir(),
    )
    site = next((folder / "env" / "lib").glob("python*/site-packages"))
    (site / "needs.pth").write_text(sysconfig.get_path("purelib") + "\n")  # a plain path: its own .pth are not read
    return folder / "env" / "bin"


def test_the_wheel_makes_a_cinemagraph_anywhere(installed, tmp_path):
    for name in ("models", "evaluate", "dataset", "data", "options"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('somebody else's package')\n")
    quick = [*QUICK, "attn_mask.fallback=true"]
    env = {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}  # the test may share its cores with others
    said = run(installed / "t2c", "--config", "inference_mini", *quick, cwd=tmp_path, env=env)
    assert "video: outputs" in said
    assert next((tmp_path / "outputs").glob("*/video.mp4")).stat().st_size > 1000
    said = run(installed / "python", "-m", "text2cinemagraph.demo.studio", "--help", cwd=tmp_path, env=env)
    assert "--port" in said
    site = next((installed.parent / "lib").glob("python*/site-packages")) / "text2cinemagraph"
    wanted = [*(ROOT / "demo" / "studio" / "static").rglob("*"), *(ROOT / "pages").glob("*.html")]
    assert {path.relative_to(ROOT) for path in wanted if path.is_file()} <= {
        p.relative_to(site) for p in site.rglob("*")
    }
    write = "from text2cinemagraph.evaluate.index_page import write_index; print(write_index('.').read_text())"
    assert "0 results" in run(installed / "python", "-c", write, cwd=tmp_path, env=env)
    where = [installed / "python", "-c", "import text2cinemagraph; print(text2cinemagraph.__file__)"]
    assert str(installed.parent) in run(*where, cwd=tmp_path, env=env)
