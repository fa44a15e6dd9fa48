"""What is shown of a layer, of what it tells and what the journal holds."""

from dataclasses import replace

from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.networks import network
from chameleon_ray.results import LayerProgress
from chameleon_ray.shown import held, with_held

FIRST, SECOND, THIRD = (LayerProgress(layer=layer, trials=10) for layer in network("resnet18")[:3])


def measured(row, seconds, purpose=Purpose.SEARCH):
    """A measurement of a row's layer; without seconds, one that failed."""
    return Measurement(
        task=row.layer.task.key,
        config={},
        purpose=purpose,
        outcome=Outcome.OK if seconds else Outcome.CRASHED,
        repeat_seconds=(seconds,) if seconds else (),
    )


KNOWN = [
    measured(FIRST, 3.0, Purpose.DEFAULT),
    measured(FIRST, 2.0),
    measured(FIRST, None),
    measured(FIRST, 1.0, Purpose.FINALIST),
    measured(SECOND, 5.0),
]


def test_the_journal_counts_what_is_of_the_budget():
    """Failures too, finalists not."""
    found = held([FIRST, SECOND, THIRD], KNOWN, most=10)
    first = replace(FIRST, measurements=3, default_seconds=3.0, best_seconds=2.0)
    assert found == {1: first, 2: replace(SECOND, measurements=1, best_seconds=5.0), 3: THIRD}


def test_a_layer_asks_the_journal_for_no_more_than_its_cap():
    """A run that goes on with fewer trials than it had shows no more than these."""
    assert held([FIRST], KNOWN, most=2)[1].measurements == 2


def test_the_journal_is_shown_until_a_layer_has_caught_up():
    """A layer that goes on begins at 0; what it is doing is its own."""
    journal = held([FIRST, SECOND], KNOWN, most=10)
    told = {1: replace(FIRST, measurements=1, best_seconds=3.0, doing="fitting"), 3: THIRD}
    first, second, third = with_held(told, journal)
    assert first == replace(journal[1], doing="fitting")
    assert (second, third) == (journal[2], THIRD)
    beyond = replace(FIRST, measurements=4, best_seconds=1.5)
    assert with_held({1: beyond}, journal)[0] == beyond
    ended = replace(FIRST, measurements=2, best_seconds=2.5, doing="done")
    assert with_held({1: ended}, journal)[0] == ended
