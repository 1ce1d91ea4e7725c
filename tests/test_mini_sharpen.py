"""The adversarial phase of the autoencoder: it moves the decoder only, and its parts give known answers."""

import torch
import torch.nn.functional as F
from text2cinemagraph.img2img.autoencoder import PatchAutoencoder
from text2cinemagraph.mini.sharpen import energy_loss, sharpen


def tiny():
    torch.manual_seed(0)
    return PatchAutoencoder(encoder_channels=(8, 8, 8), decoder_channels=(8, 8, 8), decoder_blocks=(1, 1, 1))


def test_energy_loss_of_equal_pictures_is_zero():
    x = torch.rand(2, 3, 32, 32)
    assert energy_loss(x, x) == 0


def test_energy_ignores_where_strokes_lie():
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[..., ::4] = 1  # period 4, windows of 8: every phase has the same energy
    moved, flat = stripes.roll(1, -1), torch.full_like(stripes, 0.25)
    inner = slice(16, 48)
    assert energy_loss(moved[..., inner], stripes[..., inner]) < 0.2 * energy_loss(
        flat[..., inner], stripes[..., inner]
    )


def test_only_the_decoder_changes():
    vae, said = tiny(), []
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    steps = sharpen(vae, lambda: x, F.l1_loss, seconds=1.5, report=said.append)
    changed = {name.split(".")[0] for name, value in vae.state_dict().items() if not torch.equal(value, before[name])}
    assert steps > 0 and said
    assert changed == {"decoder", "linear_out"}
