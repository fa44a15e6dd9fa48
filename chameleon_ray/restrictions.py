"""Restrictions: which configurations a user's own kernel can be asked for."""

from __future__ import annotations

import ast
import numbers
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_ray.errors import SettingsError, UnknownNameError
from chameleon_ray.space import BoolArray, Configs, Constraint, Knob, Values
from chameleon_ray.tunables import Plain, Tunables

Restriction = str | Callable[[dict[str, Any]], object]

_MOST_KNOWN = 2**18  # answers that a restriction remembers
_PARTS = (  # what a restriction in text may consist of
    *(ast.Expression, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare, ast.IfExp),
    *(ast.Name, ast.Constant, ast.Tuple, ast.List, ast.Set),
    *(ast.boolop, ast.operator, ast.unaryop, ast.cmpop, ast.expr_context),
)


class Restrictions:
    """Conditions on the plain values of a config; a config is allowed if all of them hold.

    They are asked in order, each only about what those before it allow: `b > 0` may stand before
    `a % b == 0`. A restriction is a function of a config by value, or text in Kernel Tuner's form:
    Python's operators on knobs and plain values. It is asked about whole columns at once where it
    gives the same answers so, and about one config after the other where it does not.

    Args:
        given: The restrictions.
        tunables: The knobs and their values.
        probe: Distinct configs `(n, knobs)` on which a restriction shows whether it can be asked
            about columns.

    Raises:
        UnknownNameError: Text names something that is not a knob.
        SettingsError: One is neither a function nor such text; raises; or answers neither yes
            nor no.
    """

    def __init__(self, given: Sequence[Restriction], tunables: Tunables, probe: Configs) -> None:
        self._tunables = tunables
        self._knobs = tunables.knobs()
        self._parts: list[_Part] = []
        for restriction in given:
            part = _Part(restriction, tunables)
            part.try_columns(probe)
            probe = probe[part.holds(probe)]
            self._parts.append(part)

    @property
    def names(self) -> tuple[str, ...]:
        """Of each its text, or the function's name."""
        return tuple(part.name for part in self._parts)

    def allowed(self, configs: Configs) -> BoolArray:
        """Which configs `(n, knobs)` all restrictions allow, `(n,)`.

        Raises:
            SettingsError: A restriction raises, or answers neither yes nor no.
        """
        allowed = np.ones(len(configs), dtype=np.bool_)
        for part in self._parts:
            allowed[allowed] = part.holds(configs[allowed])
        return allowed

    def left(self, configs: Configs) -> list[tuple[str, int]]:
        """Each restriction, and how many of the configs `(n, knobs)` are left after it."""
        counts = []
        for part in self._parts:
            configs = configs[part.holds(configs)]
            counts.append((part.told, len(configs)))
        return counts

    def broken(self, config: Configs) -> str | None:
        """The first restriction that forbids one config `(knobs,)`; None if it is allowed."""
        rows = config[None, :]
        return next((part.told for part in self._parts if not part.holds(rows)[0]), None)

    def constraints(self) -> list[Constraint]:
        """The same for a `DesignSpace` of these knobs; none where nothing is restricted."""
        if not self._parts:
            return []
        return [Constraint(name="the restrictions", holds=self._of_values)]

    def _of_values(self, values: Values) -> BoolArray:
        columns = [_indices(knob, values[knob.name]) for knob in self._knobs]
        return self.allowed(np.stack(columns, axis=1).astype(np.int32))


def _indices(knob: Knob, values: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Which choice of the knob each row of `values` `(n, parts)` is."""
    choices = _whole(np.array(knob.choices, dtype=np.int64))
    order = np.argsort(choices)
    return order[np.searchsorted(choices, _whole(values), sorter=order)]


def _whole(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.generic]:
    """One sortable value for each row."""
    if rows.shape[1] == 1:
        return rows[:, 0]
    return np.ascontiguousarray(rows).view(f"V{8 * rows.shape[1]}")[:, 0]


class _Part:
    """One restriction.

    Attributes:
        name: Its text, or the function's name.
        told: The same for messages: with where a function stands.
    """

    def __init__(self, given: Restriction, tunables: Tunables) -> None:
        self._tunables = tunables
        names = list(tunables.values)
        self._ask: Callable[[dict[str, Any]], object]
        if isinstance(given, str):
            self.name = self.told = given
            self._ask, used = _expression(given, tunables)
            self._used = [names.index(name) for name in names if name in used]
        elif callable(given):
            self.name, self.told = _name(given)
            self._ask, self._used = given, list(range(len(names)))
        else:
            raise SettingsError(
                f"restrictions: {given!r} is neither a function of a configuration nor text such "
                "as 'block_x * block_y <= 1024'."
            )
        self._by_columns = False
        self._known: dict[tuple[int, ...], bool] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without the remembered answers."""
        return self.__dict__ | {"_known": {}}

    def try_columns(self, probe: Configs) -> None:
        """Find out whether it answers for columns as it does for each of these configs."""
        one_by_one = self._one_by_one(probe)
        columns = self._columns(probe)
        self._by_columns = columns is not None and bool((columns == one_by_one).all())

    def holds(self, configs: Configs) -> BoolArray:
        """The answers for configs `(n, knobs)`, `(n,)`."""
        answers = self._columns(configs) if self._by_columns else None
        return self._one_by_one(configs) if answers is None else answers

    def _columns(self, configs: Configs) -> BoolArray | None:
        """The answers for all at once; None if there is not one for each.

        The columns hold Python's own values, so that no product overflows.
        """
        if len(configs) < 2:
            return None
        columns = {
            name: _column(values)[configs[:, i]]
            for i, (name, values) in enumerate(self._tunables.values.items())
        }
        try:
            answers = self._ask(columns)
        except Exception:  # noqa: BLE001 - it was written for one config, and is asked so
            return None
        if not isinstance(answers, np.ndarray) or answers.shape != (len(configs),):
            return None
        return answers.astype(np.bool_)

    def _one_by_one(self, configs: Configs) -> BoolArray:
        rows = configs[:, self._used].tolist()
        answers = (
            self._answer(tuple(row), config) for row, config in zip(rows, configs, strict=True)
        )
        return np.fromiter(answers, dtype=np.bool_, count=len(configs))

    def _answer(self, key: tuple[int, ...], config: Configs) -> bool:
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            known = self._known[key] = self._asked(self._tunables.plain(config))
        return known

    def _asked(self, config: dict[str, Plain]) -> bool:
        try:
            answer = self._ask(dict(config))
        except Exception as error:
            raise SettingsError(
                f"restrictions: {self.told} fails for {config}: {type(error).__name__}: {error}. A "
                "restriction must answer for every configuration that those before it allow."
            ) from error
        if not isinstance(answer, bool | np.bool_ | numbers.Real):
            raise SettingsError(
                f"restrictions: {self.told} answers {answer!r} for {config}; it must answer True "
                "or False."
            )
        return bool(answer)


def _column(values: Sequence[Plain]) -> npt.NDArray[np.object_]:
    column = np.empty(len(values), dtype=np.object_)
    column[:] = values
    return column


def _name(function: Callable[..., object]) -> tuple[str, str]:
    """A function's name, and the same with the place where it stands, if that is known."""
    name = str(getattr(function, "__qualname__", type(function).__qualname__))
    code = getattr(function, "__code__", None)
    if code is None:
        return name, name
    return name, f"{name} ({Path(code.co_filename).name}, line {code.co_firstlineno})"


class _Expression:
    """A restriction in text, compiled; its `text` is all that is pickled."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._code = compile(ast.parse(text.strip(), mode="eval"), "<restriction>", "eval")

    def __reduce__(self) -> tuple[object, ...]:
        return _Expression, (self._text,)

    def __call__(self, config: Mapping[str, Any]) -> object:
        return eval(self._code, {"__builtins__": {}}, config)  # noqa: S307 - of `_PARTS` only


def _expression(text: str, tunables: Tunables) -> tuple[_Expression, set[str]]:
    """A restriction in text, and the knobs that it names."""
    where = f"restrictions: {text!r}"
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise SettingsError(f"{where}: not an expression: {reason}.") from None
    for node in ast.walk(tree):
        if not isinstance(node, _PARTS):
            raise SettingsError(
                f"{where}: {ast.unparse(node)!r} is more than knobs, plain values and operators; "
                "give a function instead, such as lambda config: ..."
            )
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for name in sorted(used):
        if name not in tunables.values:
            raise UnknownNameError("knob", name, tunables.values, where=where)
    return _Expression(text), used
