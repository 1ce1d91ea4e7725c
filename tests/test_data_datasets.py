"""Datasets: everything of an item is cut alike, repeats by seed and epoch, and broken items are named."""

import random

import pytest
import torch
from text2cinemagraph.data.datasets import (
    FrameDataset,
    MotionBatch,
    MotionDataset,
    mirror_words,
    random_hint,
    read_captions,
)
from text2cinemagraph.data.flow import write_motion
from text2cinemagraph.data.media import write_image, write_mask


@pytest.fixture
def root(tmp_path):
    """Three 48x64 items whose flow is told by their colours: red = dx, green = dy (in px/frame, exact in 8 bits)."""
    folder = tmp_path / "train"
    for k in range(3):
        image = torch.zeros(3, 48, 64)
        image[0], image[1] = torch.linspace(0, 1, 64).mul(255).round() / 255, (k + 1) / 255 * 50
        write_image(folder / f"{k:05}_input.png", image)
        write_motion(folder / f"{k:05}_motion.pth", image[:2])
        write_mask(tmp_path / "masks" / f"{k:05}_mask.png", image[:1] > 0.5)
        for n in range(60):
            write_image(folder / f"{k:05}_gt" / "images" / f"{n}.png", torch.full((3, 48, 64), n / 255))
    (tmp_path / "captions.txt").write_text("00000:a river: in left to right direction\n/x/00001:lake\n00002:mountain")
    return folder


def test_flow_and_mask_follow_the_picture(root):
    data = MotionDataset(root, 32, root.parent / "masks", root.parent / "captions.txt")
    flipped = set()
    for epoch in range(6):
        data.set_epoch(epoch)
        item = data[0]
        assert item.image.shape == (3, 32, 32) and item.mask.shape == (1, 32, 32) and item.mask.dtype == torch.bool
        rising = bool(item.image[0, 0, -1] > item.image[0, 0, 0])
        flipped.add(not rising)
        zoom = item.flow[1].mean() / item.image[1].mean()  # 32/48 ... 1.25 of it: flow shrinks with the picture
        assert 0.66 < zoom < 0.84
        sign = 1 if rising else -1
        torch.testing.assert_close(sign * item.flow[0], zoom * item.image[0], atol=0.02, rtol=0)
        assert (item.mask == (item.image[:1] > 0.5)).float().mean() > 0.93
        assert ("left to right" in item.caption) == rising
    assert flipped == {True, False}


def test_items_repeat_by_seed_and_epoch_alone(root):
    one, two = MotionDataset(root, 32, use_hint=True, seed=3), MotionDataset(root, 32, use_hint=True, seed=3)
    two[0], two[2]
    assert torch.equal(one[1].image, two[1].image) and torch.equal(one[1].hint, two[1].hint)
    before = one[1].image
    one.set_epoch(7)
    assert not torch.equal(one[1].image, before)


def test_batches_reach_workers(root):
    data = MotionDataset(root, 32, captions_file=root.parent / "captions.txt", flip=False)
    loader = torch.utils.data.DataLoader(data, batch_size=3, num_workers=1, collate_fn=MotionBatch.collate)
    batch = next(iter(loader)).to("cpu")
    assert batch.flow.shape == (3, 2, 32, 32) and batch.hint is None
    assert batch.caption == ["a river: in left to right direction", "lake", "mountain"]
    assert torch.equal(batch.image[2], data[2].image)


def test_broken_items_are_skipped_with_a_word(root):
    (root / "00001_motion.pth").write_bytes(b"no")
    data = MotionDataset(root, 32)
    with pytest.warns(UserWarning, match="00001"):
        item = data[1]
    assert item.image[1].mean() > 0.5 and list(data.broken) == ["00001"]  # the third item came instead
    with pytest.raises(ValueError, match="leave out --strict"):
        MotionDataset(root, 32, strict=True)[1]
    for k in (0, 2):
        (root / f"{k:05}_motion.pth").unlink()
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="none of the 3 items"):
        data[0]


def test_missing_folders_are_named(root, tmp_path):
    with pytest.raises(FileNotFoundError, match="dataroot"):
        MotionDataset(tmp_path / "nowhere", 32)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="_input.jpg"):
        MotionDataset(tmp_path / "empty", 32)


def test_frames_come_in_order_with_their_numbers(root):
    data = FrameDataset(root, 32)
    for epoch in range(8):
        data.set_epoch(epoch)
        item = data[0]
        start, middle, end = item.index.tolist()
        assert 0 <= start < 20 and 40 <= end < 60 and start <= middle < end
        for frame, number in ((item.start, start), (item.middle, middle), (item.end, end)):
            torch.testing.assert_close(frame, torch.full_like(frame, number / 255))
        assert item.flow[1].mean() == pytest.approx(50 / 255, abs=1e-3)  # crops at full size: px/frame unchanged


def test_stills_stand(root):
    item = FrameDataset(root, 32, stills=[root], stills_share=1.0)[0]
    assert torch.equal(item.start, item.middle) and torch.equal(item.start, item.end) and not item.flow.any()


def test_predicted_flow_of_stage_two(root, tmp_path):
    torch.save(torch.full((1, 2, 48, 64), 0.5), tmp_path / "00000_Motion.pt")
    assert FrameDataset(root, 32, motion_path=tmp_path)[0].flow.abs().eq(32).all()


def test_captions_of_both_kinds(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"id": "7", "captions": {"natural": "a", "oil": "b"}}\n')
    assert read_captions(tmp_path / "c.jsonl") == {"7": ["a", "b"]}
    (tmp_path / "c.txt").write_text("no colon here\n")
    with pytest.raises(ValueError, match="no colon"):
        read_captions(tmp_path / "c.txt")
    assert mirror_words("left to right, not right to left") == "right to left, not left to right"


def test_hints_point_the_right_way():
    flow = torch.zeros(2, 64, 64)
    flow[0, 20:40], flow[1, 20:40] = 1.0, -0.5
    mask = flow[:1] != 0
    for seed in range(6):
        hint = random_hint(flow, mask, random.Random(seed))
        inside = hint[:, 25:35, 5:60]
        torch.testing.assert_close(inside[1] / inside[0], torch.full_like(inside[0], -0.5))
        assert 0.6 < inside[0].mean() < 1.6 and not hint[:, :20].any()
    assert not random_hint(torch.zeros(2, 8, 8), torch.zeros(1, 8, 8, dtype=torch.bool), random.Random(0)).any()
