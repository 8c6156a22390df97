"""Failpoints: where tests and judges make an operation fail or die. Refused outside ``test-`` namespaces.

``PROVISION_FAILPOINT=create.database:after:kill`` names operation, step, place and action. Places:
``before`` (recorded as started, nothing done), ``middle`` (where a step has one), ``after`` (done but
unrecorded) and ``undo`` (before the step's undo). Actions: ``fail``, ``kill``, ``interrupt`` (SIGINT),
``terminate`` (SIGTERM) and ``stop`` (SIGSTOP).
"""

import os
import signal
import threading

from provisioner.errors import BadInput, ProvisionError

PLACES = ("before", "middle", "after", "undo")
_SIGNALS = {
    "kill": signal.SIGKILL,
    "interrupt": signal.SIGINT,
    "terminate": signal.SIGTERM,
    "stop": signal.SIGSTOP,
}


class InjectedFailure(ProvisionError):
    """The failure that a failpoint asked for."""


def check() -> None:
    """Refuse a failpoint that could never fire because it is misspelt.

    Raises:
        BadInput: PROVISION_FAILPOINT is not OPERATION.STEP:PLACE:ACTION.

    """
    wanted = os.environ.get("PROVISION_FAILPOINT")
    if not wanted:
        return
    parts = wanted.split(":")
    if len(parts) != 3 or "." not in parts[0] or parts[1] not in PLACES or parts[2] not in ("fail", *_SIGNALS):
        raise BadInput(f"PROVISION_FAILPOINT={wanted!r} is not OPERATION.STEP:PLACE:ACTION")


def reach(kind: str, step: str, place: str) -> None:
    """Do what the environment asks for at this place, if it names it.

    Raises:
        InjectedFailure: the action is ``fail``.

    """
    wanted = os.environ.get("PROVISION_FAILPOINT", "")
    point = f"{kind}.{step}:{place}"
    target, _, action = wanted.rpartition(":")
    if target != point:
        return
    if action == "fail":
        raise InjectedFailure(f"failpoint {point}")
    if action in ("kill", "stop"):
        # By this thread: what ends or stops the process through another one would let this one run on for a while.
        signal.pthread_kill(threading.get_ident(), _SIGNALS[action])
    else:  # to the process, as a terminal or an init system sends it
        os.kill(os.getpid(), _SIGNALS[action])
