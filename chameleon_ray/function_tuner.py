"""`tune_function()`: the same search for whatever has knobs and can be timed by a function."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from importlib import metadata

import numpy as np

from chameleon_ray.assembly import search
from chameleon_ray.errors import NothingValidError
from chameleon_ray.function_plan import FunctionPlan, Measure, make_function_plan
from chameleon_ray.function_result import Attempt, FunctionResult
from chameleon_ray.learning.lessons import FixedLessons
from chameleon_ray.machine import cpu_brand
from chameleon_ray.measure import Measurement, histogram
from chameleon_ray.measure.function import FunctionMeasurer
from chameleon_ray.phases import Phases
from chameleon_ray.records import Journal, Provenance, Record
from chameleon_ray.restrictions import Restriction
from chameleon_ray.rounds import Round, RoundJournal
from chameleon_ray.run_folder import RunFolder
from chameleon_ray.storage import Place
from chameleon_ray.store import shown
from chameleon_ray.tasks import NamedTask
from chameleon_ray.tunables import Plain


def tune_function(
    measure: Measure,
    knobs: Mapping[str, Sequence[Plain]],
    *,
    restrictions: Restriction | Sequence[Restriction] = (),
    policy: str = "chameleon",
    trials: int | None = None,
    seed: int = 0,
    default: Mapping[str, Plain] | None = None,
    run: Place | None = None,
    learn_from: Place | Sequence[Place] = (),
    on_measurement: Callable[[Attempt], None] | None = None,
) -> FunctionResult:
    """Find the knob values with which a function takes the least time.

    Args:
        measure: Called with a config, such as `{"block": 64, "unroll": True}`, in this thread,
            one at a time. Returns its seconds, or a sequence of them for several repeats, of which
            the median counts. An exception is a failure, and so is whatever is not a positive
            finite number: the search takes note and goes on.
        knobs: Name -> the values it may have: numbers, bools, text.
        restrictions: Which configs are allowed: functions of a config, or text in Kernel Tuner's
            form, such as `"block_x * block_y <= 1024"`. Each is asked only about what those
            before it allow.
        policy: Name or path of a policy preset.
        trials: Most measurements, failed ones included; the policy's if absent.
        seed: Of every random choice.
        default: A config that is measured first, for comparison.
        run: Folder of a journal, or its URL. The same call with the same folder goes on where it
            ended, and measures nothing twice. Nothing is written if absent.
        learn_from: Run folders of this function or others with the same knobs, on other devices
            or of other sizes, and recorded spaces: the search begins with what they say, and
            trusts it as far as it turns out to be right.
        on_measurement: Called after each measurement, those that the journal answers included.

    Raises:
        UnknownNameError: Of the policy, or of a knob in a restriction or in the default.
        SettingsError: An argument cannot be used, or the restrictions allow nothing.
        NothingValidError: The first 32 measurements (or the first batch, if that is larger) all
            failed, or all that there are.
        RunFolderError: The folder is of another run, in use, full or unreadable.
        KeyboardInterrupt: On SIGINT; everything measured is in the run folder, if there is one.
    """
    plan = make_function_plan(
        measure,
        knobs,
        restrictions=restrictions,
        policy=policy,
        trials=trials,
        seed=seed,
        default=default,
        learn_from=learn_from,
        run=run,
        on_measurement=on_measurement,
    )
    with ExitStack() as stack:
        folder = _folder(plan, run, stack) if run is not None else None
        journal = Journal(folder.address, _provenance(plan)) if folder else None
        measurer = FunctionMeasurer(
            measure,
            plan.tunables,
            plan.space,
            task=plan.name,
            known=[record.measurement for record in journal.records()] if journal else (),
            record=_recorder(folder, journal) if folder and journal else None,
            observe=_observer(plan, on_measurement),
        )
        stack.enter_context(_ray_as_found())
        _search(plan, measurer, RoundJournal(folder.address) if folder else None)
        damaged = journal.damaged if journal else ()
    return _result(plan, measurer.measured, run="" if run is None else shown(run), damaged=damaged)


def _folder(plan: FunctionPlan, run: Place, stack: ExitStack) -> RunFolder:
    """A run's folder, which is ours until the stack unwinds."""
    folder = RunFolder(run, option="run=")
    stack.callback(folder.close)
    folder.begin(plan)
    return folder


def _recorder(
    folder: RunFolder, journal: Journal
) -> Callable[[Sequence[Measurement]], list[Record]]:
    """Keeps measurements as long as the folder is ours."""

    def record(measurements: Sequence[Measurement]) -> list[Record]:
        folder.check()
        return journal.append(measurements)

    return record


def _provenance(plan: FunctionPlan) -> Provenance:
    return Provenance(
        machine=cpu_brand(),
        versions={
            "python": platform.python_version(),
            "chameleon-ray": metadata.version("chameleon-ray"),
        },
        policy=plan.policy_name,
        seed=plan.seed,
    )


def _observer(
    plan: FunctionPlan, on_measurement: Callable[[Attempt], None] | None
) -> Callable[[Measurement], None] | None:
    if on_measurement is None:
        return None
    return lambda measurement: on_measurement(_attempt(plan, measurement))


def _search(plan: FunctionPlan, measurer: FunctionMeasurer, journal: RoundJournal | None) -> None:
    """Measure until the trials are used up, or the space is.

    Raises:
        NothingValidError: Nothing has a time.
    """
    phases = Phases()

    def keep(round_: Round) -> None:
        if journal is not None:
            journal.append(replace(round_, phase_seconds=phases.taken()))

    rounds = search(
        NamedTask(key=plan.name),
        plan.space,
        replace(plan.policy, default="first"),  # who names a default asks for its time
        measurer=measurer,
        budget=plan.trials,
        seed=plan.seed,
        rng=np.random.default_rng(plan.seed),
        phases=phases,
        default=plan.default,
        observe=keep,
        lessons=FixedLessons(past=plan.past) if plan.past else None,
        weights=agent.weights if (agent := plan.experience.agent) else None,
    )
    try:
        with closing(rounds):
            for _ in rounds:
                pass
    except NothingValidError:
        pass  # said below, in the words of a function
    if not any(m.ok for m in measurer.measured):
        raise NothingValidError(_nothing_valid(plan, measurer.measured)) from None


def _nothing_valid(plan: FunctionPlan, measured: Sequence[Measurement]) -> str:
    first = _attempt(plan, measured[0])
    return (
        f"{plan.name}: none of the first {len(measured)} measurements gave a time. The first one, "
        f"of {first.config}, ended with:\n{first.message}\n"
        "Call the function with that configuration by hand, and forbid by restrictions what "
        "cannot work."
    )


def _attempt(plan: FunctionPlan, measurement: Measurement) -> Attempt:
    return Attempt(
        config=plan.tunables.plain(plan.space.config(measurement.config)),
        seconds=measurement.seconds if measurement.ok else None,
        message=measurement.message,
    )


def _result(
    plan: FunctionPlan, measured: Sequence[Measurement], *, run: str, damaged: Sequence[str]
) -> FunctionResult:
    history = tuple(_attempt(plan, m) for m in measured)
    best = min((m for m in measured if m.ok), key=lambda m: m.seconds)
    return FunctionResult(
        best_config=_attempt(plan, best).config,
        best_seconds=best.seconds,
        default_seconds=history[0].seconds if plan.default is not None else None,
        history=history,
        outcomes=histogram(measured),
        allowed=plan.allowed,
        policy=plan.policy_name,
        seed=plan.seed,
        run=run,
        learned_from="; ".join([plan.learns_from, *plan.experience.remarks]),
        damaged=tuple(damaged),
    )


@contextmanager
def _ray_as_found() -> Iterator[None]:
    """A Ray that an explorer starts ends with the search; one that was there goes on."""
    before = _ray_runs()
    try:
        yield
    finally:
        if _ray_runs() and not before:
            sys.modules["ray"].shutdown()


def _ray_runs() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())
