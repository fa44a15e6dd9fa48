"""One measuring place: what it asks, and the leases under which that builds and times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from chameleon_ray.env_settings import Env
from chameleon_ray.measure import Job, Measurement, Outcome, Purpose
from chameleon_ray.measure.backend import Device, Failure, State
from chameleon_ray.measure.child import Child
from chameleon_ray.measure.inline import Inline
from chameleon_ray.measure.lease import Lease, lease_of
from chameleon_ray.measure.pair import Pair
from chameleon_ray.tasks import Target

_MOST_LOST = 3  # children that somebody kills, before the candidate is taken for the cause


class Bench:
    """Turns jobs into measurements; nothing that a candidate does is raised.

    Args:
        env: Timeouts, repeats, tolerance, memory.
        target: What to generate code for.
        seed: Of the random inputs.
        lease: What is timed on; by default, what the env asks for.
        runner: The process that has the GPU, where there is one: others of its benches use it, too.
    """

    def __init__(
        self,
        env: Env,
        target: Target,
        seed: int,
        lease: Lease | None = None,
        runner: Child | None = None,
    ) -> None:
        self._env, self._lease = env, lease or lease_of(env, lambda: self._child.device.unit)
        self._child: Inline | Child | Pair
        if runner is not None:
            self._child = Pair(env, seed, runner)
        elif env.simulated:
            self._child = Inline(env, target, seed)
        else:
            self._child = Child(env, target, seed)

    def start(self) -> Device:
        """Start the child; what it measures on.

        Raises:
            MachineError: It does not start, or the target does not fit the machine.
        """
        return self._child.start()

    def measure(self, job: Job) -> Measurement:
        """Build, check and time one config."""
        return self.measure_all([job])[0]

    def measure_all(self, jobs: Sequence[Job]) -> list[Measurement]:
        """Build all, then check and time one after another: the cores are waited for only once.

        Kernels that are lost with a child are built again, so a failure costs its own job only.
        What is with a child that somebody kills is measured again, alone; the third time it is
        taken for the cause.
        """
        measured = zip(jobs, self._measure_all(jobs), strict=True)
        return [self._again(self._measure_all, [job], [m])[0] for job, m in measured]

    def _again(
        self,
        measure: Callable[[Sequence[Job]], list[Measurement]],
        jobs: Sequence[Job],
        measured: list[Measurement],
    ) -> list[Measurement]:
        """What was measured; measured again where the child was lost for no reason of its own."""
        for _ in range(_MOST_LOST - 1):
            if not any(m.outcome is Outcome.DEVICE_LOST for m in measured):
                return measured
            measured = measure(jobs)
        return [_given_up(m) if m.outcome is Outcome.DEVICE_LOST else m for m in measured]

    def _measure_all(self, jobs: Sequence[Job]) -> list[Measurement]:
        built = [self._build(job) for job in jobs]
        if not any(m.ok for m in built):
            return built
        if any(m.outcome.deadly for m in built):
            self._child.kill()  # one that is alive again still holds some of them
            pairs = zip(jobs, built, strict=True)
            return [m if m.outcome.deadly else self._measure_all([job])[0] for job, m in pairs]
        measured: list[Measurement] = []
        with self._lease.exclusive():
            for job, m in zip(jobs, built, strict=True):
                measured.append(self._run(job, m) if m.ok else m)
                if measured[-1].outcome.deadly:
                    break
        left = jobs[len(measured) :]
        return [*measured, *self._measure_all(left)] if left else measured

    def _run(self, job: Job, built: Measurement) -> Measurement:
        """Check and time the kernel that was built first of those in the child."""
        answer = self._child.ask("run", job.best_seconds, self._env.run_timeout_seconds)
        if isinstance(answer, Failure):
            return _failed(built, answer)
        error, repeats, seconds, states = answer
        measured = replace(
            _watched(built, states), repeat_seconds=repeats, run_seconds=seconds, error=error
        )
        if error <= self._env.tolerance:
            return measured
        message = (
            f"max|a-b|/max|b| is {error:.3g} against torch; {self._env.tolerance:g} is allowed"
        )
        return replace(measured, outcome=Outcome.WRONG_OUTPUT, message=message)

    def compare(self, jobs: Sequence[Job]) -> list[Measurement]:
        """Build all, then time them in turns. A kernel that fails to build stands aside."""
        return self._again(self._compare, jobs, self._compare(jobs))

    def _compare(self, jobs: Sequence[Job]) -> list[Measurement]:
        built = [self._build(job) for job in jobs]
        if any(m.outcome.deadly for m in built):
            # The child died and took the kernels before it along: build again without the culprit.
            self._child.kill()
            return self._compared_without(jobs, built)
        kernels = sum(m.ok for m in built)
        timeout_seconds = self._env.run_timeout_seconds * max(kernels, 1) * self._env.final_repeats
        with self._lease.exclusive():
            answer = self._child.ask("compare", None, timeout_seconds)
        if isinstance(answer, Failure):
            failed = [_failed(m, answer) if m.ok else m for m in built]
            if answer.outcome is Outcome.DEVICE_LOST or not any(map(_torch_s, built)):
                return failed
            # None of ours failed when it ran alone, and torch's own kernel may never have run.
            left = [f if _torch_s(m) else m for m, f in zip(built, failed, strict=True)]
            return self._compared_without(jobs, left)
        times, seconds, states = answer
        repeats, share = iter(times), seconds / max(kernels, 1)
        return [
            replace(_watched(m, states), repeat_seconds=next(repeats), run_seconds=share)
            if m.ok
            else m
            for m in built
        ]

    def _compared_without(
        self, jobs: Sequence[Job], built: Sequence[Measurement]
    ) -> list[Measurement]:
        """Those that failed stay as they are; the others are built again and timed in turns."""
        alive = [job for job, m in zip(jobs, built, strict=True) if m.ok]
        again = iter(self._compare(alive) if alive else [])
        return [next(again) if m.ok else m for m in built]

    def _build(self, job: Job) -> Measurement:
        with self._lease.shared():
            answer = self._child.ask("build", job, self._env.build_timeout_seconds)
        base = Measurement(
            task=job.task.key, config=job.config, purpose=job.purpose, outcome=Outcome.OK
        )
        if not isinstance(answer, Failure):
            return replace(base, build_seconds=answer)
        timed_out = answer.outcome is Outcome.RUN_TIMEOUT
        outcome = Outcome.BUILD_TIMEOUT if timed_out else answer.outcome
        return replace(base, outcome=outcome, message=answer.message)

    def close(self) -> None:
        """End the child."""
        self._child.kill()


def _watched(measurement: Measurement, states: Sequence[State]) -> Measurement:
    """The same, with what the device was like before and after."""
    return replace(
        measurement,
        clock_mhz=tuple(state.clock_mhz for state in states),
        celsius=tuple(state.celsius for state in states),
        others=tuple(state.others for state in states),
    )


def _torch_s(built: Measurement) -> bool:
    return built.ok and built.purpose is Purpose.TORCH


def _given_up(measurement: Measurement) -> Measurement:
    message = f"{measurement.message}, {_MOST_LOST} times in a row"
    return replace(measurement, outcome=Outcome.CRASHED, message=message)


def _failed(measurement: Measurement, failure: Failure) -> Measurement:
    return replace(measurement, outcome=failure.outcome, message=failure.message)
