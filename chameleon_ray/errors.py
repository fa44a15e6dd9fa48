"""What a user did, or what the machine lacks: every error that ends a command with code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LEAST_LIKENESS = 0.7  # difflib's: 1 for the same; cpu and gpu have 0.67


class ChameleonError(Exception):
    """An error whose message names the thing, the known choices and the remedy.

    The command line prints the message alone and exits with `exit_code`.
    """

    exit_code = 2


class UnknownNameError(ChameleonError):
    """A name that is not among the known ones.

    Args:
        kind: What the name stands for, e.g. `"network"`.
        name: What was given.
        known: The names that would have been understood.
        where: The file or option the name came from, if any.
    """

    def __init__(
        self, kind: str, name: object, known: Iterable[object], *, where: str = ""
    ) -> None:
        self.kind, self.name, self.known, self.where = (
            kind,
            str(name),
            [str(k) for k in known],
            where,
        )
        guess = _closest(self.name, self.known)
        hint = f" Did you mean {guess!r}?" if guess else ""
        prefix = f"{where}: " if where else ""
        known_text = ", ".join(self.known) or "none"
        super().__init__(f"{prefix}unknown {kind} {self.name!r}.{hint} Known: {known_text}.")

    def __reduce__(self) -> tuple[object, ...]:
        """Survives the trip from an actor: exceptions pickle by their arguments."""
        return _unknown_name, (self.kind, self.name, self.known, self.where)


def _closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, if there is one.

    Of dotted keys the last part counts, for the others are right. A digit in place of another is no
    slip: who writes resnet50 does not mean resnet18, but who writes resnet81 may. What stands for
    any name, such as `package.module:Class`, is not meant by one.
    """
    path, dot, _ = name.rpartition(".")
    within = {
        whole.removeprefix(path + dot): whole
        for whole in known
        if whole.startswith(path + dot) and ":" not in whole
    }
    last = name.removeprefix(path + dot)
    alike = [one for one in within if len(one) != len(last) or _digits(one) == _digits(last)]
    close = difflib.get_close_matches(last, alike, n=1, cutoff=_LEAST_LIKENESS)
    return within[close[0]] if close and not last.isdecimal() else None


def _digits(name: str) -> list[str]:
    return sorted(letter for letter in name if letter.isdecimal())


def _unknown_name(kind: str, name: str, known: list[str], where: str) -> UnknownNameError:
    return UnknownNameError(kind, name, known, where=where)


class SettingsError(ChameleonError):
    """A preset or an option holds a key or a value that cannot be used."""


class UnsupportedError(ChameleonError):
    """The task or the target is understood, but there is no code for it."""


class MachineError(ChameleonError):
    """This machine lacks what the run needs: a compiler, an instruction set, a device."""


class RunFolderError(ChameleonError):
    """A run folder cannot be used: other settings, another machine, in use, full, unreadable."""


class NothingValidError(ChameleonError):
    """The first batch of a task had no valid measurement: going on would be a waste."""
