"""What holds for every test. Bare `pytest` runs the fast tests only; `pytest tests`, or any path or name, runs all it
names. Doubles and builders that several tests share are in tests/support/."""

from collections.abc import Generator
from typing import Any

import pytest

FAST = "not slow and not swarm"


def pytest_configure(config: pytest.Config) -> None:
    """With neither a path nor `-m`, leave the slow tests out: under a minute on two cores."""
    if config.args_source == pytest.Config.ArgsSource.TESTPATHS and not config.option.markexpr:
        config.option.markexpr = FAST


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """What a worker of xdist tells. Half a surrogate, as in a hostile message, cannot travel: it is spelled."""
    return sendable((yield))


def sendable(told: Any) -> Any:
    """The same with every text as UTF-8 can carry it."""
    if isinstance(told, str):
        return told.encode("utf-8", "backslashreplace").decode()
    if isinstance(told, dict):
        return {sendable(key): sendable(value) for key, value in told.items()}
    if isinstance(told, list | tuple):
        return type(told)(map(sendable, told))
    return told
