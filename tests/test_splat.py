"""The splat: known answers, gradients, agreement of the backends, and the original's numbers."""

import pytest
import torch
from text2cinemagraph.softmax_splatting import cpu, gather, reference, splat, splat_blend

from tests.comparison import assert_near
from tests.golden_numbers import evaluate, load_golden

BACKENDS = {"reference": reference.splat_sum, "cpu": cpu.splat_sum}


def random_case(n=2, channels=5, height=12, width=15, seed=0, reach=6.0):
    rng = torch.Generator().manual_seed(seed)
    return (
        torch.randn(n, channels, height, width, generator=rng),
        reach * torch.randn(n, 2, height, width, generator=rng),
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_zero_flow_is_identity_and_integer_flow_a_shift(backend):
    image, _ = random_case()
    flow = torch.zeros(2, 2, 12, 15)
    assert torch.equal(BACKENDS[backend](image, flow), image)
    flow[:, 0], flow[:, 1] = 3, -2
    shifted = BACKENDS[backend](image, flow)
    assert torch.equal(shifted[..., :10, 3:], image[..., 2:, :12])
    assert shifted[..., 10:, :].abs().max() == 0 and shifted[..., :3].abs().max() == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_pixel_shares_among_four_and_keeps_the_mass(backend):
    image = torch.zeros(1, 1, 5, 5)
    image[..., 2, 2] = 8
    flow = torch.full((1, 2, 5, 5), 0.5)
    out = BACKENDS[backend](image, flow)
    assert (out[0, 0, 2:4, 2:4] == 2).all() and out.sum() == 8


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_leaves_the_image_is_dropped(backend):
    image, flow = torch.ones(1, 2, 6, 6), torch.zeros(1, 2, 6, 6)
    flow[0, :, 0, 0], flow[0, 0, 1, 1], flow[0, 1, 2, 2], flow[0, 0, 3, 3] = 7, float("nan"), float("inf"), -1e30
    out = BACKENDS[backend](image, flow)
    assert out.isfinite().all() and out[0, 0].sum() == 36 - 4
    assert all(out[0, 0, i, i] == 0 for i in range(4))


def test_backends_agree_and_do_not_depend_on_threads():
    image, flow = random_case(2, 7, 40, 56)
    expected = reference.splat_sum(image, flow)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(cpu.splat_sum(image, flow))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    assert_near(results[0], expected, 1e-5)
    assert_near(splat(image, flow), expected, 1e-5)
    assert_near(cpu.splat_sum(image.to(memory_format=torch.channels_last), flow), expected, 1e-5)


@pytest.mark.parametrize("mode", ["summation", "average", "linear", "softmax"])
def test_gradients(mode):
    rng = torch.Generator().manual_seed(0)
    image = torch.randn(2, 2, 4, 5, generator=rng, dtype=torch.float64, requires_grad=True)
    flow = (2 * torch.randn(2, 2, 4, 5, generator=rng, dtype=torch.float64)).requires_grad_()
    metric = torch.rand(2, 1, 4, 5, generator=rng, dtype=torch.float64, requires_grad=True)
    metric = metric if mode in ("linear", "softmax") else None
    tensors = [t for t in (image, flow, metric) if t is not None]
    assert torch.autograd.gradcheck(lambda *t: splat(*t, mode=mode), tensors)


def test_means_of_a_constant_are_that_constant():
    _, flow = random_case(reach=2)
    metric = torch.linspace(-60, 60, 180).reshape(1, 1, 12, 15).expand(2, 1, 12, 15)
    for mode, weight in (("average", None), ("softmax", metric), ("linear", metric.abs() + 1)):
        out = splat(torch.full((2, 3, 12, 15), 0.7), flow, weight, mode)
        assert (((out - 0.7).abs() < 1e-5) | (out == 0)).all() and (out > 0).float().mean() > 0.5


def test_softmax_lets_the_more_important_pixel_win():
    image, flow, metric = torch.zeros(1, 1, 1, 3), torch.zeros(1, 2, 1, 3), torch.zeros(1, 1, 1, 3)
    image[..., 0], image[..., 2] = 1, 2
    flow[0, 0, 0, 0], flow[0, 0, 0, 2] = 1, -1
    metric[..., 0], metric[..., 1] = 20, -20
    assert splat(image, flow, metric, "softmax")[0, 0, 0, 1].item() == pytest.approx(1, abs=1e-6)


def test_blend_is_the_mean_of_all_that_lands():
    rng = torch.Generator().manual_seed(3)
    features = torch.randn(6, 20, 24, generator=rng)
    moves = [3 * torch.randn(2, 20, 24, generator=rng) for _ in range(2)]
    weights = [torch.rand(20, 24, generator=rng) for _ in range(2)]
    blended, total = splat_blend(features, moves, weights)
    expected, expected_total = splat_blend(
        features.double(), [m.double() for m in moves], [w.double() for w in weights]
    )
    assert_near(blended, expected, 1e-4)  # some sums of weights are nearly 0
    assert_near(total, expected_total, 1e-5)
    assert (blended[:, total[0] == 0] == 0).all() and (total == 0).any()


def test_errors_say_what_was_expected():
    image, flow = random_case()
    metric = image[:, :1]
    for args, kwargs, word in (
        ((image, flow), {"mode": "max"}, "average"),
        ((image, flow[:1]), {}, "expected"),
        ((image, flow), {"mode": "softmax"}, "needs a metric"),
        ((image, flow, metric), {}, "leave it out"),
    ):
        with pytest.raises(ValueError, match=word):
            splat(*args, **kwargs)


@pytest.mark.golden
def test_golden():
    file, info = load_golden("softsplat")
    for name, case in info["cases"].items():
        image = evaluate(case["input"], seed=info["seed"]).requires_grad_()
        flow = evaluate(case["flow"].split(";")[0], seed=info["seed"])
        flow[:, 0, 0, :4], flow[:, 1, 0, :4], flow[:, :, 1, :4] = 2, -1, max(flow.shape[-2:]) + 1  # as the recipe says
        flow.requires_grad_()
        out = splat(image, flow)
        out.backward(evaluate(case["upstream_gradient"], seed=info["seed"]))
        metric = evaluate(case["metric"], seed=info["seed"])
        with torch.no_grad():
            found = {
                "sum": out,
                "grad_input": image.grad,
                "grad_flow": flow.grad,
                "average": splat(image, flow, mode="average"),
                "linear": splat(image, flow, metric, "linear"),
                "softmax": splat(image, flow, metric, "softmax"),
            }
            weight = splat(metric, flow).abs().expand_as(out)
        known = (weight > 1e-2 * weight.max()).numpy()  # "linear" divides by sums of both signs, which may cancel
        assert known.mean() > 0.6
        for key, value in found.items():
            where = known if key == "linear" else ...
            assert_near(value.detach().numpy()[where], file[f"{name}.{key}"][where], 1e-5, message=f"{name}.{key}")


def test_the_matrix_form_is_the_reference():
    """What a GPU without cupy computes, on the CPU's sparse product: NaN, far flows and whole pixels included."""
    torch.manual_seed(3)
    input, flow = torch.randn(2, 5, 13, 17), 4 * torch.randn(2, 2, 13, 17)
    flow[:, :, :3] = flow[:, :, :3].round()
    flow[0, 0, 4, 4], flow[0, 1, 5, 5], flow[0, 0, 6, 6] = float("nan"), float("inf"), -1e30
    wanted = reference.splat_sum(input.double(), flow.double())
    assert_near(gather.splat_sum(input, flow), wanted, 1e-5)
    weights = list(torch.rand(2, 13, 17))
    found, total = gather.splat_blend(input[0], list(flow), weights)
    expected, expected_total = cpu.splat_blend(input[0], list(flow), weights)
    assert_near(found, expected, 1e-4)
    assert_near(total, expected_total, 1e-5)
