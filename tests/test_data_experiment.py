"""The experiment folder: round trips, names, and the record of what was made from what."""

import pytest
import torch
from text2cinemagraph.data.experiment import Experiment
from text2cinemagraph.inference_t2c import ARTIFACTS


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".", "..", "/abs", "a\\b", "x\n"])
def test_a_name_is_not_a_path(tmp_path, name):
    with pytest.raises(ValueError, match="experiment_name"):
        Experiment(tmp_path, name, ARTIFACTS)


def test_round_trip(tmp_path):
    e = Experiment(tmp_path, "one", ARTIFACTS)
    image, mask = torch.randint(0, 256, (3, 8, 6)).float() / 255, torch.rand(1, 8, 6) > 0.5
    flow, noise = torch.randn(2, 8, 6), torch.randn(1, 4, 2, 2)
    e.write(image=image, mask=mask, flow=flow, noise=noise, attention={"maps": torch.rand(4, 4)})
    for name, value in (("image", image), ("mask", mask), ("flow", flow), ("noise", noise)):
        assert torch.equal(e.read(name), value), name
    assert e.read("attention")["maps"].shape == (4, 4)
    assert len(e.read("image", "flow")) == 2


def test_missing_and_damaged(tmp_path):
    e = Experiment(tmp_path, "one", ARTIFACTS)
    with pytest.raises(FileNotFoundError, match="twin.png"):
        e.read("twin")
    e.write(noise=torch.zeros(1))
    e.path("noise").write_bytes(b"junk")
    with pytest.raises(ValueError, match="noise.safetensors"):
        e.read("noise")


def test_own_picture_removes_what_belonged_to_another(tmp_path):
    e = Experiment(tmp_path, "one", ARTIFACTS)
    e.write(noise=torch.zeros(1), attention=torch.zeros(1))
    e.give(image=torch.zeros(3, 4, 4))
    assert e.given("image") and not e.has("noise") and not e.has("attention")
    e.write(image=torch.ones(3, 4, 4))
    e.note("s1", (), ("image",), {})
    assert not e.given("image")


def test_stale_stages_are_known(tmp_path):
    e = Experiment(tmp_path, "one", ARTIFACTS)
    e.write(twin=torch.zeros(3, 4, 4), mask_odise=torch.ones(1, 4, 4).bool())
    e.note("s3", ("twin",), ("mask_odise",), {})
    assert e.stale() == []
    e.write(twin=torch.ones(3, 4, 4))
    assert e.stale() == ["s3"]
    e.write(mask=torch.ones(1, 4, 4).bool())
    e.note("s4", ("mask_odise",), ("mask",), {})
    assert e.stale() == ["s3", "s4"]  # what was made from something out of date is out of date


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        Experiment(tmp_path / "file", "one", ARTIFACTS).write(image=torch.zeros(3, 4, 4))
