"""Where things lie: the configuration file, the ledger, the local token.

`ledger` answers without checking the settings, so a reading command starts fast and still works
beside a configuration that `serve` would refuse. A relative path in the file is relative to the
file; anywhere else it is relative to the current folder.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONFIG_VARIABLE = "MODELSPEND_CONFIG"
LEDGER_VARIABLE = "MODELSPEND_STORE__PATH"


def default_config() -> Path:
    """The configuration file that is read when none is named."""
    from platformdirs import user_config_path

    return user_config_path("modelspend", appauthor=False) / "config.toml"


def default_ledger() -> Path:
    """The ledger when no path is set: in the platform's data folder."""
    from platformdirs import user_data_path

    return user_data_path("modelspend", appauthor=False) / "ledger.db"


def config(named: Path | None, env: Mapping[str, str]) -> Path | None:
    """The configuration file that is meant: named, or existing in its default place."""
    if named is not None:
        return named.expanduser()
    if env.get(CONFIG_VARIABLE):
        return Path(env[CONFIG_VARIABLE]).expanduser()
    default = default_config()
    return default if default.exists() else None


def beside(file: Path, path: str) -> Path:
    """A path that is written in a file, made absolute."""
    return (file.parent / Path(path).expanduser()).absolute()


def ledger(named: Path | None, env: Mapping[str, str]) -> Path:
    """The ledger by the same rules as `settings.load`, and by nothing else of the file."""
    if env.get(LEDGER_VARIABLE):
        return Path(env[LEDGER_VARIABLE]).expanduser().absolute()
    file = config(named, env)
    path = _store_path(file) if file else None
    return beside(file, path) if file and path else default_ledger()


def _store_path(file: Path) -> str | None:
    try:
        tree: Any = tomllib.loads(file.read_text("utf-8-sig"))
        path = tree["store"]["path"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return path if isinstance(path, str) and path else None


def token(ledger: Path) -> Path:
    """The local token's file, beside the ledger."""
    return ledger.with_name("token")


def checkpoint_key(ledger: Path) -> Path:
    """The file of the key that signs checkpoints, beside the ledger."""
    return ledger.with_name("checkpoint.key")
