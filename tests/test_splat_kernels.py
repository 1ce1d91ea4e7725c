"""The CUDA kernels: they compile, and the very same source, run by a C++ compiler thread after thread, gives the
reference's numbers.

The emulation stands in for cupy itself, so that all of kernels.py runs but the GPU. What it cannot show is a race
between threads; running them backwards shows that nothing but atomicAdd depends on their order.
"""

import ctypes
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from text2cinemagraph.softmax_splatting import cpu, kernels, reference, splat, splat_blend

DTYPES = {"float32": (torch.float32, 2e-5), "bfloat16": (torch.bfloat16, 8e-3), "float16": (torch.float16, 1e-3)}
SHIM = """
#include <cmath>
#include <cstring>
#define __global__
#define __device__
struct Place { int x, y; };
static Place blockIdx, blockDim, threadIdx;
static unsigned __float_as_uint(float value) { unsigned bits; memcpy(&bits, &value, 4); return bits; }
static float __uint_as_float(unsigned bits) { float value; memcpy(&value, &bits, 4); return value; }
template <class T> T atomicAdd(T* at, T value) { T before = *at; *at += value; return before; }
"""
LOOP = """
extern "C" void run_{name}(int blocks, int wide, int high, int backwards, {parameters}) {{
    blockDim = {{wide, high}};
    const int threads = blocks * wide * high;
    for (int i = 0; i < threads; ++i) {{
        const int at = backwards ? threads - 1 - i : i;
        blockIdx.x = at / (wide * high), threadIdx.y = at / wide % high, threadIdx.x = at % wide;
        {name}({names});
    }}
}}
"""


def as_library(source, folder):
    """CUDA source compiled as C++: each kernel k becomes run_k, a loop over its threads."""
    preprocess = ["g++", "-E", "-P", "-x", "c++", "-"]  # leaves the part that this module defines
    source = subprocess.run(preprocess, input=source, capture_output=True, text=True, check=True).stdout
    for name, parameters in re.findall(r'extern "C" __global__ void (\w+)\(([^)]*)\)', source):
        names = ", ".join(re.findall(r"(\w+)\s*(?:,|$)", parameters))
        source += LOOP.format(name=name, parameters=parameters, names=names)
    file = folder / f"{abs(hash(source))}.cpp"
    file.write_text(SHIM + source)
    subprocess.run(["g++", "-std=c++17", "-O1", "-shared", "-fPIC", "-o", file.with_suffix(".so"), file], check=True)
    return ctypes.CDLL(str(file.with_suffix(".so")))


class Emulation:
    """What kernels.py uses of cupy."""

    def __init__(self, folder):
        self.folder, self.libraries, self.backwards, self.launched = folder, {}, False, []
        stream = SimpleNamespace(from_external=lambda stream: nullcontext())
        self.cuda = SimpleNamespace(Device=lambda index: nullcontext(), Stream=stream)

    def RawModule(self, code, options):
        if code not in self.libraries:
            self.libraries[code] = as_library(code, self.folder)
        return SimpleNamespace(get_function=lambda name: lambda *call: self.run(self.libraries[code], name, *call))

    def run(self, library, name, grid, block, arguments):
        types = {np.uint64: ctypes.c_void_p, np.int32: ctypes.c_int, np.float32: ctypes.c_float}
        assert block[0] * block[1] <= 1024
        self.launched.append(name)
        getattr(library, f"run_{name}")(
            grid[0], *block, int(self.backwards), *(types[type(a)](a.item()) for a in arguments)
        )


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    if not shutil.which("g++"):
        pytest.skip("needs g++ to run the CUDA source on the CPU")
    return Emulation(tmp_path_factory.mktemp("emulation"))


@pytest.fixture
def emulation(compiled, monkeypatch):
    compiled.backwards, compiled.launched = False, []
    monkeypatch.setattr(kernels, "_cupy", lambda: compiled)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(__cuda_stream__=lambda: (0, 0)))
    kernels._kernel.cache_clear()
    yield compiled
    kernels._kernel.cache_clear()


def random_case(n=2, channels=7, height=12, width=15, reach=4.0, seed=0):
    rng = torch.Generator().manual_seed(seed)
    flow = reach * torch.randn(n, 2, height, width, generator=rng)
    flow[:, :, :3] = flow[:, :, :3].round()  # whole pixels: some corners get nothing
    flow[0, 0, 4, 4], flow[0, 1, 5, 5], flow[0, 0, 6, 6] = float("nan"), float("inf"), -1e30
    return torch.randn(n, channels, height, width, generator=rng), flow


def deviation(function, input, flow, tolerance):
    """Values and gradients against the reference in double. Returns the largest differences, as shares of the largest
    value.
    """
    upstream = torch.randn(input.shape, generator=torch.Generator().manual_seed(9)).to(input)
    found_input, found_flow = input.clone().requires_grad_(), flow.clone().requires_grad_()
    true_input, true_flow = input.double().requires_grad_(), flow.double().requires_grad_()
    out, expected = function(found_input, found_flow), reference.splat_sum(true_input, true_flow)
    out.backward(upstream)
    expected.backward(upstream.double())
    true_flow.grad.nan_to_num_(0)  # the reference says NaN where the flow is not a number; the kernels say 0
    result = []
    for a, b in ((out, expected), (found_input.grad, true_input.grad), (found_flow.grad, true_flow.grad)):
        assert a.shape == b.shape and a.isfinite().all()
        result.append(((a.double() - b).abs().max() / b.abs().max()).item())
        assert result[-1] < tolerance
    assert out.dtype == found_input.grad.dtype == input.dtype and found_flow.grad.dtype == flow.dtype
    return result


def compile_kernels(architecture):
    """Every source compiled with NVRTC, which needs no GPU: {module: cubin bytes}."""
    nvrtc, cubins = pytest.importorskip("cupy", reason="needs cupy for its compiler").cuda.nvrtc, {}
    for module in kernels.MODULES:
        program = nvrtc.createProgram(kernels.source_of(module), f"{module}.cu", [], [])
        try:
            nvrtc.compileProgram(program, (f"--gpu-architecture={architecture}", *kernels.OPTIONS))
            cubins[module] = nvrtc.getCUBIN(program)
        except nvrtc.NVRTCError:
            pytest.fail(f"{module} does not compile for {architecture}:\n{nvrtc.getProgramLog(program)}")
        finally:
            nvrtc.destroyProgram(program)
    return cubins


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_every_source_compiles_without_a_gpu(architecture):
    cubins = compile_kernels(architecture)
    assert all(cubin.startswith(b"\x7fELF") for cubin in cubins.values())
    names = set(re.findall(r"__global__ void (\w+)", kernels.SOURCE.read_text()))
    assert all(any(name.encode() in cubin for cubin in cubins.values()) for name in names)


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 4, 7, 70])
def test_emulated_sum_is_the_reference(emulation, channels, dtype, deterministic):
    dtype, tolerance = DTYPES[dtype]
    input, flow = random_case(channels=channels)
    deviation(lambda *t: kernels.splat_sum(*t, deterministic), input.to(dtype), flow, tolerance)
    assert ("scatter_rows" in emulation.launched) != deterministic and "gather_gradient" in emulation.launched


def test_emulated_sum_of_channels_last_and_of_views(emulation):
    input, flow = random_case(channels=8)
    expected = kernels.splat_sum(input, flow)
    assert torch.equal(kernels.splat_sum(input.to(memory_format=torch.channels_last), flow), expected)
    shifted = torch.empty(input.numel() + 1)[1:].view(2, 12, 15, 8).copy_(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    assert shifted.data_ptr() % 16 and torch.equal(kernels.splat_sum(shifted, flow), expected)
    assert kernels.splat_sum(input[:0], flow[:0]).shape == (0, 8, 12, 15)


def test_emulated_sum_follows_torch_on_determinism_and_leaves_double_to_the_reference(emulation):
    input, flow = random_case()
    kernels.splat_sum(input, flow)
    assert emulation.launched == ["scatter_rows"]
    try:
        torch.use_deterministic_algorithms(True)
        kernels.splat_sum(input, flow)
    finally:
        torch.use_deterministic_algorithms(False)
    assert emulation.launched[1:] == ["count_landings", "fill_lists", "order_lists", "gather_rows"]
    assert kernels.splat_sum(input.double(), flow.double()).dtype == torch.float64 and len(emulation.launched) == 5


@pytest.mark.parametrize("dtype", DTYPES)
def test_emulated_blend_is_that_of_the_cpu(emulation, dtype):
    dtype, tolerance = DTYPES[dtype]
    features, moves = random_case(channels=67, n=2)
    features, weights = features[0].to(dtype), list(torch.rand(2, 12, 15).pow(8))
    weights[0][3:6] = 0
    blended, total = kernels.splat_blend(features, list(moves), weights, 1e-3)
    expected, expected_total = cpu.splat_blend(features.float(), list(moves), weights, 1e-3)
    torch.testing.assert_close(total, expected_total, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(blended.float(), expected, atol=tolerance, rtol=tolerance)
    assert (
        torch.equal(total == 0, expected_total == 0) and (total == 0).any() and (blended[:, total[0] == 0] == 0).all()
    )
    assert blended.dtype == dtype and blended.permute(1, 2, 0).stride(2) == 1


def test_emulated_results_do_not_depend_on_the_order_of_threads(emulation):
    input, flow = random_case(channels=5)
    flow[1] = (
        -torch.stack(torch.meshgrid(torch.arange(15.0), torch.arange(12.0), indexing="xy")) + 5.25
    )  # all on four pixels
    weights = list(torch.rand(2, 12, 15))
    results = []
    for emulation.backwards in (False, True):
        results.append((kernels.splat_sum(input, flow, True), *kernels.splat_blend(input[1], list(flow), weights)))
    assert all(torch.equal(a, b) for a, b in zip(*results))
    torch.testing.assert_close(results[0][0], cpu.splat_sum(input, flow), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(kernels.splat_sum(input, flow, False), results[0][0], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_emulated_storage_rounds_as_torch_does(emulation, dtype):
    """With no flow and one source per pixel the sum is widen, then narrow; the weights' gradient shows narrow of any
    float.
    """
    every = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(dtype).reshape(1, 1, 256, 256)
    still = torch.zeros(1, 2, 256, 256)
    out = kernels.splat_sum(every, still, True)
    assert (
        torch.equal(torch.where(every.isnan(), 0, out), torch.where(every.isnan(), 0, every))
        and out[every.isnan()].isnan().all()
    )
    top = torch.finfo(dtype).max
    ones, weight = torch.ones(1, 256, 256, dtype=dtype), torch.exp2(torch.linspace(-140, 127, 65536)).reshape(256, 256)
    weight = torch.cat([weight.flatten()[:-2], torch.tensor([top, top * (1 + 2**-9)])]).reshape(256, 256)
    start, entries = kernels._lists(still, 1, weight=weight[None])
    out = kernels._gather(start, entries, kernels._rows(ones[None]))[:, 0]
    assert torch.equal(out, weight.flatten().to(dtype))


@pytest.mark.parametrize("mode", ["average", "linear", "softmax"])
def test_emulated_modes_behind_the_door(emulation, monkeypatch, mode):
    """splat itself, sent to the kernels as a CUDA tensor would be: values and all gradients."""
    monkeypatch.setitem(splat.__globals__, "_has_kernels", lambda tensor: tensor.dtype == torch.float32)
    input, flow = random_case(reach=1.5)
    flow, metric = flow.nan_to_num(0, posinf=0).clamp(-9, 9), torch.rand(2, 1, 12, 15)
    upstream, results = torch.randn(input.shape), []
    for dtype in (torch.float32, torch.float64):
        tensors = [t.to(dtype, copy=True).requires_grad_() for t in (input, flow, metric)][
            : 2 if mode == "average" else 3
        ]
        out = splat(*tensors, mode=mode)
        results.append((out, *torch.autograd.grad(out, tensors, upstream.to(dtype))))
    assert emulation.launched == ["scatter_rows", "gather_gradient"]
    for found, expected in zip(*results):
        torch.testing.assert_close(found.double(), expected, atol=1e-3, rtol=1e-3)


def test_what_does_not_fit_is_refused(emulation):
    input, flow = random_case()
    with pytest.raises(ValueError, match="expected"):
        kernels.splat_sum(input, flow[:1])
    with pytest.raises(ValueError, match="expected"):
        kernels.splat_blend(input[0], list(flow[..., 1:]), list(torch.ones(2, 12, 15)))
    with pytest.raises(ValueError, match="expected"):
        kernels.splat_blend(input[0], list(flow), list(torch.ones(1, 12, 15)))
    with pytest.raises(TypeError, match="float32"):
        kernels.splat_blend(input[0].double(), list(flow), list(torch.ones(2, 12, 15)))
    assert not emulation.launched


def test_without_cupy_the_error_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    flow = torch.zeros(1, 2, 4, 4)
    with pytest.raises(ImportError, match="pip install cupy-cuda12x"):
        kernels.splat_sum(torch.zeros(1, 4, 4, 4), flow, True)


@pytest.fixture
def gpu():
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    pytest.importorskip("cupy", reason="needs cupy to launch")
    return torch.device("cuda", torch.cuda.device_count() - 1)  # the last one: not always the current one


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gpu_sum_is_the_reference(gpu, dtype, deterministic):
    dtype, tolerance = DTYPES[dtype]
    input, flow = (t.to(gpu) for t in random_case(2, 65, 96, 128))
    deviation(lambda *t: kernels.splat_sum(*t, deterministic), input.to(dtype), flow, tolerance)
    if dtype == torch.float32:
        torch.testing.assert_close(splat(input, flow), reference.splat_sum(input, flow), atol=1e-4, rtol=1e-5)


def test_gpu_blend_is_that_of_the_cpu_and_always_the_same(gpu):
    features, moves = random_case(2, 67, 256, 256)
    features, moves, weights = features[0], list(moves), list(torch.rand(2, 256, 256))
    expected = cpu.splat_blend(features, moves, weights)
    found = [splat_blend(features.to(gpu), [m.to(gpu) for m in moves], [w.to(gpu) for w in weights]) for _ in range(3)]
    for a, b, c, d in zip(*found, expected):
        assert torch.equal(a, b) and torch.equal(a, c)
        torch.testing.assert_close(a.cpu(), d, atol=1e-5, rtol=1e-5)


def test_gpu_work_is_put_on_the_current_stream(gpu):
    input, flow = (t.to(gpu) for t in random_case(2, 64, 256, 256))
    expected = kernels.splat_sum(input, flow, True)
    stream = torch.cuda.Stream(gpu)
    torch.cuda.synchronize(gpu)
    with torch.cuda.stream(stream):
        late = torch.zeros_like(input)
        torch.cuda._sleep(20_000_000)  # work on another stream would read the zeros
        late.copy_(input)
        out = kernels.splat_sum(late, flow, True)
    stream.synchronize()
    assert torch.equal(out, expected)
