# SPDX-License-Identifier: Apache-2.0
"""Which AAP 2.0 connections belong to which application endpoint.

The first connection that names an endpoint chooses its secret; others get to it with that secret only. One of them may
subscribe, the others send. With the last connection the registration is gone.
"""

import hmac
from typing import Final

from meshd.bundle.eid import Eid
from meshd.control.errors import ControlError
from meshd.daemon.control_handler import SessionHandle

ENDPOINTS_MAX: Final = 256


class _Registration:
    __slots__ = ("members", "secret", "subscriber")

    def __init__(self, secret: str) -> None:
        self.secret = secret.encode()
        self.members: set[SessionHandle] = set()
        self.subscriber: SessionHandle | None = None


class Aap2Endpoints:
    """The registrations of all connections."""

    def __init__(self) -> None:
        self._registrations: dict[Eid, _Registration] = {}

    def register(self, session: SessionHandle, endpoint: Eid, secret: str, *, is_subscriber: bool) -> None:
        """Let a connection use an endpoint.

        Raises:
          ControlError: `unauthorised` for another secret, `refused_by_policy` when somebody subscribes already.
        """
        registration = self._registrations.get(endpoint)
        if registration is None:
            if len(self._registrations) >= ENDPOINTS_MAX:
                raise ControlError("failed", f"{ENDPOINTS_MAX} endpoints are registered already; try again later")
            registration = self._registrations[endpoint] = _Registration(secret)
        if not hmac.compare_digest(registration.secret, secret.encode()):
            raise ControlError("unauthorised", f"{endpoint.uri} is registered with another secret")
        if is_subscriber and registration.subscriber is not None:
            raise ControlError("refused_by_policy", f"{endpoint.uri} has a subscriber already")
        registration.members.add(session)
        if is_subscriber:
            registration.subscriber = session

    def release(self, session: SessionHandle) -> None:
        """A connection is gone."""
        for endpoint, registration in list(self._registrations.items()):
            registration.members.discard(session)
            if registration.subscriber is session:
                registration.subscriber = None
            if not registration.members:
                del self._registrations[endpoint]
