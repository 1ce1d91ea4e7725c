"""Where compiled functions are kept, and what is said about it."""

import subprocess
import sys
from pathlib import Path

import pytest
from text2cinemagraph.softmax_splatting import compiled

PROGRAM = """
from text2cinemagraph.softmax_splatting.compiled import COMPILE_TIMES
from text2cinemagraph.softmax_splatting.cpu import in_slabs
from text2cinemagraph.softmax_splatting import splat
import torch
splat(torch.ones(1, 1, 4, 4), torch.zeros(1, 2, 4, 4))
print(COMPILE_TIMES.told() or "nothing")
"""


def test_the_place(tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(compiled, "ROOT", tmp_path / "checkout")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "users"))
    assert compiled.cache_folder() == tmp_path / "users" / "text2cinemagraph" / "numba"  # installed as a package
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout" / "pyproject.toml").touch()
    assert compiled.cache_folder() == tmp_path / "checkout" / ".cache" / "numba"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "own"))
    assert compiled.cache_folder() == tmp_path / "own"
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "below"))
    assert compiled.cache_folder() is None


def run_program():
    return subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)


@pytest.mark.parametrize(
    "place, words", [("kept", "for the next run"), ("file/below", "no cache folder can be written")]
)
def test_the_first_run_says_that_it_compiles_and_the_second_does_not(tmp_path, monkeypatch, place, words):
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / place))
    first = run_program()
    assert first.stderr.count("compiling for this processor") == 1 and words in first.stderr
    assert "functions compiled in" in first.stdout
    if place == "kept":
        second = run_program()
        assert second.stderr == "" and second.stdout == "nothing\n"
        assert list(Path(tmp_path, place).rglob("*.nbi"))
