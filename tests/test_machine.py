"""What this machine is."""

import math

import pytest

from chameleon_ray import machine


def test_cpu():
    """Some lanes, a power of two."""
    found = machine.cpu()
    assert found.lanes in {4, 8, 16}
    assert found.model


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu.max": "nonsense"}, math.inf),
        ({}, math.inf),
    ],
)
def test_core_quota(tmp_path, monkeypatch, files, quota):
    """Control groups of both versions, and none."""
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    assert machine.core_quota() == quota


@pytest.mark.parametrize(("quota", "cores"), [(math.inf, 6), (2.5, 2), (0.5, 1)])
def test_usable_cores(monkeypatch, quota, cores):
    """The smaller of affinity and share, at least one."""
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setattr(machine, "core_quota", lambda: quota)
    assert machine.usable_cores() == cores
