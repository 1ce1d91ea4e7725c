"""The adversarial phase of the autoencoder: it moves the decoder only, and its parts give known answers."""

import torch
import torch.nn.functional as F
from text2cinemagraph.img2img.autoencoder import PatchAutoencoder
from text2cinemagraph.mini.sharpen import Sharpening, energy_loss, late_half, sharpen
from text2cinemagraph.models.training.config import TrainingConfig


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
    config = TrainingConfig(samples=50, batch_size=2, lr=1e-3)
    steps = sharpen(vae, lambda count: x, F.l1_loss, config, start=0.0, detail=0.5, report=said.append)
    changed = {name.split(".")[0] for name, value in vae.state_dict().items() if not torch.equal(value, before[name])}
    assert steps == 25 and len(said) > 5
    assert "detail kept nan" in said[0] and "adversarial weight 0.40" in said[0]
    assert "nan" not in said[-1] and "adversarial weight 0.40" not in said[-1]  # steered
    assert changed == {"decoder", "linear_out"}


def test_one_backward_pass_serves_decoder_and_discriminator():
    """The decoder gets the gradient that was made at the picture, the discriminator that of its own loss alone."""
    sharpening = Sharpening(tiny(), F.l1_loss, channels=4, start=0.0)
    torch.manual_seed(1)
    losses = sharpening((torch.rand(2, 3, 64, 64) * 2 - 1, 1.0))
    losses.total.backward()
    together = [p.grad.clone() for p in sharpening.critic.parameters()]
    for p in sharpening.critic.parameters():
        p.grad = None
    torch.manual_seed(1)
    sharpening((torch.rand(2, 3, 64, 64) * 2 - 1, 1.0)).terms["critic"].backward()
    for a, p in zip(together, sharpening.critic.parameters()):
        torch.testing.assert_close(a, p.grad)
    assert all(p.grad is not None for p in sharpening.decoder)


def test_the_rate_falls_late():
    assert [late_half(share) for share in (0, 0.4, 0.75, 1)] == [1, 1, 0.5, 0.05]
