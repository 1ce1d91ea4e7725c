"""Hint files for a folder of motions: layout, resuming, broken motions, several processes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from text2cinemagraph.data.flow import read_flow, write_motion
from text2cinemagraph.data.hint import blended_hint
from text2cinemagraph.dataset.generate_flow_hint import generate_flow_hint, write_hints
from text2cinemagraph.jobs.leases import Leases
from text2cinemagraph.jobs.share import Share


@pytest.fixture
def motions(tmp_path):
    generator = torch.Generator().manual_seed(0)
    for name in ("00001", "00002"):
        flow = torch.zeros(2, 24, 30)
        flow[:, 5:20, 4:25] = torch.randn(2, 15, 21, generator=generator)
        write_motion(tmp_path / "train" / f"{name}_motion.pth", flow)
    return tmp_path


def test_files_are_the_datasets_and_the_numbers_data_hints(motions):
    assert generate_flow_hint(motions / "train", motions / "hints", 3) == (6, [])
    saved = torch.load(motions / "hints" / "00001" / "2_blend.pth", weights_only=True)
    assert saved.shape == (2, 24, 30) and saved.dtype == torch.float64
    flow = read_flow(motions / "train" / "00001_motion.pth")
    assert torch.equal(saved.float(), blended_hint(flow, 2)) and saved.any()


def test_only_missing_hints_are_made_and_broken_motions_named(motions):
    generate_flow_hint(motions / "train", motions / "hints", 2)
    (motions / "hints" / "00002" / "1_blend.pth").unlink()
    (motions / "train" / "00003_motion.pth").write_bytes(b"broken")
    written, broken = generate_flow_hint(motions / "train", motions / "hints", 2)
    assert written == 1 and len(broken) == 1 and "00003_motion.pth" in broken[0]
    assert write_hints(motions / "train" / "00001_motion.pth", motions / "hints", 2) == (0, None)


def test_motions_are_shared_by_rank_and_by_lease(motions):
    parts = [generate_flow_hint(motions / "train", motions / "r", 2, share=Share(rank, 2))[0] for rank in range(2)]
    assert parts == [2, 2] == [len(list((motions / "r" / name).iterdir())) for name in ("00001", "00002")]
    (motions / "train" / "00003_motion.pth").write_bytes(b"broken")
    with Leases(motions / "l" / ".leases") as leases:
        written, broken = generate_flow_hint(motions / "train", motions / "l", 2, workers=2, leases=leases)
        assert written == 4 and len(broken) == 1
    assert sorted(path.name for path in (motions / "l").iterdir()) == ["00001", "00002"]


def test_mistakes_are_named(motions):
    with pytest.raises(FileNotFoundError, match="_motion.pth"):
        generate_flow_hint(motions, motions / "hints")
    with pytest.raises(ValueError, match="n_clusters 0"):
        generate_flow_hint(motions / "train", motions / "hints", 0)


def test_command_with_two_processes(motions):
    done = subprocess.run(
        [
            sys.executable,
            "dataset/generate_flow_hint.py",
            "--dataroot",
            str(motions / "train"),
            "--save_path",
            str(motions / "hints"),
            "--n_clusters",
            "1",
            "--workers",
            "2",
        ],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0 and "2 hints written" in done.stdout, done.stderr
