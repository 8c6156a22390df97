"""An upgrade: rehearsed on twins that nobody sees, then switched to while what serves is frozen for a moment."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

from provisioner import records
from provisioner.adapters import images, mariadb
from provisioner.adapters.mirror import Package
from provisioner.agent import protocol, wire
from provisioner.agent.protocol import ComparePages, CopyCode, CopyGeneration, FillTwins, SwitchEvent, Twin
from provisioner.errors import Interrupted, Irrevocable, ProvisionError, Unavailable
from provisioner.mail import messages, outbox
from provisioner.model.container import Bind, OneShot
from provisioner.model.names import LABEL_OPERATION, GenerationNames
from provisioner.model.tables import GenerationState, Release
from provisioner.steps.beside import DATABASE, ask, directory, inside
from provisioner.steps.closing import rights
from provisioner.steps.content import probe_generation
from provisioner.steps.generation import (
    SERVED_BEFORE,
    at_sockets,
    create_database,
    discard_generation,
    forget_generation,
    prepare_files,
    record_flip,
    record_generation,
    thaw,
)
from provisioner.steps.site import SiteWork
from provisioner.steps.snapshot import start_container

PAGES = 20  # newest pages and posts that a rehearsal looks at
ALWAYS = (
    "/", "/feed/", "/?s=association", "/wp-login.php", "/wp-json/", "/wp-json/wp/v2/posts", "/wp-json/wp/v2/pages",
    "/wp-admin/", "/wp-admin/edit.php", "/wp-admin/plugins.php",
)  # fmt: skip
PATIENCE_SECONDS = 8  # how long a freeze waits for requests that are under way
LOOK_SECONDS = 0.03  # between two looks at the switch
_CRON = "/srv/wordpress/wp-cron.php"
_FATAL = ("PHP Fatal error", "PHP Parse error")


class HeldBack(ProvisionError):
    """The rehearsal found what visitors or authors would meet: the site was never touched."""

    def __init__(self, slug: str, differences: list[str]) -> None:
        more = f" (and {len(differences) - 3} more)" if len(differences) > 3 else ""
        super().__init__(f"{slug}: the rehearsal found: {'; '.join(differences[:3])}{more}", f"provision log {slug}")
        self.differences = differences


def live(work: SiteWork) -> int:
    """Return the number of the generation that is upgraded."""
    return int(work.notes["from"])


def twins(work: SiteWork) -> tuple[SiteWork, SiteWork]:
    """Return the operation at work on the twin that stays as it is, and on the one that is upgraded."""
    return work.beside(work.number + 1), work.beside(work.number + 2)


def packages(work: SiteWork) -> list[Package]:
    """Return the packages that the operation brings."""
    return [Package(**{**one, "translations": tuple(one["translations"])}) for one in work.notes["packages"]]


def reserve_upgrade(work: SiteWork) -> None:
    """Record the new generation and the two twins before anything of them exists, images pinned by digest."""
    site = work.site
    with work.installation.store.transaction() as session:
        old = records.generation(session, site.key, live(work))
        release = Release(host=site.host, content_key="", built_at=old.created_at, **work.notes["release"])
        before = Release(
            name=old.release, host=site.host, image=old.image, wordpress=old.wordpress, php=old.php,
            content_key="", built_at=old.created_at,
        )  # fmt: skip
        record_generation(session, site, work.number, release, old.media)
        for twin, runs in zip(twins(work), (before, release), strict=True):
            record_generation(session, site, twin.number, runs, old.media, GenerationState.TWIN)


def forget_upgrade(work: SiteWork) -> None:
    """Remove the records of the new generation and of the twins; what they owned is gone."""
    for one in (work, *twins(work)):
        forget_generation(one)


def build_twins(work: SiteWork) -> None:
    """Build two twins of the site beside it, one of them for the new versions: no cron, no events, no way out."""
    both = twins(work)
    for twin in both:
        prepare_files(twin)
        create_database(twin)
    _copy_code(work, [twin.number for twin in both])
    work.middle()
    ask(work, FillTwins(live(work), [twin.number for twin in both]), _of_live(work))


def discard_twins(work: SiteWork) -> None:
    """Remove the twins: containers, what they wrote above the media, databases, directories."""
    for twin in twins(work):
        discard_generation(twin)


def dismantle_twins(work: SiteWork) -> None:
    """Remove the twins and their records."""
    discard_twins(work)
    for twin in twins(work):
        forget_generation(twin)


def rehearse(work: SiteWork) -> None:
    """Upgrade one twin, ask both for the same pages as visitor and administrator, run their cron, compare.

    Raises:
        HeldBack: something differs that the new version does not explain.

    """
    before, after = twins(work)
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(_start_twin, before)
        try:
            answer = _bring_up_to_date(after, packages(work))
            told = _start_twin(after)
        except (Unavailable, Interrupted):
            raise  # the host's fault, or a person's wish, not that of the new version
        except ProvisionError as error:
            raise HeldBack(work.slug, [error.message.removeprefix(f"{work.slug}: ")]) from error
        known = starting.result()
    work.middle()
    found = ask(
        work,
        ComparePages(
            host=work.netloc,
            baseline=Twin(before.number, known.cookie),
            upgraded=Twin(after.number, told.cookie),
            paths=list(dict.fromkeys((*ALWAYS, *known.paths))),
        ),
        [Bind(work.names.socket_parent, "/sockets", read_only=True)],
    )
    differences = [
        *_death(after), *found.differences, *_new_complaints(before, after), *_cron_differences(before, after),
    ]  # fmt: skip
    if differences:
        raise HeldBack(work.slug, differences)
    work.note("held", answer.held)


def _start_twin(twin: SiteWork) -> protocol.Rehearsable:
    twin.host.ensure_service(twin.service)
    return twin.run_in_site(protocol.Rehearse(PAGES))


def _death(twin: SiteWork) -> list[str]:
    """Return what the twin's container said last, if it does not run any more."""
    if twin.host.runs(twin.service):
        return []
    return [f"its container ended: {twin.host.last_words(twin.names.container)}"]


def _new_complaints(before: SiteWork, after: SiteWork) -> list[str]:
    """Return the fatal errors in the upgraded twin's log that the other one's does not have."""

    def fatal(twin: SiteWork) -> dict[str, str]:
        lines = twin.host.complaints(twin.names.container).splitlines()
        said = [line[line.index(mark) :] for line in lines for mark in _FATAL if mark in line]
        return {line.partition(" in /")[0][:200]: line.partition('" while')[0][:300] for line in said}

    known = fatal(before)
    return [line for cause, line in fatal(after).items() if cause not in known]


def _cron_differences(before: SiteWork, after: SiteWork) -> list[str]:
    """Run all that is planned on both twins; return what fails on the upgraded one alone.

    By the command line: over HTTP WordPress says goodbye first, and what happens then is nobody's answer.
    """
    with ThreadPoolExecutor(2) as pool:
        old, new = pool.map(
            lambda twin: twin.run_beside("cron", ["php", "-d", "display_errors=stderr", _CRON], {}), (before, after)
        )
    if new.exit_code == 0 or old.exit_code != 0:
        return []
    lines = [line.strip() for line in new.errors.splitlines() if line.strip()] or ["no message"]
    return [f"wp-cron: exit code {new.exit_code}: {lines[0][:300]}"]


def _bring_up_to_date(work: SiteWork, chosen: list[Package]) -> protocol.Upgraded:
    """Update extensions and database of a generation that nobody sees yet."""
    files = {name: content for package in chosen for name, content in package.files.items()}
    return work.run_in_site(protocol.Upgrade([package.request for package in chosen]), files)


def prepare_upgrade(work: SiteWork) -> None:
    """Make the new generation's directories and secrets, and copy most of the code beforehand."""
    prepare_files(work)
    _copy_code(work, [work.number])


def warm_up(work: SiteWork) -> None:
    """Start the new generation's container and show it the site once: nothing is compiled under the freeze."""
    ask(work, FillTwins(live(work), [work.number]), _of_live(work))
    start_container(work)
    probe_generation(work)


def _copy_code(work: SiteWork, numbers: list[int]) -> None:
    ask(work, CopyCode(live(work), numbers), [directory(work, read_only=False)])


def _of_live(work: SiteWork) -> list[Bind]:
    """Return what the agent needs to read the generation that serves, and to write what is made of it."""
    with work.installation.store.transaction() as session:
        serving = records.generation(session, work.site.key, live(work))
    return inside(work, serving, read_only=False)


def switch(work: SiteWork) -> None:
    """Freeze what serves, copy it, bring the copy up to date, probe it, and have it serve; or thaw what served.

    A container on the host owns the freeze: it flips when it is told so in time, and else lets the old generation
    write again, whatever becomes of this process.
    """
    if _serving(work) != work.number:  # else an earlier run got so far: the pointer decides (C6)
        _end_earlier_switch(work)
        mariadb.empty(work.host, work.names.database)
        work.note(SERVED_BEFORE, live(work))
        try:
            _freeze_and_copy(work)
            _bring_up_to_date(work, packages(work))
            probe_generation(work)
            work.middle()
            _leave_word(work, "go")
            work.note("frozen_seconds", _await(work, "serves").seconds)
        except ProvisionError:
            _leave_word(work, "off")
            raise
    _end_earlier_switch(work)
    mariadb.execute(work.host, mariadb.unlending(*_databases(work)))
    record_flip(work, live(work), work.number)


def _freeze_and_copy(work: SiteWork) -> None:
    """Have the switch freeze what serves, and code and database copied by what waits for that beside the site."""
    mariadb.execute(work.host, mariadb.lending(*_databases(work)))
    with ThreadPoolExecutor(1) as pool:
        request = CopyGeneration(live(work), work.number, work.operation_id, work.notes["freeze_seconds"])
        sockets = Bind(work.names.socket_parent, "/sockets", read_only=True)
        copied = pool.submit(ask, work, request, [*_of_live(work), sockets])
        try:
            work.host.launch(_switch_container(work))
            _await(work, "still")
        except ProvisionError:
            _leave_word(work, "off")  # for both
            raise
        copied.result()


def _databases(work: SiteWork) -> tuple[str, str]:
    return _names(work, live(work)).database, work.names.database


def call_off_switch(work: SiteWork) -> None:
    """Thaw what serves, unless the new generation does already.

    Raises:
        Irrevocable: it does: going back would lose what was written since.

    """
    _end_earlier_switch(work)
    if _serving(work) == work.number:
        thaw(work, work.number)
        raise Irrevocable(f"generation {work.number} serves already")
    thaw(work, live(work))


def tell_administrators(work: SiteWork) -> None:
    """Queue a mail to the administrators, if the council wants it: their contents are the same."""
    settings = work.installation
    if not settings.inventory.policy.upgrade.tell:
        return
    site, url, council = work.site, work.url, settings.inventory.council
    wordpress = work.notes["release"]["wordpress"]
    with settings.store.transaction() as session:
        for person in records.administrators(session, site.key):
            message = messages.compose(
                "upgraded", site=site, council=council, contact=person, url=url, wordpress=wordpress
            )
            outbox.post_to_each(session, settings, f"upgrade {work.operation_id}", message, [person])


def _end_earlier_switch(work: SiteWork) -> None:
    """Have a switch that is there end its freeze, and remove it and the words that were left for it."""
    work.host.remove_labelled(**{LABEL_OPERATION: str(work.operation_id)})  # what copied for it
    name = _switch_name(work)
    state = work.host.inspect(name)
    if state is not None:
        _leave_word(work, "off")
        if state["State"]["Running"]:
            _await(work, "thawed", "serves")
    work.host.remove(name)
    words = f"/{work.names.socket_parent}/switch-{work.operation_id}."
    at_sockets(work, "clearing", ["sh", "-c", 'rm -f "$1"*', "clear", words])


def _await(work: SiteWork, *events: str) -> SwitchEvent:
    """Wait until the switch says one of ``events``; return what it says of it.

    Raises:
        ProvisionError: it thawed what served instead, says why; or it says nothing any more.

    """
    deadline = time.monotonic() + work.notes["freeze_seconds"] + 60
    while time.monotonic() < deadline:
        said = [line for line in work.host.said(_switch_name(work)).splitlines() if line.startswith("{")]
        for one in (wire.read(SwitchEvent, json.loads(line), "switch") for line in said):
            if one.event in events:
                found: SwitchEvent = one
                return found
            if one.event == "thawed":
                raise ProvisionError(f"{work.slug}: nothing was switched: {one.reason}")
        state = work.host.inspect(_switch_name(work))
        if state is None or state["State"]["Status"] == "exited":
            raise ProvisionError(f"{work.slug}: the switch ended: {work.host.last_words(_switch_name(work))}")
        time.sleep(LOOK_SECONDS)
    raise ProvisionError(f"{work.slug}: the switch said nothing of {' or '.join(events)}")


def _leave_word(work: SiteWork, word: str) -> None:
    path = f"/{work.names.socket_parent}/switch-{work.operation_id}.{word}"
    at_sockets(work, f"telling the switch: {word}", ["touch", path])


def _serving(work: SiteWork) -> int:
    """Return the number of the generation that `current` points to."""
    return int(at_sockets(work, "reading current", ["readlink", f"/{work.names.socket_parent}/current"]))


def _switch_name(work: SiteWork) -> str:
    return f"{work.installation.namespace}.switch.{work.slug}"


def _switch_container(work: SiteWork) -> OneShot:
    old, _ = _databases(work)
    request = protocol.Switch(
        source=live(work),
        target=work.number,
        user=old,
        seconds=work.notes["freeze_seconds"],
        patience=PATIENCE_SECONDS,
        allow={str(number): rights(work, number) for number in (live(work), work.number)},
        forbid=mariadb.reading(old),
        operation=work.operation_id,
    )
    return OneShot(
        name=_switch_name(work),
        image=images.ensure_service_image(work.host, work.installation.inventory, "agent"),
        labels=work.host.role_labels("switch"),  # not the operation's: nothing else than its own end may remove it
        command=[request.verb],
        binds=[DATABASE, Bind(work.names.socket_parent, "/sockets")],
        capabilities=("DAC_OVERRIDE", "SETUID", "SETGID"),  # the sockets' directories are the site's
        files={"request.json": wire.written(request)},
        restart="unless-stopped",
    )


def _names(work: SiteWork, number: int) -> GenerationNames:
    return GenerationNames(work.installation.namespace, work.slug, number)
