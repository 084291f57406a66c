"""Which values are secrets, and how they are kept out of answers."""

import pytest

from amplifierd.common.redaction import MASK, find_secret, is_secret, redact


@pytest.mark.parametrize(
    "key",
    [
        *("api_key", "apiKey", "X-Api-Key", "OPENAI_API_KEY", "apikey", "token", "auth_token"),
        *("password", "client_secret", "Authorization", "aws.secretAccessKey", "credentials"),
    ],
)
def test_keys_of_secrets_are_known_in_every_casing(key: str) -> None:
    assert is_secret(key)


@pytest.mark.parametrize("key", ["max_tokens", "token_count", "base_url", "key", "monkey", "model"])
def test_other_keys_are_no_secrets(key: str) -> None:
    assert not is_secret(key)


@pytest.mark.parametrize("value", ["sk-1", "a${NAME}", "${NAME:sk-1}", "${NAME}sk-1", 1234])
def test_a_literal_secret_is_masked(value: str | int) -> None:
    assert redact({"config": [{"api_key": value}]}) == {"config": [{"api_key": MASK}]}


@pytest.mark.parametrize("value", ["${NAME}", "Bearer ${NAME}", "", None, True])
def test_what_is_no_secret_stays_under_a_secrets_key(value: str | bool | None) -> None:
    assert redact({"api_key": value}) == {"api_key": value}


def test_everything_below_a_secrets_key_is_masked() -> None:
    assert redact({"credentials": {"user": "a", "more": ["b"]}}) == {
        "credentials": {"user": MASK, "more": [MASK]}
    }


def test_the_user_part_of_a_url_is_masked() -> None:
    data = {"base_url": "https://me:pass@host/v1", "docs": "https://host/@me"}
    assert redact(data) == {
        "base_url": f"https://{MASK}@host/v1",
        "docs": "https://host/@me",
    }


def test_the_data_themselves_keep_their_secrets() -> None:
    data = {"api_key": "sk-1"}
    redact(data)
    assert data == {"api_key": "sk-1"}


@pytest.mark.parametrize(
    "url",
    [
        "ssh://git@host/path",
        "https://${USER}@host",
        "https://me:${PASSWORD}@host",
        "https://host/@",
    ],
)
def test_users_that_are_no_secrets_stay(url: str) -> None:
    assert redact({"source": url}) == {"source": url}
    assert find_secret({"source": url}, "config") is None


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"a": 1, "api_key": "${KEY}"}, None),
        ({"a": [{"token": "sk-1"}]}, "config.a[0].token"),
        ({"token": {"a": ["", "sk-1"]}}, "config.token.a[1]"),
        ({"url": "https://gitter@host"}, "config.url"),
        ({"token": MASK}, "config.token"),
        ({"url": f"https://{MASK}@host"}, "config.url"),
        ({"note": MASK}, None),
    ],
)
def test_a_literal_secret_has_its_place(data: dict[str, object], place: str | None) -> None:
    assert find_secret(data, "config") == place
