"""What a person is told where a broker lets us not in, or ends a connection.

It reads the errors of aiomqtt without importing it: only plants with an MQTT source need that.
"""

from __future__ import annotations

from connectors.security.tls import remedy_of
from twin.errors import EndpointUnavailable, SecurityFault

# MQTT 5.0, 3.2.2.2: bad user name or password, not authorized, banned, bad authentication method.
_LOGIN_REFUSED = frozenset({0x86, 0x87, 0x8A, 0x8C})
# MQTT 5.0, 3.14.2.1. mosquitto 2.0 just closes the connection, which paho calls unspecified.
_TAKEN_OVER, _UNSPECIFIED = 0x8E, 0x80
#: Two programs with one client id end each other's connections within seconds (seen: .4 to 3 s).
_SHORT_S = 5.0


def refused(endpoint: str, user: str, reason: Exception) -> EndpointUnavailable:
    """Why connecting failed; `user` is who we said we are, "" for nobody.

    A SecurityFault where asking again in haste helps nobody: an account may be locked by it.
    """
    if "CERTIFICATE" in str(reason).upper():
        told = f"{endpoint}: the broker's certificate will not do ({reason})."
        return SecurityFault(f"{told} {remedy_of(str(reason))}")
    if _code_of(reason) in _LOGIN_REFUSED:
        if user:
            who, remedy = f"the user {user!r}", "the user and password among our secrets"
        else:
            who, remedy = "who has no login", "`login` in the plant file"
        told = f"{endpoint} does not let in {who} ({reason})."
        return SecurityFault(f"{told} Check {remedy}, and whom the broker allows.")
    return EndpointUnavailable(
        f"{endpoint} does not let us in as an MQTT broker ({reason}). Check that it runs and "
        "speaks MQTT 5, and `broker` in the plant file."
    )


def lost(reason: BaseException, client_id: str, lived_s: float) -> str:
    """Why a connection ended that had lived for `lived_s`, in words."""
    code = _code_of(reason)
    if code == _TAKEN_OVER or (code == _UNSPECIFIED and lived_s < _SHORT_S):
        return (
            f"the broker ended the connection after {lived_s:.1f} s. If that goes on, another "
            f"program logs in there as client {client_id!r}: give each a `client_id` of its own"
        )
    if code == _UNSPECIFIED:
        return "the connection to the broker broke, or the broker ended it without a reason"
    return str(reason)


def _code_of(reason: BaseException) -> int | None:
    value = getattr(getattr(reason, "rc", None), "value", None)
    return value if isinstance(value, int) else None
