"""Providers as data: what the files say, what a configuration adds, who answers for a name."""

from pathlib import Path
from typing import Any, get_args

import pytest

import modelspend.catalog
from modelspend.catalog import Catalog, known_providers
from modelspend.catalog.provider import AuthStyle
from modelspend.errors import ConfigInvalid, UnknownModel, Unsupported
from modelspend.settings import DialectName, Provider

ENV = {"OPENAI_API_KEY": "sk-canary-openai", "ANTHROPIC_API_KEY": "sk-canary-anthropic"}
LOCAL = Provider(
    base_url="http://127.0.0.1:18080/v1/",
    dialects=("openai.chat", "anthropic.messages"),
    models=("smollm2", "org/tuned"),
)


def load(env: dict[str, str] | None = None, **sections: Provider) -> Catalog:
    return Catalog.load(sections, ENV if env is None else env)


@pytest.mark.parametrize("name", sorted(known_providers()))
def test_every_file_says_what_a_provider_needs(name: str) -> None:
    provider = known_providers()[name]
    assert provider.library
    assert provider.secret is None
    for dialect in provider.dialects:
        assert dialect in get_args(DialectName)
        assert provider.usage[dialect].input
        assert provider.auth[dialect] in get_args(AuthStyle)
        assert "{target}" in provider.paths.get(dialect, "{target}")
    if provider.dialects:
        assert provider.keys
        assert (provider.base_url or "").startswith("https://") or provider.base_url_env


def test_the_folder_is_read_so_a_new_provider_is_a_new_file_and_nothing_else() -> None:
    folder = Path(modelspend.catalog.__file__).parent
    assert {path.stem for path in folder.glob("*.toml")} == set(known_providers())


def test_a_provider_counts_when_its_key_is_set_or_it_has_a_section() -> None:
    assert set(load().providers) == {"openai", "anthropic"}
    assert set(load({"GOOGLE_API_KEY": "g"}, local=LOCAL).providers) == {"local", "google"}
    assert set(load({"OPENAI_API_KEY": "  "}).providers) == set()
    assert "groq" in load({}, groq=Provider()).providers


def test_the_first_key_that_is_set_is_taken() -> None:
    both = load({"GEMINI_API_KEY": "one", "GOOGLE_API_KEY": "two"}).providers["google"]
    assert both.headers("gemini.generate") == {"x-goog-api-key": "one"}
    assert both.headers("openai.chat") == {"authorization": "Bearer one"}


def test_a_key_is_shown_by_nothing_but_the_header_it_is_for() -> None:
    catalog = load()
    provider = catalog.providers["openai"]
    for shown in (
        repr(provider),
        str(provider.secret),
        repr(catalog.providers),
        f"{provider!r:>5}",
    ):
        assert "canary" not in shown
    assert provider.headers("openai.chat") == {"authorization": "Bearer sk-canary-openai"}
    anthropic = catalog.providers["anthropic"]
    assert anthropic.headers("anthropic.count_tokens") == {"x-api-key": "sk-canary-anthropic"}


def test_a_caller_s_key_goes_in_place_of_ours_and_never_beside_it() -> None:
    provider = load().providers["openai"]
    assert provider.headers("openai.chat", "sk-theirs") == {"authorization": "Bearer sk-theirs"}
    keyless = load({}, local=LOCAL).providers["local"]
    assert keyless.headers("openai.chat") == {}
    assert keyless.has_key


@pytest.mark.parametrize(
    ("provider", "dialect", "target", "url"),
    [
        ("openai", "openai.chat", "/chat/completions", "https://api.openai.com/v1/chat/completions"),
        ("anthropic", "anthropic.count_tokens", "/messages/count_tokens",
         "https://api.anthropic.com/v1/messages/count_tokens"),
        ("google", "openai.chat", "/chat/completions",
         "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions"),
        ("google", "gemini.generate", "/models/m:generateContent?alt=sse",
         "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent?alt=sse"),
        ("groq", "openai.chat", "/chat/completions",
         "https://api.groq.com/openai/v1/chat/completions"),
        ("deepseek", "anthropic.messages", "/messages?beta=true",
         "https://api.deepseek.com/anthropic/v1/messages?beta=true"),
        ("azure", "openai.chat", "/chat/completions",
         "https://r.openai.azure.com/openai/deployments/my%2Fgpt%3Fx/chat/completions?api-version=2024-10-21"),
        ("azure", "openai.chat", "/chat/completions?a=b",
         "https://r.openai.azure.com/openai/deployments/my%2Fgpt%3Fx/chat/completions?a=b&api-version=2024-10-21"),
        ("azure", "openai.responses", "/responses", "https://r.openai.azure.com/openai/v1/responses"),
    ],
)  # fmt: skip
def test_a_call_goes_to_the_address_of_its_dialect(
    provider: str, dialect: str, target: str, url: str
) -> None:
    catalog = load(
        {"AZURE_OPENAI_ENDPOINT": "https://r.openai.azure.com/", "AZURE_OPENAI_API_KEY": "z"}
    )
    assert catalog.known[provider].url(dialect, target, "my/gpt?x") == url


def test_azure_without_its_address_is_not_configured_by_its_key_alone() -> None:
    assert "azure" not in load({"AZURE_OPENAI_API_KEY": "z"}).providers
    with pytest.raises(ConfigInvalid, match="azure") as refused:
        load({"AZURE_OPENAI_API_KEY": "z"}, azure=Provider())
    assert "AZURE_OPENAI_ENDPOINT" in refused.value.hint


@pytest.mark.parametrize(
    ("section", "says"),
    [
        (Provider(), "base_url"),
        (Provider(dialects=("openai.chat",)), "base_url"),
        (Provider(base_url="http://127.0.0.1:1"), "dialects"),
    ],
)
def test_a_stranger_that_lacks_something_is_refused_with_what_to_write(
    section: Provider, says: str
) -> None:
    with pytest.raises(ConfigInvalid, match=rf"\[providers.mine\].*{says}") as refused:
        load(mine=section)
    assert f"{says} = " in refused.value.hint


def test_a_few_lines_make_any_compatible_server_a_provider() -> None:
    provider = load({}, local=LOCAL).providers["local"]
    assert provider.url("openai.chat", "/chat/completions", "smollm2") == (
        "http://127.0.0.1:18080/v1/chat/completions"
    )
    assert provider.usage["anthropic.messages"].cache == "beside"
    assert provider.library is None


def test_a_known_provider_behind_another_address_keeps_its_rules_and_prices() -> None:
    catalog = load({}, openai=Provider(base_url="http://127.0.0.1:9/v1"))
    provider = catalog.providers["openai"]
    assert (provider.base_url, provider.library) == ("http://127.0.0.1:9/v1", "openai")
    assert catalog.resolve_model("gpt-4.1", "openai.chat") == (provider, "gpt-4.1")


def resolved(
    catalog: Catalog, model: str, dialect: str = "openai.chat", **more: Any
) -> tuple[str, str]:
    provider, name = catalog.resolve_model(model, dialect, **more)
    return provider.name, name


def test_the_first_segment_is_a_provider_only_when_one_of_that_name_is_configured() -> None:
    catalog = load(local=LOCAL)
    assert resolved(catalog, "local/anything/at-all") == ("local", "anything/at-all")
    assert resolved(catalog, "openai/gpt-4.1") == ("openai", "gpt-4.1")
    assert resolved(catalog, "org/tuned") == ("local", "org/tuned")
    with pytest.raises(UnknownModel):
        catalog.resolve_model("groq/llama-3", "openai.chat")


def test_a_listed_model_wins_over_its_native_owner() -> None:
    mine = Provider(base_url="http://127.0.0.1:1", dialects=("openai.chat",), models=("gpt-4.1",))
    assert resolved(load(mine=mine), "gpt-4.1") == ("mine", "gpt-4.1")


def test_of_several_that_list_a_model_the_one_that_speaks_the_dialect_answers() -> None:
    one = Provider(base_url="http://127.0.0.1:1", dialects=("openai.chat",), models=("m",))
    two = Provider(base_url="http://127.0.0.1:2", dialects=("gemini.generate",), models=("m",))
    assert resolved(load(one=one, two=two), "m", "gemini.generate") == ("two", "m")


@pytest.mark.parametrize(
    ("model", "owner"),
    [("gpt-4.1", "openai"), ("o3-mini", "openai"), ("ft:gpt-4o:org::1", "openai"),
     ("GPT-5", "openai"), ("text-embedding-3-small", "openai"), ("claude-sonnet-4-6", "anthropic"),
     ("gemini-2.5-pro", "google"), ("tunedModels/x", "google"), ("grok-4", "xai"),
     ("mistral-large-latest", "mistral"), ("codestral-latest", "mistral"),
     ("deepseek-chat", "deepseek"), ("llama-3", None), ("omega-3", None), ("", None)],
)  # fmt: skip
def test_a_name_tells_whose_model_it_is(model: str, owner: str | None, catalog: Catalog) -> None:
    found = catalog.owner(model)
    assert (found.name if found else None) == owner


def test_an_owner_without_a_key_answers_only_for_a_caller_who_brings_one() -> None:
    catalog = load({})
    with pytest.raises(UnknownModel, match="claude-x belongs to anthropic") as refused:
        catalog.resolve_model("claude-x", "anthropic.messages")
    assert "ANTHROPIC_API_KEY" in refused.value.hint
    provider, _ = catalog.resolve_model("claude-x", "anthropic.messages", caller_key=True)
    assert not provider.has_key


def test_a_section_that_names_a_key_which_is_not_set_has_no_key() -> None:
    catalog = load({}, openai=Provider(api_key_env="MY_OPENAI_KEY"))
    with pytest.raises(UnknownModel) as refused:
        catalog.resolve_model("gpt-4.1", "openai.chat")
    assert "MY_OPENAI_KEY" in refused.value.hint


def test_an_unknown_name_is_answered_with_the_choices() -> None:
    with pytest.raises(UnknownModel) as refused:
        load(local=LOCAL).resolve_model("llama", "openai.chat")
    assert "local/smollm2" in refused.value.hint
    assert "openai/…" in refused.value.hint
    with pytest.raises(UnknownModel, match="none is configured"):
        load({}).resolve_model("llama", "openai.chat")


def test_a_provider_that_does_not_speak_the_dialect_says_what_it_speaks() -> None:
    with pytest.raises(Unsupported, match=r"does not speak gemini\.generate") as refused:
        load(local=LOCAL).resolve_model("smollm2", "gemini.generate")
    assert "openai.chat" in refused.value.hint
    with pytest.raises(Unsupported):
        load().resolve_model("claude-sonnet-4-6", "openai.responses")


def test_whoever_speaks_anthropic_s_messages_counts_tokens_too() -> None:
    assert resolved(load(), "claude-x", "anthropic.count_tokens") == ("anthropic", "claude-x")


def test_providers_are_found_by_the_names_that_others_call_them(catalog: Catalog) -> None:
    for alias, name in {
        "x-ai": "xai",
        "google-vertex": "google",
        "AWS": "bedrock",
        "openai": "openai",
    }.items():
        found = catalog.find(alias)
        assert found is not None
        assert found.name == name
    assert catalog.find("nobody") is None


def test_the_models_are_those_that_the_configuration_lists() -> None:
    assert load(local=LOCAL).models() == (("local", "smollm2"), ("local", "org/tuned"))
