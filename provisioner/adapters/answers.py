"""What the programs on a host answer: of the type that was expected, or a fault of one line."""

from typing import TypeVar

from provisioner.agent import wire
from provisioner.agent.protocol import Request
from provisioner.errors import ProvisionError

A = TypeVar("A")


def answered(request: Request[A], said: str) -> A:
    """Return the answer that a program printed to ``request``.

    Raises:
        ProvisionError: the answer is not of the type that was expected.

    """
    try:
        return wire.answered(request, said)
    except wire.Malformed as error:
        raise ProvisionError(str(error)) from None
