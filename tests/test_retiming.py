"""What runs found, timed in turns: once, and again only when there is something else to time."""

import json

import pytest

from chameleon_ray import retiming
from chameleon_ray.env_settings import Env
from chameleon_ray.measure import Measurement, Outcome
from chameleon_ray.networks import network
from chameleon_ray.retiming import Retimer, Timed, config_key
from chameleon_ray.tasks import Target

TASK = network("resnet18")[0].task


def timed(number, seconds):
    return Timed(config={"tile": (number, 2)}, seconds=seconds)


class FakeBench:
    """Takes as many seconds as the first factor of `tile` says, in half of the turns thrice that.

    Some configs fail.
    """

    fails = frozenset()
    compared = []  # noqa: RUF012 - the fixture empties it
    open = 0

    def __init__(self, env, target, seed):
        assert env.final_repeats == 30

    def start(self):
        FakeBench.open += 1

    def compare(self, jobs):
        self.compared.append([job.config["tile"][0] for job in jobs])
        return [
            Measurement(
                task=TASK.key,
                config=job.config,
                purpose=job.purpose,
                outcome=Outcome.CRASHED if job.config["tile"][0] in self.fails else Outcome.OK,
                repeat_seconds=tuple(f * job.config["tile"][0] for f in (1.0, 3.0, 3.0, 1.0)),
            )
            for job in jobs
        ]

    def close(self):
        FakeBench.open -= 1


@pytest.fixture
def fake(monkeypatch):
    FakeBench.fails, FakeBench.compared, FakeBench.open = frozenset(), [], 0
    monkeypatch.setattr(retiming, "Bench", FakeBench)
    return FakeBench


@pytest.fixture
def retimer(tmp_path, fake):
    retimer = Retimer(tmp_path / "retimed.json", Env(), Target())
    yield retimer
    retimer.close()
    assert fake.open == 0


def again(retimer):
    return Retimer(retimer._path, Env(), Target())


def test_every_config_is_timed_once_and_the_fastest_is_the_reference(retimer, fake):
    """Whatever the runs told: equal configs are one."""
    found = retimer.retime("l", TASK, [timed(3, 0.1), timed(2, 0.2), timed(3, 0.3)], origin="o")
    assert fake.compared == [[3, 2]]
    assert found.seconds == 2.0
    assert found.of({"tile": (3, 2)}) == 3.0
    assert found.of({"tile": [3, 2]}) == 3.0  # as JSON has it
    assert not found.told


def test_times_are_kept_until_configs_or_their_origin_change(retimer, fake):
    """Another object reads them from the file, and starts nothing."""
    first = retimer.retime("l", TASK, [timed(3, 0.1), timed(2, 0.2)], origin="o")
    assert again(retimer).retime("l", TASK, [timed(2, 0.9), timed(3, 0.1)], origin="o") == first
    assert (len(fake.compared), fake.open) == (1, 1)
    retimer.retime("l", TASK, [timed(2, 0.9), timed(3, 0.1), timed(5, 0.1)], origin="o")
    retimer.retime("l", TASK, [timed(2, 0.9), timed(3, 0.1), timed(5, 0.1)], origin="other")
    retimer.retime("m", TASK, [timed(2, 0.9)], origin="o")
    assert [sorted(c) for c in fake.compared] == [[2, 3], [2, 3, 5], [2, 3, 5], [2]]
    assert set(json.loads(retimer._path.read_text())) == {"l", "m"}


def test_what_cannot_be_timed_is_named_and_is_no_reference(retimer, fake):
    """A time of another minute is not set beside these, however short."""
    fake.fails = {2}
    found = retimer.retime("l", TASK, [timed(3, 0.5), timed(2, 1e-9)], origin="o")
    assert found.seconds == 3.0
    assert found.told == {config_key({"tile": (2, 2)}): 1e-9}
    assert found.of({"tile": (2, 2)}) == 1e-9


def test_if_nothing_can_be_timed_the_next_call_tries_again(retimer, fake):
    """Until then the shortest time that was told counts."""
    fake.fails = {2, 3}
    told = [timed(3, 0.5), timed(2, 0.25)]
    found = retimer.retime("l", TASK, told, origin="o")
    assert (found.seconds, found.in_turns) == (0.25, {})
    assert not retimer._path.exists()
    fake.fails = frozenset()
    assert retimer.retime("l", TASK, told, origin="o").seconds == 2.0


@pytest.mark.parametrize("damage", ['{"l": {"of"', "[1, 2]", ""])
def test_a_damaged_file_is_taken_anew(retimer, fake, damage):
    """Cut off, something else, empty: times can be had again."""
    retimer.retime("l", TASK, [timed(3, 0.1)], origin="o")
    retimer._path.write_text(damage)
    another = again(retimer)
    assert another.retime("l", TASK, [timed(3, 0.1)], origin="o").seconds == 3.0
    assert len(fake.compared) == 2
    another.close()
