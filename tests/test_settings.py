"""Settings: where a value comes from, and what is said when it cannot be."""

import re
from decimal import Decimal
from pathlib import Path

import pytest

from modelspend import layers, periods, places, settings
from modelspend.cli.init import example
from modelspend.errors import ConfigInvalid, ExitCode
from modelspend.sections import Settings


@pytest.fixture
def write(tmp_path: Path):
    """Writes a configuration file and gives its path."""

    def written(text: str, name: str = "config.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, "utf-8")
        return path

    return written


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without any configuration."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "conf"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def problems(path: Path | None, env: dict[str, str] | None = None, **flags: object) -> list[str]:
    with pytest.raises(ConfigInvalid) as refused:
        settings.load(path, env or {}, {k.replace("__", "."): v for k, v in flags.items()})
    return list(refused.value.problems)


def test_with_no_file_and_no_variables_every_setting_has_its_default(alone: Path) -> None:
    loaded = settings.load(None, {})
    assert loaded.path is None
    assert (loaded.settings.server.host, loaded.settings.server.port) == ("127.0.0.1", 8787)
    assert loaded.settings.store.durability == "full"
    assert loaded.ledger.name == "ledger.db"
    assert loaded.ledger.is_absolute()
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.notes == ()


def test_flags_win_over_variables_which_win_over_the_file_over_defaults(write) -> None:
    file = write("[server]\nport = 1\nmax_in_flight = 1\nmax_body_mib = 1\n")
    env = {"MODELSPEND_SERVER__PORT": "2", "MODELSPEND_SERVER__MAX_IN_FLIGHT": "2"}
    loaded = settings.load(file, env, {"server.port": 3, "server.host": None})
    server = loaded.settings.server
    assert (server.port, server.max_in_flight, server.max_body_mib) == (3, 2, 1)
    assert loaded.origins["server.port"] == "flag"
    assert loaded.origins["server.max_in_flight"] == "MODELSPEND_SERVER__MAX_IN_FLIGHT"
    assert loaded.origins["server.max_body_mib"] == f"{file}:4"
    assert loaded.origins["server.host"] == "default"


def test_modelspend_config_names_the_file_and_a_flag_wins_over_it(write) -> None:
    one, two = write("[server]\nport = 1\n", "one.toml"), write("[server]\nport = 2\n", "two.toml")
    env = {"MODELSPEND_CONFIG": str(one)}
    assert settings.load(None, env).settings.server.port == 1
    assert settings.load(two, env).settings.server.port == 2


def test_a_named_file_that_is_missing_is_refused_and_the_one_who_named_it_is_told(
    tmp_path: Path,
) -> None:
    missing = tmp_path / "none.toml"
    assert "named by --config) does not exist" in problems(missing)[0]
    found = problems(None, {"MODELSPEND_CONFIG": str(missing)})
    assert "named by MODELSPEND_CONFIG) does not exist" in found[0]
    assert "is a folder" in problems(tmp_path)[0]


def test_the_platforms_folder_is_read_when_a_file_lies_there(alone: Path) -> None:
    path = places.default_config()
    path.parent.mkdir(parents=True)
    path.write_text("[server]\nport = 4\n")
    assert settings.load(None, {}).settings.server.port == 4


WRONG = [
    # text of the file, line of the fault, what must be said about it
    ("[server]\nprot = 1\n", 2, "server.prot: unknown key; did you mean port?"),
    ("[sever]\nport = 1\n", 1, "sever: unknown key; did you mean server?"),
    ("port = 1\n", 1, "port: unknown key"),
    ("[server]\n\nport = '8787'\n", 3, "found a text where a whole number belongs; write 8787"),
    ("[server]\nport = 'abc'\n", 2, 'found the text "abc"; expected a whole number'),
    ("[server]\nport = 87.0\n", 2, "found a number where a whole number belongs; write 87"),
    ("[server]\nport = true\n", 2, "found true or false where a whole number belongs"),
    ("[server]\nport = 70000\n", 2, "found 70000; expected at most 65535 (the default is 8787)"),
    ("[server]\nallow_remote = 1\n", 2, "write true"),
    ("[server]\nallow_remote = 'yes'\n", 2, "write true"),
    ("server = 3\n", 1, "server: found 3; expected a table"),
    ("[server]\nport = []\n", 2, "found a list; expected a whole number"),
    ("[server]\nhost = 3\n", 2, "found 3; expected text in quotes"),
    ("[server]\nallowed_hosts = 'a'\n", 2, "expected a list"),
    ("[server]\nallowed_hosts = [1]\n", 2, "server.allowed_hosts[0]: found 1; expected text"),
    ("[upstream]\nidle_s = inf\n", 2, "expected a finite number"),
    ("[upstream]\nidle_s = 0\n", 2, "expected more than 0 (the default is 60)"),
    ("[store]\ndurability = 'ful'\n", 2, 'expected "full" or "normal" (the default is "full")'),
    ("[store]\npath = 3\n", 2, "found 3; expected a path in quotes"),
    ("[providers.x]\ndialects = ['openai.chta']\n", 2, 'expected "openai.chat"'),
    ("[providers.x]\nprice = 'gratis'\n", 2, 'expected "free" or a table'),
    ("[providers.x]\nprice = { inptu = 1 }\n", 2, "providers.x.price.inptu: unknown key; did you"),
    ("[providers.x]\nbase_url = 'ftp://x'\n", 2, "expected an http:// or https:// address"),
    ("[providers.'a b']\nregion = 'x'\n", 1, "not a name; write letters"),
    ("[prices.tuned]\ninput = 1\n", 1, 'a price is named "provider/model"'),
    ("[prices.'a/b']\ninput = -1\n", 2, 'prices."a/b".input: found -1; expected at least 0'),
    ("[prices.'a/b']\ninput = 1e-11\n", 2, "is finer than a pico-dollar"),
    ("[prices.'a/b']\nfrom = 2026-02-30\n", 2, "not valid TOML"),
    ("[prices.'a/b']\nfrom = '2026-02-30'\n", 2, 'expected a day such as "2026-11-01"'),
    ("[prices.'a/b']\nfrom = 2026-02-02\nuntil = 2026-01-01\n", 1, "must be before until"),
    ("[[prices.'a/b']]\ninput = 1\n[[prices.'a/b']]\noutput = 'x'\n", 4, 'prices."a/b"[1].output'),
    ("[tenants.a]\nbudget_usd = 5_000_000\n", 2, "expected at most 4000000"),
    ("[tenants.a]\nbudget_usd = '5'\n", 2, "found a text where a number belongs; write 5"),
    ("[tenants.a]\nbudget_usd = nan\n", 2, "expected a finite number"),
    ("[views.v]\nstatus = ['sucess']\n", 2, 'expected "success"'),
    ("[views.v]\nsince = 'last week'\n", 2, "not a time: 'last week'; write 7d"),
    ("[views.v]\nsince = 2026-11-01\n", 2, "expected text in quotes"),
    ("[server]\nport = 1\nport = 2\n", 3, "not valid TOML: cannot overwrite a value"),
    ("[server\nport = 1\n", 1, "not valid TOML"),
    ("[server]\nport =\n", 2, "not valid TOML"),
    ("[server]\nhost = '0.0.0.0'\n", 2, "0.0.0.0 is no loopback address"),
    ("[server]\nhost = '0.0.0.0'\nallow_remote = true\n", 3, "remote callers need keys"),
    (
        "[tenants.a]\nkeys = ['K']\n[tenants.b]\nkeys = ['K']\n",
        4,
        "already names a key of tenant a",
    ),
]


@pytest.mark.parametrize(("text", "line", "said"), WRONG)
def test_a_fault_is_named_with_its_file_line_key_and_remedy(
    write, text: str, line: int, said: str
) -> None:
    file = write(text)
    found = problems(file)
    assert len(found) == 1, found
    assert found[0].startswith(f"{file}:{line}: "), found
    assert said in found[0]


def test_every_fault_is_told_at_once_in_the_order_of_the_file(write) -> None:
    file = write("[server]\nport = 0.5\nprot = 1\n[store]\ndurability = 1\n[tenants.a]\nx = 1\n")
    found = problems(file, {"MODELSPEND_SERVER__DRAIN_S": "soon"})
    places_ = [text.partition(": ")[0] for text in found]
    assert places_ == [*(f"{file}:{n}" for n in (2, 3, 5, 7)), "MODELSPEND_SERVER__DRAIN_S"]


def test_a_refused_configuration_is_a_usage_error_that_says_where_keys_are_explained(write) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        settings.load(write("[server]\nx = 1\ny = 2\n"), {})
    assert refused.value.exit_code is ExitCode.USAGE
    assert refused.value.text.startswith("The configuration has 2 problems:\n")
    assert refused.value.text.endswith("\nEvery key is explained in: modelspend help config")


@pytest.mark.parametrize(
    "text",
    [
        "[providers.x]\napi_key = 'sk-canary-1'\n",
        "[providers.x]\napi_key_env = 'sk-canary-1'\n",
        "[providers.x]\nbase_url = 'https://me:sk-canary-1@host/'\n",
        "[tenants.x]\nkeys = ['sk-canary-1']\n",
        "[providers.x]\nregion = ['sk-canary-1']\n",
        "api_key = 'sk-canary-1'\n",
    ],
)
def test_a_key_pasted_into_the_file_is_refused_and_never_shown(write, text: str) -> None:
    assert "canary" not in "\n".join(problems(write(text)))


def test_a_file_that_is_not_text_or_cannot_be_read_is_named(write, tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"[server]\nhost = '\xff'\n")
    assert problems(binary) == [f"{binary}: not UTF-8 text (byte 17)."]


def test_a_byte_order_mark_and_windows_lines_are_read(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes("\ufeff[server]\r\nport = 5\r\n".encode())
    loaded = settings.load(file, {})
    assert loaded.settings.server.port == 5
    assert loaded.origins["server.port"] == f"{file}:2"


ENV = [
    ("MODELSPEND_SERVER__PORT", "abc", 'server.port: found the text "abc"'),
    ("MODELSPEND_SERVER__PROT", "1", "unknown key; did you mean port?"),
    ("MODELSPEND_SERVER_PORT", "1", "sets nothing; did you mean MODELSPEND_SERVER__PORT?"),
    ("MODELSPEND_SEVER__PORT", "1", "sets nothing; did you mean MODELSPEND_SERVER__PORT?"),
    ("MODELSPEND_BOGUS__X", "1", "sets nothing"),
    ("MODELSPEND_SERVER__ALLOWED_HOSTS", "a,b", 'write a list as ["one", "two"]'),
    ("MODELSPEND_SERVER__ALLOW_REMOTE", "maybe", "expected true or false"),
    ("MODELSPEND_PROVIDERS__X__API_KEY_ENV", "sk-canary", "expected the NAME of an environment"),
]


@pytest.mark.parametrize(("name", "value", "said"), ENV)
def test_a_variable_that_sets_nothing_or_nonsense_is_refused_by_name(
    alone: Path, name: str, value: str, said: str
) -> None:
    found = problems(None, {name: value})
    assert len(found) == 1
    assert found[0].startswith(f"{name}: ")
    assert said in found[0]
    assert "canary" not in found[0]


def test_variables_reach_into_named_sections_lists_and_prices(alone: Path) -> None:
    loaded = settings.load(
        None,
        {
            "MODELSPEND_PROVIDERS__LOCAL__BASE_URL": "http://127.0.0.1:1/v1",
            "MODELSPEND_PROVIDERS__LOCAL__DIALECTS": '["openai.chat"]',
            "MODELSPEND_PROVIDERS__LOCAL__PRICE": "free",
            "MODELSPEND_TENANTS__ACME__BUDGET_USD": "12.50",
            "MODELSPEND_SERVER__ALLOW_REMOTE": "true",
        },
    )
    local = loaded.settings.providers["local"]
    assert (local.base_url, local.dialects) == ("http://127.0.0.1:1/v1", ("openai.chat",))
    assert local.price == "free"
    assert loaded.settings.tenants["acme"].budget_usd == Decimal("12.50")
    assert loaded.settings.server.allow_remote is True


def test_variables_that_hold_keys_or_are_empty_are_left_alone(write) -> None:
    file = write("[tenants.a]\nkeys = ['MODELSPEND_TENANTS__SECRET']\n")
    env = {
        "MODELSPEND_TENANTS__SECRET": "sk-canary",
        "MODELSPEND_KEY_ACME": "sk-canary",
        "MODELSPEND_SERVER__PORT": "",
        "MODELSPEND_CONFIG": "",
        "MODELSPEND_WHATEVER": "x",
    }
    loaded = settings.load(file, env)
    assert loaded.settings.server.port == 8787
    assert "canary" not in repr(loaded)


def test_money_in_the_file_is_exact_to_the_digit(write) -> None:
    file = write("[prices.'a/b']\ninput = 0.0375\n[tenants.t]\nbudget_usd = 0.1\n")
    loaded = settings.load(file, {})
    assert loaded.settings.prices["a/b"].input == Decimal("0.0375")
    assert loaded.settings.tenants["t"].budget_usd == Decimal("0.1")


def test_one_model_may_have_several_dated_prices(write) -> None:
    file = write("[[prices.'a/b']]\ninput = 1\n[[prices.'a/b']]\ninput = 2\nfrom = 2026-11-01\n")
    rows = settings.load(file, {}).settings.prices["a/b"]
    assert isinstance(rows, tuple)
    assert [row.input for row in rows] == [1, 2]


def test_a_relative_ledger_lies_beside_the_file_that_names_it(
    write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    file = write("[store]\npath = 'data/l.db'\n")
    assert settings.load(file, {}).ledger == tmp_path / "data" / "l.db"
    env = {"MODELSPEND_STORE__PATH": "l.db"}
    assert settings.load(file, env).ledger == Path("/l.db")


@pytest.mark.parametrize(
    ("text", "env"),
    [
        ("", {}),
        ("[store]\npath = 'x/l.db'\n", {}),
        ("[store]\npath = '~/l.db'\n", {}),
        ("[store]\npath = '/l.db'\n", {}),
        ("[store]\npath = 'x.db'\n", {"MODELSPEND_STORE__PATH": "y.db"}),
        ("", {"MODELSPEND_STORE__PATH": "~/y.db"}),
    ],
)
def test_a_reading_command_finds_the_same_ledger_as_the_checked_settings(
    alone: Path, write, text: str, env: dict[str, str]
) -> None:
    file = write(text)
    assert places.ledger(file, env) == settings.load(file, env).ledger
    assert places.ledger(None, {**env, "MODELSPEND_CONFIG": str(file)}) == places.ledger(file, env)


def test_a_reading_command_finds_the_ledger_beside_a_broken_configuration(write) -> None:
    file = write("[store]\npath = 'l.db'\n[server]\nport = 'x'\n")
    assert places.ledger(file, {}) == file.parent / "l.db"
    assert places.ledger(write("[", "broken.toml"), {}) == places.default_ledger()


def test_a_ledger_that_cannot_be_is_refused_with_its_place(write, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain").write_text("")
    for path, said in (("folder", "is a folder; write"), ("plain/l.db", "is a file, so nothing")):
        file = write(f"[store]\npath = '{path}'\n")
        (found,) = problems(file)
        assert found.startswith(f"{file}:2: store.path: ")
        assert said in found


def test_what_has_no_effect_is_said(write) -> None:
    text = "[budgets.'a.b']\ncap_usd = 1\nslice_usd = 0.1\nhard = false\n"
    notes = settings.load(write(text), {}).notes
    assert [note.partition(" ")[0] for note in notes] == ['budgets."a.b".slice_usd']
    assert settings.load(write(text.replace("false", "true")), {}).notes == ()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[routing]\nprofile = 'cheap'\n", "routing.profile"),
        ("[tenants.t]\nprofile = 'cheap'\n", "tenants.t.profile"),
        ("[workflows.w]\nprofile = 'cheap'\n", "workflows.w.profile"),
    ],
)
def test_a_profile_that_is_not_there_is_refused_with_the_names_of_those_that_are(
    write, text: str, key: str
) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        settings.load(write("[profiles.dear]\nsimple = ['a']\n" + text), {})
    assert f"config.toml:4: {key}: there is no profile cheap" in str(refused.value.message)
    assert "dear, default" in str(refused.value.message)


def test_every_line_of_the_example_is_a_valid_setting_when_taken_out_of_its_comment(write) -> None:
    loaded = settings.load(write(re.sub(r"(?m)^# ", "", example())), {})
    given = {key for key, origin in loaded.origins.items() if origin != "default"}
    assert {"server.port", "providers.local.models", 'prices."local/tuned-1".from'} <= given


WITHIN = {("alerts", "slack"), ("alerts", "pagerduty"), ("alerts", "email")}
"""Sections of names that lie within another section."""


def test_the_example_explains_every_key_of_every_section() -> None:
    text = example()
    for section in Settings.model_fields:
        path = (section,) if layers.known_keys(Settings, (section,)) else (section, "name")
        for key in layers.known_keys(Settings, path):
            own = rf"\[{section}\.{key}\.\w+\]\n" if (section, key) in WITHIN else f"{key} = "
            assert re.search(rf"(?m)^## .+\n# {own}", text), f"{section}.{key}"
    for section, key in WITHIN:
        for each in layers.known_keys(Settings, (section, key, "name")):
            table = text.partition(f"# [{section}.{key}.")[2].partition("\n\n")[0]
            assert re.search(rf"(?m)^## .+\n# {each} = ", table), f"{section}.{key}: {each}"


DAY = 86_400_000
NOW = 1_793_838_903_456  # 2026-11-05T00:35:03.456Z


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("7d", NOW - 7 * DAY),
        ("24h", NOW - DAY),
        ("90m", NOW - 5_400_000),
        ("30s", NOW - 30_000),
        ("2w", NOW - 14 * DAY),
        ("now", NOW),
        ("today", NOW - NOW % DAY),
        ("yesterday", NOW - NOW % DAY - DAY),
        ("mtd", 1_793_491_200_000),
        ("ytd", 1_767_225_600_000),
        ("2026-11", 1_793_491_200_000),
        ("2026-11-01", 1_793_491_200_000),
        ("2026-11-01T01:00:00Z", 1_793_494_800_000),
        ("2026-11-01t01:00:00+01:00", 1_793_491_200_000),
        ("2026-11-01 01:00", 1_793_494_800_000),
        ("999999999w", 0),
    ],
)
def test_an_instant_is_understood_as_people_write_it(text: str, ms: int) -> None:
    assert periods.instant(text, NOW) == ms


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-11-01", 1_793_491_200_000 + DAY),
        ("2026-11", 1_793_491_200_000 + 30 * DAY),
        ("2026-12", 1_793_491_200_000 + 61 * DAY),
        ("today", NOW - NOW % DAY + DAY),
        ("2026-11-01T01:00:00Z", 1_793_494_800_000),
        ("1d", NOW - DAY),
        ("mtd", NOW),
    ],
)
def test_an_end_takes_a_day_or_a_month_whole(text: str, ms: int) -> None:
    assert periods.instant(text, NOW, end=True) == ms


@pytest.mark.parametrize("text", ["", "7", "7y", "soon", "2026-13-01", "2026-02-30", "-7d", "0000"])
def test_a_time_that_is_none_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ValueError, match="write 7d, 24h, today, mtd, 2026-11-01"):
        periods.instant(text, NOW)


def test_what_has_no_effect_is_noted(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        "[budgets.a]\ncap_usd = 5\nhard = false\nslice_usd = 1\n"
        '[limits.b]\nscope = "tenant"\nrepeats = 3\nthen = "kill"\n'
        '[limits.c]\nthen = "refuse"\n'
    )
    assert settings.load(file, {}).notes == (
        "budgets.a.slice_usd has no effect: only a hard cap is held.",
        "limits.b.then refuses only: sessions and keys can be killed.",
        "limits.c has no effect: set usd_per_minute or repeats.",
    )
