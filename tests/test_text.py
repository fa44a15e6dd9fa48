"""Quantities as people write them."""

import pytest

from chameleon_ray.errors import SettingsError
from chameleon_ray.text import duration, geometric_mean, milliseconds, parse_duration, ratio, speed


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), (" 2m ", 120), ("0.5s", 0.5)]
)
def test_parse_duration(text, seconds):
    """A number and a unit."""
    assert parse_duration(text, where="--time-budget") == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "-1m", "0s", "1d", "1m30s", "nan", "infs", "1e3s"])
def test_bad_durations(text):
    """What is refused is named, with the option and the units."""
    with pytest.raises(SettingsError, match=r"--time-budget: .*s, m or h: 90s, 10m, 1\.5h"):
        parse_duration(text, where="--time-budget")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (8.44, "8.4 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
    ],
)
def test_duration(seconds, text):
    """As much precision as matters."""
    assert duration(seconds) == text


def test_kernel_quantities():
    """What is missing is a dash and never a number."""
    assert [milliseconds(s) for s in (0.00123456, 0.0123456, 0.123456)] == [
        "1.235",
        "12.35",
        "123.5",
    ]
    assert [milliseconds(None), milliseconds(float("nan")), speed(1, None)] == ["-", "-", "-"]
    assert speed(2 * 10**9, 0.5) == "4.0"
    assert ratio(3.0, 2.0) == "1.50x"
    assert ratio(None, 2.0) == ratio(2.0, None) == "-"
    assert geometric_mean([1.0, 4.0]) == pytest.approx(2.0)
    assert geometric_mean([]) is None
