"""The layers of a run as trials of Ray Tune."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune as ray_tune

from chameleon_ray.errors import MachineError
from chameleon_ray.layer_scheduler import LayerScheduler
from chameleon_ray.layer_trainable import LayerTrainable, TrialContext
from chameleon_ray.learner import Teacher
from chameleon_ray.measure.backend import Device
from chameleon_ray.measure.pool import this_node
from chameleon_ray.plan import Plan
from chameleon_ray.results import LayerResult
from chameleon_ray.session import last_line
from chameleon_ray.tensorboard import TensorBoardFiles

_JOBS_PER_DEVICE = 1.5  # under way, of all layers: one is measured, and one in two waits
_MOST_FAILURES = 3  # of the process of a layer; each time it goes on where it was


def layers_at_once(plan: Plan) -> int:
    """How many layers at once the CPUs that Ray hands out are enough for.

    Raises:
        MachineError: Not even for one.
    """
    name, needed = this_node(), 1 + plan.rollout_workers
    here = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus = int(sum(resources.get("CPU", 0) for resources in here if name in resources))
    if cpus < needed:
        raise MachineError(
            f"Ray hands out {cpus} CPUs, and a layer with {plan.rollout_workers} rollout workers "
            f"needs {needed}; start Ray with more, or set workers lower in the policy."
        )
    return min(plan.at_once, cpus // needed)


def tune_layers(
    plan: Plan,
    coordinator: Any,
    device: Device,
    *,
    teacher: Teacher | None,
    at_once: int,
    devices: int,
    folder: Path | None,
) -> tuple[list[LayerResult], str]:
    """Tune all layers, so many at once.

    Args:
        plan: What was asked for.
        coordinator: Handle of the actor that measures.
        device: What it measures on.
        teacher: The learner that they learn from; None if they begin cold.
        at_once: How many layers have a process of their own.
        devices: How many there are; with many, batches are larger, or there would not be enough
            under way for all of them.
        folder: Where files for TensorBoard are to lie; they are appended to, as no file on a
            store can be, and so None on one.

    Returns:
        What came of each layer that has a result, by number; and why the process of a layer died,
        if one died too often.
    """
    context = _context(
        plan,
        device,
        coordinator=coordinator,
        teacher=teacher,
        at_once=at_once,
        devices=devices,
    )
    with (
        tempfile.TemporaryDirectory(prefix="chameleon-ray-tune-") as storage,
        _callbacks(folder) as callbacks,
    ):
        tuner = ray_tune.Tuner(
            _trainable(plan, context),
            param_space={"layer": ray_tune.grid_search([x.index for x in plan.layers])},
            tune_config=ray_tune.TuneConfig(
                reuse_actors=True, scheduler=_scheduler(plan, coordinator, at_once)
            ),
            run_config=ray_tune.RunConfig(
                storage_path=storage,
                callbacks=callbacks,
                verbose=0,
                failure_config=ray_tune.FailureConfig(max_failures=_MOST_FAILURES),
                checkpoint_config=ray_tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        results = tuner.fit()
    layers = [(result.metrics or {}).get("result") for result in results]
    died = last_line(results.errors[0]) if results.errors else ""
    known = [layer for layer in layers if layer is not None]
    return sorted(known, key=lambda result: result.layer.index), died


def _context(
    plan: Plan,
    device: Device,
    *,
    coordinator: Any,
    teacher: Teacher | None,
    at_once: int,
    devices: int,
) -> TrialContext:
    budget = plan.time_budget_seconds
    policy = plan.policy
    if devices > 1:
        policy = policy.busy_enough(math.ceil(_JOBS_PER_DEVICE * devices / at_once))
    agent = plan.experience.agent if plan.experience else None
    return TrialContext(
        coordinator=coordinator,
        teacher=teacher,
        weights=agent.weights if agent else None,
        layers=plan.layers,
        env=plan.env,
        policy=policy,
        target=device.target,
        has_torch=device.has_torch,
        seed=plan.seed,
        trials=plan.trials,
        most=plan.most_trials,
        ends_at=plan.started + budget if budget else None,
        at_once=at_once,
    )


def _trainable(plan: Plan, context: TrialContext) -> Any:
    # Tune keeps the state of paused layers in a folder of this machine: there they have to run.
    bundles = [{"CPU": 1.0, this_node(): 0.001}, *[{"CPU": 1.0}] * plan.rollout_workers]
    return ray_tune.with_resources(
        ray_tune.with_parameters(LayerTrainable, context=context),
        ray_tune.PlacementGroupFactory(bundles),
    )


def _scheduler(plan: Plan, coordinator: Any, at_once: int) -> LayerScheduler | None:
    schedule = plan.policy.schedule
    if schedule == "fifo":
        return None
    return LayerScheduler(plan.layers, schedule, coordinator.exhaust.remote, at_once=at_once)


@contextmanager
def _callbacks(folder: Path | None) -> Iterator[list[Any]]:
    if folder is None:
        yield []
        return
    with closing(TensorBoardFiles(folder)) as files:
        yield [files]
