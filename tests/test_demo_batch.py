"""Batches: lists, keys, resuming, workers that die or sleep, one broken job, pages; and a small real one."""

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from text2cinemagraph.demo import batch, making
from text2cinemagraph.demo.batch_page import PER_PAGE, row_of, slowest_stage, write_pages
from text2cinemagraph.demo.costs import seconds_of
from text2cinemagraph.demo.joblist import Job, jobs_of, lines_of_pictures, lines_of_prompts, pictures_of, read_jobs
from text2cinemagraph.demo.making import Plan, tasks_of
from text2cinemagraph.jobs.records import read_rows

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "configs/inference_mini.yaml"
# A batch whose pipeline is a few lines: what it does is told by the prompt.
FAKE = """
import hashlib, os, signal, sys, time
from pathlib import Path
from text2cinemagraph import inference_t2c

def fake(argv, networks=None, numbers=None):
    name, root = argv[argv.index("--name") + 1], Path(argv[-1].partition("=")[2])
    prompt, here = argv[argv.index("--prompt") + 1], Path(__file__).parent
    with open(here / "events.txt", "a") as file:
        print(name, "begins", os.getpid(), file=file)
    print("making", name)
    time.sleep(float(os.environ.get("PACE", 0.01)))
    first = not (here / name).exists()
    (here / name).touch()
    if prompt == "broken":
        raise ValueError("the mask is empty")
    if prompt == "a fault":
        {}["missing"]
    if prompt == "kills" or prompt == "kills once" and first:
        os.kill(os.getpid(), signal.SIGKILL)
    if prompt == "sleeps" and first:
        os.kill(os.getpid(), signal.SIGSTOP)
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    words = [word for word in argv[:-1] if "threads" not in word]
    (folder / "video.mp4").write_text(hashlib.sha256(" ".join(words).encode()).hexdigest())
    numbers.update(seconds={"s5": 0.1, "s6": 0.3}, peak={"s6": 2 * 10**8}, loop={"seam": 1.0, "motion": None})
    with open(here / "events.txt", "a") as file:
        print(name, "ends", os.getpid(), file=file)

inference_t2c.main = fake  # in this process, and in the workers, which run these lines again
if __name__ == "__main__":
    from text2cinemagraph.demo.batch import main
    from text2cinemagraph.options.cli import run_main
    run_main(main)
"""


def read_results(output):
    return read_rows(output / "results.jsonl")


class Fake:
    """A folder with such a batch.  lines: of its list."""

    def __init__(self, folder, lines):
        self.folder, self.output = folder, folder / "out"
        (folder / "fake.py").write_text(FAKE)
        self.write(lines)

    def write(self, lines):
        (self.folder / "jobs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def start(self, *words, **environment):
        # The thread and rank settings of whoever runs the tests are not the batch's.
        env = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
        command = [sys.executable, self.folder / "fake.py", self.folder / "jobs.jsonl", "--output", self.output, *words]
        return subprocess.Popen(
            list(map(str, command)),
            env=env | environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # What a shell starts in the background ignores Ctrl-C, and so would what is started from there.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *words, **environment):
        process = self.start(*words, **environment)
        said, _ = process.communicate(timeout=120)
        return process.returncode, said

    def events(self):
        """[name, "begins" or "ends", process]."""
        path = self.folder / "events.txt"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def made(self):
        return {path.parent.name: path.read_text() for path in self.output.glob("*/video.mp4")}


def prompts(count, **special):
    """Lines of ordinary jobs, but for those of which `special` says another prompt: job_3="broken"."""
    names = [f"job_{number}" for number in range(count)]
    return [{"id": name, "prompt": special.get(name, "a river"), "seed": n} for n, name in enumerate(names)]


# ---------------------------------------------------------------------- lists
def test_a_line_becomes_a_command_line(tmp_path):
    (tmp_path / "p.png").write_bytes(b"p")
    line = {"id": "x", "prompt": "a river", "image": "p.png", "arrows": "1,2>3,4", "style": "oil", "seed": 5}
    line |= {"use_hint": True, "stage": "s1-s5", "options": {"video.speed": 1, "video.formats": ["mp4", "gif"]}}
    line |= {"project": "other/project.json"}
    (job,) = jobs_of([(7, json.dumps(line))], CONFIG, ["runtime.threads=1"], tmp_path)
    assert job.argv("out") == [
        *("--config", CONFIG, "--name", "x", "runtime.threads=1", "--prompt", "a river"),
        *("--image", str(tmp_path / "p.png"), "twin_extraction.seed=5", "--arrows", "1,2>3,4"),
        *("--project", "other/project.json", "--style", "oil", "--stage", "s1-s5", "video.speed=1"),
        *('video.formats=["mp4", "gif"]', "--use_hint", "twin_extraction.exp_path_root=out"),
    ]
    assert job.line == 7 and not job.goes_on() and job.title == "a river (seed 5)"
    (minus,) = jobs_of([(1, {"prompt": "--help"})], CONFIG)
    assert "--prompt=--help" in minus.words


def test_names_stay_where_the_list_is_changed():
    lines = [{"prompt": "a river"}, {"prompt": "a sea", "seed": 2}, {"prompt": "a river"}]
    jobs = jobs_of(enumerate(lines, 1), CONFIG)
    again = jobs_of(enumerate([{"prompt": "new"}, *reversed(lines)], 1), CONFIG)
    assert len(jobs) == 2 and {job.name for job in jobs} < {job.name for job in again}  # equal lines are one job
    assert jobs[1].name.startswith("a-sea-2-")


@pytest.mark.parametrize(
    "line, expected",
    [
        ("nonsense", "no JSON"),
        ("[1]", "a list, expected an object"),
        ({"promt": "a river"}, "unknown field promt; did you mean prompt?"),
        ({"prompt": 5}, "prompt=5: expected text"),
        ({"seed": "1"}, "seed=1: expected a whole number"),
        ({"use_hint": "yes"}, "use_hint=yes: expected true or false"),
        ({"options": ["video.speed=1"]}, "expected an object"),
        ({"options": {"video": {"speed": 1}}}, "expected a value or a list"),
        ({"id": "../../etc"}, "expected a plain folder name"),
        ({"id": "River"}, "id River is line 1's already"),
    ],
)
def test_a_broken_line_is_one_broken_job(line, expected):
    text = line if isinstance(line, str) else json.dumps(line)
    good, bad = jobs_of([(1, {"id": "river"}), (2, text)], CONFIG)
    assert not good.broken and expected in bad.broken and len(bad.broken) < 190 and bad.name == "line-2"
    assert row_of(bad, {})["state"] == "failed" and row_of(bad, {})["line"] == 2


def test_the_key_follows_all_that_decides(tmp_path):
    picture, config = tmp_path / "p.png", tmp_path / "c.yaml"
    picture.write_bytes(b"1")
    config.write_text("video: {n_frames: 8}\n")

    def key(**changes):
        (job,) = jobs_of([(1, {"id": "x", "image": str(picture), "seed": 1} | changes)], str(config))
        return job.key()

    first = key()
    assert (
        first == key() == key(title="other words") and len({first, key(seed=2), key(options={"video.speed": 1})}) == 3
    )
    moved = tmp_path / "moved.png"
    picture.rename(moved)
    assert key(image=str(moved)) == first  # the bytes count, not where they lie
    moved.write_bytes(b"22")
    assert key(image=str(moved)) != first
    moved.write_bytes(b"1")
    config.write_text("video: {n_frames: 9}\n")
    assert key(image=str(moved)) != first


def test_lists_from_prompts_and_pictures(tmp_path):
    lines = lines_of_prompts(["clouds over hills", "a sea in left to right direction"], ["sky", "sea"], [1, 2])
    assert [line["id"] for line in lines][:2] == ["clouds-over-hills-1", "clouds-over-hills-2"]
    assert lines[0]["options"] == {"twin_generation.prompt": "sky", "odise.vocab": "sky, clouds"}
    assert [line.get("use_hint", False) for line in lines] == [False, False, True, True]
    for name in ("a.png", "b.jpg", "c.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a.motion.json").write_text("{}")
    found = lines_of_pictures(pictures_of([tmp_path, str(tmp_path / "*.jpg")]), [1, 2])
    assert [line["id"] for line in found] == ["a-1", "a-2", "b-1", "b-2"] and "arrows" in found[0]
    assert found[1]["title"] == "a.png (seed 2)" and lines_of_pictures(pictures_of([tmp_path]), [1])[0]["id"] == "a"
    with pytest.raises(FileNotFoundError, match="no folder at"):
        pictures_of(["nowhere/*.png"])


def test_jobs_of_the_same_networks_follow_each_other():
    lines = [{"id": str(n), "prompt": "a", "config": f"configs/{'ab'[n % 2]}.yaml"} for n in range(6)]
    lines[2]["options"] = {"twin_extraction.ckpt": "elsewhere"}
    order = [task.job.name for task in tasks_of(jobs_of(enumerate(lines, 1), CONFIG))]
    assert order == ["0", "4", "2", "1", "3", "5"]


# ---------------------------------------------------------------------- running
def test_a_batch_is_made_passed_over_changed_and_retried(tmp_path):
    fake = Fake(tmp_path, [*prompts(5, job_1="broken", job_3="a fault"), {"sed": 1}])
    code, said = fake.run("--workers", 2)
    rows = {row["id"]: row for row in read_results(fake.output)}
    assert code == 1 and "3 of 6 jobs failed: job_1; job_3; line-6" in said and "slowest stage s6" in said
    assert sorted(fake.made()) == ["job_0", "job_2", "job_4"]
    assert rows["job_1"]["error"] == "the mask is empty" and rows["job_1"]["line"] == 2
    assert rows["job_1"]["job"]["prompt"] == "broken" and rows["job_3"]["error"] == "KeyError: 'missing'"
    assert "Traceback" in (fake.output / "job_3" / "run.log").read_text()
    assert rows["job_0"]["seam"] == 1 and rows["job_0"]["motion"] is None and rows["job_0"]["seconds"]["s6"] == 0.3
    assert (fake.output / "job_0" / "run.log").read_text() == "making job_0\n"
    assert not (fake.output / ".work").exists() and not (fake.output / ".leases").exists()
    assert fake.run("--workers", 1)[0] == 1 and len(fake.events()) == 3 * 2 + 2  # nothing is made again
    assert fake.run("--workers", 1, "--retry")[0] == 1 and len(fake.events()) == 3 * 2 + 4
    fake.write([*prompts(5)[:4], {"id": "job_4", "prompt": "another", "seed": 4}])
    before = fake.made()
    assert fake.run("--workers", 1)[0] == 0 and len(fake.events()) == 3 * 2 + 4 + 3 * 2
    assert fake.made()["job_4"] != before["job_4"] and fake.made()["job_0"] == before["job_0"]
    (fake.output / "job_0" / "video.mp4").unlink()
    assert fake.run("--workers", 1)[0] == 0 and fake.made()["job_0"] == before["job_0"]


def test_a_worker_that_dies_costs_only_its_job_which_is_tried_once_more(tmp_path):
    fake = Fake(tmp_path, prompts(8, job_2="kills", job_5="kills once"))
    code, said = fake.run("--workers", 2)
    rows = {row["id"]: row for row in read_results(fake.output)}
    begun = [name for name, what, _ in fake.events() if what == "begins"]
    assert code == 1 and "1 of 8 jobs failed: job_2" in said
    assert "2 workers died at this job" in rows["job_2"]["error"] and rows["job_2"]["line"] == 3
    assert begun.count("job_2") == 2 == begun.count("job_5") and len(begun) == 10
    assert len(fake.made()) == 7
    assert len({process for name, _, process in fake.events() if name == "job_2"}) == 2  # by another one
    assert fake.run("--workers", 1)[0] == 1 and len(fake.events()) == 10 + 7  # it stays failed


def test_a_worker_that_sleeps_too_long_comes_too_late(tmp_path):
    """Its job is made by another one after the lease's time; what it makes then is dropped."""
    fake = Fake(tmp_path, prompts(4, job_0="sleeps"))
    process = fake.start("--workers", 2, "--lease_seconds", 1.2)
    sleeper = _until(lambda: next((int(n) for name, _, n in fake.events() if name == "job_0"), None))
    rows = lambda: [json.loads(p.read_text()) for p in fake.output.glob("job_0/job.json")]  # noqa: E731
    record = _until(rows)[0]
    begins = [(what, int(number)) for name, what, number in fake.events() if name == "job_0"]
    assert begins[0] == ("begins", sleeper) and begins[-1][0] == "ends" and begins[-1][1] != sleeper
    os.kill(sleeper, signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode == 0 and len(fake.made()) == 4
    ends = [int(number) for name, what, number in fake.events() if name == "job_0" and what == "ends"]
    assert len(ends) == 2 and ends[-1] == sleeper  # it did make it, after all
    assert json.loads((fake.output / "job_0" / "job.json").read_text()) == record  # and it did not count
    assert not (fake.output / ".work").exists()


def test_killed_three_times_at_random_and_by_two_machines(tmp_path):
    lines = prompts(40)
    alone = Fake(tmp_path / "alone" if (tmp_path / "alone").mkdir() is None else tmp_path, lines)
    assert alone.run("--workers", 1)[0] == 0
    (tmp_path / "killed").mkdir()
    fake, draw = Fake(tmp_path / "killed", lines), random.Random(5)
    for _ in range(3):
        process, enough = fake.start("--workers", 2, PACE="0.05"), len(fake.made()) + draw.randint(2, 7)
        _until(lambda enough=enough: len(fake.made()) >= enough)
        process.kill()  # its workers find out
        process.communicate()
    first = len(fake.made())
    assert first < 40
    # Two more, as by srun: each begins in its own half, and both merge.
    ranks = [{"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)} for rank in range(2)]
    both = [fake.start(PACE="0.02", **environment) for environment in ranks]
    assert [process.communicate(timeout=60) and process.returncode for process in both] == [0, 0]
    assert fake.made() == alone.made() and len(fake.made()) == 40
    whole = [name for name, what, _ in fake.events() if what == "ends"]
    assert (
        set(whole) == set(fake.made()) and len(whole) <= 40 + 3 * 2
    )  # twice only what a kill cut off before it counted
    page, rows = (fake.output / "index.html").read_text(), read_results(fake.output)
    assert page.count("<video") == 40 and [row["id"] for row in rows] == [line["id"] for line in lines]
    strip = lambda rows: [(row["id"], row["video"], row["state"]) for row in rows]  # noqa: E731
    assert strip(rows) == strip(read_results(alone.output))
    assert len({row["worker"].rsplit("-", 1)[0] for row in rows}) >= 3  # several runs, two ranks


def test_interrupted_politely_it_goes_on_without_waiting(tmp_path):
    fake = Fake(tmp_path, prompts(12))
    process = fake.start("--workers", 1, PACE="0.1")
    _until(lambda: len(fake.made()) >= 2)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in said
    assert not list((fake.output / ".leases").glob("job*")) and not list((fake.output / ".work").glob("job*"))
    began = time.monotonic()
    assert fake.run("--workers", 1)[0] == 0 and len(fake.made()) == 12 and time.monotonic() - began < 30


def test_a_dry_run_says_what_and_how_long_and_makes_nothing(tmp_path):
    fake = Fake(tmp_path, [*prompts(30), {"x": 1}])
    code, said = fake.run("--dry_run", "--workers", 4)
    assert code == 0 and "would make job_0: runtime.threads=1 --prompt a river" in said and "and 10 more" in said
    assert "30 of 30 jobs would be made, 0 are passed over, 1 lines are no jobs" in said and "rough model" in said
    assert not fake.output.exists()
    fake.write(prompts(5))
    fake.run("--workers", 1)
    fake.write(prompts(30))
    code, said = fake.run("--dry_run")
    assert "25 of 30 jobs would be made, 5 are passed over" in said and "measured on 5 made ones" in said


def test_the_rough_model_follows_what_costs(tiny):
    """Against docs/results/batch.json, where jobs of this size were measured."""

    def seconds(**line):
        (job,) = jobs_of([(1, line)], CONFIG, (), tiny)
        return seconds_of(job)

    Image.new("RGB", (512, 512)).save(tiny / "large.png")
    drawn, own = seconds(prompt="a river"), seconds(image="large.png", mask="m.png")
    measured = json.loads((ROOT / "docs" / "results" / "batch.json").read_text())["costs"]
    assert drawn == pytest.approx(measured["drawn (256 px)"]["cpu_seconds"], rel=0.15)
    assert own == pytest.approx(measured["own picture, arrows"]["cpu_seconds"], rel=0.15)
    assert seconds(image="large.png", mask="m.png", options={"video.n_frames": 30}) < 0.6 * own
    assert seconds(image="large.png", style="oil") > own > seconds(image="p.png", mask="m.png")
    assert seconds(image="nowhere.png") > 0 < seconds(config="nowhere.yaml") and seconds(options={"a.b": 1}) > 0


def test_mistakes_are_one_line(tmp_path, monkeypatch):
    for words, expected in (
        ([], "nothing to make"),
        (["a.jsonl", "b.jsonl"], "expected one list"),
        ([tmp_path / "none.jsonl"], "no list of jobs"),
        (["a.jsonl", "--workers", "many"], "--workers many: expected a number, or auto"),
        (["a.jsonl", "--threads", "0"], "--threads: expected 1 to 512, found 0"),
        (["a.jsonl", "--config", "none.yaml"], "no configuration at none.yaml"),
        ([tmp_path / "empty.jsonl"], "holds no jobs"),
        (["a.jsonl", "--lease_seconds", "0"], "--lease_seconds: expected more than 0"),
    ):
        (tmp_path / "empty.jsonl").write_text("\n")
        (tmp_path / "a.jsonl").write_text("{}\n")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["batch", *map(str, words), "--output", str(tmp_path / "out")])
        with pytest.raises((ValueError, OSError), match=expected) as told:
            batch.main()
        assert len(str(told.value)) < 200


def test_auto_starts_as_many_workers_as_memory_allows(tmp_path, monkeypatch):
    """One until the first job is measured; then what fits."""
    said = []

    def pretend(target, arguments, *, wanted, look, **more):
        look(0)
        said.append(wanted(1))
        for task in arguments[0][:1]:
            plan.records().end(task.job.name, task.key, rss=10**9, peak=2 * 10**9, seconds={"total": 1})
        look(1)
        time.sleep(0.3)
        look(1)
        said.append(wanted(1))
        return 0

    plan = Plan(tmp_path)
    monkeypatch.setattr(batch, "run_workers", pretend)
    monkeypatch.setattr(batch, "_cores", lambda: 64)
    monkeypatch.setattr(batch, "_gpus", lambda: 0)
    monkeypatch.setattr(batch, "free_main_memory", lambda: 24 * 10**9)
    for name in ("RANK", "SLURM_ARRAY_TASK_ID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    batch.run_here(tasks_of(jobs_of(enumerate(prompts(40), 1), CONFIG)), plan, 1, None)
    assert said == [1, 1 + int(24 / 2 / batch.ROOM)]


# ---------------------------------------------------------------------- pages
def test_pages_show_everything_as_text_and_split(tmp_path):
    rows = []
    for number in range(PER_PAGE + 3):
        name = f"a b{number}"
        (tmp_path / name).mkdir()
        for file in ("video.mp4", "image.png", "summary.png"):
            (tmp_path / name / file).write_bytes(b"")
        job = Job(name, "<b>river</b>", (), line=number + 1)
        rows.append(row_of(job, {"seconds": {"s6": 3.0, "s2": 1.0, "total": 5.0}, "peak": 10**9, "seam": 1.02}))
    rows.append(row_of(Job("bad", "bad", (), line=900), {"error": "<script>alert(1)</script>"}))
    page = write_pages(tmp_path, rows).read_text()
    second = (tmp_path / "index-2.html").read_text()
    assert page.count("<video") == PER_PAGE and second.count("<video") == 3
    assert "&lt;b&gt;river" in page and "<b>river" not in page and "&lt;script&gt;alert" in page
    assert 'src="a%20b0/video.mp4"' in page and "seam 1.02" in page and 'href="index-2.html"' in page
    assert "s6, 60% of the time" in page and "line 900" in page and "line 900" not in second
    assert slowest_stage(rows[:1]) == ("s6", 0.6) and slowest_stage([]) == ("", 0.0)
    write_pages(tmp_path, rows[:1])
    assert not (tmp_path / "index-2.html").exists()


# ---------------------------------------------------------------------- the pipeline itself
@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Six small jobs with arrows, one of them broken."""
    folder = tmp_path_factory.mktemp("tiny")
    Image.fromarray(np.uint8(np.random.default_rng(0).integers(0, 255, (64, 80, 3)))).save(folder / "p.png")
    mask = np.zeros((64, 80), np.uint8)
    mask[32:] = 255
    Image.fromarray(mask).save(folder / "m.png")
    options = {"video.n_frames": 8, "video.formats": ["mp4"]}
    lines = [
        {"id": f"tiny-{k}", "image": "p.png", "mask": "m.png", "arrows": f"10,50>{20 + 4 * k},50", "options": options}
        for k in range(6)
    ]
    lines[3]["mask"] = "nowhere.png"
    (folder / "jobs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_the_pipeline_makes_equal_bytes_in_one_process_and_in_two(tiny):
    command = [sys.executable, "demo/batch.py", tiny / "jobs.jsonl", "--output", tiny / "two", "--workers", "2"]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "1 of 6 jobs failed: tiny-3" in done.stderr, done.stdout + done.stderr
    rows = read_results(tiny / "two")
    assert [row["state"] for row in rows] == ["done"] * 3 + ["failed"] + ["done"] * 2
    assert "nowhere.png" in rows[3]["error"] and rows[3]["line"] == 4
    assert all(row["peak"] > 10**8 and row["motion"] > 0 and 0 < row["sharpness"] < 2 for row in rows if "peak" in row)
    plan = Plan(tiny / "one")
    making.work(tasks_of(read_jobs(tiny / "jobs.jsonl", CONFIG, ["runtime.threads=1"])), plan, "here")
    for row in rows:
        for file in ("video.mp4", "flow.npz", "experiment.json") if row["state"] == "done" else ():
            assert (plan.output / row["id"] / file).read_bytes() == (tiny / "two" / row["id"] / file).read_bytes()
    assert len(list(plan.output.glob("*/video.mp4"))) == 5
    log = (tiny / "two" / "tiny-0" / "run.log").read_text()
    assert "s6: Let the image flow" in log and "loop: seam" in log


def _until(happened, seconds=60):
    end = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return found


@pytest.mark.skipif(not os.environ.get("T2C_SLOW"), reason="a Ray cluster takes half a minute; set T2C_SLOW=1")
def test_ray_makes_the_same_and_bears_the_loss_of_an_actor(tiny):
    """On a cluster of two processes on this machine; the one that is at work first is killed."""
    pytest.importorskip("ray", reason="Ray is missing: pip install -r requirements-ray.txt")
    plan = Plan(tiny / "reference")
    making.work(tasks_of(read_jobs(tiny / "jobs.jsonl", CONFIG, ["runtime.threads=1"])), plan, "here")
    words = ["--output", tiny / "ray", "--engine", "ray", "--workers", "2"]
    command = [sys.executable, "demo/batch.py", tiny / "jobs.jsonl", *words]
    process = subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    actor = _until(lambda: next(iter(_holders(tiny / "ray" / ".leases")), None), 120)
    os.kill(actor, signal.SIGKILL)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and "1 of 6 jobs failed: tiny-3" in said, said
    rows = read_results(tiny / "ray")
    assert [row["state"] for row in rows] == ["done"] * 3 + ["failed"] + ["done"] * 2
    assert f"-{actor}" not in " ".join(row.get("worker", "") for row in rows if row["state"] == "done")
    for row in rows:
        if row["state"] == "done":
            mine, theirs = ((folder / row["id"] / "video.mp4").read_bytes() for folder in (plan.output, tiny / "ray"))
            assert mine == theirs
    assert sorted(path.name for path in (tiny / "ray").iterdir() if path.name[0] == ".") == []


def _holders(leases):
    """The processes that hold a job at the moment."""
    for path in leases.glob("tiny*") if leases.is_dir() else ():
        try:
            yield json.loads(path.read_text())["process"][1]
        except (OSError, ValueError):
            pass


def test_without_ray_the_install_line_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "a.jsonl").write_text("{}\n")
    monkeypatch.setattr(
        sys, "argv", ["batch", str(tmp_path / "a.jsonl"), "--engine", "ray", "--output", str(tmp_path / "out")]
    )
    with pytest.raises(ImportError, match="pip install -r requirements-ray.txt"):
        batch.main()


# ---------------------------------------------------------------------- docs/examples
EXAMPLES = ROOT / "docs" / "examples"


def commands_in(path):
    """The words of every call of the batch in an example, as the shell would give them."""
    text = path.read_text()
    if path.suffix == ".yaml":
        text = yaml.safe_load(text)["run"]
    lines = [line for line in text.replace("\\\n", " ").splitlines() if not line.lstrip().startswith("#")]
    found = [re.search(r"demo(/batch\.py|\.batch) (.*)", line) for line in lines]
    return [shlex.split(match[2].partition("||")[0]) for match in found if match]


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.iterdir()))
def test_examples_call_the_batch_as_it_is(name):
    calls = commands_in(EXAMPLES / name)
    assert len(calls) == 1
    flags = batch._parser().parse_intermixed_args(calls[0])
    assert len(flags.words) == 1 and flags.output and batch.workers_of(flags.workers) in (None, 8)


def test_the_scripts_among_the_examples_are_bash():
    for path in (EXAMPLES / "batch.sbatch", EXAMPLES / "ray_job.sh"):
        subprocess.run(["bash", "-n", str(path)], check=True)
    settings = re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", (EXAMPLES / "batch.sbatch").read_text(), re.M)
    assert dict(settings)["array"] == "0-9" and dict(settings)["signal"] == "TERM@60"


def test_the_skypilot_example_has_what_a_task_has():
    """SkyPilot's own loader takes it, too (docs/scale.md); it is too large to be asked here."""
    task = yaml.safe_load((EXAMPLES / "batch.sky.yaml").read_text())
    assert set(task) == {"name", "num_nodes", "resources", "workdir", "envs", "file_mounts", "setup", "run"}
    subprocess.run(["bash", "-n"], input=task["setup"] + task["run"], text=True, check=True)


def test_rays_own_command_line_takes_the_example():
    pytest.importorskip("ray", reason="Ray is missing: pip install -r requirements-ray.txt")
    from ray.dashboard.modules.job.cli import submit

    text = (EXAMPLES / "ray_job.sh").read_text().replace("\\\n", " ")
    words = shlex.split(text[text.index("ray job submit") :])[3:]
    taken = submit.make_context("submit", words).params
    assert taken["entrypoint"][:3] == ("python", "-m", "text2cinemagraph.demo.batch") and taken["no_wait"]


def test_a_fixed_part_each_for_machines_without_a_common_folder(tmp_path):
    """--share rank: the parts are disjoint and whole; laid together, the pages show all."""
    fake = Fake(tmp_path, prompts(7))
    for rank in range(2):
        fake.output = tmp_path / f"part{rank}"
        words = ("--share", "rank", "--workers", 1)
        assert fake.run(*words, RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK="0")[0] == 0
        assert len(fake.made()) == 4 - rank == len(read_results(fake.output))
    shutil.copytree(tmp_path / "part0", tmp_path / "part1", dirs_exist_ok=True)
    before = len(fake.events())
    assert fake.run()[0] == 0 and len(fake.events()) == before
    assert len(read_results(fake.output)) == 7 == (fake.output / "index.html").read_text().count("<video")
