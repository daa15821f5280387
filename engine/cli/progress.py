"""Progress bars on a terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm


class Progress:
    """One bar for each stage, if standard error is a terminal; otherwise nothing is shown."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._stage = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def show(self, stage: str, done: int, total: int) -> None:
        """Show how many images of a stage are done; a new stage gets a new bar."""
        if self._bar is None or self._stage != stage:
            self._close()
            self._stage = stage
            self._bar = tqdm(total=total, desc=stage, unit="image", disable=not _on_terminal(), leave=False)
        self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _on_terminal() -> bool:
    """Whether standard error is a terminal. It may be closed."""
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False
