"""Flow files, geometry and colours: known answers and the original's numbers."""

import os
import pickle

import lz4.frame
import numpy as np
import pytest
import torch
from text2cinemagraph.data.flow import (
    clamp_flow,
    color_wheel,
    flip_flow,
    flow_to_color,
    motion_mask,
    read_flow,
    read_motion,
    resize_flow,
    write_flow,
    write_motion,
)

from tests.comparison import assert_near
from tests.golden_numbers import GOLDEN, evaluate, load_golden, recipe


def golden_flow(expression, seed, shape):
    """A flow [2,H,W] from a golden file's recipe expression."""
    if expression == "zeros":
        return torch.zeros(2, *shape)
    if expression.startswith("u="):
        u, v = (float(part.split("=")[1].split()[0]) for part in expression.split(","))
        return torch.tensor([u, v])[:, None, None].expand(2, *shape)
    return evaluate(expression, seed=seed)


def some_flow(height=5, width=7):
    return torch.randn(2, height, width, generator=torch.Generator().manual_seed(0))


# ---------------------------------------------------------------- golden numbers
@pytest.mark.golden
def test_colors_are_the_originals():
    golden, case = load_golden("flow_color")
    assert np.array_equal(color_wheel(), golden["colorwheel"])
    for name, expression in case["flows"].items():
        picture = flow_to_color(golden_flow(expression, case["seed"], golden[name].shape[:2]))
        off = np.abs(picture.astype(int) - golden[name])
        assert picture.dtype == np.uint8 and off.max() <= 1 and (off == 0).mean() > 0.999, name


@pytest.mark.golden
def test_masks_flip_and_scale_are_the_originals():
    golden, case = load_golden("flow_ops")
    for name, expression in case["flows"].items():
        flow = golden_flow(expression, case["seed"], None)
        power = flow.double().square().sum(0)
        undecided = ((power / (power.mean() / 10) - 1).abs() < 1e-5).numpy()  # a float32 mean decides on these
        for kind, sure in (("average", ~undecided), ("zeros", np.ones_like(undecided))):
            wanted = np.unpackbits(golden[f"{name}.{kind}"], count=sure.size).reshape(sure.shape)
            assert np.array_equal(motion_mask(flow, kind)[0].numpy()[sure], wanted[sure]), name
            assert sure.mean() > 0.999
        assert np.array_equal(flip_flow(flow).numpy(), golden[f"{name}.hflip_flow"])
        size = golden[f"{name}.scale_flow_to"].tolist()
        assert_near(resize_flow(flow, size), golden[f"{name}.scale_flow"], 1e-5)


@pytest.mark.golden
@pytest.mark.parametrize("name", ["sample_motion.pth", "sample_numpy1_motion.pth"])
def test_the_datasets_motion_files_are_read(name):
    seed = load_golden("flow_ops")[1]["seed"]
    shape = (1, *read_motion(GOLDEN / name).shape)
    expected = recipe().flow(seed, "lz4.motion", shape, 1.0)[0]
    assert np.array_equal(read_motion(GOLDEN / name).numpy(), expected)
    assert np.array_equal(read_flow(GOLDEN / name).numpy(), expected)


# ---------------------------------------------------------------- files
@pytest.mark.parametrize("suffix", [".npz", ".npy", ".flo", ".pt"])
def test_what_is_written_is_read(tmp_path, suffix):
    flow = some_flow()
    write_flow(tmp_path / f"a{suffix}", flow)
    assert torch.equal(read_flow(tmp_path / f"a{suffix}"), flow)
    assert [p.name for p in tmp_path.iterdir()] == [f"a{suffix}"]


def test_motion_file_round_trip_in_the_datasets_layout(tmp_path):
    flow = some_flow()
    write_motion(tmp_path / "1_motion.pth", flow)
    array = pickle.loads(lz4.frame.decompress((tmp_path / "1_motion.pth").read_bytes()))
    assert array.shape == (1, 2, 5, 7) and array.dtype == np.float32
    assert torch.equal(read_motion(tmp_path / "1_motion.pth"), flow)


def test_layouts_keys_and_float_types(tmp_path):
    flow = some_flow()
    for shaped in (flow, flow[None], flow.permute(1, 2, 0)):
        np.savez(tmp_path / "a.npz", shaped.numpy())
        assert torch.equal(read_flow(tmp_path / "a.npz"), flow)
    np.savez(tmp_path / "b.npz", motion=flow.numpy().astype(np.float16), other=np.zeros(3))
    assert torch.allclose(read_flow(tmp_path / "b.npz"), flow, atol=2e-3)
    np.save(tmp_path / "c.npy", np.asfortranarray(flow.numpy().astype(">f8")))
    assert torch.equal(read_flow(tmp_path / "c.npy"), flow)
    torch.save(flow.double(), tmp_path / "1_blend.pth")
    assert torch.equal(read_flow(tmp_path / "1_blend.pth"), flow)
    for protocol in range(2, 6):
        for array in (flow.numpy(), np.asfortranarray(flow.numpy()), flow.numpy().astype(">f4")):
            (tmp_path / "m.pth").write_bytes(lz4.frame.compress(pickle.dumps(array, protocol=protocol)))
            assert torch.equal(read_motion(tmp_path / "m.pth"), flow), protocol


class Exploit:
    def __reduce__(self):
        return os.mkdir, (os.environ["T2C_TEST_EXPLOIT"],)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x], lambda x: np.array([x], dtype=object)])
def test_code_in_files_never_runs(tmp_path, monkeypatch, wrap):
    monkeypatch.setenv("T2C_TEST_EXPLOIT", str(tmp_path / "owned"))
    (tmp_path / "a_motion.pth").write_bytes(lz4.frame.compress(pickle.dumps(wrap(Exploit()))))
    torch.save(wrap(Exploit()), tmp_path / "b.pt")
    np.save(tmp_path / "c.npy", np.array([wrap(Exploit())], dtype=object))
    np.savez(tmp_path / "d.npz", np.array([wrap(Exploit())], dtype=object))
    (tmp_path / "owned").rmdir() if (tmp_path / "owned").exists() else None
    for path in sorted(tmp_path.glob("[a-d]*")):
        with pytest.raises(ValueError, match=path.name):
            read_flow(path)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "values, message",
    [
        (torch.zeros(3, 4, 5), r"expected a flow of shape .* found \(3, 4, 5\)"),
        (torch.zeros(2, 2, 4, 5), "shape"),
        (torch.zeros(4, 5), "shape"),
        (torch.zeros(2, 0, 5), "shape"),
        (torch.full((2, 4, 5), float("nan")), "finite"),
        (torch.full((2, 4, 5), float("inf")), "finite"),
        (torch.zeros(2, 4, 5, dtype=torch.int32), "floating point"),
        (torch.zeros(2, 4, 5, dtype=torch.bool), "floating point"),
    ],
)
def test_what_is_no_flow_is_refused(tmp_path, values, message):
    np.savez(tmp_path / "a.npz", flow=values.numpy())
    torch.save(values, tmp_path / "a.pt")
    for name in ("a.npz", "a.pt"):
        with pytest.raises(ValueError, match=message) as error:
            read_flow(tmp_path / name)
        assert name in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(ValueError, match=message):
        write_flow(tmp_path / "b.npz", values)
    assert not (tmp_path / "b.npz").exists()


def test_damaged_files_give_one_line(tmp_path):
    flow = some_flow(20, 30)
    for suffix in (".npz", ".npy", ".flo", ".pt"):
        write_flow(tmp_path / f"good{suffix}", flow)
    write_motion(tmp_path / "good.pth", flow)
    for good in list(tmp_path.glob("good.*")):
        data = good.read_bytes()
        for cut in (b"", data[:3], data[:40], data[: len(data) // 2], data[:-5], b"<!DOCTYPE html>" * 50):
            bad = tmp_path / f"bad{good.suffix}"
            bad.write_bytes(cut)
            with pytest.raises(ValueError, match="bad") as error:
                read_flow(bad)
            assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError, match="nowhere.npz"):
        read_flow(tmp_path / "nowhere.npz")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match="expected one of .npz"):
        read_flow(tmp_path / "a.txt")


# ---------------------------------------------------------------- geometry and colours
def test_resize_keeps_pixels_per_frame():
    flow = torch.tensor([1.0, 2.0])[:, None, None].expand(2, 8, 10)
    for mode in ("bilinear", "nearest"):
        big = resize_flow(flow, (16, 30), mode)
        assert big.shape == (2, 16, 30)
        assert torch.allclose(big[0], torch.tensor(3.0)) and torch.allclose(big[1], torch.tensor(4.0))
    assert resize_flow(flow[None], (4, 5)).shape == (1, 2, 4, 5)
    assert torch.equal(resize_flow(flow, (8, 10)), flow)
    with pytest.raises(ValueError, match="bicubic"):
        resize_flow(flow, (4, 4), "bicubic")


def test_flip_twice_is_nothing_and_one_pixel_moves():
    flow = some_flow()
    assert torch.equal(flip_flow(flip_flow(flow)), flow)
    assert torch.equal(flip_flow(flow)[:, 2, 0], flow[:, 2, 6] * torch.tensor([-1.0, 1.0]))


def test_motion_mask_of_a_moving_half():
    flow = torch.zeros(2, 4, 6)
    flow[0, :, 3:] = 2
    flow[1, 0, 0] = 1e-3
    assert motion_mask(flow).tolist() == [[[False] * 3 + [True] * 3] * 4]
    assert motion_mask(flow, "zeros").sum() == 13
    assert not motion_mask(torch.zeros(2, 4, 6)).any()
    assert motion_mask(flow.expand(3, 2, 4, 6)).shape == (3, 1, 4, 6)


def test_right_is_red_and_rest_is_white():
    flow = torch.zeros(2, 1, 2)
    flow[0, 0, 0] = 3
    right, rest = flow_to_color(flow)[0]
    assert right[0] > 250 and right[1] < 30 and right[2] < 60 and rest.tolist() == [255, 255, 255]


def test_clamp_flow():
    flow = torch.tensor([3.0, 0.2, 0.0, 4.0, -0.1, 0.0]).view(2, 1, 3)  # (3, 4), (0.2, -0.1), (0, 0)
    assert clamp_flow(flow, "component").flatten().tolist() == pytest.approx([1, 0.2, 0, 1, -0.1, 0])
    assert clamp_flow(flow, "magnitude", 2.5).flatten().tolist() == pytest.approx([1.5, 0.2, 0, 2, -0.1, 0])
    assert torch.equal(clamp_flow(flow, "none"), flow)
    with pytest.raises(ValueError, match="harder"):
        clamp_flow(flow, "harder")
