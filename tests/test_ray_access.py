"""A Ray of our own: who can reach it, and with what."""

import os
import subprocess
import sys

import psutil
import pytest
import ray

from chameleon_ray.errors import MachineError
from chameleon_ray.ray_access import guard_ray, start_ray

JOIN = "import sys; from chameleon_ray.ray_access import join_ray; join_ray(sys.argv[1])"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home without a token, and an environment without one."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    yield tmp_path
    ray.shutdown()
    monkeypatch.undo()
    guard_ray()  # as all other tests have it


def listening():
    """The addresses at which this process and those it started listen."""
    ours = [psutil.Process(), *psutil.Process().children(recursive=True)]
    found = [c for process in ours for c in process.net_connections(kind="tcp")]
    return {c.laddr.ip for c in found if c.status == psutil.CONN_LISTEN}


@pytest.mark.ray
@pytest.mark.slow
def test_nobody_outside_reaches_our_own_ray_and_inside_only_with_the_token(home):
    """It listens on the loopback address alone, and refuses another token."""
    start_ray(cpus=1)
    assert ray.get(ray.remote(lambda: os.environ["RAY_AUTH_MODE"]).remote()) == "token"
    assert listening() <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    assert len(listening()) > 0
    joining = [sys.executable, "-c", JOIN, ray.get_runtime_context().gcs_address]
    assert subprocess.run(joining, check=False).returncode == 0
    impatient = {"RAY_AUTH_TOKEN": "f" * 64, "RAY_py_gcs_connect_timeout_s": "1"}
    refused = subprocess.run(
        joining, env={**os.environ, **impatient}, capture_output=True, text=True, check=False
    )
    assert "AuthToken" in refused.stderr


class TestToken:
    """Where it is kept."""

    def test_only_the_user_can_read_it(self, home):
        """The file and its folder; and a second call keeps what the first made."""
        guard_ray()
        token = home / ".ray" / "auth_token"
        made = token.read_text()
        assert len(made) == 64
        assert token.stat().st_mode & 0o077 == token.parent.stat().st_mode & 0o077 == 0
        guard_ray()
        assert token.read_text() == made
        assert list(token.parent.iterdir()) == [token]

    def test_one_that_ray_made_is_closed_to_others(self, home):
        """It stays what it was."""
        token = home / ".ray" / "auth_token"
        token.parent.mkdir()
        token.write_text("0" * 64)
        token.chmod(0o644)
        guard_ray()
        assert token.read_text() == "0" * 64
        assert token.stat().st_mode & 0o077 == 0

    def test_another_file_is_used_and_left_alone(self, home, monkeypatch):
        """RAY_AUTH_TOKEN_PATH names it; nothing is written at home."""
        token = home / "mine"
        token.write_text("0" * 64)
        token.chmod(0o640)
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
        guard_ray()
        assert token.stat().st_mode & 0o777 == 0o640
        assert list(home.iterdir()) == [token]

    @pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN", "RAY_AUTH_MODE"])
    def test_none_is_written_where_the_environment_has_it_or_says_none(
        self, home, monkeypatch, name
    ):
        """A token in the environment, or RAY_AUTH_MODE=disabled."""
        monkeypatch.setenv(name, "disabled")
        guard_ray()
        assert not list(home.iterdir())

    def test_where_it_cannot_be_kept_the_remedy_is_said(self, home, monkeypatch):
        """The home is no folder."""
        (home / "file").write_text("")
        monkeypatch.setenv("HOME", str(home / "file"))
        with pytest.raises(MachineError, match="RAY_AUTH_TOKEN_PATH"):
            guard_ray()
