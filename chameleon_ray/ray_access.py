"""How Ray is started and joined: quietly, with its token, our own on the loopback address alone."""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from chameleon_ray.errors import MachineError

_STORE_BYTES = 128 * 2**20  # our data are a few MB


def import_ray() -> Any:
    """The package, told to be quiet before it is imported."""
    quiet = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "RAY_DEDUP_LOGS": "0",
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    import ray

    return ray


def start_ray(*, cpus: int, gpus: bool = False) -> None:
    """A Ray of this process alone, which hands out so many CPUs, and if asked all GPUs it finds.

    Raises:
        MachineError: There is no token, and none can be written.
    """
    ray = guard_ray()
    ray.init(
        address="local",
        num_cpus=cpus,
        num_gpus=None if gpus else 0,
        object_store_memory=_STORE_BYTES,
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
    )


def join_ray(address: str) -> None:
    """The Ray at an address, or the last one started on this machine: `auto`.

    Raises:
        MachineError: There is no token, and none can be written.
    """
    ray = guard_ray()
    ray.init(address=address, logging_level="ERROR", log_to_driver=False)


def guard_ray() -> Any:
    """The package, which from now on asks for a token and shows one, and starts on loopback.

    Both hold also where somebody imported ray before. A RAY_AUTH_MODE that is set stays.

    Raises:
        MachineError: There is no token, and none can be written.
    """
    ray = import_ray()
    private, core = ray._private, ray._raylet  # noqa: SLF001 - there is no public way
    private.ray_constants.ENABLE_RAY_CLUSTER = False  # as on macOS; else it is on all addresses
    mode = os.environ.setdefault("RAY_AUTH_MODE", "token")
    if mode == "token" and "RAY_AUTH_TOKEN" not in os.environ:
        _keep_token()
        core.AuthenticationTokenLoader.instance().reset_cache()
    core.Config.initialize("")  # it reads the mode once
    return ray


def token_source() -> str:
    """Where the token is from, in words."""
    if "RAY_AUTH_TOKEN" in os.environ:
        return "RAY_AUTH_TOKEN"
    return os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token"


def _keep_token() -> None:
    """A token where Ray looks for it; Ray would write one that all users of the machine can read.

    Raises:
        MachineError: It cannot be written.
    """
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".auth_token.") as file:
                file.write(secrets.token_hex(32))
                file.flush()
                with suppress(FileExistsError):  # of another run that starts now
                    os.link(file.name, path)
        if not named:
            path.chmod(0o600)
    except OSError as error:
        raise MachineError(
            f"Ray's token cannot be kept in {path}: {error}\n"
            "Name a file of your own in RAY_AUTH_TOKEN_PATH; it is made if it is not there."
        ) from error
