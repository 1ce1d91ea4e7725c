"""Precision by the card, the start line, the machine's errors in words: for cards that this machine need not have."""

import errno
from types import SimpleNamespace

import pytest
import torch
from text2cinemagraph.img2img.diffusion import load_diffusion
from text2cinemagraph.options.cli import run_main
from text2cinemagraph.options.devices import best_device, full_if_it_fits, half_or_full, machine_error, start_line
from text2cinemagraph.options.runtime import Runtime, make_runtime

from tests.published_files import save_stable_diffusion


@pytest.fixture
def card(monkeypatch):
    """card(capability): torch sees one CUDA card."""

    def plug_in(capability, name="Tesla T4"):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: name)

    return plug_in


@pytest.mark.parametrize(
    "capability, drawing, video",
    [((5, 2), "fp32", "fp32"), ((7, 5), "fp16", "fp16"), ((8, 0), "fp16", "bf16"), ((9, 0), "fp16", "bf16")],
)
def test_precision_follows_the_card(card, capability, drawing, video):
    card(capability)
    device = torch.device("cuda")
    assert (half_or_full(device, "fp16"), half_or_full(device, "bf16")) == (drawing, video)
    assert make_runtime().dtype == {"fp16": torch.float16, "fp32": torch.float32}[drawing]
    if capability < (8, 0):
        with pytest.raises(ValueError, match="bf16: Tesla T4 .*only emulates it; use fp16 or fp32"):
            make_runtime("cuda", "bf16")
    else:
        assert make_runtime("cuda", "bf16").dtype == torch.bfloat16


def test_a_cpu_and_apples_gpu_compute_in_fp32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert best_device() == "cpu" and make_runtime().dtype == torch.float32
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    runtime = make_runtime()
    assert (runtime.device.type, runtime.dtype, half_or_full(runtime.device, "bf16")) == ("mps", torch.float32, "fp32")
    with pytest.raises(ValueError, match="on mps only fp32"):
        make_runtime("mps", "fp16")


@pytest.mark.parametrize(
    "gigabytes, capability, dtype", [(8, (7, 5), "fp16"), (24, (8, 6), "fp32"), (8, (5, 2), "fp32")]
)
def test_a_small_card_takes_half_precision_where_it_can(card, monkeypatch, gigabytes, capability, dtype):
    card(capability)
    memory = SimpleNamespace(total_memory=gigabytes * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device=None: memory)
    assert full_if_it_fits(torch.device("cuda"), 12e9) == dtype and full_if_it_fits(torch.device("cpu"), 12e9) == "fp32"


# ---------------------------------------------------------------- the start line
def test_the_start_line_says_where_and_how(card):
    torch.set_num_threads(1)
    assert start_line(make_runtime("cpu")).startswith("device: CPU, fp32, 1 thread")
    card((7, 5))
    assert start_line(Runtime(torch.device("cuda", 0), torch.float16)) == "device: Tesla T4 (cuda:0), fp16, 1 thread"
    assert start_line(Runtime(torch.device("mps"), torch.float32)).startswith("device: Apple GPU (mps), fp32")


@pytest.mark.parametrize(
    "cuda, seen, said",
    [(None, False, "built for CPUs: pip install torch"), ("13.0", False, "update its driver"), ("13.0", True, "")],
)
def test_a_gpu_that_lies_idle_is_told_with_what_to_do(monkeypatch, cuda, seen, said):
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: seen)
    monkeypatch.setattr("text2cinemagraph.options.devices.has_nvidia_gpu", lambda: True)
    line = start_line(Runtime(torch.device("cpu"), torch.float32))
    assert said in line and ("NVIDIA GPU" in line) == bool(said)


# ---------------------------------------------------------------- errors of the machine
class AllocatorError(MemoryError):
    pass


MACHINE = [
    (
        torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 5.79 GiB."
        ),
        "not enough memory (CUDA out of memory); set runtime.slicing=true, run stage by stage",
    ),
    (
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        "slicing",
    ),
    (RuntimeError("MPS backend out of memory (MPS allocated: 5.4 GB)"), "not enough memory"),
    (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), "the GPU reports an error"),
    (AllocatorError("Unable to allocate 1.2 TiB for an array"), "not enough memory"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), "not enough memory"),
    (
        RuntimeError("CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors might"),
        "no kernels for this GPU",
    ),
    (RuntimeError("The NVIDIA driver on your system is too old (found version 11040)."), "driver is too old"),
    (RuntimeError("CUDA driver version is insufficient for CUDA runtime version"), "driver is too old"),
]


@pytest.mark.parametrize("error, words", MACHINE, ids=lambda value: str(value)[:20])
def test_errors_of_the_machine_keep_their_names_in_one_line(error, words, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as left:
        run_main(main)
    line = capsys.readouterr().err
    assert left.value.code == 1 and line.count("\n") == 1 and len(line) <= 201 and words in line, line


@pytest.mark.parametrize(
    "error", [RuntimeError("size mismatch"), ValueError("not enough memory for 12 MP: 30 GB"), OSError("x")]
)
def test_other_errors_are_not_taken_for_the_machines(error):
    assert machine_error(error) is None


@pytest.mark.parametrize(
    "error", [error for error, _ in MACHINE if isinstance(error, RuntimeError | OSError)], ids=lambda e: str(e)[:20]
)
def test_a_loader_never_says_fetch_it_again_for_a_full_or_wrong_card(tmp_path, monkeypatch, error):
    save_stable_diffusion(tmp_path / "sd")

    def full(*_, **__):
        raise error

    monkeypatch.setattr("diffusers.UNet2DConditionModel.from_pretrained", full)
    with pytest.raises(type(error)) as raised:
        load_diffusion(str(tmp_path / "sd"), make_runtime("cpu"))
    assert raised.value is error


# ---------------------------------------------------------------- nothing that is not finite is written
class Overflows(torch.nn.Module):
    """Infinite in half precision, the wrapped network in float32; NaN in both if `always`."""

    def __init__(self, network, name, always=False):
        super().__init__()
        self.network, self.name, self.always, self.calls = network, name, always, []

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.network, name)

    def _through(self, name, *arguments, **more):
        made = getattr(self.network, name)(*arguments, **more)
        self.calls.append(self.network.dtype)
        bad = self.always or self.network.dtype != torch.float32
        if bad and hasattr(made, "sample") and torch.is_tensor(made.sample):
            made.sample = made.sample * float("inf")
        return made

    def forward(self, *arguments, **more):
        return self._through("forward", *arguments, **more)

    def decode(self, *arguments, **more):
        return self._through("decode", *arguments, **more)


@pytest.mark.parametrize("part", ["vae", "unet"])
def test_half_precision_that_overflows_is_computed_again_in_float32_and_told(tmp_path, part, capsys):
    save_stable_diffusion(tmp_path / "sd")
    runtime = Runtime(torch.device("cpu"), torch.bfloat16)
    model, exact = (
        load_diffusion(str(tmp_path / "sd"), runtime),
        load_diffusion(str(tmp_path / "sd"), make_runtime("cpu")),
    )
    wrapped = Overflows(getattr(model, part), part)
    setattr(model, part, wrapped)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    run = {
        "vae": lambda m: m.decode(x),
        "unet": lambda m: m.predict_noise(x, 500, torch.zeros(1, 77, 32)),
    }[part]
    with torch.no_grad():
        made = run(model)
        assert made.isfinite().all() and wrapped.calls == [torch.bfloat16, torch.float32]
        assert "computed in float32 from here on" in capsys.readouterr().out
        torch.testing.assert_close(made, run(exact), atol=0.02, rtol=0.02)  # its weights went through bfloat16
        run(model)
        assert wrapped.calls[2:] == [torch.float32]  # said once, and no longer tried in half
        wrapped.always = True
        with pytest.raises(ValueError, match="even in float32"):
            run(model)


def test_frames_that_overflow_are_made_again_and_a_picture_with_nan_is_never_written(tmp_path, capsys):
    from text2cinemagraph.data.media import write_image
    from text2cinemagraph.models.video import VideoModel

    with pytest.raises(ValueError, match="NaN or infinite values and is not written"):
        write_image(tmp_path / "x.png", torch.full((3, 4, 4), float("nan")))
    assert not (tmp_path / "x.png").exists()
    net = torch.nn.Conv2d(1, 1, 1).half()
    model = VideoModel(net, SimpleNamespace())

    def start():
        for n in range(5):
            good = n < 2 or net.weight.dtype == torch.float32
            yield torch.full((3, 2, 2), float(n) if good else float("nan"))

    frames = list(model._finite(start))
    assert [int(frame[0, 0, 0]) for frame in frames] == [0, 1, 2, 3, 4]
    assert capsys.readouterr().out.count("note: frame 2 holds NaN") == 1
    with pytest.raises(ValueError, match="frame 0 holds NaN.*even in float32"):
        list(model._finite(lambda: iter([torch.full((3, 2, 2), float("nan"))])))


def test_noise_is_drawn_on_the_cpu_unless_the_authors_way_is_asked_for(tmp_path, monkeypatch):
    """runtime.noise decides the generator's device; on a CPU both are one."""
    from text2cinemagraph.options.cli import load_options
    from text2cinemagraph.options.inference import InferenceOptions
    from text2cinemagraph.pipeline.drawing import noise_generator
    from text2cinemagraph.pipeline.stages import RunState

    places, cpu = [], torch.Generator()
    monkeypatch.setattr(torch, "Generator", lambda place: places.append(str(place)) or cpu)
    for noise in ("cpu", "device"):
        options = load_options(InferenceOptions, None, [f"runtime.noise={noise}"])
        state = RunState(Runtime(torch.device("meta"), torch.float32), None)
        assert noise_generator(options, state).initial_seed() == 0
    assert places == ["cpu", "meta"]
