"""`tune()`: the layers of a network as trials of Ray Tune, sharing one pool of benches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chameleon_ray import history
from chameleon_ray.env_settings import Env
from chameleon_ray.errors import ChameleonError, MachineError
from chameleon_ray.learning.reading import Experience
from chameleon_ray.machine import usable_cores
from chameleon_ray.measure.backend import Device
from chameleon_ray.networks import Network
from chameleon_ray.plan import Plan, make_plan
from chameleon_ray.records import Provenance, drifts, read_records
from chameleon_ray.results import (
    LayerProgress,
    LayerResult,
    NetworkResult,
    Progress,
    shares_of_wall,
)
from chameleon_ray.run_folder import Manifest, RunFolder, new_folder
from chameleon_ray.session import answer, ray_session, terminating_as_interrupt
from chameleon_ray.storage import Place
from chameleon_ray.templates import template_version
from chameleon_ray.versions import installed

if TYPE_CHECKING:
    from chameleon_ray.coordinator import Report
    from chameleon_ray.learner import Teacher

_PACKAGES = (
    "chameleon-ray",
    "ray",
    "apache-tvm",
    "torch",
    "numpy",
    "scikit-learn",
    "xgboost-cpu",
    "xgboost",
)
_POLL_SECONDS = 0.25
_SAFE = "Everything measured is safe; the same command with --run goes on."


def tune(
    network: str | Network,
    *,
    inputs: str = "",
    trust: bool = False,
    env: str | Env = "cpu",
    policy: str = "chameleon",
    layers: Sequence[int] = (),
    trials: int | None = None,
    time_budget_seconds: float | None = None,
    run: Place | None = None,
    seed: int = 0,
    address: str | None = None,
    device: str = "",
    learn_from: Sequence[str] | Experience = (),
    use_prior: bool = True,
    cold: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> NetworkResult:
    """Tune the distinct convolutions of a network.

    Args:
        network: `resnet18`, `vgg16` or `alexnet`, or a model: `torchvision:NAME`,
            `package.module:function`, a file of ONNX or of `torch.export.save`. Or the layers of a
            model that was looked through already.
        inputs: What a model takes, such as `1x3x224x224`.
        trust: Whether what a `.pt2` file pickles may be run.
        env: Name or path of an env preset, or the settings themselves.
        policy: Name or path of a policy preset.
        layers: Numbers of the layers, from 1; all if empty.
        trials: Cap of measurements per layer; the policy's if absent.
        time_budget_seconds: Have the result after about this long, from the call on.
        run: Run folder, or its URL; what is in it is gone on with. A new one under `runs/` if
            absent.
        seed: Of every random choice.
        address: Of a Ray cluster; a Ray of this process alone if absent.
        device: Part of the name of the machines to measure on, where a cluster has several kinds;
            by default, those that are as this one.
        learn_from: Measurements of others to begin with: run folders, folders of them or of
            recorded spaces, recorded spaces; or what was read of those.
        use_prior: Whether what ships, measurements of ours on CPUs, is learned from on a CPU.
        cold: Learn from nothing, nor one layer from another.
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
        inputs=inputs,
        trust=trust,
        env=env,
        policy=policy,
        layers=layers,
        trials=trials,
        time_budget_seconds=time_budget_seconds,
        seed=seed,
        address=address,
        device=device,
        learn_from=learn_from,
        use_prior=use_prior,
        cold=cold,
        run=run,
    )
    folder = RunFolder(run or new_folder(plan.network.name))
    with ExitStack() as stack:
        stack.callback(folder.close)
        gpus = plan.env.on_gpus
        stack.enter_context(ray_session(address=plan.address, cpus=plan.cpus, gpus=gpus))
        stack.enter_context(terminating_as_interrupt())  # after Ray, which has its own way
        return _Run(plan, folder, on_progress).result()


class _Run:
    """One call of `tune`, with Ray started and the run folder locked."""

    def __init__(
        self, plan: Plan, folder: RunFolder, on_progress: Callable[[Progress], None] | None
    ) -> None:
        self._plan, self._folder, self._on_progress = plan, folder, on_progress
        self._before: Report | None = None

    def result(self) -> NetworkResult:
        """Tune all layers."""
        import ray

        from chameleon_ray.coordinator import start_coordinator
        from chameleon_ray.measure.pool import HostsWanted

        plan = self._plan
        wanted = HostsWanted(env=plan.env, seed=plan.seed, device=plan.device)
        self._coordinator = start_coordinator(wanted)
        try:
            return self._tuned()
        finally:
            with suppress(Exception):  # it may be gone, and the cluster with it
                ray.kill(self._coordinator)

    def _tuned(self) -> NetworkResult:
        from chameleon_ray.layer_trials import layers_at_once

        plan = self._plan
        self._at_once = layers_at_once(plan)
        device = self._start()
        self._device = device
        self._begin(device)
        self._known = self._finished(device)
        left = len(plan.layers) - len(self._known)
        importing = min(self._at_once, left) if plan.env.on_cores else 0
        self._damaged = self._open(device, importing=importing)
        with self._watching():
            layers = self._tune(device)
        return self._collect(layers)

    def _start(self) -> Device:
        device = answer(self._coordinator.start.remote(), then=_SAFE)
        if isinstance(device, ChameleonError):
            raise device
        started: Device = device
        return started

    def _begin(self, device: Device) -> None:
        plan = self._plan
        manifest = Manifest(
            network=plan.network.name,
            model=plan.network.to_json() if plan.network.inputs else None,
            env=plan.env_name,
            policy=plan.policy_name,
            seed=plan.seed,
            env_settings=plan.env,
            policy_settings=plan.policy,
            machine=device.machine,
            compiler=device.compiler,
            template=template_version(device.target),
            learns_from=plan.learns_from,
            taught_by=plan.taught_by,
        )
        self._folder.begin(manifest, layers=tuple(layer.index for layer in plan.layers))

    def _provenance(self, device: Device) -> Provenance:
        plan = self._plan
        return Provenance(
            machine=device.machine,
            compiler=device.compiler,
            versions=installed(_PACKAGES),
            template=template_version(device.target),
            env=plan.env_name,
            policy=plan.policy_name,
            seed=plan.seed,
        )

    def _open(self, device: Device, *, importing: int) -> list[str]:
        """Let the coordinator measure once so many layers are ready; the names of damaged files."""
        plan = self._plan
        known = [LayerProgress.of(result, trials=plan.trials) for result in self._known]
        finished = {row.layer.index: row for row in known}
        rows = [
            finished.get(layer.index) or LayerProgress(layer=layer, trials=plan.trials)
            for layer in plan.layers
        ]
        opened = self._coordinator.open.remote(
            self._folder.address,
            self._provenance(device),
            importing,
            rows=rows,
            most=plan.most_trials,
            before=self._before,
        )
        damaged: list[str] = answer(opened, then=_SAFE)
        return damaged

    def _tune(self, device: Device) -> list[LayerResult]:
        from chameleon_ray.layer_trials import tune_layers

        self._devices: int = answer(self._coordinator.devices.remote(), then=_SAFE)
        known = {result.layer.index for result in self._known}
        left = tuple(layer for layer in self._plan.layers if layer.index not in known)
        if not left:
            return self._known
        with self._teaching(device) as teacher:
            layers, died = tune_layers(
                replace(self._plan, layers=left),
                self._coordinator,
                device,
                teacher=teacher,
                at_once=self._at_once,
                devices=self._devices,
                folder=self._folder.path,
            )
            report = self._report()
            if report.error is not None:
                raise report.error
            if teacher is not None:
                self._damaged += answer(teacher.actor.damaged.remote(), then=_SAFE)
        if died:
            raise MachineError(
                f"a layer's process died: {died} Everything measured is safe; the same command "
                f"with --run {self._folder.name} goes on."
            )
        return sorted([*self._known, *layers], key=lambda result: result.layer.index)

    def _finished(self, device: Device) -> list[LayerResult]:
        """What the journal answers: no search is made again for it, nor a kernel built.

        Of a run whose layers share measurements or time nobody knows how many each was to have.
        """
        plan, provenance = self._plan, self._provenance(device)
        if plan.time_budget_seconds or plan.policy.schedule == "gain":
            return []
        records, _ = read_records(self._folder.address)
        ours = [record for record in records if record.provenance.same_origin(provenance)]
        return history.finished(
            plan.layers,
            ours,
            trials=plan.trials,
            finalists=plan.env.finalists,
            torch=device.has_torch,
            target=device.target,
        )

    @contextmanager
    def _teaching(self, device: Device) -> Iterator[Teacher | None]:
        """The learner, until the body has ended; None if the layers begin cold."""
        import ray

        from chameleon_ray.learner import start_learner

        if self._plan.experience is None:
            yield None
            return
        teacher = start_learner(
            self._plan.experience,
            run=self._folder.address,
            target=device.target,
            machine=device.machine,
        )
        try:
            yield teacher
        finally:  # Ray Tune goes on knowing it, and so Ray would let it live as long as the driver
            with suppress(Exception):
                ray.kill(teacher.actor)

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Report progress from a thread while the body runs, and open a lost coordinator again."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(_POLL_SECONDS):
                try:
                    self._look()
                except ChameleonError as error:
                    self._coordinator.fail.remote(error)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join(2.0)
        self._tell(self._report())

    def _look(self) -> None:
        """Once: is the coordinator there, is the folder ours, how far is it."""
        report = self._report()
        if not report.opened:
            self._reopen()
            return
        self._before = report
        self._look_at_folder()
        try:
            self._tell(report)
        except Exception:  # noqa: BLE001 - a user's callback is not to cost the run its watcher
            self._on_progress = None

    def _reopen(self) -> None:
        """Let a coordinator that Ray has started again go on, or end the run with what is wrong."""
        try:
            self._open(self._start(), importing=0)
        except ChameleonError as error:
            answer(self._coordinator.fail.remote(error), then=_SAFE)

    def _look_at_folder(self) -> None:
        """End the run once its folder belongs to another."""
        try:
            self._folder.check()
        except ChameleonError as error:
            answer(self._coordinator.fail.remote(error), then=_SAFE)

    def _tell(self, report: Any) -> None:
        if self._on_progress is None:
            return
        plan = self._plan
        known = {progress.layer.index: progress for progress in report.layers}
        rows = tuple(
            known.get(layer.index) or LayerProgress(layer=layer, trials=plan.trials)
            for layer in plan.layers
        )
        elapsed = time.time() - plan.started
        done = sum(row.trials if row.ended else row.measurements for row in rows)
        total = plan.trials * len(rows)
        since = time.time() - (report.first_job_at or time.time())
        made = done - report.held
        left = since * max(0, total - done) / made if made > 0 else None
        if plan.time_budget_seconds and left is not None:
            left = min(left, max(0.0, plan.time_budget_seconds - elapsed))
        self._on_progress(
            Progress(
                layers=rows, elapsed_seconds=elapsed, seconds_left=left, device=self._device.words
            )
        )

    @property
    def _cores(self) -> int:
        """What everything but kernels computes on."""
        target = self._device.target
        return target.cores if target.kind == "llvm" else usable_cores()

    def _report(self) -> Any:
        return answer(self._coordinator.report.remote(), then=_SAFE)

    def _collect(self, layers: list[LayerResult]) -> NetworkResult:
        plan, report = self._plan, self._report()
        wall = time.time() - plan.started
        started = (report.first_job_at or time.time()) - plan.started
        return NetworkResult(
            network=plan.network.name,
            untuned=plan.network.untuned,
            env=plan.env_name,
            policy=plan.policy_name,
            seed=plan.seed,
            device=self._device.words,
            wall_seconds=wall,
            startup_seconds=started,
            phase_seconds=shares_of_wall(
                report.phase_seconds, wall, cores=self._cores, devices=self._devices
            ),
            layers=tuple(layers),
            finished=plan.time_budget_seconds is None
            or sum(plan.trials if x.message else x.measurements for x in layers)
            >= plan.trials * len(layers),
            damaged=tuple(self._damaged),
            drifts=tuple(drifts(read_records(self._folder.address)[0])) if report.drifted else (),
            run=self._folder.name,
            learned_from=plan.learns_from,
            versions=installed(_PACKAGES),
        )
