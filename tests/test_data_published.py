"""Items, pictures and flow as the authors cut them: the numbers of dataset.npz and inference.npz."""

import json
import random

import numpy as np
import pytest
import torch
from text2cinemagraph.data.datasets import FrameDataset, MotionDataset
from text2cinemagraph.data.flow import clamp_flow, read_flow, resize_flow, write_motion
from text2cinemagraph.data.media import read_image, to_uint8
from text2cinemagraph.data.published import PublishedWindow, published_window, resize_image, soft_mask
from text2cinemagraph.models.motion import motion_input

from tests.golden_numbers import GOLDEN, evaluate, load_golden, stride_of

pytestmark = pytest.mark.golden


class Scripted:
    """Stands in for random.Random: the original's draws, in our order."""

    def __init__(self, *values):
        self.values = list(values)

    def draw(self, *_):
        return self.values.pop(0)

    randint = randrange = random = draw


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """(file, facts, root): the golden file, its JSON, and the folder it describes, written anew."""
    file = np.load(GOLDEN / "dataset.npz")
    facts = json.loads(str(file["json"]))
    info, root = facts["recipe"], tmp_path_factory.mktemp("published") / "train"
    h, w = info["source_hw"]

    def made(key, item, **names):
        text = info[key].replace("<id>", item).replace("<c>", str(names.get("c"))).replace("<n>", str(names.get("n")))
        text = text.split(" as PNG")[0].split(" PNG")[0].split(" saved as")[0]
        return evaluate(text, seed=info["seed"], h=h, w=w, u8=lambda x: np.round((x + 1) * 127.5))

    frames = {n for triple in facts["frame_index_first8_start_middle_end"][:1] for n in triple}
    for item in info["ids"]:
        (root / f"{item}_gt" / "images").mkdir(parents=True)
        (root / f"{item}_input.jpg").write_bytes(file[f"file.{item}_input.jpg"].tobytes())
        write_motion(root / f"{item}_motion.pth", made("motion", item)[0].float())
        write_png(root.parent / "masks" / f"{item}_mask.png", made("seg", item))
        for n in frames:
            write_png(root / f"{item}_gt" / "images" / f"{n}.png", made("gt_frames", item, n=n).permute(1, 2, 0))
        for c in range(1, 6):
            (root.parent / "hints" / item).mkdir(parents=True, exist_ok=True)
            torch.save(made("hints", item, c=c).double(), root.parent / "hints" / item / f"{c}_blend.pth")
        (root.parent / "motion").mkdir(exist_ok=True)
        torch.save(made("pred", item), root.parent / "motion" / f"{item}_Motion.pt")
    return file, facts, root


def write_png(path, pixels):
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.numpy().astype(np.uint8)).save(path)


def compare(file, key, value, atol=0.01):
    """The kept pixels of an array: dataset.npz stores every second one (SPEC section 8: 0.01, jpeg decoders differ)."""
    close = np.abs(np.asarray(value)[:, ::2, ::2] - file[key]) <= atol
    assert close.shape == file[key].shape and close.mean() >= 0.999, (key, close.mean())


@pytest.mark.parametrize(
    "case, item, hint, masks",
    [
        ("motion_test_segmask", 0, False, True),
        ("motion_test_avgmask", 1, False, False),
        ("motion_test_hint", 0, True, False),
    ],
)
def test_whole_pictures(golden, case, item, hint, masks):
    file, facts, root = golden
    data = MotionDataset(
        root,
        facts["recipe"]["fineSize"],
        mask_path=root.parent / "masks" if masks else "",
        use_hint=hint,
        hints_path=root.parent / "hints" if hint else "",
        augment=False,
        as_published=True,
    )
    batch = data.read(facts["recipe"]["ids"][item], Scripted(facts["hint_idx_first10"][0]))
    compare(file, f"{case}.label", motion_input(batch.image, batch.mask, batch.hint))
    compare(file, f"{case}.image", batch.flow / 64)


def crop_and_flip(seed, full, size):
    """The original's draws: torchvision's RandomCrop after torch.manual_seed, then a flip by RandomState(5)."""
    torch.manual_seed(seed)
    y, x = (int(torch.randint(0, side - size + 1, (1,))) for side in full)
    return y, x, np.random.RandomState(5).uniform()


@pytest.mark.parametrize("case", ["motion_train_0", "motion_train_1", "motion_train_hint_0", "motion_train_hint_1"])
def test_training_pictures(golden, case):
    file, facts, root = golden
    info, number, hint = facts["recipe"], int(case[-1]), "hint" in case
    data = MotionDataset(
        root, info["fineSize"], use_hint=hint, hints_path=root.parent / "hints" if hint else "", as_published=True
    )
    draws = crop_and_flip(3 + number, info["source_hw"], info["fineSize"])
    batch = data.read(info["ids"][number], Scripted(*facts["hint_idx_first10"][:1] if hint else (), *draws))
    compare(file, f"{case}.label", motion_input(batch.image, batch.mask, batch.hint))
    compare(file, f"{case}.image", batch.flow / 64)


@pytest.mark.parametrize("case", ["frame_train1_0", "frame_train1_1", "frame_train2_0"])
def test_training_frames(golden, case):
    file, facts, root = golden
    info, number = facts["recipe"], int(case[-1])
    data = FrameDataset(root, info["fineSize"], root.parent / "motion" if "train2" in case else "", as_published=True)
    start, middle, end = facts["frame_index_first8_start_middle_end"][0]
    draws = crop_and_flip(9 + number, info["source_hw"], info["fineSize"])
    batch = data.read(info["ids"][number], Scripted(start, end, middle, 1.0, *draws))
    compare(file, f"{case}.label", torch.cat([batch.start * 2 - 1, batch.end * 2 - 1, batch.flow]))
    compare(file, f"{case}.image", batch.middle * 2 - 1)
    assert batch.index.tolist() == facts[case]["index"]


def test_frames_at_test_time(golden):
    """The picture squashed, the predicted flow clamped per component, times the speed, resized."""
    file, facts, root = golden
    info = facts["recipe"]
    item, size = info["ids"][1], info["fineSize"]
    window, image = PublishedWindow(size), read_image(root / f"{item}_input.jpg")
    flow = clamp_flow(read_flow(root.parent / "motion" / f"{item}_Motion.pt") * 64, "component") * 0.7
    picture = window.image(image) * 2 - 1
    compare(file, "frame_test.label", torch.cat([picture, picture, resize_flow(flow, (size, size))]))
    compare(file, "frame_test.image", picture)


def test_soft_masks():
    file, info = load_golden("flow_ops")
    for name, expression in info["flows"].items():
        ours, wanted = soft_mask(evaluate(expression, seed=info["seed"]))[0], file[f"{name}.train_mask_full"]
        scale = 255 if wanted.max() > 1 else 1
        off = np.abs(ours.numpy() * scale - wanted)
        assert off.max() <= scale / 255 + 1e-6 and (off < 1e-6).mean() > 0.99, name


def test_pictures_are_resized_as_published():
    """Of load_image only the filter is kept: its swapped sides and the resize it leaves out are bugs
    (docs/fidelity.md).
    """
    file, facts = np.load(GOLDEN / "inference.npz"), json.loads((GOLDEN / "inference.json").read_text())
    seed = facts["theta"]["python_random_seeds"][0] // 100
    for name, case in facts["load_image"].items():
        image = np.round(
            (evaluate(f"image(seed,'load.{name}',(3,{case['source_hw'][0]},{case['source_hw'][1]}))", seed=seed) + 1)
            * 127.5
        )
        wanted = file[f"load_image.{name}.out"]
        if case["source_hw"] == list(wanted.shape[1:]):
            continue
        assert np.abs(resize_image(image / 255, wanted.shape[1:]) * 2 - 1 - wanted).max() <= 0.03, name


def test_pictures_are_written_as_published():
    file, facts = np.load(GOLDEN / "inference.npz"), json.loads((GOLDEN / "inference.json").read_text())
    seed = facts["theta"]["python_random_seeds"][0] // 100
    made = evaluate(facts["tensor2im"]["norm"], seed=seed)
    assert np.abs(to_uint8((made + 1) / 2).astype(int) - file["tensor2im.norm"]).max() <= 1
    gray = evaluate(facts["tensor2im"]["one_channel"].split(", normalize")[0], seed=seed)
    assert np.abs(to_uint8(gray.expand(3, -1, -1))[..., 0].astype(int) - file["tensor2im.one_channel"]).max() <= 1


def test_the_video_networks_flow():
    """s6's flow: clamp per component, speed, then (where the network works at another size) nearest resize."""
    file, facts = np.load(GOLDEN / "inference.npz"), json.loads((GOLDEN / "inference.json").read_text())
    inputs, seed = facts["s5_inputs"], facts["theta"]["python_random_seeds"][0] // 100
    size = facts["s5.Motion"]["shape"][-1]
    flow = evaluate(inputs["net_output"].split(", n =")[0], seed=seed, n=size)[0] * 64
    mask = evaluate(inputs["mask"].split("*255")[0], seed=seed).clone()
    mask[:8, :8] = 0  # 254 counts as "outside" there
    for case in (key for key in facts if key.startswith("s6.")):
        speed = facts[case].get("speed") or float(case.split("speed")[1])
        side = facts[case]["label_shape"][-1]
        ours = resize_flow(clamp_flow(flow * mask, "component") * speed, (side, side), "nearest")
        step, wanted = stride_of(file, f"{case}.flow")
        np.testing.assert_allclose(ours[None, :, ::step, ::step], wanted, atol=1e-6, err_msg=case)


def test_a_picture_smaller_than_the_crop_is_told():
    with pytest.raises(ValueError, match="smaller than the published crop"):
        published_window((60, 200), 64, random.Random(0))
