"""Sharing and resume: one holder at a time, whatever dies or sleeps; every item once; records that tell the truth."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from text2cinemagraph.jobs.leases import Leases
from text2cinemagraph.jobs.lists import SharedList
from text2cinemagraph.jobs.records import Records, content_key, write_lines
from text2cinemagraph.jobs.share import Share, place_of
from text2cinemagraph.jobs.turns import shared_leases, turns
from text2cinemagraph.jobs.workers import WorkersFailed, run_workers

from tests import job_targets

ROOT = Path(__file__).resolve().parents[1]


def elsewhere(lease):
    """As if another machine held it: nobody here can see whether its process lives."""
    times = os.stat(lease.path)
    content = json.loads(lease.path.read_text())
    lease.path.write_text(json.dumps(content | {"process": ["another machine", 1, "1"]}))
    os.utime(lease.path, ns=(times.st_atime_ns, times.st_mtime_ns))


def asleep(leases):
    """No more heartbeats, as of a process that is stopped."""
    leases._ended.set()
    if leases._thread:
        leases._thread.join()


def holder(folder, seconds=60, run="one"):
    """A process that holds the item "a"."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.job_targets", str(folder), "a", run],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "SECONDS": str(seconds)},
    )
    assert process.stdout.readline() == b"held\n"
    return process


# ---------------------------------------------------------------------- leases
def test_an_item_has_one_holder(tmp_path):
    first, second = Leases(tmp_path), Leases(tmp_path)
    lease = first.claim("a")
    assert lease.held() and second.claim("a") is None and first.claim("a") is None and second.claim("b").held()
    assert second.holders() == {"a": first.worker, "b": second.worker}
    first.release(lease)
    again = second.claim("a")
    assert again.held() and again.deaths == 0 and not lease.held()
    first.close()
    second.close()
    assert not tmp_path.exists()  # nothing is left behind
    with pytest.raises(ValueError, match="more than 0"):
        Leases(tmp_path, seconds=0)


def test_of_many_that_want_a_silent_ones_item_one_gets_it(tmp_path):
    """Twenty times, eight at once: on a file system that tells them apart, exactly one."""
    for number in range(20):
        item, sleeper = f"item-{number}", Leases(tmp_path, seconds=60)
        lost = sleeper.claim(item)
        elsewhere(lost)
        past = time.time() - 100
        os.utime(lost.path, (past, past))
        takers = [Leases(tmp_path, seconds=60) for _ in range(8)]
        together, got = threading.Barrier(8), []

        def take(taker, together=together, got=got, item=item):
            together.wait()
            got.append(taker.claim(item))

        threads = [threading.Thread(target=take, args=(taker,)) for taker in takers]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        winners = [lease for lease in got if lease]
        assert len(winners) == 1 and winners[0].held() and not lost.held(), number
        sleeper.release(lost)  # it wakes: that must not take the winner's lease away
        assert winners[0].held()
        for taker in (sleeper, *takers):
            taker.close()


def test_a_silent_machine_is_waited_for_as_long_as_its_lease(tmp_path):
    sleeper, other = Leases(tmp_path, seconds=1.0), Leases(tmp_path, seconds=1.0)
    lease = sleeper.claim("a")
    elsewhere(lease)
    time.sleep(1.5)
    assert other.claim("a") is None and lease.held()  # its heartbeats still come
    asleep(sleeper)
    began = time.monotonic()
    while (taken := other.claim("a")) is None:
        assert time.monotonic() - began < 5
        time.sleep(0.02)
    waited = time.monotonic() - began
    assert 0.6 < waited < 3, waited  # the last touch was at most a sixth of the time before
    assert taken.deaths == 1 and taken.generation == 2 and not lease.held()


def test_the_clock_is_the_folders(tmp_path, monkeypatch):
    """A machine whose own clock is a day ahead does not take its neighbour for dead."""
    lease = Leases(tmp_path, seconds=30).claim("a")
    elsewhere(lease)
    ahead = time.time() + 86400
    monkeypatch.setattr(time, "time", lambda: ahead)
    assert Leases(tmp_path, seconds=30).claim("a") is None
    past = os.stat(lease.path).st_mtime - 31
    os.utime(lease.path, (past, past))
    assert Leases(tmp_path, seconds=30).claim("a")


def test_a_killed_process_of_this_machine_is_known_to_be_dead(tmp_path):
    """Without waiting; it counts as a death only for those of the same run, who went on."""
    process = holder(tmp_path, run="one")
    same, other = Leases(tmp_path, run="one"), Leases(tmp_path, run="two")
    time.sleep(0.05)
    assert same.claim("a") is None
    process.kill()
    process.wait()
    assert other.folder == same.folder and same.claim("a").deaths == 1
    same.close()
    before = holder(tmp_path, run="one")
    before.kill()
    before.wait()
    time.sleep(0.05)
    assert Leases(tmp_path, run="three").claim("a").deaths == 0  # all of that run may have been stopped


def test_a_stopped_process_loses_its_item_and_learns_of_it(tmp_path):
    process = holder(tmp_path, seconds=0.6)
    try:
        process.send_signal(signal.SIGSTOP)
        other, began = Leases(tmp_path, seconds=0.6), time.monotonic()
        while (taken := other.claim("a")) is None:
            assert time.monotonic() - began < 5
            time.sleep(0.02)
        process.send_signal(signal.SIGCONT)
        time.sleep(0.4)  # it beats again: on its own file only
        assert taken.held() and other.claim("a") is None
    finally:
        process.kill()
        process.wait()


def test_ray_says_that_the_holder_is_dead(tmp_path):
    first = Leases(tmp_path, run="one").claim("a")
    assert Leases(tmp_path, run="two").claim("a", by_force=True) is None  # of its own actors alone
    taken = Leases(tmp_path, run="one").claim("a", by_force=True)
    assert taken.held() and taken.deaths == 1 and not first.held()


def test_torn_and_foreign_files_hold_nothing_up(tmp_path):
    leases = Leases(tmp_path, seconds=30)
    (tmp_path / "a.1").write_text("{torn")
    past = time.time() - 60
    os.utime(tmp_path / "a.1", (past, past))
    (tmp_path / "notes.txt").write_text("not ours")
    assert leases.claim("a").generation == 2 and set(leases.holders()) == {"a"}


def test_what_dead_workers_leave_is_removed_by_the_last_one(tmp_path):
    """Leases of jobs that are no longer asked for, and a second generation whose first one is gone."""
    dead, living = Leases(tmp_path, seconds=30), Leases(tmp_path, seconds=30)
    for item in ("a", "b"):
        elsewhere(dead.claim(item))
    past = time.time() - 60
    (tmp_path / "b.1").rename(tmp_path / "b.2")
    for name in ("a.1", "b.2", f".clock.{dead.worker}"):
        os.utime(tmp_path / name, (past, past))
    taken = living.claim("b")
    assert taken.generation == 3 and taken.held()
    other = Leases(tmp_path, seconds=30)
    other.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".clock.{living.worker}", "b.2", "b.3"]
    living.close()
    assert not tmp_path.exists()


def test_who_wakes_when_all_others_are_gone_goes_on(tmp_path):
    sleeper = Leases(tmp_path / "l", seconds=30)
    lease = sleeper.claim("a")
    shutil.rmtree(tmp_path / "l")
    time.sleep(0.3)  # longer than a look at the clock is good for
    assert not lease.held()
    sleeper.release(lease)
    assert sleeper.holders() == {} and sleeper.claim("b").held()
    shutil.rmtree(tmp_path / "l")
    time.sleep(0.3)
    sleeper.close()
    assert not (tmp_path / "l").exists()


# ---------------------------------------------------------------------- turns
def test_by_rank_everybody_gets_an_own_part_and_what_is_done_is_passed_over():
    items, seen = list(range(10)), []
    given = [[], []]
    for rank in range(2):
        for batch in turns(items, lambda n: n in (4, 5), share=Share(rank, 2), batch=2, seen=seen.append):
            given[rank].append(batch)
    assert given == [[[0, 2], [6, 8]], [[1, 3], [7, 9]]] and sum(seen) == 10


def test_by_lease_everything_is_made_once_by_processes_that_begin_apart(tmp_path):
    run_workers(
        job_targets.make_by_lease,
        (str(tmp_path), 60),
        wanted=lambda alive: 3,
        look=lambda alive: len(list(tmp_path.glob("*.made"))),
        name="w",
        logs=tmp_path / "logs",
    )
    lines = [line.split() for path in tmp_path.glob("*.events") for line in path.read_text().splitlines()]
    assert sorted(int(item) for item, _, _ in lines) == list(range(60))
    assert not (tmp_path / "leases").exists() or not list((tmp_path / "leases").iterdir())
    assert Share(1, 3).from_own_part(list(range(6))) == [2, 3, 4, 5, 0, 1]


def test_who_has_nothing_left_waits_for_the_others_and_takes_over_what_they_leave(tmp_path):
    sleeper, made, other = Leases(tmp_path, seconds=0.5), [], Leases(tmp_path, seconds=0.5)
    elsewhere(sleeper.claim("1"))
    asleep(sleeper)
    for batch in turns([0, 1, 2], made.__contains__, share=Share(), leases=other, batch=2):
        made += batch
    assert made == [0, 2, 1]


def test_ways_to_share(tmp_path):
    with shared_leases("rank", tmp_path / "x") as leases:
        assert leases is None and not (tmp_path / "x").exists()
    with shared_leases("lease", tmp_path / "x") as leases:
        assert leases.claim("a")
    assert not (tmp_path / "x").exists()
    with pytest.raises(ValueError, match="--share dice: expected rank or lease"):
        with shared_leases("dice", tmp_path):
            pass


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({}, None),
        ({"RANK": "3", "WORLD_SIZE": "4"}, (3, 4)),
        ({"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "10"}, (0, 10)),
        ({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1"}
         | {"SLURM_ARRAY_TASK_STEP": "2"}, (3, 4)),
        ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3"}, (2, 3)),
        ({"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4"},
         (5, 8)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, None),  # sbatch itself, before any srun: one process
        ({"RANK": "0", "WORLD_SIZE": "2", "SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "9"}, (0, 2)),
    ],
)  # fmt: skip
def test_places_that_launchers_give(environment, expected):
    assert place_of(environment) == expected


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 with WORLD_SIZE=2"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK=x: expected a whole number"),
        ({"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_COUNT": "3"}, "is not among 3 tasks"),
    ],
)
def test_places_that_make_no_sense(environment, expected):
    with pytest.raises(ValueError, match=expected):
        place_of(environment)


# ---------------------------------------------------------------------- records
def test_a_record_counts_for_what_it_was_made_from(tmp_path):
    records, file = Records(tmp_path / "r", "{}/job.json"), tmp_path / "in.png"
    file.write_bytes(b"1")
    key = content_key({"speed": 1}, file, "words")
    records.end("a", key, seconds=2)
    assert records.known("a", key) == {"key": key, "seconds": 2} and records.path("a").parent.name == "a"
    file.write_bytes(b"2")
    assert records.known("a", content_key({"speed": 1}, file, "words")) == {} == records.known("b", key)
    records.path("a").write_text('{"key": ')
    assert records.read("a") == {}
    records.begin("a")
    records.begin("a")
    assert not records.path("a").exists()


def test_records_are_merged_into_a_list(tmp_path):
    records = Records(tmp_path / "r")
    for item in ("b", "a", "c"):
        records.end(item, "", text=item.upper())
    write_lines(tmp_path / "list.txt", (records.read(item)["text"] for item in records.items()))
    assert (tmp_path / "list.txt").read_text() == "A\nB\nC\n"
    records.remove(["a", "b"])
    assert list(records.items()) == ["c"]
    records.remove(["c"])
    assert not (tmp_path / "r").exists() and list(records.items()) == []


def shared(path):
    """A list of one JSON object a line."""

    def read(path):
        return {line["id"]: line for line in map(json.loads, path.read_text().splitlines())}

    return SharedList(path, read, lambda items: write_lines(path, (json.dumps(items[name]) for name in sorted(items))))


def test_a_list_that_several_fill_loses_nothing(tmp_path):
    """Six at once, each merging after every few items, as their runs end one after the other."""
    path = tmp_path / "list.jsonl"

    def fill(first):
        own = shared(path)
        for number in range(first, 60, 6):
            own.add(f"{number:02}", {"id": f"{number:02}", "by": first})
            if number % 4 == 0:
                own.merge()
        own.merge()

    threads = [threading.Thread(target=fill, args=(first,)) for first in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == [f"{n:02}" for n in range(60)]
    assert [p.name for p in tmp_path.iterdir()] == ["list.jsonl"]


def test_what_a_killed_run_has_made_is_in_the_list_of_the_next(tmp_path):
    killed, other = shared(tmp_path / "list.jsonl"), shared(tmp_path / "list.jsonl")
    killed.add("a", {"id": "a"})
    assert "a" in other and "b" not in other and not (tmp_path / "list.jsonl").exists()
    third = shared(tmp_path / "list.jsonl")
    third.add("b", {"id": "b"})
    assert third.merge() == {"a": {"id": "a"}, "b": {"id": "b"}}
    assert "b" in other and "a" in killed  # they see the list that another has written


# ---------------------------------------------------------------------- workers
def run(target, folder, wanted, **more):
    return run_workers(
        target,
        (str(folder),),
        wanted=lambda alive: wanted,
        look=lambda alive: len(list(folder.glob("w-*"))),
        name="w",
        logs=folder / "logs",
        **more,
    )


def test_workers_are_as_many_as_wanted_and_each_in_its_place(tmp_path):
    assert run(job_targets.leave_a_mark, tmp_path, 2, environment=lambda slot: {"SLOT": f"place {slot}"}) == 0
    assert {path.read_text() for path in tmp_path.glob("w-*")} <= {"place 0", "place 1"}
    assert "SLOT" not in os.environ and not list((tmp_path / "logs").iterdir())


def test_a_worker_that_is_killed_is_replaced(tmp_path):
    assert run(job_targets.die_once, tmp_path, 1) == 1
    assert [path.name for path in tmp_path.glob("w-*")] == ["w-2"]


def test_workers_that_all_die_end_the_run_and_leave_their_logs(tmp_path):
    with pytest.raises(WorkersFailed, match="4 workers died in a row, nothing was done .exit code 3.; see .*log"):
        run(job_targets.die, tmp_path, 1)
    assert all("something is wrong" in path.read_text() for path in (tmp_path / "logs").glob("*.log"))


def test_workers_end_with_the_process_that_started_them(tmp_path):
    """Ended politely, and killed."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        folder = tmp_path / kind.name
        folder.mkdir()
        text = (
            "import pathlib\nfrom tests import job_targets\nfrom text2cinemagraph.jobs.workers import run_workers\n"
            f"if __name__ == '__main__':\n    folder = pathlib.Path({str(folder)!r})\n"
            "    run_workers(job_targets.sleep, (str(folder),), wanted=lambda alive: 1, look=lambda alive: 0, "
            "name='w', logs=folder / 'logs')\n"
        )
        (folder / "run.py").write_text(text)
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        process = subprocess.Popen([sys.executable, folder / "run.py"], env=environment, stderr=subprocess.DEVNULL)
        _until(lambda folder=folder: (folder / "w-1").exists())
        workers = [int(line) for line in _children(process.pid)]
        process.send_signal(kind)
        assert process.wait(30) != 0
        _until(lambda workers=workers: not any(Path("/proc", str(number)).exists() for number in workers))


def _children(number):
    return Path(f"/proc/{number}/task/{number}/children").read_text().split()


def _until(happened, seconds=30):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
