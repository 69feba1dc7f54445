"""A user's directory for one test, with the compiled engines of this computer, so that no test compiles its own."""

from pathlib import Path

from protocol.files import HOME_VARIABLE, cache_directory


def moved_home(path: Path) -> dict[str, str]:
    """Make `path` a fresh home; the environment that moves a program there."""
    engines = (cache_directory() / "engine").resolve()
    engines.mkdir(parents=True, exist_ok=True)
    (path / "cache").mkdir(parents=True, exist_ok=True)
    if not (path / "cache" / "engine").exists():
        (path / "cache" / "engine").symlink_to(engines)
    return {HOME_VARIABLE: str(path)}
