"""`tune()`: the layers of a network as trials of Ray Tune, sharing one pool of benches."""

from __future__ import annotations

import platform
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from chameleon_ray.errors import ChameleonError, MachineError
from chameleon_ray.machine import cpu_brand
from chameleon_ray.measure.backend import Device
from chameleon_ray.plan import Plan, make_plan
from chameleon_ray.records import Provenance
from chameleon_ray.results import PHASES, LayerProgress, NetworkResult, Progress
from chameleon_ray.run_folder import Manifest, RunFolder
from chameleon_ray.session import answer, last_line, ray_session, terminating_as_interrupt
from chameleon_ray.templates import template_version

_PACKAGES = ("ray", "apache-tvm", "torch", "numpy", "scikit-learn", "xgboost-cpu", "xgboost")
_POLL_SECONDS = 0.25
_SAFE = "Everything measured is safe; the same command with --run goes on."


def tune(
    network: str,
    *,
    env: str = "cpu",
    policy: str = "chameleon",
    layers: Sequence[int] = (),
    trials: int | None = None,
    time_budget_seconds: float | None = None,
    run: Path | str | None = None,
    seed: int = 0,
    address: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> NetworkResult:
    """Tune the distinct convolutions of a network.

    Args:
        network: `resnet18`, `vgg16` or `alexnet`.
        env: Name or path of an env preset.
        policy: Name or path of a policy preset.
        layers: Numbers of the layers, from 1; all if empty.
        trials: Cap of measurements per layer; the policy's if absent.
        time_budget_seconds: Start no new batch after this long.
        run: Run folder; what is in it is gone on with. A new one under `runs/` if absent.
        seed: Of every random choice.
        address: Of a Ray cluster; a Ray of this process alone if absent.
        on_progress: Called a few times a second, from a thread.

    Raises:
        UnknownNameError: Network, preset or layer.
        SettingsError: A preset or a value.
        MachineError: No compiler, or an instruction set above this machine's.
        RunFolderError: The run folder is of other settings, in use, full or unreadable.
        KeyboardInterrupt: On SIGINT and SIGTERM; everything measured is in the run folder.
    """
    plan = make_plan(
        network,
        env=env,
        policy=policy,
        layers=layers,
        trials=trials,
        time_budget_seconds=time_budget_seconds,
        seed=seed,
        address=address,
    )
    folder = RunFolder(Path(run) if run else _new_folder(network))
    with ExitStack() as stack:
        stack.callback(folder.close)
        stack.enter_context(ray_session(address=plan.address, cpus=plan.cpus))
        stack.enter_context(terminating_as_interrupt())  # after Ray, which has its own way
        return _Run(plan, folder, on_progress).result()


def _new_folder(network: str) -> Path:
    return Path("runs") / f"{network}-{time.strftime('%Y%m%d-%H%M%S')}"


class _Run:
    """One call of `tune`, with Ray started and the run folder locked."""

    def __init__(
        self, plan: Plan, folder: RunFolder, on_progress: Callable[[Progress], None] | None
    ) -> None:
        self._plan, self._folder, self._on_progress = plan, folder, on_progress

    def result(self) -> NetworkResult:
        """Tune all layers."""
        from chameleon_ray.coordinator import start_coordinator
        from chameleon_ray.measure.pool import BenchSpec

        plan = self._plan
        spec = BenchSpec(env=plan.env, target=plan.target, seed=plan.seed)
        self._coordinator = start_coordinator(spec, plan.env.runners or plan.target.cores)
        self._at_once = _fitting(plan)
        device = answer(self._coordinator.start.remote(), then=_SAFE)
        if isinstance(device, ChameleonError):
            raise device
        self._device = f"{_machine(device)}, {device.compiler}"
        self._open(device)
        with self._watching():
            self._tune(device)
        return self._collect()

    def _open(self, device: Device) -> None:
        plan, machine = self._plan, _machine(device)
        template = template_version(device.target)
        manifest = Manifest(
            network=plan.network,
            env=plan.env_name,
            policy=plan.policy_name,
            seed=plan.seed,
            env_settings=plan.env,
            policy_settings=plan.policy,
            machine=machine,
            compiler=device.compiler,
            template=template,
        )
        self._folder.begin(manifest, layers=tuple(layer.index for layer in plan.layers))
        provenance = Provenance(
            machine=machine,
            compiler=device.compiler,
            versions=_versions(),
            template=template,
            env=plan.env_name,
            policy=plan.policy_name,
            seed=plan.seed,
        )
        path = str(self._folder.path.resolve())
        self._damaged = answer(
            self._coordinator.open.remote(path, provenance, self._at_once), then=_SAFE
        )

    def _tune(self, device: Device) -> None:
        from ray import tune as ray_tune

        from chameleon_ray.layer_trainable import LayerTrainable, TrialContext

        plan = self._plan
        budget = plan.time_budget_seconds
        context = TrialContext(
            coordinator=self._coordinator,
            layers=plan.layers,
            env=plan.env,
            policy=plan.policy,
            target=device.target,
            has_torch=device.has_torch,
            seed=plan.seed,
            trials=plan.trials,
            deadline=time.time() + budget if budget else None,
            at_once=self._at_once,
        )
        bundles = [{"CPU": 1.0}] * (1 + plan.rollout_workers)
        trainable = ray_tune.with_resources(
            ray_tune.with_parameters(LayerTrainable, context=context),
            ray_tune.PlacementGroupFactory(bundles),
        )
        with tempfile.TemporaryDirectory(prefix="chameleon-ray-tune-") as storage:
            tuner = ray_tune.Tuner(
                trainable,
                param_space={"layer": ray_tune.grid_search([x.index for x in plan.layers])},
                tune_config=ray_tune.TuneConfig(
                    reuse_actors=True, max_concurrent_trials=self._at_once
                ),
                run_config=ray_tune.RunConfig(
                    storage_path=storage,
                    verbose=0,
                    failure_config=ray_tune.FailureConfig(fail_fast=True),
                    checkpoint_config=ray_tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            )
            results = tuner.fit()
        report = self._report()
        if report.error is not None:
            raise report.error
        if results.errors:
            raise MachineError(
                f"a layer's process died: {last_line(results.errors[0])} Everything measured is "
                f"safe; the same command with --run {self._folder.path} goes on."
            )

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Report progress from a thread while the body runs."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(_POLL_SECONDS):
                self._tell()

        if self._on_progress is None:
            yield
            return
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join(2.0)
        self._tell()

    def _tell(self) -> None:
        plan, report = self._plan, self._report()
        known = {progress.layer.index: progress for progress in report.layers}
        rows = tuple(
            known.get(layer.index) or LayerProgress(layer=layer, trials=plan.trials)
            for layer in plan.layers
        )
        elapsed = time.time() - plan.started
        done = sum(row.trials if row.doing in _ENDED else row.measurements for row in rows)
        total = plan.trials * len(rows)
        since = time.time() - (report.first_job_at or time.time())
        left = since * (total - done) / done if done else None
        if plan.time_budget_seconds and left is not None:
            left = min(left, max(0.0, plan.time_budget_seconds - since))
        if self._on_progress is not None:
            self._on_progress(
                Progress(
                    layers=rows, elapsed_seconds=elapsed, seconds_left=left, device=self._device
                )
            )

    def _report(self) -> Any:
        return answer(self._coordinator.report.remote(), then=_SAFE)

    def _collect(self) -> NetworkResult:
        plan, report = self._plan, self._report()
        wall = time.time() - plan.started
        started = (report.first_job_at or time.time()) - plan.started
        return NetworkResult(
            network=plan.network,
            env=plan.env_name,
            policy=plan.policy_name,
            seed=plan.seed,
            device=self._device,
            wall_seconds=wall,
            startup_seconds=started,
            phase_seconds=_shares(report.phase_seconds, wall, plan.target.cores),
            layers=report.results,
            finished=plan.time_budget_seconds is None
            or all(x.message or x.measurements >= plan.trials for x in report.results),
            damaged=tuple(self._damaged),
            run=str(self._folder.path),
            versions=_versions(),
        )


_ENDED = ("done", "stopped")


def _fitting(plan: Plan) -> int:
    """How many layers at once the CPUs that Ray hands out are enough for.

    Raises:
        MachineError: Not even for one.
    """
    import ray

    cpus, needed = int(ray.cluster_resources().get("CPU", 0)), 1 + plan.rollout_workers
    if cpus < needed:
        raise MachineError(
            f"Ray hands out {cpus} CPUs, and a layer with {plan.rollout_workers} rollout workers "
            f"needs {needed}; start Ray with more, or set workers lower in the policy."
        )
    return min(plan.at_once, cpus // needed)


def _shares(busy_seconds: dict[str, float], wall_seconds: float, cores: int) -> dict[str, float]:
    """Core-seconds of each phase as wall seconds of the whole machine; they add up to the wall.

    A kernel that runs has all cores to itself; every other phase computes on one core.
    """
    shares = {
        phase: busy_seconds.get(phase, 0.0) / (1 if phase == "run" else cores)
        for phase in PHASES
        if phase != "other"
    }
    return {**shares, "other": max(0.0, wall_seconds - sum(shares.values()))}


def _machine(device: Device) -> str:
    """What times depend on, in words. Two machines with equal words are taken for one."""
    target = device.target
    if target.model == "simulated":
        return f"simulated device, {target.cores} cores, {target.lanes} lanes"
    brand = f"{cpu_brand()} " if cpu_brand() else ""
    return f"{brand}{target.model}, {target.cores} cores, {target.lanes} lanes"


def _versions() -> dict[str, str]:
    installed = {"python": platform.python_version(), "chameleon-ray": ""}
    for package in ("chameleon-ray", *_PACKAGES):
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            installed.pop(package, None)
    return installed
