"""Where mails leave: an SMTP server, or a folder of files that a person can open."""

import email.policy
import smtplib
import ssl
from contextlib import suppress
from email.message import EmailMessage
from pathlib import Path

from provisioner.errors import Unavailable
from provisioner.inventory import MailServer

SECONDS = 30


class Refused(Exception):
    """The server refused this mail; ``permanent`` says whether trying again can help (RFC 5321, 4.2.1)."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


def send(server: MailServer, password: str | None, message: EmailMessage, to: str) -> str:
    """Hand ``message`` for ``to`` to ``server`` and return its answer, which stands as proof.

    Raises:
        Refused: the server took the connection and us, but not this recipient or this message.
        Unavailable: the server does not answer, its certificate does not hold, or it refuses ourselves.

    """
    place = f"mail server {server.host}:{server.port}"
    try:
        smtp = _connection(server)
        try:
            if server.security == "starttls":
                smtp.starttls(context=ssl.create_default_context())
            if server.user is not None and password is not None:
                smtp.login(server.user, password)
            _require(smtp.mail(message["From"].addresses[0].addr_spec))
            _took(smtp.rcpt(to))
            said = _took(smtp.data(message.as_bytes(policy=email.policy.SMTP)))
        finally:
            # What was accepted stays accepted, however the farewell goes: an error here would send the mail again.
            with suppress(smtplib.SMTPException, OSError):
                smtp.quit()
    except smtplib.SMTPDataError as error:  # no go-ahead for the message's text
        raise Refused(f"{error.smtp_code} {_text(error.smtp_error)}", permanent=error.smtp_code >= 500) from error
    except smtplib.SMTPResponseException as error:
        raise Unavailable(f"{place}: {error.smtp_code} {_text(error.smtp_error)}") from error
    except UnicodeError as error:  # of smtplib's log-in
        raise Unavailable(f"{place}: user name and password must be plain ASCII") from error
    except (smtplib.SMTPException, OSError) as error:
        raise Unavailable(f"{place}: {error}") from error
    return f"{said} ({server.host})"


def _connection(server: MailServer) -> smtplib.SMTP:
    if server.security == "tls":
        return smtplib.SMTP_SSL(server.host, server.port, timeout=SECONDS, context=ssl.create_default_context())
    return smtplib.SMTP(server.host, server.port, timeout=SECONDS)


def _require(answer: tuple[int, bytes]) -> None:
    """Go on if the server takes us as a sender; that it does not, is no fault of a mail."""
    if answer[0] != 250:
        raise smtplib.SMTPResponseException(*answer)


def _took(answer: tuple[int, bytes]) -> str:
    code, said = answer
    if code == 421:  # the server closes the connection (RFC 5321, 3.8): it says nothing about this mail
        raise smtplib.SMTPResponseException(code, said)
    if code not in (250, 251):
        raise Refused(f"{code} {_text(said)}", permanent=code >= 500)
    return f"{code} {_text(said)}"


def _text(said: bytes | str) -> str:
    """Return what a server said, on one line; smtplib gives bytes or, for its own findings, text."""
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    return " ".join(text.split())


def write(folder: Path, name: str, message: EmailMessage) -> str:
    """Write ``message`` as ``folder/name.eml``, readable as it is, and return what stands as proof.

    Raises:
        Unavailable: the folder cannot be written.

    """
    path = folder / f"{name}.eml"
    readable = email.policy.SMTP.clone(cte_type="8bit", max_line_length=0, linesep="\n")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        staging = path.with_suffix(".new")
        staging.write_bytes(message.as_bytes(policy=readable))
        staging.chmod(0o600)
        staging.replace(path)
    except OSError as error:
        raise Unavailable(f"mail folder {folder}: {error.strerror}") from error
    return f"written to {path}"
