"""Does a site answer, and with a page worth the name? (C3: a 200 alone proves nothing.)"""

import time
from collections.abc import Callable
from pathlib import Path

from provisioner.adapters import edge
from provisioner.adapters.docker_host import DockerHost
from provisioner.adapters.edge import ANSWER_SECONDS, LARGEST_PAGE
from provisioner.agent.sockets import TooLong
from provisioner.errors import ProvisionError
from provisioner.model.names import GenerationNames, HostNames

WAIT_SECONDS = 30
SMALLEST_PAGE = 500  # bytes
# The body, never more of it than $2 bytes (a page in chunks has no length that curl could refuse); what curl says and
# the status go to standard error.
_ASK = """
curl --silent --show-error --max-time "$3" --write-out '%{stderr}\\n%{http_code}' --unix-socket "$1" http://localhost/ |
    head -c "$2"
"""
# What WordPress and PHP print, in the languages of our images, when a page is none.
_BROKEN = (
    "Error establishing a database connection",
    "Erreur lors de la connexion à la base de données",
    "There has been a critical error on this website",
    "une erreur critique sur ce site",
    "Fatal error:",
    "Briefly unavailable for scheduled maintenance",
)


def page_problem(status: int, body: str) -> str | None:
    """Return what is wrong with a page, or None."""
    if status != 200:
        return f"status {status}"
    for words in _BROKEN:
        if words in body:
            return f"it says «{words}»"
    if len(body) < SMALLEST_PAGE or "</html>" not in body:
        return f"it is no whole page ({len(body)} bytes)"
    return None


def generation_problem(host: DockerHost, names: GenerationNames) -> str | None:
    """Return what is wrong with the front page over the generation's own socket, before anything is routed to it."""
    outcome = host.execute(
        HostNames(names.namespace).cron,
        [
            "sh", "-c", _ASK, "ask", f"/{names.socket_directory}/http.sock", str(LARGEST_PAGE + 1), str(ANSWER_SECONDS),
        ],
    )  # fmt: skip
    said, _, status = outcome.errors.rpartition("\n")
    if len(outcome.output) > LARGEST_PAGE:
        return str(TooLong(LARGEST_PAGE))
    if said.strip() or not status.isdigit():
        return " ".join(outcome.errors.split()) or "curl said nothing"
    return page_problem(int(status), outcome.output)


def site_problem(host: DockerHost, host_name: str, root: Path) -> str | None:
    """Return what is wrong with the front page over HTTPS, as a visitor sees it."""
    try:
        answer = edge.fetch(host, host_name, root)
    except ProvisionError as error:
        return error.message
    return page_problem(answer.status, answer.text)


def wait_until_well(question: Callable[[], str | None], what: str, hint: str, pause: float = 0.1) -> None:
    """Ask ``question`` until it finds nothing wrong.

    Raises:
        ProvisionError: something still is after 30 s; says what.

    """
    deadline = time.monotonic() + WAIT_SECONDS
    while (problem := question()) is not None:
        if time.monotonic() > deadline:
            raise ProvisionError(f"{what}: {problem}", hint)
        time.sleep(pause)
