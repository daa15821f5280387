"""One gallery's contest on the GPU: what is checked, in which order all run, and what a line of the table says.

First every contestant answers every query. This warms up, and the answers are checked: ours must equal the CPU's
matcher; a peer with wrong distances is left out, since not all features suit float16. Then all run in turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from types import ModuleType
from typing import Any

import numpy as np
from spadeline.engine.match.matcher import Match
from spadeline.engine.units import latency

from gpu_parts.contestants import YARDSTICK, OnGpu, OnTorch, device_seconds, wall_seconds
from matcher_parts.contest import peer_fault
from matcher_parts.features import Case
from matcher_parts.ours import Ours, check_same
from matcher_parts.peers import PeerError

ROUNDS = 5  # of all contestants in turns, so that a slow period of the GPU meets all of them
PERCENTILES = ("p50", "p95", "p99")


class GpuContest:
    """Matchers and peers on one gallery.

    Parameters
    ----------
    case
        It has the queries.
    on_cpu
        The matcher that all are compared with.
    contestants
        Those on the GPU, ours first.
    torch
        It reads the device's clock; None: the device part isn't timed.
    rates
        The GPU's rates by :func:`.measure_rates`; empty: no shares of them are computed.
    runs, seconds
        The most of each contestant in each setting; each has at least one run.
    """

    def __init__(
        self,
        case: Case,
        on_cpu: Ours,
        contestants: Sequence[OnGpu | OnTorch],
        *,
        torch: ModuleType | None,
        rates: dict[str, float],
        runs: int,
        seconds: float,
    ) -> None:
        self._case, self._on_cpu, self._contestants = case, on_cpu, contestants
        self._torch, self._rates, self._runs, self._seconds = torch, rates, runs, seconds
        self._truths: dict[tuple[str, int], Match] = {}  # by query and kappa

    def hold(self, kappa: int, batch: int) -> dict[str, Any]:
        """Check all, let all run in turns, and return the table's lines, and the reasons why others were left out."""
        names = list(self._case.queries)
        count = -(-max(len(names), batch) // batch)
        batches = [[names[(first * batch + i) % len(names)] for i in range(batch)] for first in range(count)]
        rows: dict[OnGpu | OnTorch, dict[str, Any]] = {}
        left_out: dict[str, str] = {}
        for who in self._contestants:
            try:
                check = self._checked_peer if isinstance(who, OnTorch) else self._checked_ours
                rows[who] = {"name": who.name} | check(who, batches, kappa)  # type: ignore[arg-type]
            except PeerError as error:
                left_out[who.name] = str(error)
        times: dict[OnGpu | OnTorch, tuple[list[float], list[float]]] = {who: ([], []) for who in rows}
        for turn in range(1, ROUNDS + 1):
            for who, lists in times.items():
                self._turn(who, batches, kappa, lists, turn / ROUNDS)
        for who, (wall, device) in times.items():
            rows[who] |= {"runs": len(wall), "wall_s": percentiles(wall)}
            if device:
                rows[who]["device_s"] = percentiles(device)
            rows[who] |= self._shares(who, batch, float(np.median(device or wall)))
        return {"rows": _with_ratios(list(rows.values())), "left_out": left_out}

    def _checked_ours(self, who: OnGpu, batches: list[list[str]], kappa: int) -> dict[str, Any]:
        """Let one of ours answer all queries and return each one's statistics; end the run if an answer is wrong."""
        counts = {}
        for names in batches:
            parts = [] if self._torch is None else who.device_part(names, kappa)
            answers = who.answer(names, kappa)
            for name, answer in zip(names, answers, strict=True):
                check_same(who.name, answer, self._truth(name, kappa), self._on_cpu.stored, self._case.queries[name])
                counts[name] = asdict(answer.statistics)
            for part, answer in zip(parts, answers, strict=bool(parts)):
                if not np.array_equal(part.neighbours, answer.neighbours):
                    raise SystemExit(f"{who.name}: other neighbours where the features lie on the device")
        return {"statistics": counts}

    def _checked_peer(self, who: OnTorch, batches: list[list[str]], kappa: int) -> dict[str, Any]:
        """Let a peer answer all queries and return how many neighbours are ours; raises PeerError if it is wrong."""
        equal = []
        for names in batches:
            for name, answer in zip(names, who.answer(names, kappa), strict=True):
                truth = self._truth(name, kappa)
                expected, query = truth.distances.ravel(), self._case.queries[name]
                fault = peer_fault(who.name, answer.distances, expected, query, who.rounding)
                if fault:
                    raise PeerError(fault)
                height, width = truth.distances.shape
                image, y, x = np.moveaxis(truth.neighbours.reshape(-1, kappa, 3).astype(np.int64), -1, 0)
                equal.append(float(np.mean(answer.nearest == (image * height + y) * width + x)))
        return {"equal_neighbours": float(np.mean(equal))}

    def _truth(self, name: str, kappa: int) -> Match:
        if (name, kappa) not in self._truths:
            match, _ = self._on_cpu.search(self._case.queries[name], kappa)
            self._truths[name, kappa] = Match(match.distances.copy(), match.neighbours.copy(), match.statistics)
        return self._truths[name, kappa]

    def _turn(
        self,
        who: OnGpu | OnTorch,
        batches: list[list[str]],
        kappa: int,
        times: tuple[list[float], list[float]],
        share: float,
    ) -> None:
        """Let a contestant run until it has used this share of its runs or seconds; time each run by both clocks."""
        wall, device = times
        while not wall or (len(wall) < share * self._runs and sum(wall) + sum(device) < share * self._seconds):
            names = batches[len(wall) % len(batches)]
            wall.append(wall_seconds(lambda: who.answer(names, kappa)))  # noqa: B023 - called at once
            if self._torch is not None:
                part = lambda: who.device_part(names, kappa)  # noqa: B023, E731
                device.append(device_seconds(self._torch, part, who.stream(kappa)))

    def _shares(self, who: OnGpu | OnTorch, batch: int, seconds: float) -> dict[str, float]:
        """Return the shares of the measured rates that a call reaches."""
        if not self._rates:
            return {}
        work = who.work(batch)
        shares = {"memory_share": work.bytes / seconds / self._rates["copied_bytes_per_s"]}
        if work.tensor_operations is not None:
            shares["tensor_share"] = work.tensor_operations / seconds / self._rates["fp16_operations_per_s"]
        return shares


def percentiles(seconds: list[float]) -> dict[str, Any]:
    """Return p50, p95 and p99; None for a percentile that needs more runs."""
    found = latency(seconds).percentiles_s()
    return {name: found[name] for name in PERCENTILES}


def _with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add by each clock how many times as fast as the yardstick each is."""
    yardstick = next((row for row in rows if row["name"] == YARDSTICK), None)
    if yardstick is None:
        return rows
    for row in rows:
        for clock in ("wall_s", "device_s"):
            if clock in row:
                row[f"yardstick_per_{clock.removesuffix('_s')}"] = yardstick[clock]["p50"] / row[clock]["p50"]
    return rows
