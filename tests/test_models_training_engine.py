"""The engine: many processes equal one, half precision, pieces, checkpointing; what is saved survives a kill and a full
disk.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from text2cinemagraph.data.checkpoint import read_checkpoint
from text2cinemagraph.data.datasets import FrameBatch
from text2cinemagraph.models.networks import build_motion, build_video
from text2cinemagraph.models.training import processes
from text2cinemagraph.models.training.config import TrainingConfig
from text2cinemagraph.models.training.files import TrainingFolder
from text2cinemagraph.models.training.loop import fit
from text2cinemagraph.models.training.memory import checkpoint_layers, widen_norms
from text2cinemagraph.models.training.pix2pix import MotionTask, Pix2Pix, VideoTask, start_discriminator
from text2cinemagraph.models.training.state import TrainingState
from text2cinemagraph.models.training.trainer import Trainer
from text2cinemagraph.options.train import MotionOptions, VideoOptions, VideoTrain
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
WORDS = dict(netG="spadexattnunetsd", nf=32, heads=2, context_dim=8, spade_hidden=4, motion_norm=4.0)
FRAMES = dict(
    encoder_channels=[8, 8, 9], decoder_channels=[8, 8, 3], decoder_resample=["none", "Down", "Up"], noise_dim=4
)


class Clips(torch.utils.data.Dataset):
    """Small clips, each drawn from its own seed."""

    def __init__(self, count=4):
        self.count = count

    def __len__(self):
        return self.count

    def set_epoch(self, epoch):
        """Nothing is drawn."""

    def __getitem__(self, index):
        draw = torch.Generator().manual_seed(index)
        start, middle, end = torch.rand(3, 3, 16, 16, generator=draw)
        return FrameBatch(
            start, middle, end, torch.randn(2, 16, 16, generator=draw) / 4, torch.tensor([3, 10 + index, 50])
        )


def small_video(gan=True):
    """The published kind of network and discriminator, spectral and normed over batches, small."""
    torch.manual_seed(3)
    options = VideoTrain(**FRAMES, fineSize=16, ndf=4, n_layers_D=2, gan=gan)
    return Pix2Pix(VideoTask(build_video(options)), start_discriminator(options), use_l1=True)


def train_small(folder, model=None, **more):
    """Two steps of four clips."""
    model = model or small_video()
    fit(model, Clips(), TrainingConfig(1e-3, 2, 0, batch_size=4, print_freq=4, **more), folder)
    return model


# ------------------------------------------------------------------ many processes


def test_two_processes_equal_one_with_the_double_batch(tmp_path):
    """Also the statistics of the norms: they are those of the whole batch."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    shared = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": "1",
    }
    runs = [
        subprocess.Popen(
            [sys.executable, __file__, str(tmp_path / "two")],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            env={**shared, "RANK": str(k), "LOCAL_RANK": str(k)},
        )
        for k in range(2)
    ]
    train_small(tmp_path / "one")
    errors = [run.communicate(timeout=240)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    one, two = (torch.load(tmp_path / name / "train_state.pt", weights_only=True) for name in ("one", "two"))
    compare_states(one, two)
    losses = [numbers((tmp_path / name / "loss_log.txt").read_text()) for name in ("one", "two")]
    assert len(losses[0]) == 10 and losses[0] == pytest.approx(losses[1], abs=1.5e-4)  # four digits are written


def compare_states(one, two):
    """The gradients of two trainings agree, as Adam's first moments keep them; and what is trained with them.

    Weights are not compared where the true gradient is 0 (biases before a norm): Adam steps along its rounding noise,
    which is another on every kind of CPU, and the stored means follow these biases.
    """
    before, after = (state["optimizer"]["state"] for state in (one, two))
    largest = max(moments["exp_avg"].abs().max() for moments in before.values())
    assert before.keys() == after.keys() and largest > 0
    for i, moments in before.items():
        gradient, other = moments["exp_avg"], after[i]["exp_avg"]
        assert (gradient - other).abs().max() < 1e-4 * largest, i
        if gradient.abs().max() > 1e-3 * largest:
            assert (gradient - other).norm() < 1e-3 * gradient.norm(), i
    weights, others = (
        torch.cat([p.flatten() for name in state["networks"].values() for p in name.values() if p.is_floating_point()])
        for state in (one, two)
    )
    assert ((weights - others).abs() > 1e-5).float().mean() < 0.02


def numbers(log):
    """The losses in a loss_log.txt."""
    return [float(word) for line in log.splitlines() for word in line.split(") ")[1].split() if not word.endswith(":")]


def test_gpu_ids_start_one_process_each(monkeypatch, capsys):
    started = []
    monkeypatch.setattr(
        processes.subprocess,
        "run",
        lambda command, env: started.append((command, env)) or subprocess.CompletedProcess([], 3),
    )
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert processes.spread("0,2", ["train.py", "--name", "x"]) == 3
    command, env = started[0]
    assert command[1:] == [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        "train.py",
        "--name",
        "x",
    ]
    assert env["CUDA_VISIBLE_DEVICES"] == "0,2"
    assert processes.spread("1", []) is None and processes.spread("-1", []) is None
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert processes.spread("0,1,2,3", []) is None and "the CPU" in capsys.readouterr().out
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert processes.spread("0,1", []) is None and processes.own_gpu("0,1") == "1" and processes.own_gpu("-1") == "-1"


def test_what_accelerate_config_noted_changes_nothing_but_the_processes(monkeypatch):
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    accelerator = processes.accelerator_of("cpu", 2)
    found = accelerator.mixed_precision, accelerator.gradient_accumulation_steps, accelerator.num_processes
    assert found == ("no", 2, 1) and accelerator.device.type == "cpu"
    network = nn.Linear(1, 1)
    assert accelerator.prepare(network) is network
    AcceleratorState._reset_state(reset_partial_state=True)


def test_a_batch_is_shared_evenly(tmp_path):
    with pytest.raises(ValueError, match="multiple of 3"):
        fit(small_video(), Clips(), TrainingConfig(batch_size=4, gradient_accumulation=3), tmp_path)


# ------------------------------------------------------------------ precision and memory


def test_pieces_equal_the_whole_batch(tmp_path):
    """Where no statistics run over the batch: the norms keep theirs. Spectral layers are left out, they iterate once
    per piece.
    """
    options = VideoTrain(**FRAMES, norm_G="batch", freeze_norm=True, fineSize=16, ndf=4, n_layers_D=2)
    states = []
    for pieces in (1, 4):
        torch.manual_seed(3)
        model = Pix2Pix(VideoTask(build_video(options), freeze_norm=True), start_discriminator(options), use_l1=True)
        train_small(tmp_path / str(pieces), model, gradient_accumulation=pieces)
        states.append(torch.load(tmp_path / str(pieces) / "train_state.pt", weights_only=True))
    compare_states(*states)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_trains(tmp_path, dtype):
    model = train_small(tmp_path, dtype=dtype)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    train_small(tmp_path / "full")
    full, half = (numbers((folder / "loss_log.txt").read_text()) for folder in (tmp_path / "full", tmp_path))
    assert full[:5] == pytest.approx(
        half[:5], rel=0.02, abs=0.01
    )  # of the first step; the scaler may then refuse a step
    state = torch.load(tmp_path / "train_state.pt", weights_only=True)
    assert bool(state["scaler"]) == (dtype == "fp16")


def test_wide_norms_have_the_same_statistics():
    torch.manual_seed(0)
    x, mask = torch.randn(2, 3, 8, 8) + 1, (torch.rand(2, 1, 8, 8) > 0.4).float()
    block = build_video(VideoOptions(**FRAMES)).projector.eblocks[1]
    x = x.repeat(1, 3, 1, 1)[:, :8]
    before = block(x, mask)[0]
    net = nn.ModuleList([block])
    block.bn_noise1.statistics.stored_mean.zero_()
    widen_norms(net, synchronised=False)
    torch.testing.assert_close(block(x, mask)[0], before, atol=1e-4, rtol=1e-4)
    with torch.autocast("cpu", torch.float16):
        block.bn_noise1((300 * x).half(), mask)  # squares that float16 cannot hold
    assert block.bn_noise1.statistics.stored_var.isfinite().all()


def test_checkpointing_changes_nothing_but_memory():
    gradients, sums = [], []
    for forget in (False, True):
        kept = []
        torch.manual_seed(0)
        options = MotionOptions(**WORDS)
        net = build_motion(options)
        if forget:
            checkpoint_layers(net)
        x, context = torch.randn(1, 4, 64, 64), torch.randn(1, 5, 8)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, saved=kept: saved.append(t.numel()) or t, lambda t: t):
            out = net(x, context)
        out.square().mean().backward(inputs=list(net.parameters()))
        gradients.append([p.grad for p in net.parameters()])
        sums.append(sum(kept))
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b)
    assert sums[1] < 0.7 * sums[0]


def test_the_text_network_under_the_engine(tmp_path):
    """Half precision, checkpointing and pieces at once, as on a GPU that is too small: the loss and the step of the
    weights are those of plain training.
    """
    from tests.test_models_training import Toy

    class Large(Toy):
        def __getitem__(self, index):
            item = super().__getitem__(index)
            return type(item)(*(v.repeat(1, 4, 4) if torch.is_tensor(v) else v for v in vars(item).values()))

    losses, steps = [], []
    small = dict(dtype="bf16", gradient_accumulation=2, gradient_checkpointing=True)
    for name, more in (("plain", {}), ("all", small)):
        torch.manual_seed(0)
        options = MotionOptions(**WORDS)
        task = MotionTask(build_motion(options), options)
        context = torch.randn(1, 5, 8)
        task.context = lambda captions, context=context: context.expand(len(captions), -1, -1)
        before = {key: value.clone() for key, value in task.net.named_parameters()}
        model = Pix2Pix(task, None, use_epe=True)
        fit(model, Large(4), TrainingConfig(1e-3, 1, 0, batch_size=4, print_freq=4, **more), tmp_path / name)
        assert read_checkpoint(tmp_path / name)[1]["trained"]["steps"] == 1
        losses.append(numbers((tmp_path / name / "loss_log.txt").read_text()))
        steps.append({key: value.detach() - before[key] for key, value in task.net.named_parameters()})
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    plain, other = (torch.cat([step.flatten() for step in each.values()]) for each in steps)
    moved = [{key for key, step in each.items() if step.any()} for each in steps]
    assert moved[0] == moved[1] and len(moved[0]) > 0.9 * len(steps[0])
    assert torch.nn.functional.cosine_similarity(plain, other, dim=0) > 0.5  # unrelated steps: 0


# ------------------------------------------------------------------ what is saved


class Killed(Clips):
    """Kills its process with signal 9 in the middle of writing: the second save of train_state.pt has written half."""

    def __init__(self):
        super().__init__()
        saves, whole = [], torch.save

        def half(content, path):
            whole(content, path)
            saves.append(path)
            if len(saves) == 2:
                data = Path(path).read_bytes()
                Path(path).write_bytes(data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)

        torch.save = half


def test_killed_in_the_middle_of_a_save_and_resumed(tmp_path):
    """What comes out is what an undisturbed run gives, to the bit."""
    plan = dict(batch_size=2, save_epoch_freq=1)
    whole = small_video()
    fit(whole, Clips(), TrainingConfig(1e-3, 1, 2, **plan), tmp_path / "whole")
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path / "killed"), "kill", str(torch.get_num_threads())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert list((tmp_path / "killed").glob(".train_state*")) and read_checkpoint(tmp_path / "killed")[0]
    assert (tmp_path / "killed" / "iter.txt").read_text() == "2\n0\n"
    resumed = small_video()
    torch.manual_seed(5)
    progress = fit(resumed, Clips(), TrainingConfig(1e-3, 1, 2, resume=True, **plan), tmp_path / "killed")
    assert progress.epoch == 4 and not list((tmp_path / "killed").glob(".*"))
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values()):
        assert torch.equal(a, b), name
    a, b = (torch.load(tmp_path / name / "train_state.pt", weights_only=True) for name in ("whole", "killed"))
    assert str(a["optimizer"]) == str(b["optimizer"]) and torch.equal(a["rng"]["torch"], b["rng"]["torch"])


def test_a_full_disk_stops_with_the_last_save_in_place(tmp_path, monkeypatch):
    train_small(tmp_path)
    before = (tmp_path / "train_state.pt").read_bytes()

    def full(content, path):
        Path(path).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        OSError, match=r"No space left on device; the save before this one is whole \(epoch, images: 3 0\); make room"
    ) as error:
        fit(small_video(), Clips(), TrainingConfig(1e-3, 4, 0, batch_size=4, resume=True), tmp_path)
    assert "\n" not in str(error.value)
    assert (tmp_path / "train_state.pt").read_bytes() == before and not list(tmp_path.glob(".*"))
    monkeypatch.undo()
    assert fit(small_video(), Clips(), TrainingConfig(1e-3, 4, 0, batch_size=4, resume=True), tmp_path).epoch == 5


def test_weights_torn_from_their_card_are_written_again(tmp_path):
    train_small(tmp_path)
    (tmp_path / "latest_net_G.json").write_text('{"sha256": "of another file"}')
    with pytest.raises(ValueError, match="sha256 differs"):
        read_checkpoint(tmp_path)
    model = small_video()
    fit(model, Clips(), TrainingConfig(1e-3, 2, 0, batch_size=4, resume=True), tmp_path)
    assert torch.equal(
        read_checkpoint(tmp_path)[0]["encoder.gblocks.0.ch_a.2.bias"], model.generator.encoder.gblocks[0].ch_a[2].bias
    )


def test_a_damaged_state_is_named(tmp_path):
    train_small(tmp_path)
    (tmp_path / "train_state.pt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="train_state.pt is damaged"):
        train_small(tmp_path, resume=True)


def test_networks_alone_begin_with_new_optimisers(tmp_path, capsys):
    """As the original goes on, and from its files."""
    first = train_small(tmp_path, save_epoch_freq=1)
    assert {path.name for path in tmp_path.iterdir()} >= {
        "1_net_G.safetensors",
        "1_net_D.safetensors",
        "latest_net_D.safetensors",
    }
    progress = fit(
        small_video(), Clips(), TrainingConfig(1e-3, 3, 0, batch_size=4, resume=True, which_epoch="1"), tmp_path
    )
    assert progress.epoch == 4 and progress.steps == 2 and "going on in epoch 2" in capsys.readouterr().out
    old = tmp_path / "old"
    old.mkdir()
    torch.save(first.generator.state_dict(), old / "latest_net_G.pth")
    torch.save(first.discriminator.state_dict(), old / "latest_net_D.pth")
    (old / "iter.txt").write_text("201\n0\n")
    second = small_video()
    progress = fit(second, Clips(), TrainingConfig(1e-3, 150, 50, batch_size=4, resume=True), old)
    assert progress.epoch == 201 and torch.equal(
        second.state_dict()["discriminator.scale0_layer0.0.bias"],
        first.state_dict()["discriminator.scale0_layer0.0.bias"],
    )


def test_stage_two_begins_as_published(tmp_path):
    """As published the rate starts again and falls from the first epoch, and the moments are new; by default all goes
    on.
    """
    train_small(tmp_path, stage="stage1")
    for restart in (True, False):
        config = TrainingConfig(1e-3, 1, 10, batch_size=4, stage="stage2", restart_stage=restart, resume=True)
        model = small_video()
        trainer = Trainer(model, config, saved=TrainingFolder(tmp_path, {}).saved(model, config))
        assert trainer.state.epoch == 3 and trainer.state.stage == "stage2"
        assert bool(trainer.optimizer.state_dict()["state"]) != restart
        rates = [config.rate(TrainingState(epoch=epoch, decay_from=trainer.state.decay_from)) for epoch in (3, 4)]
        assert rates == pytest.approx([1, 0.9] if restart else [0.9, 0.8])
    published = TrainingConfig(2e-4, 150, 100)
    rates = [published.rate(TrainingState(epoch=epoch, decay_from=201)) for epoch in (201, 250)]
    assert rates == pytest.approx([1, 0.51])


if __name__ == "__main__":
    if sys.argv[2:3] == ["kill"]:
        torch.set_num_threads(int(sys.argv[3]))  # sums differ in their last bits with other numbers of threads
        fit(small_video(), Killed(), TrainingConfig(1e-3, 1, 2, batch_size=2, save_epoch_freq=1), sys.argv[1])
    else:
        train_small(sys.argv[1])
