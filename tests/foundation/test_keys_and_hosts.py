"""Keys go to the host that they belong to, and never in clear text to another machine."""

from __future__ import annotations

import pytest

from foundation.chat.endpoint import EndpointConfig
from foundation.errors import InputError
from foundation.secrets import check_may_carry_key
from retriever.client.addresses import addresses_of, authorization


@pytest.mark.parametrize(
    "url", ["https://a.example/v1", "http://127.0.0.1:8000", "http://localhost/", "http://[::1]:1/"]
)
def test_where_a_key_may_go(url):
    check_may_carry_key(url, "KEY")


@pytest.mark.parametrize("url", ["http://a.example/v1", "http://10.0.0.2:8000", "http://127.0.0.1.evil.example/"])
def test_a_key_does_not_go_in_clear_text_to_another_machine(url, monkeypatch):
    with pytest.raises(ValueError, match="KEY would go in clear text to http://"):
        check_may_carry_key(url, "KEY")
    monkeypatch.setenv("R1_SEARCHER_KEYS_OVER_HTTP", "1")
    check_may_carry_key(url, "KEY")


@pytest.mark.parametrize(
    ("url", "variable", "name"),
    [
        ("https://api.openai.com/v1", "", "OPENAI_API_KEY"),
        ("https://api.openai.com.evil.example/v1", "", ""),
        ("http://127.0.0.1:8000", "", ""),
        ("http://127.0.0.1:8000", "MY_KEY", "MY_KEY"),
    ],
)
def test_openais_key_goes_to_openai_only(url, variable, name):
    assert EndpointConfig(url, key_variable=variable).key_name(url) == name


def test_an_endpoint_that_would_get_its_key_in_clear_text_is_refused(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret")
    with pytest.raises(InputError, match="MY_KEY would go in clear text") as refused:
        EndpointConfig("http://judge.example:8000", key_variable="MY_KEY")
    assert "sk-secret" not in str(refused.value)
    EndpointConfig("http://judge.example:8000")


def test_the_search_services_token_is_not_sent_in_clear_text_to_another_machine(monkeypatch):
    monkeypatch.setenv("RETRIEVER_TOKEN", "secret")
    near, far = addresses_of("http://127.0.0.1:8000", "/s"), addresses_of("http://node7:8000", "/s")
    assert authorization(None, near) == {"Authorization": "Bearer secret"}
    with pytest.raises(ValueError, match="RETRIEVER_TOKEN") as refused:
        authorization(None, far)
    assert "secret" not in str(refused.value)
    assert authorization(None, addresses_of("https://node7:8000", "/s"))
