"""The coordinator as an object, without Ray: what it remembers, and what ends it."""

import asyncio

import pytest
from test_rounds import ROUND

from chameleon_ray.coordinator import Coordinator, Report
from chameleon_ray.env_settings import Env
from chameleon_ray.errors import MachineError, RunFolderError
from chameleon_ray.measure import Job
from chameleon_ray.measure.pool import HostsWanted
from chameleon_ray.networks import network
from chameleon_ray.records import Provenance
from chameleon_ray.results import LayerProgress
from chameleon_ray.rounds import RoundJournal


def test_a_round_that_cannot_be_kept_ends_the_run(tmp_path):
    """The coordinator remembers the error, and no more is measured."""
    file = tmp_path / "run"
    file.write_text("not a folder")
    coordinator = Coordinator(HostsWanted(env=Env(), seed=0))
    coordinator._rounds = RoundJournal(file)
    coordinator._opened.set()
    asyncio.run(coordinator.note_round(ROUND))
    assert isinstance(coordinator._error, RunFolderError)
    with pytest.raises(RunFolderError, match="cannot keep records there"):
        coordinator._check()


def test_a_mistake_of_ours_ends_the_run_instead_of_waiting_for_ever():
    """Whatever serves a host raises what it never should: who waits is told, and so is the run."""

    async def main():
        coordinator = Coordinator(HostsWanted(env=Env(), seed=0))
        coordinator._opened.set()
        coordinator._imported.set()
        job = Job(task=network("resnet18")[0].task, config={"knob": (1,)})
        waiting = asyncio.create_task(coordinator.measure([job]))
        await asyncio.sleep(0)

        async def broken():
            raise ZeroDivisionError("nothing went into nothing")

        coordinator._do(broken())
        with pytest.raises(MachineError, match="nothing went into nothing"):
            await asyncio.wait_for(waiting, 5)
        with pytest.raises(ZeroDivisionError):
            coordinator._check()

    asyncio.run(main())


def test_one_that_is_started_again_knows_which_layers_have_ended(tmp_path):
    """Time is kept for the finalists of the others alone."""
    first, second = network("resnet18")[:2]
    rows = [LayerProgress(layer=layer, trials=8) for layer in (first, second)]
    done = LayerProgress(layer=first, trials=8, measurements=8, doing="done")
    before = Report(
        layers=(done, rows[1]), opened=True, phase_seconds={"fit": 2.0}, first_job_at=5.0, held=0,
        error=None, drifted=False,
    )  # fmt: skip

    async def others():
        coordinator = Coordinator(HostsWanted(env=Env(measurer="simulated"), seed=0))
        await coordinator.open(str(tmp_path), Provenance(), 0, rows=rows, most=8, before=before)
        return await coordinator.others(), await coordinator.report()

    found, report = asyncio.run(others())
    assert (report.first_job_at, report.phase_seconds) == (5.0, {"fit": 2.0})
    assert found.ended == {first.index}
    assert found.measured == {first.index: 8, second.index: 0}
