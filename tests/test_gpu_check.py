"""The check of a graphics card, without one: what fails counts as failed, what is done is passed over, time ends it."""

import json
import subprocess
import sys

import pytest
from text2cinemagraph.benchmarks import gpu_check

LINE = "(epoch: 1, iters: 2, time: 0.125) G_GAN: 1.250 G_EPE: {} D_real: 0.500 "


@pytest.fixture
def check(monkeypatch, tmp_path):
    """check(parts, *words) -> (exit code, content of the results' file).  parts: {name: function of the card}."""

    def call(parts, *words):
        monkeypatch.setattr(gpu_check, "PARTS", parts)
        output = tmp_path / "gpu.json"
        monkeypatch.setattr(sys, "argv", ["gpu_check", "--device", "cpu", "--output", str(output), *words])
        return gpu_check.main(), json.loads(output.read_text())

    return call


def test_what_failed_is_run_again_and_what_is_done_is_not(check):
    runs = []

    def part(name, *outcomes):
        def run(card):
            outcome = outcomes[min(runs.count(name), len(outcomes) - 1)]
            runs.append(name)
            if isinstance(outcome, Exception):
                raise outcome
            return dict(outcome)

        return run

    parts = {
        "good": part("good", {"n": 1}),
        "raises": part("raises", RuntimeError("no"), {"n": 2}),
        "wrong": part("wrong", {"n": 3, "failed": "too large"}, {"n": 3}),
    }
    code, found = check(parts, "--quick")
    assert code == 1 and found["raises"]["failed"] == "RuntimeError: no" and found["wrong"]["n"] == 3
    code, found = check(parts, "--quick")
    assert code == 0 and runs == ["good", "raises", "wrong", "raises", "wrong"] and found["raises"]["n"] == 2
    assert check(parts, "--quick")[0] == 0 and len(runs) == 5
    assert check(parts)[0] == 0 and len(runs) == 8  # small sizes say nothing about large ones


def test_no_part_is_begun_too_late(check, monkeypatch, capsys):
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(gpu_check.time, "monotonic", lambda: next(clock))
    parts = {name: lambda card: {"n": 1} for name in "abcdef"}
    code, found = check(parts, "--minutes", "4")
    assert code == 1 and {"a", "b"} <= set(found) and "f" not in found
    assert "not begun within 4 minutes: c, d, e, f" in capsys.readouterr().out
    assert check(parts, "--minutes", "100")[0] == 0


def test_a_command_that_fails_or_hangs_is_told(monkeypatch):
    with pytest.raises(RuntimeError, match="ended with 3: oh"):
        gpu_check.command(["-c", "import sys; sys.stderr.write('oh'); sys.exit(3)"])
    monkeypatch.setattr(gpu_check, "COMMAND_SECONDS", 0.2)
    with pytest.raises(RuntimeError, match="did not end within"):
        gpu_check.command(["-c", "import time; time.sleep(9)"])


def test_losses_must_be_finite():
    gpu_check.check_losses(LINE.format("0.25"))
    for bad in (LINE.format("nan"), LINE.format("inf"), "(epoch: 1)"):
        with pytest.raises(RuntimeError, match="no finite loss"):
            gpu_check.check_losses(bad)


def test_without_pyav_the_parts_say_so_or_go_without(monkeypatch):
    card = gpu_check.Card(gpu_check.torch.device("cpu"), quick=True)
    said = []
    monkeypatch.setattr(
        gpu_check, "command", lambda words: said.append(words) or subprocess.CompletedProcess([], 0, "")
    )
    monkeypatch.setattr(gpu_check.importlib.util, "find_spec", lambda name: None)
    gpu_check.pipeline_part(card)
    assert said[0][-2:] == ["--stage", "s1-s5"]
    with pytest.raises(RuntimeError, match="pip install av, or give --scenes"):
        gpu_check.training_part(card)
