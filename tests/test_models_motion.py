"""MotionModel: units, sizes, what it needs, the original's s5 numbers, and loading with and without a card."""

import json

import numpy as np
import pytest
import torch
from text2cinemagraph.data.checkpoint import save_checkpoint
from text2cinemagraph.models.motion import MotionModel, load_motion_model, motion_input, pad_to_multiple
from text2cinemagraph.models.networks import build_motion
from text2cinemagraph.options.runtime import make_runtime
from text2cinemagraph.options.train import MotionOptions
from torch import nn

from tests.comparison import assert_near
from tests.golden_numbers import GOLDEN, evaluate, stride_of

SMALL = dict(netG="spadeunet", nf=4, spade_hidden=4, fineSize=256)


class Recorder(nn.Module):
    """Stands in for a network: remembers its input, answers with a fixed output."""

    def __init__(self, output):
        super().__init__()
        self.output, self.label = output, None

    def forward(self, x, context=None):
        self.label = x
        return self.output if isinstance(self.output, torch.Tensor) else torch.full_like(x[:, :2], self.output)


def model_of(output=0.01, **options):
    return MotionModel(Recorder(output), MotionOptions(**{"netG": "spadeunet", "fineSize": 64, **options}))


@pytest.mark.golden
@pytest.mark.parametrize("key", ["s5", "s5_directional"])
def test_golden_s5(key):
    file, info = np.load(GOLDEN / "inference.npz"), json.loads((GOLDEN / "inference.json").read_text())
    seed, (_, channels, size, _) = info["theta"]["python_random_seeds"][0] // 100, info[f"{key}.label_shape"]
    twin = evaluate(info["s5_inputs"]["twin"].split("->")[0], seed=seed, u8=lambda x: np.round((x + 1) * 127.5)) / 255
    mask = evaluate(info["s5_inputs"]["mask"].split("*255")[0], seed=seed)[None] > 0.5
    mask[:, :8, :8] = False  # 254 of 255 counts as no mask
    output = evaluate(info["s5_inputs"]["net_output"].split(", n =")[0], seed=seed, n=size)
    model = model_of(output, input_nc=channels, fineSize=size)
    hint = torch.zeros(2, size, size) if channels == 6 else None
    flow = model.predict(twin, mask, hint=hint)
    step, wanted = stride_of(file, f"{key}.Motion")
    assert_near(flow[None, :, ::step, ::step] / 64, wanted, 1e-5)
    step, label = stride_of(file, f"{key}.label")
    label = label[:, :4].copy()
    label[:, 3, 0, 0] = 0  # the corner again
    assert_near(model.net.label[:, :4, ::step, ::step], label, 1e-5)


def test_flow_is_in_pixels_of_the_picture_and_zero_outside_the_mask():
    mask = torch.zeros(1, 100, 150, dtype=torch.bool)
    mask[:, 50:] = True
    model = model_of(0.01)
    flow = model.predict(torch.rand(3, 100, 150), mask)
    assert model.net.label.shape == (1, 4, 256, 256)  # 64 x 96, padded
    torch.testing.assert_close(flow[:, 50:], torch.full((2, 50, 150), 0.64 * 100 / 64))
    assert flow[:, :50].abs().max() == 0


def test_hint_is_normalised_once():
    image, mask = torch.rand(3, 128, 128), torch.ones(1, 128, 128, dtype=torch.bool)
    model = model_of(input_nc=6)
    model.predict(image, mask, hint=torch.stack([torch.full((128, 128), 64.0), torch.zeros(128, 128)]))
    label = model.net.label[0, :, :64, :64]
    assert torch.allclose(label[4], torch.tensor(0.5)) and label[5].abs().max() == 0  # half the size, half the px/frame
    assert label[:3].min() >= -1 and label[:3].min() < 0
    whole = motion_input(image, mask, torch.ones(2, 128, 128), 64)
    torch.testing.assert_close(whole[:3], image * 2 - 1)
    assert whole.shape == (6, 128, 128) and (whole[4:] == 1 / 64).all()


def test_padding_mirrors_where_it_can():
    x = torch.arange(12.0).reshape(1, 1, 1, 12)
    assert pad_to_multiple(x.expand(1, 1, 8, 12), 8).shape == (1, 1, 8, 16)
    assert pad_to_multiple(x.expand(1, 1, 8, 12), 8)[0, 0, 0, 12:].tolist() == [10, 9, 8, 7]
    assert pad_to_multiple(x.expand(1, 1, 3, 12), 16).shape == (1, 1, 16, 16)


def test_errors_name_what_is_missing():
    image, mask = torch.rand(3, 64, 64), torch.ones(1, 64, 64, dtype=torch.bool)
    for model, arguments, word in (
        (model_of(netG="spadexattnunetsd"), {}, "no text was given"),
        (model_of(netG="spadexattnunetsd"), {"text": "a river"}, "text_encoder_path"),
        (model_of(input_nc=6), {}, "hint"),
        (model_of(input_nc=6), {"hint": torch.zeros(2, 9, 9)}, r"expected \(2, 64, 64\)"),
    ):
        with pytest.raises(ValueError, match=word) as error:
            model.predict(image, mask, **arguments)
        assert "\n" not in str(error.value)


def test_load_with_card_ignores_the_options_given(tmp_path):
    net, runtime = build_motion(MotionOptions(**SMALL)), make_runtime("cpu")
    save_checkpoint(tmp_path / "latest_net_G.safetensors", net.state_dict(), {"options": {**SMALL, "lr": 1e-4}})
    model = load_motion_model(tmp_path, MotionOptions(), runtime)
    assert model.options == MotionOptions(**SMALL) and not model.net.training
    flow = model.predict(torch.rand(3, 100, 70), torch.ones(1, 100, 70, dtype=torch.bool))
    assert flow.shape == (2, 100, 70) and flow.isfinite().all() and flow.abs().max() > 0


def test_load_the_authors_bare_file(tmp_path):
    net, runtime = build_motion(MotionOptions(**SMALL)), make_runtime("cpu")
    torch.save(net.state_dict(), tmp_path / "latest_net_G.pth")
    assert load_motion_model(tmp_path, MotionOptions(**SMALL), runtime).options.nf == 4
    with pytest.raises(ValueError, match="do not fit"):
        load_motion_model(tmp_path, MotionOptions(**{**SMALL, "nf": 8}), runtime)


def small_text_encoder(folder, width=32, length=12):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "a": 2, "river": 3, "sky": 4}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", eos_token="<pad>", model_max_length=length
    ).save_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    CLIPTextModel(
        CLIPTextConfig(
            vocab_size=8,
            hidden_size=width,
            intermediate_size=width,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=length,
            eos_token_id=0,
        )
    ).save_pretrained(folder / "text_encoder")


def test_a_network_that_reads(tmp_path):
    pytest.importorskip("transformers")
    options = dict(
        netG="spadexattnunetsd", nf=32, spade_hidden=4, context_dim=32, fineSize=64, text_encoder_path="text"
    )
    torch.manual_seed(0)
    net = build_motion(MotionOptions(**options))
    save_checkpoint(tmp_path / "latest_net_G.safetensors", net.state_dict(), {"options": options})
    with pytest.raises(FileNotFoundError, match="text_encoder_path"):
        load_motion_model(tmp_path, None, make_runtime("cpu"))
    small_text_encoder(tmp_path / "text")
    model = load_motion_model(tmp_path, None, make_runtime("cpu"))  # the path is relative to the checkpoint
    image, mask = torch.rand(3, 64, 64), torch.ones(1, 64, 64, dtype=torch.bool)
    river, sky = (model.predict(image, mask, text) for text in ("a river", "a sky"))
    assert not torch.equal(river, sky) and torch.equal(river, model.predict(image, mask, "a river"))
    pictures = [image, torch.rand(3, 64, 64), torch.rand(3, 64, 96)]
    cases = [
        (picture, torch.ones(1, *picture.shape[1:], dtype=torch.bool), text, None)
        for picture, text in zip(pictures, ("a river", "a sky", "a river"))
    ]
    for case, flow in zip(cases, model.predict_all(cases)):
        assert_near(flow, model.predict(*case), 1e-4)
