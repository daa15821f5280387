"""What a run's workers do with a batch: score it; and what becomes of an image that ends its worker's process.

If a worker's process ends, Ray starts another one and gives it the same batch, as often as it takes. So each attempt is
noted in a process of its own, which outlives the worker. A batch that has ended a worker is scored image by image. An
image that ends its worker again and again gets a row with that error, and the run goes on.
"""

from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

from ..errors import InputError, SpadelineError
from ..optional import imported
from .addresses import RAY, pyarrow
from .scorer import RecipeScorer

FAILURE = "failure"  # the column of an error that no image is to blame for
MOST_TRIES = 2  # of one image alone, after the batch that it was in


class Attempts:
    """Counts what was begun and has not ended; it runs in a process of its own."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, work: str) -> int:
        """Note that some work begins, and return how often it has begun by now."""
        self._begun[work] += 1
        return self._begun[work]

    def end(self, work: str) -> None:
        """Forget work that is done."""
        del self._begun[work]


def start_attempts() -> Any:
    """Start :class:`Attempts` on the machine of this process; return its handle, with which it lives and ends."""
    ray = imported("ray", RAY)
    here = imported("ray.util.scheduling_strategies", RAY).NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    return ray.remote(Attempts).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()


class Worker:
    """A :class:`.RecipeScorer` whose errors come to the run as a block, and not as Ray's traceback.

    Parameters
    ----------
    attempts
        The handle of :class:`Attempts`.
    options
        Those of :class:`.RecipeScorer`.
    """

    def __init__(self, attempts: Any, **options: Any) -> None:
        self._attempts = attempts
        self._failure: SpadelineError | None = None
        try:
            self._scorer = RecipeScorer(**options)
        except SpadelineError as error:
            self._failure = error

    def __call__(self, batch: Any) -> Any:
        """Return a batch's rows, or one row with the error in place of all of them."""
        if self._failure is None:
            try:
                return self._rows(batch)
            except SpadelineError as error:
                self._failure = error
        return pyarrow().table({FAILURE: [pickle.dumps(self._failure)]})

    def score(self, batch: Any) -> Any:
        """Return the rows of some images."""
        return self._scorer(batch)

    def _rows(self, batch: Any) -> Any:
        work = f"{len(batch)} images from {batch['path'][0]}"
        rows = self.score(batch) if self._begin(work) == 1 else self._one_by_one(batch)
        self._attempts.end.remote(work)
        return rows

    def _one_by_one(self, batch: Any) -> Any:
        return pyarrow().concat_tables(self._alone(batch.slice(index, 1)) for index in range(len(batch)))

    def _alone(self, image: Any) -> Any:
        work = f"alone: {image['path'][0]}"
        tries = self._begin(work)
        if tries > MOST_TRIES:
            error = f"expected an image that can be inspected, got one at which the process ended {tries - 1} times"
            return self._scorer.errors(image, InputError(f"{image['path'][0]}: {error}"))
        rows = self.score(image)
        self._attempts.end.remote(work)
        return rows

    def _begin(self, work: str) -> int:
        try:
            times: int = imported("ray", RAY).get(self._attempts.begin.remote(work))
        except imported("ray.exceptions", RAY).RayActorError:  # its process ended, and starts anew without its counts
            return 1
        return times
