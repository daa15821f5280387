"""The connection to Ray: this machine's cores, or a cluster that runs already; and how many workers there is room for.

Ray gives each worker its CPUs for good, and needs a free one for its own tasks, which read Parquet files: a pool of
workers that took all CPUs would wait for ever. Ray counts CPUs, and doesn't hold a process to them. So on this machine
one more is declared than is used, while a cluster keeps one free.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..checks import check_integer
from ..errors import InputError
from ..optional import imported
from ..resources import processors
from .addresses import RAY

# Ray reads these when it starts. Nothing leaves the machine, and what fails comes as an exception.
VARIABLES = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
MOST_WORKERS = 100_000


@contextmanager
def connected(address: str | None, *, workers: int | None, threads: int) -> Iterator[int]:
    """Connect to Ray, and yield the number of workers.

    A connection that the caller has made already is used, and stays.

    Parameters
    ----------
    address
        A cluster's, or "auto" for the one that this machine belongs to; None: a Ray of our own on this machine, which
        ends with the context.
    workers
        Wanted; None: as many as there is room for.
    threads
        Of each worker.

    Raises
    ------
    InputError
        No such cluster, or too few CPUs there.
    DependencyError
        Ray isn't installed.
    """
    if workers is not None:
        check_integer("workers", workers, low=1, high=MOST_WORKERS)
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    ray = imported("ray", RAY)
    if ray.is_initialized():
        with _quiet_data():
            yield _room(ray, workers, threads)
        return
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is None:
        workers = max(1, processors() // threads) if workers is None else workers
        ray.init("local", num_cpus=workers * threads + 1, num_gpus=0, include_dashboard=False, **quiet)
    else:
        try:
            ray.init(address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300].rstrip(". ")
            raise InputError(f"address: expected a Ray cluster at {address!r:.100}, got: {reason}") from error
    try:
        with _quiet_data():
            yield workers if address is None and workers is not None else _room(ray, workers, threads)
    finally:
        ray.shutdown()


@contextmanager
def _quiet_data() -> Iterator[None]:
    """Let Ray Data neither print nor draw; its settings are as before afterwards."""
    context, log = imported("ray.data", RAY).DataContext.get_current(), logging.getLogger("ray.data")
    wanted = {
        "enable_progress_bars": False,
        "print_on_execution_start": False,
    }
    before, level = {name: getattr(context, name) for name in wanted}, log.level
    vars(context).update(wanted)
    log.setLevel(logging.CRITICAL)  # errors come as exceptions
    try:
        yield
    finally:
        vars(context).update(before)
        log.setLevel(level)


def _room(ray: Any, workers: int | None, threads: int) -> int:
    """Return the number of workers on a cluster; one CPU at least stays free."""
    cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    most = sum(own // threads for own in cpus)
    if most * threads == sum(cpus):
        most -= 1
    if most < 1:
        raise InputError(
            f"threads: expected a cluster with CPUs for a worker of {threads} and one that stays free for reading, got "
            f"nodes of {', '.join(map(str, cpus))}"
        )
    if workers is not None and workers > most:
        raise InputError(
            f"workers: expected at most {most} of {threads} threads on nodes of {', '.join(map(str, cpus))} CPUs, of "
            f"which one stays free for reading, got {workers}"
        )
    return most if workers is None else workers
