"""What holds for every test. Bare `pytest` runs the fast tests only; `pytest tests`, or any path or name, runs all it
names. Doubles and builders that several tests share are in tests/support/."""

import pytest

FAST = "not slow and not swarm"


def pytest_configure(config: pytest.Config) -> None:
    """With neither a path nor `-m`, leave the slow tests out: under a minute on two cores."""
    if config.args_source == pytest.Config.ArgsSource.TESTPATHS and not config.option.markexpr:
        config.option.markexpr = FAST
