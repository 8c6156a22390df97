"""Every step of create and init on the real engine: killed, failed, stopped; resumed and undone.

The cases walk the steps that the operations themselves list, so that a new step is covered on the
day it is written. `make test` kills every step after it acted, one after the other in one operation; `make
acceptance` runs the product, an operation for each case.
"""

import itertools
from collections.abc import Callable

import pytest

from provisioner.operations import agreement, create, init, invite
from tests.support.creating import check_converged, check_nothing_left
from tests.support.kills import DIED, die_after_each, die_undoing_each, points, steps_of
from tests.support.town import Town, association

CREATE, INIT = steps_of(create.KIND), steps_of(init.KIND)


@pytest.fixture
def slug(crowded: Town, request: pytest.FixtureRequest) -> str:
    """A slug of its own for each case."""
    number = next(_numbers)
    return f"case-{number}"


_numbers = itertools.count(1)


def begin(town: Town, slug: str, failpoint: str, code: int) -> dict[str, set[str]]:
    """Begin a create that meets a failpoint; return what existed before."""
    before = town.belongings()
    town.run("create", "--from", town.describe(association(slug)), code=code, PROVISION_FAILPOINT=failpoint)
    return before


@pytest.mark.kills("create")
def test_create_killed_after_each_step_then_resumed(crowded: Town, slug: str) -> None:
    before = crowded.belongings()
    die_after_each(crowded, CREATE, slug, "create", "--from", crowded.describe(association(slug)))
    check_converged(crowded, slug, before, exists=True)


@pytest.mark.kills("create")
def test_create_killed_then_its_undo_at_each_step(crowded: Town, slug: str) -> None:
    before = crowded.belongings()
    die_undoing_each(crowded, CREATE, slug, "create", "--from", crowded.describe(association(slug)))
    check_converged(crowded, slug, before, exists=False)


def test_an_interrupted_create_is_not_begun_again(crowded: Town, slug: str) -> None:
    before = begin(crowded, slug, f"{CREATE[0]}:after:kill", DIED)
    refusal = crowded.run("create", "--from", crowded.describe(association(slug)), code=4)
    assert f"provision resume {slug}" in refusal.stderr
    crowded.run("undo", slug, "--yes")
    check_converged(crowded, slug, before, exists=False)


@pytest.mark.acceptance
@pytest.mark.parametrize("then", ["resume", "undo"])
@pytest.mark.parametrize("point", points(CREATE))
def test_create_killed_anywhere(crowded: Town, slug: str, point: str, then: str) -> None:
    before = begin(crowded, slug, f"{point}:kill", DIED)
    crowded.run(then, slug, *(["--yes"] if then == "undo" else []))
    check_converged(crowded, slug, before, exists=then == "resume")


@pytest.mark.acceptance
@pytest.mark.parametrize("point", points(CREATE))
def test_create_failing_anywhere_is_undone(crowded: Town, slug: str, point: str) -> None:
    before = begin(crowded, slug, f"{point}:fail", 1)
    check_converged(crowded, slug, before, exists=False)


def test_create_failing_between_database_and_user_is_undone(crowded: Town, slug: str) -> None:
    """B1."""
    before = begin(crowded, slug, "create.database:middle:fail", 1)
    check_converged(crowded, slug, before, exists=False)


@pytest.mark.parametrize("action", ["interrupt", "terminate"])
def test_create_stopped_is_undone(crowded: Town, slug: str, action: str) -> None:
    """A2."""
    before = begin(crowded, slug, f"create.container:before:{action}", 130)
    check_converged(crowded, slug, before, exists=False)


@pytest.mark.acceptance
@pytest.mark.parametrize("action", ["interrupt", "terminate"])
@pytest.mark.parametrize("step", CREATE[:-1])
def test_create_stopped_anywhere_is_undone(crowded: Town, slug: str, step: str, action: str) -> None:
    before = begin(crowded, slug, f"{step}:after:{action}", 130)
    check_converged(crowded, slug, before, exists=False)


@pytest.mark.acceptance
@pytest.mark.parametrize("step", CREATE)
def test_create_killed_then_undone_twice(crowded: Town, slug: str, step: str) -> None:
    """A recovery can be repeated."""
    before = begin(crowded, slug, f"{CREATE[-1]}:after:kill", DIED)
    crowded.run("undo", slug, "--yes", code=DIED, PROVISION_FAILPOINT=f"{step}:undo:kill")
    crowded.run("undo", slug, "--yes")
    check_converged(crowded, slug, before, exists=False)


@pytest.mark.kills("init")
def test_init_killed_after_each_step_then_resumed(empty_town: Town) -> None:
    die_after_each(empty_town, INIT, "host:local", "init")
    assert empty_town.is_well()
    assert empty_town.belongings()["containers"] == {
        f"{empty_town.namespace}.{name}" for name in ("database", "edge", "cron", "recorder")
    }


@pytest.mark.kills("init")
def test_init_killed_then_its_undo_at_each_step(empty_town: Town) -> None:
    die_undoing_each(empty_town, INIT, "host:local", "init")
    check_nothing_left(empty_town)


@pytest.mark.acceptance
@pytest.mark.parametrize("then", ["resume", "undo", "init"])
@pytest.mark.parametrize("point", points(INIT))
def test_init_killed_anywhere(empty_town: Town, point: str, then: str) -> None:
    empty_town.run("init", code=DIED, PROVISION_FAILPOINT=f"{point}:kill")
    if then == "undo":
        empty_town.run("undo", "host:local", "--yes")
        check_nothing_left(empty_town)
    else:
        empty_town.run(*(["init"] if then == "init" else ["resume", "host:local"]))
        assert empty_town.is_well()


@pytest.mark.parametrize("point", ["init.database:middle", "init.cron:after"])
def test_init_failing_is_undone(empty_town: Town, point: str) -> None:
    empty_town.run("init", code=1, PROVISION_FAILPOINT=f"{point}:fail")
    check_nothing_left(empty_town)


@pytest.mark.acceptance
@pytest.mark.parametrize("point", points(INIT))
def test_init_failing_anywhere_is_undone(empty_town: Town, point: str) -> None:
    empty_town.run("init", code=1, PROVISION_FAILPOINT=f"{point}:fail")
    check_nothing_left(empty_town)


def test_a_second_init_that_fails_takes_nothing_away(crowded: Town) -> None:
    """What an earlier init brought, and sites live on, is not undone by a later one."""
    before = crowded.belongings()
    crowded.docker().containers.get(f"{crowded.namespace}.cron").stop(timeout=3)
    crowded.run("init", code=1, PROVISION_FAILPOINT="init.cron:after:fail")
    assert crowded.belongings() == before
    assert crowded.get("neighbour").status == 200


@pytest.fixture(scope="module")
def resident(crowded: Town) -> str:
    """A site on which operations that leave a site as it is are tried."""
    crowded.create("resident")
    return "resident"


INVITE, SIGN = steps_of(invite.KIND), steps_of(agreement.SIGN)


@pytest.mark.kills("invite")
@pytest.mark.parametrize(("interrupted", "more"), [(die_after_each, 1), (die_undoing_each, 0)])
def test_invite_killed_at_each_step(crowded: Town, resident: str, interrupted: Callable[..., None], more: int) -> None:
    """One more mail after a resume, none after an undo; never two for one occasion."""
    before = len(invitations(crowded, resident))
    interrupted(crowded, INVITE, resident, "contact", "invite", resident, f"presidence.{resident}@example.org")
    assert len(invitations(crowded, resident)) == before + more
    assert crowded.is_well(resident)


@pytest.mark.kills("sign")
def test_sign_killed_at_each_step(crowded: Town, slug: str) -> None:
    crowded.create(slug)
    scan = crowded.folder / "scan.pdf"
    scan.write_bytes(b"%PDF-1.7\n")
    for interrupted, signed in ((die_undoing_each, False), (die_after_each, True)):
        interrupted(crowded, SIGN, slug, "agreement", "sign", slug, "--on", "2026-01-02", "--copy", str(scan))
        details = crowded.json("status", slug)
        assert details["state"] == ("online" if signed else "preparing")
        assert ("noindex" in crowded.get(slug).data.decode()) is not signed
        assert details["agreement"]["signed_on"] == ("2026-01-02" if signed else None)
        copies = [path.read_bytes() for path in (crowded.folder / "conventions" / slug).glob("*")]
        assert copies == ([scan.read_bytes()] if signed else [])


CLOSE, AGAIN = steps_of(agreement.CLOSE), steps_of(agreement.SIGN_AGAIN)


@pytest.mark.kills("close", "sign-again")
def test_closing_and_opening_again_killed_at_each_step(crowded: Town, slug: str) -> None:
    """Undone, the site is what it was; resumed, what was wanted; its contacts are told once."""
    crowded.create(slug)
    crowded.run("agreement", "sign", slug, "--on", "2026-01-02")
    ended = ("agreement", "end", slug, "--on", "2026-01-15", "--termination", "--reason", "dissoute")
    crowded.run(*ended, PROVISION_NOW="2026-01-10T12:00")
    close, again = ("agreement", "close", slug, "--yes"), ("agreement", "sign", slug, "--on", "2026-02-01")
    for interrupted, steps, command, state, told in (
        (die_undoing_each, CLOSE, close, "online", 0),
        (die_after_each, CLOSE, close, "closing", 2),
        (die_undoing_each, AGAIN, again, "closing", 2),
        (die_after_each, AGAIN, again, "online", 2),
    ):
        interrupted(crowded, steps, slug, *command)
        check_closed(crowded, slug, state == "closing", told)
    assert crowded.is_well(slug)


def check_closed(town: Town, slug: str, closed: bool, told: int) -> None:
    """Check that a site takes no write, or takes some, and that so many mails told its contacts that it closed."""
    assert town.json("status", slug)["state"] == ("closing" if closed else "online")
    mails = [mail for mail in town.json("mail", "list") if (mail["site"], mail["kind"]) == (slug, "closing")]
    assert len(mails) == told
    refused = town.request("POST", f"{slug}.assos.localhost", "/wp-comments-post.php").status == 403
    assert refused is closed


def invitations(town: Town, slug: str) -> list[str]:
    """Return the message ids of all invitations of a site."""
    return [mail["message_id"] for mail in town.json("mail", "list") if mail["site"] == slug]
