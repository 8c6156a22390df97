"""What mails say: templates/mail/, rendered as text, as HTML made of that text, and with their day for a calendar."""

import email.policy
import re
from dataclasses import dataclass, field
from datetime import date, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Any, Literal

from provisioner import render
from provisioner.errors import BadInput
from provisioner.fields import mail_address, one_line
from provisioner.french import in_full, in_years
from provisioner.inventory import Inventory
from provisioner.model.tables import Mail

FOR_OPERATORS = ("incident", "nightly", "digest")  # in English, as all that operators read
_LINK = re.compile(r"https://\S+")


@dataclass(frozen=True)
class Message:
    """A rendered mail; ``day`` is the date that it asks or announces something for, ``day_says`` its calendar entry."""

    kind: str
    subject: str
    body: str
    day: date | None = None
    day_says: str = ""


@dataclass
class Block:
    """A paragraph of a mail's text: lines, the items of a list, or a link that stands alone."""

    kind: Literal["text", "list", "link"]
    lines: list[str] = field(default_factory=list)


def compose(kind: str, *, day: date | None = None, **values: Any) -> Message:
    """Return the mail ``kind``, rendered from templates/mail/KIND.txt.j2.

    Its first line is the subject; a second one says in a calendar what ``day`` is.

    Raises:
        BadInput: a value would break the subject into two headers (G7).

    """
    rendered = render.report if kind in FOR_OPERATORS else render.text
    text = rendered(f"mail/{kind}.txt.j2", in_full=in_full, in_years=in_years, **values)
    head, _, body = text.partition("\n\n")
    subject, _, day_says = head.partition("\n")
    try:
        one_line(subject)
        if day is not None:
            one_line(day_says)
        elif day_says:
            raise ValueError("a line break is not allowed")
    except ValueError as error:
        raise BadInput(f"subject of the mail {kind}: {error}") from None
    return Message(kind, subject.strip(), body.strip("\n") + "\n", day, day_says.strip())


def blocks(text: str) -> list[Block]:
    """Return the paragraphs of a mail's text, each with what its lines are."""
    found = []
    for paragraph in re.split(r"\n{2,}", text.strip("\n")):
        lines = paragraph.split("\n")
        if len(lines) == 1 and _LINK.fullmatch(paragraph):
            found.append(Block("link", lines))
        elif all(line.startswith("- ") for line in lines):
            found.append(Block("list", [line.removeprefix("- ") for line in lines]))
        else:
            found.append(Block("text", lines))
    return found


def as_html(subject: str, body: str, language: str = "fr") -> str:
    """Return a mail's text as a page of templates/mail/layout.html.j2: nothing remote, every value escaped (H5)."""
    return render.html("mail/layout.html.j2", language=language, subject=subject, blocks=blocks(body))


def as_calendar(mail: Mail) -> str | None:
    """Return the calendar entry (RFC 5545) of the day that a mail names, if it names one."""
    if mail.day is None:
        return None
    from icalendar import Calendar, Event

    event = Event()
    event.add("uid", mail.message_id.strip("<>"))
    event.add("dtstamp", mail.created_at)
    event.add("dtstart", mail.day)
    event.add("dtend", mail.day + timedelta(days=1))
    event.add("summary", mail.day_says)
    event.add("transp", "TRANSPARENT")  # the day stays free
    calendar = Calendar()
    calendar.add("prodid", "-//provision//mail//FR")
    calendar.add("version", "2.0")
    calendar.add("method", "PUBLISH")
    calendar.add_component(event)
    return bytes(calendar.to_ical()).decode()


def envelope(mail: Mail, inventory: Inventory, to: str, copy_to: str | None = None) -> EmailMessage:
    """Return ``mail`` as it leaves to the address ``to``.

    It says that a machine wrote it, so that no absence notice answers (RFC 3834, and Exchange's own header); who
    answers writes to the council.

    Raises:
        ValueError: an address or the subject holds a line break, or is no address (G7).

    """
    settings = inventory.mail
    readable = settings.server is None  # whoever opens a mail's file wants to read it, and to copy its link
    message = EmailMessage(policy=email.policy.SMTP.clone(cte_type="8bit" if readable else "7bit"))
    message["From"] = Address(inventory.council.name, addr_spec=settings.sender)
    message["To"] = Address(addr_spec=mail_address(to))
    if copy_to is not None:
        message["Cc"] = Address(addr_spec=copy_to)
    message["Reply-To"] = Address(inventory.council.name, addr_spec=inventory.council.mail)
    message["Subject"] = one_line(mail.subject)
    message["Date"] = mail.created_at
    message["Message-ID"] = mail.message_id
    language = "en" if mail.kind in FOR_OPERATORS else "fr"
    message["Content-Language"] = language
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "OOF, AutoReply"
    encoding = "8bit" if readable else None
    message.set_content(mail.body, cte=encoding)
    message.add_alternative(as_html(mail.subject, mail.body, language), subtype="html", cte=encoding)
    calendar = as_calendar(mail)
    if calendar is not None:
        published = {"method": "PUBLISH"}
        message.add_attachment(calendar, subtype="calendar", params=published, filename="date.ics", cte=encoding)
    return message
