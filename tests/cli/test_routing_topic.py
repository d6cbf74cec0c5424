"""What `modelspend help routing` shows is what the program does."""

import re
from pathlib import Path
from typing import get_args

import pytest

from modelspend import settings
from modelspend.routing import TIERS, Mode
from tests.cli.conftest import Cli

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "modelspend" / "cli" / "topics" / "routing.md").read_text("utf-8")


def indented() -> list[str]:
    """The blocks that are indented by four: commands, outputs and settings."""
    blocks = re.findall(r"(?:^    .*\n(?:^\n(?=    ))?)+", TEXT, re.M)
    return [re.sub("^ {4}", "", block, flags=re.M).strip() for block in blocks]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings of the topic, with keys for its providers and a ledger of their own."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-anthropic")
    monkeypatch.setenv("MODELSPEND_STORE__PATH", str(tmp_path / "ledger.db"))
    (found,) = [block for block in indented() if block.startswith("[routing]")]
    file = tmp_path / "config.toml"
    file.write_text(found)
    return file


def test_the_settings_of_the_topic_are_read(config: Path) -> None:
    loaded = settings.load(config, {}).settings
    assert loaded.routing.profile == "careful"
    assert loaded.profiles["careful"].constraints.providers == ("openai", "anthropic")
    assert loaded.workflows["support-bot"].constraints.no_training


def test_the_commands_of_the_topic_print_what_it_shows(config: Path, cli: Cli) -> None:
    blocks = indented()
    at = next(n for n, block in enumerate(blocks) if block.startswith("modelspend route"))
    words = re.fullmatch(r'modelspend route "([^"]+)"\n*(.*)', blocks[at], re.S)
    assert words
    shown = words[2] or blocks[at + 1]
    printed = cli("--config", str(config), "route", words[1]).stdout
    assert shown.splitlines() == printed.splitlines()[: len(shown.splitlines())]


def test_the_topic_names_every_mode_tier_and_reason() -> None:
    source = (ROOT / "modelspend" / "routing.py").read_text("utf-8")
    filters = set(re.findall(r'return f?"((?:[a-z_]+)(?::\{[^}]*\})?)"$', source, re.M))
    assert len(filters) >= 8
    for name in (*get_args(Mode), *TIERS, *(each.partition(":")[0] for each in filters)):
        assert re.search(rf"\b{name}\b", TEXT), name
    for words in ("near the threshold", "stays with the model asked for", "no candidate: "):
        assert words in source
        assert words.strip() in TEXT
