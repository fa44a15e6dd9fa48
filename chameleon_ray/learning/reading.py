"""`--learn-from`: which measurements are meant, and what of them can be used."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from chameleon_ray.errors import ChameleonError, SettingsError
from chameleon_ray.learning.agent_file import AgentFile, load_agent
from chameleon_ray.learning.journal import COLUMNS, sources_of_run, sources_of_table
from chameleon_ray.learning.past import Past, past_of
from chameleon_ray.learning.sources import Source, has_knobs_of, of_recorded, without
from chameleon_ray.measure.recorded import load_recorded, shipped
from chameleon_ray.run_folder import MANIFEST, taught_by
from chameleon_ray.settings import Policy, PpoSettings
from chameleon_ray.storage import Place, open_folder

PRIOR = Path(__file__).with_name("prior.parquet")  # what ships: our own measurements
_AGENT = ".safetensors"
_OWN_NAME = "prior"  # by which it is named
_RECORDED = (".json", ".json.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """What may be learned from.

    Attributes:
        sources: Each of one task on one device.
        remarks: What a user should know of what was read, a line each.
        agent: Trained elsewhere; walks with it begin where it has come to.
    """

    sources: tuple[Source, ...] = ()
    remarks: tuple[str, ...] = field(default=())
    agent: AgentFile | None = None

    @property
    def digest(self) -> str:
        """Of all sources and the agent; empty if there are none."""
        together = " ".join(source.digest for source in self.sources)
        together += f" {self.agent.digest}" if self.agent else ""
        return hashlib.sha256(together.encode()).hexdigest()[:16] if together else ""

    @property
    def digests(self) -> tuple[str, ...]:
        """Of each source."""
        return tuple(source.digest for source in self.sources)

    @property
    def words(self) -> str:
        """How much it is, and its digest; empty if it is nothing."""
        measured = sum(len(source.configs) for source in self.sources)
        tasks = len({source.task for source in self.sources})
        noun = "task" if tasks == 1 else "tasks"
        parts = [
            f"{measured:,} measurements of {tasks} {noun}" if measured else "",
            "an agent" if self.agent else "",
        ]
        said = " and ".join(filter(None, parts))
        return f"{said} ({self.digest})" if said else ""

    def and_(self, others: Experience) -> Experience:
        """The same and what others know besides."""
        known = {source.digest for source in self.sources}
        new = [source for source in others.sources if source.digest not in known]
        return replace(self, sources=(*self.sources, *new))

    def only(self, digests: Collection[str]) -> Experience:
        """The same with some of the sources alone."""
        kept = tuple(source for source in self.sources if source.digest in digests)
        return replace(self, sources=kept)

    def without_tasks(self, keys: Collection[str]) -> Experience:
        """The same without what was measured of some tasks, on whatever device.

        Raises:
            SettingsError: Nothing is left.
        """
        kept = tuple(source for source in self.sources if source.task not in keys)
        left_out = [source.name for source in self.sources if source.task in keys]
        remarks = (f"not used, of a layer under test: {'; '.join(left_out)}",) if left_out else ()
        if left_out and not kept and not self.agent:
            raise SettingsError(
                "--learn-from: all of it is of the layers under test, which would be no test of "
                "learning: add runs of other layers."
            )
        return replace(self, sources=kept, remarks=remarks)

    def check_all(self, policies: Sequence[tuple[str, Policy]]) -> None:
        """Whether all policies, by name, have a use for the agent, if there is one.

        Raises:
            SettingsError: One has not.
        """
        for name, policy in policies if self.agent else ():
            explorer = policy.explorer
            if not (isinstance(explorer, PpoSettings) and explorer.agent == "tokens"):
                raise SettingsError(
                    f"--learn-from: policy {name!r} explores without an agent that could begin "
                    "with another's weights: give one with `explorer: {kind: ppo, agent: "
                    "tokens}`, or leave the agent out."
                )

    def check_untrained_on(self, name: str) -> None:
        """Whether a search of a recorded space, by its name, is a test of the agent, if any.

        Raises:
            SettingsError: The agent was trained on it.
        """
        if self.agent and name in self.agent.trained_on:
            raise SettingsError(
                f"--learn-from: the agent was trained on {name}, which would be no test of what it "
                "carries over: leave that space out, or train an agent without it."
            )

    def of_others(self, tested: Source) -> tuple[Past | None, str]:
        """What is known of others than the space under test, and a line on what that is.

        Args:
            tested: What is searched; its records are refused as its own history.
        """
        others = without(self.sources, tested)
        alike = [source.name for source in others if has_knobs_of(source, tested.space)]
        out = [
            f"its own records ({n})" if (n := len(self.sources) - len(others)) else "",
            f"{n} of other knobs" if (n := len(others) - len(alike)) else "",
        ]
        line = f"{tested.name} learns from {'; '.join(alike) or 'nothing'}"
        line += f". Left out: {', '.join(filter(None, out))}" if any(out) else ""
        return past_of(tested.space, tested.numbers, others), line


@cache
def prior() -> Experience:
    """What ships: our own measurements; nothing if this installation has none."""
    return learn_from([_OWN_NAME]) if PRIOR.is_file() else Experience()


def places_of(given: object, argument: str) -> list[str]:
    """What a call names, one place or several, as a list.

    Raises:
        SettingsError: It is neither a path nor a sequence of paths.
    """
    places = [given] if isinstance(given, str | Path) else given
    if places is None:
        return []
    if not isinstance(places, Sequence) or not all(isinstance(p, str | Path) for p in places):
        raise SettingsError(f"{argument}: {given!r} is no list of run folders and recorded spaces.")
    return [str(place) for place in places]


def given_to(run: Place | None, given: object) -> Experience:
    """What a call names as `learn_from`; of that, what its run began with, if it has begun.

    Args:
        run: The run that is to learn; None: nothing is kept.
        given: A place, several, or what was read of them.

    Raises:
        SettingsError: It names no places, or one of them holds nothing.
        RunFolderError: One of them cannot be read.
    """
    if not isinstance(given, Experience):
        places = places_of(given, "learn_from")
        given = learn_from(places, besides=run) if places else Experience()
    began_with = taught_by(run) if run is not None else None
    return given if began_with is None else given.only(began_with)


def learn_from(places: Sequence[str], *, besides: Place | None = None) -> Experience:
    """Read what `--learn-from` names.

    Args:
        places: Each a run folder or its URL, a folder of run folders and recorded spaces, a
            recorded space's file or name, a Parquet file of records, an agent that `pretrain` has
            written, or `prior`, what ships.
        besides: The run that is to learn: it is no other's past, though it lie in one of the
            folders.

    Raises:
        SettingsError: One of them holds nothing that could be learned from.
        RunFolderError: One of them cannot be read.
        UnknownNameError: It is neither a path nor the name of a shipped space.
    """
    sources: dict[str, Source] = {}
    remarks: list[str] = []
    agents = [load_agent(place) for place in places if place.endswith(_AGENT)]
    if len(agents) > 1:
        raise SettingsError("--learn-from: a search begins with one agent; give one .safetensors.")
    for place in (place for place in places if not place.endswith(_AGENT)):
        found = list(_read(place, besides))
        there = {source.digest: source for source, _ in reversed(found) if source}
        said = [remark for _, remark in found if remark]
        if not said and there.keys() <= sources.keys():
            nothing = "nothing that is not known from the others" if there else "no measurements"
            said = [f"{place!r}: {nothing}"]
        sources |= {digest: there[digest] for digest in reversed(there) if digest not in sources}
        remarks += said
    if not sources and not agents:
        why = f" ({'; '.join(remarks)})" if remarks else ""
        raise SettingsError(
            f"--learn-from: nothing was measured in {', '.join(places)}{why}. Name a run folder, a "
            "folder of them, or a recorded space."
        )
    agent = agents[0] if agents else None
    return Experience(sources=tuple(sources.values()), remarks=tuple(remarks), agent=agent)


def _read(place: str, besides: Place | None) -> Iterator[tuple[Source | None, str]]:
    """The sources of one place, each with what a user should know."""
    if place == _OWN_NAME:
        yield from _of_file(PRIOR)
    elif place.endswith(".parquet"):
        yield from _of_file(Path(place))
    elif place.endswith(_RECORDED) or (place in shipped() and not Path(place).exists()):
        yield of_recorded(load_recorded(place)), ""
    else:
        yield from _of_folder(place, besides)


def _of_file(path: Path) -> Iterator[tuple[Source | None, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=list(COLUMNS))
        sources = list(sources_of_table(table, name=path.name))
    except FileNotFoundError:
        raise SettingsError(f"--learn-from: {path}: there is no such file.") from None
    except (OSError, pa.ArrowException, ValueError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"--learn-from: {path}: not a Parquet file of records: {error}."
        ) from error
    for source in sources:
        yield source, _of(source)


def _of_folder(place: str, besides: Place | None) -> Iterator[tuple[Source | None, str]]:
    folder = open_folder(place)
    own = open_folder(besides).address if besides is not None else ""
    if folder.address == own:
        raise SettingsError(
            f"--learn-from: {place}: the run itself, which knows what it measured: leave it out."
        )
    names = folder.names()
    if MANIFEST in names:
        yield from _of_run(place, folder.title)
        return
    if folder.path is None or not names:
        raise SettingsError(
            f"--learn-from: {place}: no run folder, no recorded space, and no folder of them."
        )
    for name in names:
        path = folder.path / name
        try:
            if open_folder(path).address == own:
                continue
            if (path / MANIFEST).is_file():
                yield from _of_run(str(path), name)
            elif name.endswith(_RECORDED):
                yield of_recorded(load_recorded(path)), ""
        except ChameleonError as error:  # one of many: the others still teach
            yield None, f"{name} is left out: {error}"


def _of_run(place: str, name: str) -> Iterator[tuple[Source | None, str]]:
    sources, remark = sources_of_run(place, name=name)
    yield None, remark
    for source in sources:
        yield source, _of(source)


def _of(source: Source) -> str:
    return f"{source.name}: {source.remark}" if source.remark else ""
