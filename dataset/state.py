"""The saved state of a mixture: small, versioned, of JSON types, mergeable over ranks.

Everything in it is a fact about positions: what was consumed and jumped over, from which draw on which weights held,
which draws were repeated. Merging is therefore a union, and a state can be taken at any time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from dataset.errors import StateError
from dataset.mixture import InForce, Weights
from dataset.positions import Consumed
from dataset.source import Source

KIND = "stovetop mixture"
FORMAT = 1


class Run(msgspec.Struct, frozen=True):
    """Draws `first` to `last`: those among them that drew a source of `dry` were repeated, the others were not."""

    first: int
    last: int
    dry: frozenset[str]


class Redraws(msgspec.Struct, frozen=True):
    """Which draws were repeated, complete from `complete_from` on."""

    complete_from: int = 0
    runs: tuple[Run, ...] = ()

    def dry_at(self, draw: int) -> frozenset[str]:
        """The sources that have to be taken as dry to repeat the choice of `draw`."""
        return next((run.dry for run in self.runs if run.first <= draw <= run.last), frozenset())


class RankState(msgspec.Struct, frozen=True):
    """What each rank counts for itself."""

    next_draw: int
    weights: tuple[InForce, ...]
    redraws: Redraws = Redraws()


class SourceState(msgspec.Struct, frozen=True):
    """What a source is, and the state of its readers by share (`0/2`: the first of two)."""

    fingerprint: str
    shares: Mapping[str, Mapping[str, Any]]


class MixtureState(msgspec.Struct, frozen=True, kw_only=True):
    """The whole state; `ranks` has one entry per rank that was merged."""

    kind: str = KIND
    format: int = FORMAT
    seed: int
    world: int
    ranks: Mapping[str, RankState]
    sources: Mapping[str, SourceState]
    consumed: Mapping[str, Any]
    jumped: Mapping[str, Any]

    def dump(self) -> dict[str, Any]:
        """JSON types only."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built

    @classmethod
    def load(cls, stored: Mapping[str, Any]) -> MixtureState:
        """The inverse of `dump`. Raises `StateError` for what is not a mixture's state of this format."""
        kind = stored.get("kind")
        if kind != KIND:
            raise StateError(
                f"the state is one of {kind!r}, not of a {KIND}; load what InteractiveMixture.state_dict gave"
            )
        if stored.get("format") != FORMAT:
            raise StateError(
                f"the state has format {stored.get('format')!r}, and only {FORMAT} is known here; "
                "load it with the version of Stovetop that wrote it"
            )
        try:
            return msgspec.convert(stored, cls)
        except msgspec.ValidationError as error:
            raise StateError(f"the state of a mixture is damaged: {error}; load another checkpoint") from None

    def without(self, names: Collection[str]) -> MixtureState:
        """The same without some sources: as if they had never been read."""
        if not names:
            return self
        consumed, jumped = Consumed.load(self.consumed), Consumed.load(self.jumped)
        for name in names:
            consumed.sources.pop(name, None)
            jumped.sources.pop(name, None)
        return msgspec.structs.replace(
            self,
            sources={name: source for name, source in self.sources.items() if name not in names},
            consumed=consumed.dump(),
            jumped=jumped.dump(),
        )


def refuse_foreign(
    state: MixtureState, sources: Mapping[str, Source], seed: int, forget: Collection[str], trust: Collection[str]
) -> None:
    """Raise `StateError` unless the state is one of these sources, whole, and drawn with this seed."""
    if state.seed != seed:
        raise StateError(f"the state was made with seed {state.seed}, not {seed}; make the mixture with it")
    missing = [str(rank) for rank in range(state.world) if str(rank) not in state.ranks]
    if missing:
        raise StateError(
            f"the state lacks rank {', '.join(missing)} of {state.world}; merge those of all with merge_states"
        )
    for name, saved in state.sources.items():
        if name in forget:
            continue
        if name not in sources:
            raise StateError(
                f'the state has a source "{name}" ({saved.fingerprint}), and the mixture has none of that name '
                f'(it has {", ".join(sources)}); add it, or forget it: forget=["{name}"]'
            )
        fingerprint = sources[name].fingerprint
        if fingerprint != saved.fingerprint and name not in trust:
            raise StateError(
                f'source "{name}" is {fingerprint}, but the state was made with {saved.fingerprint}; begin it anew '
                f'with forget=["{name}"], or, if the same data moved, keep its positions with trust=["{name}"]'
            )


def rank_state(state: MixtureState | None, rank: int, world: int, made_with: Weights) -> RankState:
    """Where one rank goes on. On another layout than the state's it draws afresh, from where no rank has drawn yet.

    The weights are those of the state, for the sources of `made_with`; one that the state does not know keeps its own.
    """
    if state is None:
        return RankState(0, (InForce(0, made_with),))
    if state.world == world:
        saved = state.ranks[str(rank)]
    else:
        draw = max(saved.next_draw for saved in state.ranks.values())
        newest = max((saved.weights[-1].weights for saved in state.ranks.values()), key=lambda weights: weights.version)
        saved = RankState(draw, (InForce(draw, newest),), Redraws(draw))
    weights = tuple(InForce(entry.from_draw, _over(entry.weights, made_with)) for entry in saved.weights)
    return RankState(saved.next_draw, weights, saved.redraws)


def _over(saved: Weights, made_with: Weights) -> Weights:
    by_source = {name: saved.by_source.get(name, weight) for name, weight in made_with.by_source.items()}
    return Weights(
        saved.version,
        by_source if any(by_source.values()) else made_with.by_source,
        saved.temperature,
        {name: limit for name, limit in saved.epochs.items() if name in by_source},
        {name: limit for name, limit in saved.half_life.items() if name in by_source},
        {name: limit for name, limit in saved.half_life_seconds.items() if name in by_source},
    )


def merge_states(states: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One state out of those of all ranks, in any order; a rank may come more than once."""
    loaded = [MixtureState.load(state) for state in states]
    if not loaded:
        raise StateError("there are no states to merge; give that of every rank")
    first = loaded[0]
    consumed, jumped = Consumed(), Consumed()
    ranks: dict[str, RankState] = {}
    sources: dict[str, SourceState] = {}
    for state in loaded:
        if (state.seed, state.world) != (first.seed, first.world):
            raise StateError(
                f"states of different runs: seed {state.seed} on {state.world} ranks, "
                f"seed {first.seed} on {first.world}; merge those of one run"
            )
        consumed.update(Consumed.load(state.consumed))
        jumped.update(Consumed.load(state.jumped))
        ranks |= state.ranks
        for name, source in state.sources.items():
            known = sources.get(name, source)
            if known.fingerprint != source.fingerprint:
                raise StateError(
                    f'source "{name}" is {source.fingerprint} on one rank and {known.fingerprint} on another; '
                    "give every rank the same sources"
                )
            sources[name] = SourceState(source.fingerprint, {**known.shares, **source.shares})
    return MixtureState(
        seed=first.seed,
        world=first.world,
        ranks=ranks,
        sources=sources,
        consumed=consumed.dump(),
        jumped=jumped.dump(),
    ).dump()
