"""Keys, tokens and passwords: kept in the environment, out of command lines, files, logs and messages.

A user name and password in an address (`http://me:secret@host`) are taken out of the command line when it is read, and
put back only where the connection is made (`with_credentials`). What is stored, printed or listed in between is the
address without them. The processes that a command starts inherit the environment; machines of a cluster get what they
need of it in a file that only the user can read (`r1_searcher.host.worker`).
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit, urlunsplit

CREDENTIALS_VARIABLE = "R1_SEARCHER_CREDENTIALS"
"""Environment variable with the credentials of addresses: a JSON object, `{"host:port": "user:password"}`."""
CONSENT_VARIABLE = "R1_SEARCHER_KEYS_OVER_HTTP"
"""Environment variable that, set to 1, allows keys over plain http: for a network in which nobody listens."""
KEYS_VARIABLE = "R1_SEARCHER_KEYS"
"""Environment variable with the path of a run's file of keys; see `r1_searcher.host.worker`."""
FROM_ENVIRONMENT = "from-environment"
"""What stands in a command line in place of a secret."""

_CREDENTIALS = re.compile(r"(?<=://)([^/?#@\s|,]+)@([^/?#@\s|,]+)")
_SECRET_NAME = re.compile(r"(^|_)(API)?(KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL)S?(_|$)")
_NO_SECRETS = frozenset({CONSENT_VARIABLE, KEYS_VARIABLE})
"""Variables of ours whose names read as if they were."""
_PLACES = ("_FILE", "_PATH", "_DIR")
"""How the names of variables end that hold the place of a secret."""
_SHORTEST = 8
"""Characters of the shortest value that is looked for in messages: `none` and `1` stand in every other text."""


def hide(words: Sequence[str], flags: Mapping[str, str] | None = None) -> list[str]:
    """A command line whose secrets have moved to this process's environment.

    Args:
        words: the arguments.
        flags: flag that takes a secret -> environment variable that its value moves to.
    """
    shown: list[str] = []
    variable = ""
    for word in words:
        flag, equals, value = word.partition("=")
        if variable and not word.startswith("--"):
            word = _moved(word, variable)
        elif equals and flag in (flags or {}):
            word = f"{flag}={_moved(value, (flags or {})[flag])}"
        variable = (flags or {}).get(word, "")
        shown.append(_without_credentials(word))
    return shown


def with_credentials(url: str) -> str:
    """The address that is connected to: with the user name and password that were taken out of it, if any."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    found = _known().get(parts.netloc)
    return urlunsplit(parts._replace(netloc=f"{found}@{parts.netloc}")) if found else url


def check_may_carry_key(url: str, name: str) -> None:
    """Refuse an address to which a key would go in clear text.

    Args:
        url: https, or http to this machine, is fine.
        name: of the key, for the message; its value is never shown.

    Raises:
        ValueError: plain http to another machine.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or _is_this_machine(parts.hostname or "") or os.environ.get(CONSENT_VARIABLE) == "1":
        return
    raise ValueError(
        f"{name} would go in clear text to http://{parts.hostname}; use https, a tunnel to 127.0.0.1, or, where "
        f"nobody listens, set {CONSENT_VARIABLE}=1"
    )


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_secret(name: str, value: str) -> bool:
    """Whether an environment variable holds a secret: by its name, or by an address with a user name in it."""
    by_name = _SECRET_NAME.search(name.upper()) and not name.upper().endswith(_PLACES) and name not in _NO_SECRETS
    return bool(by_name or _CREDENTIALS.search(value))


def without_secrets(text: str) -> str:
    """The text with every secret of this process's environment replaced by `***`."""
    for value in _values():
        text = text.replace(value, "***")
    return text


def _moved(value: str, variable: str) -> str:
    if value != FROM_ENVIRONMENT:
        os.environ[variable] = value
    return FROM_ENVIRONMENT


def _without_credentials(word: str) -> str:
    found = {match[2]: match[1] for match in _CREDENTIALS.finditer(word)}
    if found:
        os.environ[CREDENTIALS_VARIABLE] = json.dumps({**_known(), **found})
    return _CREDENTIALS.sub(r"\2", word)


def _known() -> dict[str, str]:
    return dict(json.loads(os.environ.get(CREDENTIALS_VARIABLE) or "{}"))


def _values() -> set[str]:
    """What must not be shown: values of secret variables, and each password and `user:password` of an address."""
    values = {value for name, value in os.environ.items() if is_secret(name, value) and name != CREDENTIALS_VARIABLE}
    for credentials in _known().values():
        values |= {credentials, credentials.partition(":")[2]}
    return {value for value in values if len(value) >= _SHORTEST}
