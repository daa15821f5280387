"""The command line run in this process."""

from ..cli.conftest import run  # noqa: F401 - a fixture
