"""`config` and `init`: what is set and where it came from, and a file to start with."""

import json
import stat
from pathlib import Path

from modelspend import settings
from modelspend.cli.init import example
from tests.cli.conftest import Cli


def test_show_tells_each_value_and_where_it_came_from(cli: Cli, home: Path) -> None:
    file = home / "c.toml"
    file.write_text("[server]\nport = 1\n[upstream]\nidle_s = 7\n")
    env = {"MODELSPEND_SERVER__PORT": "2"}
    rows = cli("config", "show", "--config", str(file), env=env).stdout.splitlines()
    assert rows[0] == "key\tvalue\torigin"
    assert "server.port\t2\tMODELSPEND_SERVER__PORT" in rows
    assert f"upstream.idle_s\t7\t{file}:4" in rows
    assert not any(row.startswith("upstream.connect_s") for row in rows)
    everything = cli("config", "show", "--all", "--config", str(file)).stdout
    assert "upstream.connect_s\t5\tdefault" in everything


def test_show_as_json_has_every_key(cli: Cli) -> None:
    said = json.loads(cli("config", "show", "--json").stdout)
    assert {row["key"] for row in said} >= {"server.host", "store.path", "views"} - {"views"}
    assert {row["origin"] for row in said} == {"default"}


def test_show_never_tells_a_key(cli: Cli, home: Path) -> None:
    file = home / "c.toml"
    file.write_text("[tenants.a]\nkeys = ['MODELSPEND_KEY_A']\n")
    done = cli(
        "config", "show", "--all", "--config", str(file), env={"MODELSPEND_KEY_A": "sk-canary"}
    )
    assert 'tenants.a.keys\t["MODELSPEND_KEY_A"]' in done.stdout
    assert "canary" not in done.output


def test_check_says_ok_or_every_fault(cli: Cli, home: Path) -> None:
    assert cli("config", "check").stdout == "No configuration file; the defaults: ok\n"
    file = home / "c.toml"
    file.write_text("[server]\nprot = 1\nport = 'x'\n")
    done = cli("config", "check", "--config", str(file))
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"{file}:2: server.prot" in done.stderr
    assert f"{file}:3: server.port" in done.stderr
    said = json.loads(cli("config", "check", "--json", "--config", str(file)).stdout)
    assert said["ok"] is False
    assert len(said["problems"]) == 2


def test_check_finds_a_provider_that_lacks_its_address(cli: Cli, home: Path) -> None:
    file = home / "c.toml"
    file.write_text("[providers.mine]\nmodels = ['m']\n")
    done = cli("config", "check", "--config", str(file))
    assert done.exit_code == 2
    assert "[providers.mine] has no base_url" in done.stderr


def test_check_says_on_stderr_what_has_no_effect(cli: Cli, home: Path) -> None:
    file = home / "c.toml"
    file.write_text("[budgets.a]\nslice_usd = 1\n")
    done = cli("config", "check", "--config", str(file))
    assert done.exit_code == 0
    assert "Note: budgets.a.slice_usd has no effect" in done.stderr
    said = json.loads(cli("config", "check", "--json", "--config", str(file)).stdout)
    assert len(said["notes"]) == 1


def test_path_is_the_named_file_or_the_default_place(cli: Cli, home: Path) -> None:
    assert cli("config", "path").stdout == f"{home / 'config' / 'modelspend' / 'config.toml'}\n"
    said = json.loads(cli("config", "path", "--json", "--config", "x.toml").stdout)
    assert said == {"path": "x.toml", "exists": False}


def test_init_writes_a_private_file_that_changes_nothing_and_says_what_to_do_next(
    cli: Cli, home: Path
) -> None:
    done = cli("init", env={"OPENAI_API_KEY": "sk-canary"})
    path = Path(done.stdout.strip())
    assert path.read_text() == example()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert "OPENAI_API_KEY (openai)" in done.stderr
    assert "modelspend serve" in done.stderr
    assert "canary" not in done.output
    assert set(settings.load(path, {}).origins.values()) == {"default"}


def test_init_without_a_key_points_to_the_demo(cli: Cli) -> None:
    assert "modelspend demo" in cli("init").stderr


def test_init_replaces_nothing_unless_told_and_then_keeps_a_copy(cli: Cli, home: Path) -> None:
    file = home / "c.toml"
    file.write_text("[server]\n")
    refused = cli("init", "--config", str(file))
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert file.read_text() == "[server]\n"
    done = cli("init", "--config", str(file), "--yes", "--json")
    assert json.loads(done.stdout) == {"path": str(file), "kept": f"{file}.old", "keys": {}}
    assert file.read_text() == example()
    assert (home / "c.toml.old").read_text() == "[server]\n"


def test_init_into_a_folder_is_refused(cli: Cli, home: Path) -> None:
    done = cli("init", "--config", str(home))
    assert done.exit_code == 2
    assert "is a folder" in done.stderr
