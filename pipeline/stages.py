"""What a stage is, what stages pass on in memory, and the one loop that runs the chosen ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from text2cinemagraph.data.artifacts import Artifact, Panel
from text2cinemagraph.data.experiment import Experiment
from text2cinemagraph.options.devices import peak_memory, reset_peak

if TYPE_CHECKING:
    from text2cinemagraph.options.inference import InferenceOptions
    from text2cinemagraph.options.runtime import Runtime
    from text2cinemagraph.pipeline.networks import Networks


@dataclass
class RunState:
    """What the stages of one run share in memory and no file holds.

    networks: what is loaded.
    keep_features: whether a later stage of this run will read s1's features.   features: these, until s2 takes them.
    loop: what s6 measured of its clip (evaluate.steadiness.LoopLine.numbers).
    """

    runtime: Runtime
    networks: Networks
    keep_features: bool = False
    features: Any = None
    loop: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One row of the table: all that the house knows of a stage besides its science.

    run: (options, experiment, state).   section: its options.   needs: artifacts that must be there.
    makes: artifacts that must be there afterwards; the first is the stage's result.   also: what it may leave besides.
    optional: needs that a picture of the user's own, which no stage drew, does without.
    inverts: runs for the user's own picture too, to find the noise behind it.
    always: runs whenever it is chosen, whether or not a later stage of the run reads what it makes.
    networks: names under which it asks state.networks; they are freed when no later stage of the run needs them.
    panels: what summary.png shows of it.
    """

    name: str
    run: Callable[[InferenceOptions, Experiment, RunState], None]
    section: str
    needs: tuple[str, ...]
    makes: tuple[Artifact, ...]
    also: tuple[Artifact, ...] = ()
    reads: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    inverts: bool = False
    always: bool = False
    networks: tuple[str, ...] = ()
    panels: tuple[Panel, ...] = ()

    @property
    def made(self) -> tuple[str, ...]:
        """Names of what it makes."""
        return tuple(artifact.name for artifact in self.makes)


@dataclass(frozen=True)
class Cost:
    """What a stage took.  seconds: by the wall clock.   peak: bytes of memory, see options.devices.peak_memory."""

    seconds: float
    peak: int


def artifacts_of(stages: tuple[Stage, ...]) -> tuple[Artifact, ...]:
    """All that an experiment folder may hold, in the order of the table."""
    return tuple(artifact for stage in stages for artifact in (*stage.makes, *stage.also))


def run_stages(
    stages: tuple[Stage, ...],
    chosen: tuple[str, ...],
    options: InferenceOptions,
    experiment: Experiment,
    *,
    state: RunState,
    given: frozenset[str] = frozenset(),
    inverting: bool = False,
) -> dict[str, Cost]:
    """Run the chosen rows of the table in order.  Returns {stage: Cost}.

    given: artifacts that the user laid there.   inverting: s1 will find the noise behind the user's own picture.
    Raises FileNotFoundError that names the stage to run first.
    """
    rows = [stage for stage in stages if stage.name in chosen]
    running = _to_run(rows, experiment, given, inverting)
    costs = {}
    for stage in rows:
        if stage not in running:
            print(f"{stage.name} skipped: {_reason(stage, experiment, given, inverting)}")
            continue
        costs[stage.name] = _run_stage(stage, stages, options, experiment, state)
        later = running[running.index(stage) + 1 :]
        state.networks.keep({name for other in later for name in other.networks})
    return costs


def closing_lines(
    costs: dict[str, Cost], chosen: tuple[str, ...], stages: tuple[Stage, ...], experiment: Experiment
) -> str:
    """What a run took, stage by stage; where none ran, why, and how to go on."""
    if costs:
        times = ", ".join(f"{name} {cost.seconds:.1f} s" for name, cost in costs.items())
        peaks = ", ".join(f"{name} {cost.peak / 1e9:.1f} GB" for name, cost in costs.items())
        return f"time: {times}, total {sum(cost.seconds for cost in costs.values()):.1f} s\npeak memory: {peaks}"
    rows = [stage for stage in stages if stage.name in chosen]
    later = [stage for stage in stages[stages.index(rows[-1]) + 1 :] if not experiment.given(stage.made[0])]
    files = ", ".join(experiment.path(stage.made[0]).name for stage in rows)
    advice = f"; go on with --stage {later[0].name}" if later else ""
    verb, them = ("is", "it") if len(rows) == 1 else ("are", "them")
    return f"nothing to do: {files} {verb} yours, no stage has to make {them}{advice}"


def _run_stage(stage, stages, options, experiment, state):
    """Check what it needs, run it, check what it makes, write it down.  Returns its Cost."""
    import torch

    needs = _needs(stage, experiment)
    for artifact in needs:
        if not experiment.has(artifact):
            maker = next((s.name for s in stages if artifact in s.made), None)
            advice = f"run --stage {maker} first" if maker else "a painted photograph (--style) has none"
            raise FileNotFoundError(f"{stage.name} needs {experiment.path(artifact)}; {advice}")
    print(f"{stage.name}: {stage.run.__doc__.strip()}", flush=True)
    start = time.perf_counter()
    reset_peak(state.runtime.device)
    with torch.inference_mode():
        stage.run(options, experiment, state)
    missing = [artifact for artifact in stage.made if not experiment.has(artifact)]
    assert not missing, f"{stage.name} did not make {missing}"
    own = stage.made[:1] if stage.inverts and experiment.given(stage.made[0]) else ()  # read, not made
    read = (*needs, *own, *(artifact for artifact in stage.reads if experiment.given(artifact)))
    experiment.note(stage.name, read, tuple(a for a in stage.made if a not in own), recorded(options))
    return Cost(time.perf_counter() - start, peak_memory(state.runtime.device))


def recorded(options: InferenceOptions) -> dict:
    """The options as a dict, without the folder's own place: equal runs leave equal files, wherever they run."""
    sections = asdict(options)
    for place in ("exp_path_root", "experiment_name"):
        del sections["twin_extraction"][place]
    return sections


def _needs(stage, experiment, inverting=False):
    """A stage's needs; a picture of the user's own that was not inverted lacks the optional ones."""
    own = (experiment.given("image") or experiment.given("photograph")) and not inverting
    return tuple(a for a in stage.needs if not (a in stage.optional and own and not experiment.has(a)))


def _to_run(rows, experiment, given, inverting):
    """The rows that must run: their result was not given, and they are the last, somebody after them reads them, or
    they always do.
    """
    running = []
    for stage in reversed(rows):
        yours = stage.made[0] in given and not (inverting and stage.inverts)
        fresh = {artifact for artifact in stage.made if artifact not in given}
        read = any(artifact in fresh for later in running for artifact in _needs(later, experiment, inverting))
        if not yours and (read or stage.always or not running):
            running.insert(0, stage)
    return running


def _reason(stage, experiment, given, inverting):
    """Why a chosen stage does not run."""
    file = experiment.path(stage.made[0]).name
    return f"{file} is yours" if stage.made[0] in given else f"nothing that runs after it reads {file}"
