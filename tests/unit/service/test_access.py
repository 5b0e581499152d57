"""Anyone on this host may ask; from elsewhere, who knows the token."""

from __future__ import annotations

import base64

import pytest
from pydantic import SecretStr

from pipeline.errors import ConfigError
from pipeline.service.access import knows_token, listen

TOKEN = SecretStr("0123456789abcdef")
NONE = SecretStr("")


def basic(text: str) -> str:
    """Return the header with which a browser logs in."""
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize(
    ("header", "knows"),
    [
        ("Bearer 0123456789abcdef", True),
        ("bearer  0123456789abcdef", True),
        (basic("anyone:0123456789abcdef"), True),
        ("Bearer 0123456789abcdeF", False),
        ("Bearer 0123456789abcde", False),
        ("Bearer ", False),
        ("0123456789abcdef", False),
        (basic("0123456789abcdef"), False),
        ("Basic 0123456789abcdef", False),
        ("Basic not base64", False),
        ("Bearer \u00fc", False),
        (None, False),
    ],
)
def test_the_token_is_needed(header: str | None, knows: bool) -> None:
    """As Bearer, or as the password that a browser asks for; without a token in the settings nothing is."""
    assert knows_token(header, TOKEN) is knows
    assert knows_token(header, NONE)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_loopback_needs_no_token(host: str) -> None:
    """It is the default."""
    with listen(host, 0, NONE) as listening:
        assert listening.getsockname()[1] > 0


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104  # what is refused
def test_a_wider_address_needs_a_token(host: str) -> None:
    """The error says how to make one."""
    with pytest.raises(ConfigError, match="API_TOKEN is not set") as refused:
        listen(host, 0, NONE)
    assert "API_TOKEN_FILE" in refused.value.hint


def test_an_address_that_is_taken_is_named() -> None:
    """With the option that names another; so is one that this host does not have."""
    with listen("127.0.0.1", 0, NONE) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port {port}: Address already in use"):
            listen("127.0.0.1", port, NONE)
    with pytest.raises(ConfigError, match=r"--host nowhere\.invalid"):
        listen("nowhere.invalid", 0, TOKEN)
