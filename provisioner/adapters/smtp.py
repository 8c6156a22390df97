"""Where mails leave: an SMTP server, or a folder of files that a person can open."""

import email.policy
import smtplib
import ssl
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


def send(server: MailServer, password: str | None, message: EmailMessage) -> str:
    """Hand ``message`` to ``server`` and return what stands as proof.

    Raises:
        Refused: the server took the connection, but not the mail.
        Unavailable: the server does not answer, or its certificate does not hold.

    """
    try:
        with _connection(server) as smtp:
            if server.security == "starttls":
                smtp.starttls(context=ssl.create_default_context())
            if server.user is not None and password is not None:
                smtp.login(server.user, password)
            smtp.send_message(message)
    except smtplib.SMTPRecipientsRefused as error:
        code, said = next(iter(error.recipients.values()))
        raise Refused(f"{code} {_text(said)}", permanent=code >= 500) from error
    except smtplib.SMTPResponseException as error:
        raise Refused(f"{error.smtp_code} {_text(error.smtp_error)}", permanent=error.smtp_code >= 500) from error
    except (smtplib.SMTPException, OSError) as error:
        raise Unavailable(f"mail server {server.host}:{server.port}: {error}") from error
    return f"accepted by {server.host}"


def _connection(server: MailServer) -> smtplib.SMTP:
    if server.security == "tls":
        return smtplib.SMTP_SSL(server.host, server.port, timeout=SECONDS, context=ssl.create_default_context())
    return smtplib.SMTP(server.host, server.port, timeout=SECONDS)


def _text(said: bytes | str) -> str:
    """Return what a server said; smtplib gives bytes or, for its own findings, text."""
    return said.decode(errors="replace") if isinstance(said, bytes) else said


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
