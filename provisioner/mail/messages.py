"""What mails say: templates/mail/, rendered; the first line of a template is the subject."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from babel.dates import format_date

from provisioner import render
from provisioner.clock import PARIS


@dataclass(frozen=True)
class Message:
    """A rendered mail."""

    kind: str
    subject: str
    body: str


def in_full(day: date | datetime) -> str:
    """Return a day as French writes it: 1er mars 2028."""
    if isinstance(day, datetime):
        day = day.astimezone(PARIS).date()
    number = "1er" if day.day == 1 else str(day.day)
    return f"{number} {format_date(day, 'MMMM y', locale='fr')}"


def compose(kind: str, **values: Any) -> Message:
    """Return the mail ``kind``, rendered from templates/mail/KIND.txt.j2."""
    subject, _, body = render.text(f"mail/{kind}.txt.j2", in_full=in_full, **values).partition("\n")
    return Message(kind, subject.strip(), body.lstrip("\n"))
