"""One setting's contest: in which order all run, what is compared with what, and what a line of the table says.

In each repeat of each query every contestant whose turn it is runs once. A contestant whose time depends on the
features has every turn; of the others a few runs, spread over the queries, are enough.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spadeline.engine.match.matcher import Match

from matcher_parts.features import Case, Levels, pixels
from matcher_parts.ours import Ours, check_same
from matcher_parts.peers import YARDSTICKS, Peer, PeerError

# Peers compute |a|^2 + |b|^2 - 2ab in float32: their rounding grows with |a|^2 + |b|^2, even for small distances.
PEERS_TOLERANCE = 1e-3
PEERS_ROUNDING = 4e-6  # sqrt(1792) roundings of 6e-8, and a margin: for two equal vectors of so many channels
YARDSTICK_RUNS = 3


@dataclass(eq=False)
class _Contestant:
    """A line of the table that isn't complete yet; ``runs`` are spread over all turns."""

    who: Ours | Peer
    runs: int = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)
    statistics: dict[str, dict[str, Any]] = field(default_factory=dict)


class Contest:
    """Matchers and peers on one gallery and one kappa.

    Parameters
    ----------
    case
        It has the queries.
    ours
        The peers are compared with the first of them.
    peers
        Opened on the same images.
    kappa
        Nearest gallery pixels to average over.
    repeats
        Runs of each query by contestants whose time depends on the query.
    peer_runs
        Runs of each peer (the yardstick has at least three), and of each dense matcher that nothing is compared with.
    """

    def __init__(
        self, case: Case, ours: Sequence[Ours], peers: Sequence[Peer], *, kappa: int, repeats: int, peer_runs: int
    ) -> None:
        self._case, self._ours, self._peers = case, ours, peers
        self._kappa, self._repeats, self._peer_runs = kappa, repeats, peer_runs
        self._names = list(case.queries)
        self._truths: dict[tuple[str, str], Match] = {}  # by storage and query: the first of ours that answered

    def hold(self) -> dict[str, Any]:
        """Let all run and return the table: lines, the yardstick's name, and the reasons why others were left out."""
        everyone: list[Ours | Peer] = [*self._ours, *self._peers]
        contestants = [_Contestant(who) for who in everyone]
        left_out: dict[str, str] = {}
        turns = len(self._names) * self._repeats
        for turn in range(-1, turns):  # turn -1 warms all up
            name = self._names[max(turn, 0) // self._repeats]
            for contestant in list(contestants):
                if turn >= 0 and turn * contestant.runs // turns == (turn - 1) * contestant.runs // turns:
                    continue
                try:
                    if turn < 0:
                        self._warm_up(contestant.who)
                    else:
                        contestant.seconds.setdefault(name, []).append(self._run(contestant, name))
                except PeerError as error:
                    left_out[contestant.who.name] = str(error)
                    contestants.remove(contestant)
            if turn < 0:  # a peer whose kernels the processor can't run fails in the warm-up
                yardstick = _yardstick([contestant.who.name for contestant in contestants])
                for contestant in contestants:
                    contestant.runs = self._runs(contestant.who, yardstick)
        return _table(contestants) | {"left_out": left_out}

    def _runs(self, who: Ours | Peer, yardstick: str | None) -> int:
        turns = len(self._names) * self._repeats
        if isinstance(who, Peer):
            return min(max(YARDSTICK_RUNS if who.name == yardstick else 1, self._peer_runs), turns)
        # Where pruning fails, the guard is compared with the dense path, which then has every turn.
        if who.path == "pruned" or self._case.kind != "real":
            return turns
        first = next(other for other in self._ours if other.stored is who.stored)
        return len(self._names) if who is first else min(self._peer_runs, turns)

    def _warm_up(self, who: Ours | Peer) -> None:
        if isinstance(who, Peer):
            who.warm_up(self._kappa)
        else:
            who.search(self._case.queries[self._names[0]], self._kappa)

    def _run(self, contestant: _Contestant, name: str) -> float:
        """Return the seconds of one search, after checking what it found."""
        who, query = contestant.who, self._case.queries[name]
        if isinstance(who, Peer):
            distances, seconds = who.search(self._names.index(name), self._kappa)
            truth = self._truths[self._ours[0].stored.storage, name]
            fault = peer_fault(who.name, distances, truth.distances.ravel(), query, PEERS_ROUNDING)
            if fault:
                raise SystemExit(f"{fault}; no time is worth reporting")
            return seconds
        match, seconds = who.search(query, self._kappa)
        contestant.statistics[name] = asdict(match.statistics)
        key = (who.stored.storage, name)
        if key in self._truths:
            check_same(who.name, match, self._truths[key], who.stored, query)
        else:
            self._truths[key] = Match(match.distances.copy(), match.neighbours.copy(), match.statistics)
        return seconds


def peer_fault(
    name: str, distances: NDArray[np.float64], expected: NDArray[np.float64], query: Levels, rounding: float
) -> str:
    """Return what is wrong with a peer's distances beyond its own rounding; an empty text: they are right.

    ``rounding`` is the error that its sums may have, as a share of the squared norms of the two vectors.
    """
    query_norms = np.square(pixels(query), dtype=np.float64).sum(axis=1)
    most = query_norms + np.square(np.sqrt(query_norms) + np.sqrt(expected))  # |b| <= |a| + |a - b|
    excess = np.abs(distances - expected) / (PEERS_TOLERANCE * expected + rounding * most)
    if excess.max() <= 1:  # false for NaN, which is no result
        return ""
    index = int(excess.argmax())
    return f"{name}: pixel {index} has distance {distances[index]:.6g}, expected {expected[index]:.6g}"


def _table(contestants: Sequence[_Contestant]) -> dict[str, Any]:
    rows = [_row(contestant) for contestant in contestants]
    name = _yardstick([row["name"] for row in rows])
    yardstick = next((row["median_s"] for row in rows if row["name"] == name), None)
    for row, contestant in zip(rows, contestants, strict=True):
        if yardstick is not None:
            row["against_yardstick"] = yardstick / row["median_s"]
            row["worst"]["against_yardstick"] = yardstick / row["worst"]["median_s"]
        dense = _dense_of(contestant.who, contestants)
        if dense is not None:
            row["per_dense"] = row["median_s"] / _median(dense)
            row["worst"]["per_dense"] = row["worst"]["median_s"] / _median(dense)
    return {"rows": rows} | ({} if name is None else {"yardstick": name})


def _yardstick(names: Sequence[str]) -> str | None:
    """Return the peer that all are compared with."""
    return next((name for name in YARDSTICKS if name in names), None)


def _row(contestant: _Contestant) -> dict[str, Any]:
    everything = [seconds for runs in contestant.seconds.values() for seconds in runs]
    by_query = {name: statistics.median(runs) for name, runs in contestant.seconds.items()}
    slowest = max(by_query, key=by_query.__getitem__)
    worst: dict[str, Any] = {"query": slowest, "median_s": by_query[slowest]}
    if contestant.statistics:
        worst["statistics"] = contestant.statistics[slowest]
    return {
        "name": contestant.who.name, "runs": len(everything), "queries": len(by_query),
        "median_s": _median(contestant), "min_s": min(everything), "max_s": max(everything),
        "worst": worst, "medians_s": by_query,
    }  # fmt: skip


def _median(contestant: _Contestant) -> float:
    """Return the median over queries of the median over a query's runs."""
    return statistics.median(statistics.median(runs) for runs in contestant.seconds.values())


def _dense_of(who: Ours | Peer, contestants: Sequence[_Contestant]) -> _Contestant | None:
    """Return the dense matcher on the same gallery and instruction set as a pruned one."""
    if isinstance(who, Peer) or who.path != "pruned":
        return None
    for contestant in contestants:
        other = contestant.who
        if (
            isinstance(other, Ours)
            and other.path == "dense"
            and other.stored is who.stored
            and other.instruction_set == who.instruction_set
        ):
            return contestant
    return None
