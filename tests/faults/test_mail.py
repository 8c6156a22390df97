"""Mails leave once, encrypted, to whom they are meant for; or they wait, or a person is told (FAULTS B6, G1 to G7)."""

import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from email import message_from_string, policy
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from provisioner import records
from provisioner.associations import AssociationSpec
from provisioner.installation import Installation
from provisioner.mail import outbox
from provisioner.mail.messages import Message, compose
from provisioner.model.tables import Contact, Event
from tests.support.commands import variant
from tests.support.creating import begin, check_converged
from tests.support.postfix import PASSWORD, USER, Postfix
from tests.support.state import make_state
from tests.support.town import SECONDS, Town, association

slow = pytest.mark.acceptance
FIRST, SECOND = "presidence.kayane@example.org", "secretariat.kayane@example.org"
PERMITTED = "permit_sasl_authenticated, reject"
GREYLISTED = "check_recipient_access static:{451 4.7.1 greylisted}"


@pytest.fixture(scope="module")
def one_server() -> Iterator[Postfix]:
    folder = Path(tempfile.mkdtemp(prefix="provision-postfix-"))
    server = Postfix(folder)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture
def postfix(one_server: Postfix) -> Postfix:
    """A mail server that is not up yet and has no mail."""
    one_server.stop()
    one_server.empty()
    return one_server


@dataclass
class Office:
    """A council's records and outbox, without a host: mails need none. Its mails go to a real server."""

    town: Town
    postfix: Postfix
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.settings()
        self.installation = Installation.described(self.town.inventory)
        make_state(self.installation.store)
        with self.installation.store.transaction() as session:
            spec = AssociationSpec.model_validate(association("kayane"))
            records.record_association(session, self.installation.inventory, spec)

    def settings(self, adviser: str | None = None, **server: Any) -> None:
        """Write the inventory anew, with another mail server."""
        self.town.settings = self.postfix.settings(**server)
        if adviser is not None:
            self.town.settings["mail"]["adviser"] = adviser
        self.town.write_inventory()

    def post(self, *matters: str, everybody: bool = False) -> None:
        """Queue a mail to the first contact, or to each, about each matter."""
        with self.installation.store.transaction() as session:
            site = records.site(session, "kayane")
            people = records.contacts(session, site.key)
            council = self.installation.inventory.council
            message = compose("renewed", council=council, site=site, **RENEWED)
            for matter in matters:
                outbox.post_to_each(session, self.installation, matter, message, people if everybody else people[:1])

    def send(self, *options: str, code: int = 0, **environment: str) -> str:
        """Run `provision mail retry` and return what it says."""
        return self.town.run("mail", "retry", *options, code=code, **{**self.environment, **environment}).stdout

    def mails(self) -> dict[str, dict[str, Any]]:
        """Return the mails by addressee."""
        return {mail["to"]: mail for mail in self.town.json("mail", "list")}

    def states(self) -> dict[str, str]:
        return {to: mail["state"] for to, mail in self.mails().items()}

    def received(self, count: int) -> list[dict[str, str]]:
        """Return the headers of the mails in the mailbox, once there are ``count``; no more must come."""
        found = [message_from_string(text, policy=policy.default) for text in self.postfix.delivered(count)]
        assert len(found) == count
        return [{name: str(value) for name, value in mail.items()} for mail in found]


RENEWED: dict[str, Any] = {
    "deadline": date(2028, 9, 30),
    "term_years": 3,
    "next_start": date(2029, 1, 1),
    "next_end": date(2031, 12, 31),
}


@pytest.fixture
def office(tmp_path: Path, postfix: Postfix) -> Office:
    return Office(Town(tmp_path), postfix)


# B6: a site is created whether or not its mails leave


def mails_of(town: Town, slug: str) -> list[dict[str, Any]]:
    return [mail for mail in town.json("mail", "list") if mail["site"] == slug]


@pytest.mark.parametrize(
    ("restrictions", "state", "word"),
    [
        pytest.param(None, "queued", "Connection refused", marks=slow),
        ("check_recipient_access static:{451 4.7.1 greylisted}", "queued", "451 4.7.1"),
        pytest.param("check_recipient_access static:{550 5.1.1 unknown here}", "dead", "550 5.1.1", marks=slow),
    ],
    ids=["absent", "451", "550"],
)
def test_a_mail_that_does_not_leave_waits(
    crowded: Town, postfix: Postfix, restrictions: str | None, state: str, word: str
) -> None:
    """The site is created all the same; the mail leaves once, when the server takes it."""
    slug = f"mail-{word.split()[0].lower()}"
    environment = variant(crowded, **postfix.settings())
    before = crowded.belongings()
    if restrictions is not None:
        postfix.start(restrictions)
    assert begin(crowded, slug, **environment).end().code == 0
    assert crowded.get(slug).status == 200
    mails = mails_of(crowded, slug)
    assert [mail["state"] for mail in mails] == [state, state]
    assert all(word in mail["outcome"] for mail in mails)
    attention = [item for item in crowded.json("status")["attention"] if item["command"] == "provision mail retry"]
    assert [item["subject"] for item in attention] == [slug, slug]
    assert crowded.run("mail", "retry", code=3, **environment).stdout.startswith("sent 0,")
    postfix.start()
    assert crowded.run("mail", "retry", **environment).stdout.startswith("sent 2, waiting 0, refused for good 0")
    assert crowded.run("mail", "retry", **environment).stdout.startswith("sent 0,")
    delivered = postfix.delivered(2)
    assert len(delivered) == 2
    for mail in mails:
        assert sum(f"Message-ID: {mail['message_id']}" in text for text in delivered) == 1
    check_converged(crowded, slug, before, exists=True)


@slow
def test_a_mail_that_is_refused_does_not_stop_the_next(crowded: Town, postfix: Postfix) -> None:
    """One address refused, the other taken: each mail has its own fate."""
    before = crowded.belongings()
    (postfix.root / "refused").write_text("presidence.half@example.org 550 5.1.1 unknown\n")
    postfix.start(f"check_recipient_access texthash:{postfix.root}/refused, permit_mynetworks, reject")
    environment = variant(crowded, **postfix.settings())
    assert begin(crowded, "half", **environment).end().code == 0
    states = {mail["to"]: mail["state"] for mail in mails_of(crowded, "half")}
    assert states == {"presidence.half@example.org": "dead", "secretariat.half@example.org": "sent"}
    postfix.start()
    crowded.run("mail", "retry", **environment)
    assert len(postfix.delivered(2)) == 2
    check_converged(crowded, "half", before, exists=True)


# How mails leave


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mails_leave_encrypted_and_authenticated(office: Office, security: str) -> None:
    """The server answers for its name, we for ours; a wrong password or a certificate of nobody's stops every mail."""
    postfix = office.postfix
    postfix.start(PERMITTED, tls="encrypt")
    (office.town.folder / "password").write_text("wrong\n")
    port = postfix.port if security == "starttls" else postfix.tls_port
    office.settings(security=security, port=port, user=USER, password_file="password")
    office.post("one", everybody=True)
    assert "certificate verify failed" in office.send(code=3)
    office.environment = {"SSL_CERT_FILE": str(postfix.authority)}
    assert "535 5.7.8" in office.send(code=3)
    assert set(office.states().values()) == {"queued"}, "a wrong password is no fault of a mail"
    (office.town.folder / "password").write_text(f"{PASSWORD}\n")
    assert office.send().startswith("sent 2, waiting 0, refused for good 0")
    for headers in office.received(2):
        assert "with ESMTPSA" in headers["Received"]
    assert all(mail["outcome"].startswith("250 2.0.0 Ok: queued as") for mail in office.mails().values())


def test_a_server_that_cannot_encrypt_gets_nothing(office: Office) -> None:
    office.postfix.start()
    office.settings(security="starttls")
    office.post("one")
    assert "STARTTLS" in office.send(code=3)
    assert office.states() == {FIRST: "queued"}
    office.received(0)


@slow
def test_a_server_that_says_nothing_is_waited_for_once(office: Office) -> None:
    """30 s for the whole outbox, not for each mail."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        office.settings(port=silent.getsockname()[1])
        office.post("one", "two", "three", everybody=True)
        began = time.monotonic()
        assert office.send(code=3).startswith("sent 0, waiting 6, refused for good 0 (mail server localhost")
        assert time.monotonic() - began < 60


def test_an_automatic_mail_says_so_and_answers_go_to_the_council(office: Office) -> None:
    office.postfix.start()
    office.post("one")
    office.send()
    (headers,) = office.received(1)
    assert headers["Auto-Submitted"] == "auto-generated"
    assert headers["X-Auto-Response-Suppress"] == "OOF, AutoReply"
    assert headers["From"] == headers["Reply-To"] == "Commune de test <associations@example.org>"
    assert (headers["To"], headers["Subject"]) == (FIRST, "Votre convention est reconduite")
    assert headers["Content-Type"].startswith("multipart/alternative")
    assert headers["Return-Path"] == "<associations@example.org>"


def test_the_adviser_gets_one_copy_of_what_concerns_an_agreement(office: Office) -> None:
    """One per matter, in the open; an adviser whose address is refused stops nothing."""
    office.settings(adviser="adviser@example.org")
    office.postfix.start(office.postfix.refusing())
    office.post("one", everybody=True)
    office.send()
    assert sorted(headers["Delivered-To"] for headers in office.received(3)) == ["adviser@example.org", FIRST, SECOND]
    assert sorted(headers.get("Cc", "") for headers in office.received(3)) == ["", *["adviser@example.org"] * 2]
    office.postfix.start(office.postfix.refusing("adviser@example.org 550 5.1.1 unknown"))
    office.post("two")
    assert office.send().startswith("sent 1,")
    outcomes = [mail["outcome"] for mail in office.town.json("mail", "list")]
    assert "; copy: 250 2.0.0 Ok: queued as" in outcomes[0]
    assert outcomes[-1].startswith("250") and "; no copy: 550 5.1.1" in outcomes[-1]  # noqa: PT018


# G1: killed after the server said 250


@pytest.mark.parametrize("place", ["before", "after"])
def test_killed_while_sending(office: Office, place: str) -> None:
    """One mail is on its way when the process dies: it is there twice at most, under one Message-ID; no other is."""
    office.postfix.start()
    office.post("one", everybody=True)
    office.send(code=-signal.SIGKILL, PROVISION_FAILPOINT=f"mail.send:{place}:kill")
    taken = 1 if place == "after" else 0
    assert len(office.postfix.delivered(taken)) == taken
    assert set(office.states().values()) == {"queued"}
    assert office.send().startswith("sent 2,")
    assert office.send().startswith("sent 0,")
    received = office.received(2 + taken)
    assert {headers["Message-ID"] for headers in received} == {mail["message_id"] for mail in office.mails().values()}
    assert [headers["To"] for headers in received].count(SECOND) == 1


def test_two_processes_send_each_mail_once(office: Office) -> None:
    office.postfix.start()
    office.post(*(f"matter {number}" for number in range(8)))
    both = [office.town.start("mail", "retry") for _ in range(2)]
    for process in both:
        process.communicate(timeout=SECONDS)
    office.send()
    received = office.received(8)
    assert len({headers["Message-ID"] for headers in received}) == 8


# G2: greylisting


def test_a_greylisted_mail_is_tried_for_five_days(office: Office) -> None:
    office.postfix.start(GREYLISTED)
    office.post("one")
    day = datetime(2028, 10, 1, 12, tzinfo=UTC)
    for passed, state in ((0, "queued"), (1, "queued"), (4.9, "queued"), (5.1, "dead")):
        now = (day + timedelta(days=passed)).isoformat()
        assert "451 4.7.1" in office.send("--due", code=3, PROVISION_NOW=now)
        assert office.states()[FIRST] == state
    assert office.states() == {FIRST: "dead", SECOND: "queued"}, "somebody else of the association is asked"
    office.postfix.start()
    assert office.send(PROVISION_NOW=(day + timedelta(days=6)).isoformat()).startswith("sent 2,")


def test_a_mail_that_waits_is_not_tried_before_its_time(office: Office) -> None:
    office.postfix.start(GREYLISTED)
    office.post("one")
    office.send("--due", code=3)
    office.postfix.start()
    assert office.send("--due").startswith("sent 0,")
    assert office.send("--due", PROVISION_NOW=(datetime.now(UTC) + timedelta(minutes=6)).isoformat()).startswith(
        "sent 1,"
    )


def test_a_server_that_is_away_makes_no_mail_die(office: Office) -> None:
    office.post("one")
    for passed in (0, 3, 8):
        now = (datetime(2028, 10, 1, tzinfo=UTC) + timedelta(days=passed)).isoformat()
        assert "Connection refused" in office.send("--due", code=3, PROVISION_NOW=now)
    office.postfix.start()
    assert office.send(PROVISION_NOW="2028-10-10").startswith("sent 1,")


# G3: refused for good


def test_an_address_that_is_refused_for_good(office: Office) -> None:
    """The next contact gets the mail, the operator is told, and trying again troubles nobody else."""
    office.postfix.start(office.postfix.refusing(f"{FIRST} 550 5.1.1 unknown here"))
    office.post("one")
    assert office.send(code=3).startswith("sent 1, waiting 0, refused for good 1 (550 5.1.1")
    assert office.states() == {FIRST: "dead", SECOND: "sent"}
    assert office.mails()[FIRST]["outcome"].endswith("; the next contact gets it")
    (told,) = [item for item in office.town.json("status")["attention"] if item["subject"] == "kayane"
               and item["command"] == "provision mail retry"]  # fmt: skip
    assert "550 5.1.1" in told["what"]
    assert office.send(code=3).startswith("sent 0, waiting 0, refused for good 1")
    assert [headers["To"] for headers in office.received(1)] == [SECOND]
    with office.installation.store.transaction() as session:
        events = session.exec(select(Event).where(Event.subject == "kayane")).all()
    assert [event.kind for event in events] == ["mail dead", "mail sent", "mail dead"]
    assert "@" not in str([event.data for event in events]), "events name people by id"


def test_every_address_refused(office: Office) -> None:
    office.postfix.start("check_recipient_access static:{550 5.1.1 nobody}")
    office.post("one")
    assert office.send(code=3).startswith("sent 0, waiting 0, refused for good 2")
    assert office.states() == {FIRST: "dead", SECOND: "dead"}


def test_what_is_personal_goes_to_nobody_else(office: Office) -> None:
    office.postfix.start(office.postfix.refusing(f"{FIRST} 550 5.1.1 unknown here"))
    with office.installation.store.transaction() as session:
        person = records.contacts(session, records.site(session, "kayane").key)[0]
        outbox.post(session, office.installation, "a link", Message("invitation", "Lien", "https://a.test\n"), person)
    office.send(code=3)
    assert office.states() == {FIRST: "dead"}


# G7: line breaks


def test_a_line_break_in_an_address_reaches_no_server(office: Office) -> None:
    """Refused where it is typed; and, should the records hold one, when it is to leave: no traceback, no mail."""
    office.postfix.start()
    for address in ("a@example.org\r\nBcc: b@example.org", "a@example.org\nDATA", "a@example.org, b@example.org", ""):
        refused = office.town.run("mail", "test", address, code=2)
        assert len(refused.stderr.splitlines()) == 1
    office.post("one")
    with office.installation.store.transaction() as session:
        session.exec(
            select(Contact).where(Contact.mail == FIRST)
        ).one().mail = "a@example.org\r\nRCPT TO:<b@example.org>"
    assert office.send(code=3).startswith("sent 1, waiting 0, refused for good 1 (not sent: ")
    assert [headers["To"] for headers in office.received(1)] == [SECOND]


# provision mail test


def test_a_test_mail_tells_what_the_server_answers(office: Office) -> None:
    refused = office.town.run("mail", "test", "it@example.org", code=5)
    assert "Connection refused" in refused.stderr
    office.postfix.start(office.postfix.refusing("it@example.org 550 5.1.1 unknown here"))
    refused = office.town.run("mail", "test", "it@example.org", code=1)
    assert "550 5.1.1" in refused.stderr
    office.postfix.start()
    said = office.town.run("mail", "test", "it@example.org").stdout
    assert said.startswith("it@example.org: 250 2.0.0 Ok: queued as")
    assert office.town.json("mail", "test", "it@example.org")["outcome"].startswith("250 2.0.0")
    assert office.received(2)[0]["Subject"] == "Message d’essai"
    assert office.town.json("mail", "list") == []
