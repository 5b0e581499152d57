"""Who may ask: anyone on the loopback interface, and beyond it those who know the token."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import socket

from pydantic import SecretStr

from pipeline.errors import ConfigError


def listen(host: str, port: int, token: SecretStr) -> socket.socket:
    """Return a socket that listens. Raises ConfigError when it cannot, or when it may not without a token."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigError(f"--host {host}: {error.strerror}", hint="name an address of this host") from None
    if not ipaddress.ip_address(address[0]).is_loopback and not token.get_secret_value():
        raise ConfigError(
            f"--host {host} can be reached from other hosts, and API_TOKEN is not set",
            hint="name a file with a token with API_TOKEN_FILE (openssl rand -hex 32), or listen on 127.0.0.1",
        )
    try:
        return socket.create_server(address[:2], family=family, backlog=1_024)
    except OSError as error:
        raise ConfigError(
            f"--host {host} --port {port}: {error.strerror}", hint="name another port with --port"
        ) from None


def knows_token(authorization: str | None, token: SecretStr) -> bool:
    """Tell whether a header names the token: as Bearer, or as the password of Basic, which browsers ask for."""
    wanted = token.get_secret_value()
    if not wanted:
        return True
    kind, _, given = (authorization or "").partition(" ")
    if kind.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode("utf-8", "replace").partition(":")[2]
        except binascii.Error:
            return False
    elif kind.lower() != "bearer":
        return False
    return hmac.compare_digest(given.strip().encode(), wanted.encode())
