"""What an address of a cluster names, tried before Ray connects, which tells less and waits for minutes."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
from collections.abc import Iterator
from typing import Any

from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray._private.services import canonicalize_bootstrap_address
from ray.exceptions import AuthenticationError, RayError

from orchestrator.errors import RequestError
from orchestrator.executors.logs import stderr_to

GcsClient: Any = importlib.import_module("ray._raylet").GcsClient  # its stub file does not know it
PATIENCE_S = 5.0
"""How long a head may take to accept a connection, and again to answer."""
OTHER_PROTOCOLS = {
    "ray": "names a Ray Client server, through which no sweep can run",
    "http": "names the dashboard, which takes jobs that are submitted",
    "https": "names the dashboard, which takes jobs that are submitted",
}
WAY_OUT = (
    "give the head's HOST:PORT (`ray start` prints it, the port is 6379 by default), or `auto` on one of its nodes"
)
HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""What a client of gRPC says first: HTTP/2's preface and an empty SETTINGS frame (RFC 9113, section 3.4)."""
SETTINGS_FRAME = 4


def check_address(address: str) -> None:
    """Make sure that a Ray head answers at an address and takes this user's token, which is switched on if wanted.

    Raises:
        RequestError: if it is no such address, nothing answers there within seconds, or the token is missing or wrong.
    """
    protocol, separator, _ = address.partition("://")
    if separator:
        reason = OTHER_PROTOCOLS.get(protocol, "is not an address of a Ray head")
        raise RequestError(f"--address {address}: {reason}: {WAY_OUT}.")
    head = _head(address)
    name = address if address == head else f"{address} ({head})"
    if not _speaks_grpc(head, name):
        raise RequestError(f"--address {name}: something listens there that is no Ray head: {WAY_OUT}.")
    _authenticate(head, name)


def _head(address: str) -> str:
    """HOST:PORT of the head that an address names."""
    try:
        head = canonicalize_bootstrap_address(address)
    except (ConnectionError, ValueError) as error:
        raise RequestError(f"--address {address}: {_first_line(error)}: {WAY_OUT}.") from error
    if head is None or not head.rpartition(":")[2].isdecimal():
        raise RequestError(f"--address {address}: no cluster: {WAY_OUT}.")
    return str(head)


def _speaks_grpc(head: str, name: str) -> bool:
    """Whether a server of gRPC listens at HOST:PORT. With TLS it is only known that something listens."""
    host, _, port = head.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
                return True
            connection.sendall(HTTP2_HELLO)
            answer = connection.recv(9)
    except TimeoutError as error:
        raise RequestError(f"--address {name}: no answer within {PATIENCE_S:g} s: is the head still alive?") from error
    except (OSError, OverflowError) as error:
        raise RequestError(f"--address {name}: nothing listens there ({_first_line(error)}): {WAY_OUT}.") from error
    return len(answer) > 3 and answer[3] == SETTINGS_FRAME


def _authenticate(head: str, name: str) -> None:
    """Ask the head for its nodes, as this process stands and then with the token that Ray finds."""
    with _raw_lines_hidden():
        if _accepts(head, name):
            return
        has_token = maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
        if has_token and _accepts(head, name):
            return
    mode = os.environ.get("RAY_AUTH_MODE")
    problem = f"refuses the token in {_token_place()}" if has_token else "wants a token, and there is none here"
    if mode and not has_token:
        problem = f"wants a token, and RAY_AUTH_MODE is {mode!r} here: unset it"
    raise RequestError(
        f"--address {name}: the cluster {problem}: copy the token of its head (`ray get-auth-token` prints it there) "
        "to ~/.ray/auth_token, or set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH."
    )


def _accepts(head: str, name: str) -> bool:
    """Whether the head answers this process; False if it wants another token."""
    try:
        GcsClient(address=head).get_all_node_info(timeout=PATIENCE_S)
    except AuthenticationError:
        return False
    except RayError as error:
        raise RequestError(f"--address {name}: no Ray cluster answers there: {_first_line(error)}") from error
    return True


@contextlib.contextmanager
def _raw_lines_hidden() -> Iterator[None]:
    """Keep off the terminal what the core of Ray writes there of a refusal, which is told in one line instead."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, stderr_to(nowhere):
        yield


def _token_place() -> str:
    """Where Ray looks for a token, in its order."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN"
    return os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
