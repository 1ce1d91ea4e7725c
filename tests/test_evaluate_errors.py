"""Loop and flow errors of clips and flows whose answer is known."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from text2cinemagraph.data.media import VideoWriter, write_mask
from text2cinemagraph.evaluate.flow_error import angle_error, endpoint_error, flow_error
from text2cinemagraph.evaluate.loop_error import loop_error, seam_ratio


def ramp(values, size=(6, 8)):
    """Frames whose left half has these gray levels and whose right half is 100."""
    frames = np.full((len(values), *size, 3), 100, np.uint8)
    frames[:, :, : size[1] // 2] = np.asarray(values, np.uint8)[:, None, None, None]
    return frames


def left():
    mask = torch.zeros(1, 6, 8, dtype=torch.bool)
    mask[:, :, :4] = True
    return mask


def test_a_triangle_wave_loops_and_a_ramp_does_not():
    triangle = ramp([0, 10, 20, 30, 20, 10])
    assert seam_ratio(triangle) == pytest.approx(1) and seam_ratio(triangle, left()[0].numpy()) == pytest.approx(1)
    assert seam_ratio(ramp([0, 10, 20, 30, 40])) == pytest.approx(4)


def test_all_numbers_of_a_clip():
    found = loop_error(ramp([0, 10, 20, 30, 40]), left(), flow_every=0)
    assert found == {
        "frames": 5,
        "seam_ratio": pytest.approx(4),
        "seam_ratio_masked": pytest.approx(4),
        "motion_inside": pytest.approx(10),
        "still_max": 0,
        "still_mean": 0,
    }
    wrong = loop_error(ramp([0, 10, 20, 30, 40]), ~left(), flow_every=0)
    assert wrong["still_max"] == 40 and wrong["still_mean"] == pytest.approx(25)
    assert wrong["motion_inside"] == 0 and wrong["seam_ratio_masked"] is None


def test_edges_of_the_domain():
    assert loop_error(ramp([7, 7, 7]), flow_every=0)["seam_ratio"] is None
    everything, nothing = (loop_error(ramp([1, 2, 3]), mask, flow_every=0) for mask in (left() | True, left() & False))
    assert everything["still_max"] is None and nothing["motion_inside"] is None and nothing["seam_ratio_masked"] is None
    with pytest.raises(ValueError, match="at least 3 frames, found 2"):
        loop_error(ramp([1, 2]), flow_every=0)
    with pytest.raises(ValueError, match="the mask is 8x5, the video 8x6"):
        loop_error(ramp([1, 2, 3]), left()[:, :5], flow_every=0)
    with pytest.raises(ValueError, match="the flow is 8x6, the video 48x48"):
        loop_error(sliding(3), None, torch.zeros(2, 6, 8))
    with pytest.raises(ValueError, match="frames of 8x6; motion can be estimated from 16 px on"):
        loop_error(ramp([1, 2, 3]))


def sliding(count, step=1, period=16, size=48):
    """Stripes and spots that move to the right by `step` px per frame and repeat after `period` px."""
    y, x = np.mgrid[:size, :size]
    waves = [np.sin(2 * np.pi * (x - step * t) / period) * np.cos(2 * np.pi * y / 12) for t in range(count)]
    return [np.uint8(np.repeat((100 + 90 * wave)[..., None], 3, -1)) for wave in waves]


def test_estimated_motion_of_a_sliding_pattern():
    """16 frames of 1 px close the loop of 16 px; 12 frames do not: the jump is 5 px."""
    mask, velocity = np.zeros((1, 48, 48), bool), np.zeros((2, 48, 48), np.float32)
    mask[:, 12:36, 12:36], velocity[0] = True, 1
    loop = loop_error(sliding(16), mask, velocity, flow_every=2)
    assert loop["motion_speed"] == pytest.approx(1, abs=0.15) and loop["motion_error"] < 0.2
    assert loop["seam_ratio_flow"] == pytest.approx(1, abs=0.15) and loop["seam_ratio_flow_masked"] == pytest.approx(
        1, abs=0.15
    )
    assert loop["seam_ratio"] == pytest.approx(1, abs=0.1)
    broken = loop_error(sliding(12), mask, velocity, flow_every=2)
    assert broken["seam_ratio_flow_masked"] > 2 and broken["seam_ratio_masked"] > 2
    frozen, backwards = loop_error(sliding(16, 0), mask, velocity), loop_error(sliding(16, -1), mask, velocity)
    assert frozen["motion_speed"] == 0 and frozen["motion_error"] == pytest.approx(
        0.375
    )  # at most 4 px/frame at 512 px
    assert frozen["seam_ratio_flow"] is None and backwards["motion_error"] == pytest.approx(0.375)


def test_loop_error_command(tmp_path):
    with VideoWriter(tmp_path / "v.mp4") as video:
        for frame in ramp([0, 40, 80, 120, 80, 40], (64, 64)):
            video.write(frame)
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[:, :, :32] = True
    write_mask(tmp_path / "m.png", mask)
    command = [sys.executable, "-m", "evaluate.loop_error", str(tmp_path / "v.mp4"), "--mask", str(tmp_path / "m.png")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    found = json.loads(done.stdout)
    assert found["frames"] == 6 and found["seam_ratio_masked"] == pytest.approx(1, abs=0.1)
    assert found["motion_inside"] == pytest.approx(40, rel=0.2) and found["still_mean"] < 2


def test_endpoint_error_of_a_known_shift():
    target = torch.zeros(2, 6, 8)
    flow = target + torch.tensor([3.0, 4.0])[:, None, None] * left()
    assert endpoint_error(flow, target) == pytest.approx(2.5)
    assert endpoint_error(flow, target, left()) == pytest.approx(5) and endpoint_error(flow, target, ~left()) == 0
    assert endpoint_error(flow, target, left() & False) is None
    with pytest.raises(ValueError, match=r"one size, found \(2, 6, 8\), \(2, 6, 7\)"):
        endpoint_error(flow, target[:, :, :7])


def test_angles_of_turned_opposite_and_resting_predictions():
    target = torch.tensor([1.0, 0.0])[:, None, None].expand(2, 6, 8)
    for vector, angle in (((5, 0), 0), ((1, 1), 45), ((0, -2), 90), ((-1, 0), 180), ((0, 0), 90)):
        flow = torch.tensor(vector, dtype=torch.float32)[:, None, None].expand(2, 6, 8)
        assert angle_error(flow, target) == pytest.approx(angle, abs=1e-4)
    assert angle_error(target, target * 0) is None
    half = torch.where(left(), target, -target)
    found = flow_error(half, target, left())
    assert found == {
        "epe": pytest.approx(1),
        "epe_512": pytest.approx(512 / 6),
        "angle": pytest.approx(90),
        "epe_masked": 0,
        "epe_512_masked": 0,
        "angle_masked": 0,
    }
    assert flow_error(half, target, left() & False)["epe_512_masked"] is None and set(flow_error(half, target)) == {
        "epe",
        "epe_512",
        "angle",
    }
