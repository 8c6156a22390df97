"""A small site that is created beside a neighbour, and what must hold when that ended, well or not."""

from tests.support.commands import Command
from tests.support.town import Town, accounts, association


def begin(town: Town, slug: str, **environment: str) -> Command:
    """Begin to create a small site."""
    return Command(town, "create", "--from", town.describe(association(slug)), **environment)


def stopped(town: Town, slug: str, point: str, **environment: str) -> Command:
    """Begin to create a small site and stop the process (SIGSTOP) at a failpoint."""
    command = begin(town, slug, PROVISION_FAILPOINT=f"{point}:stop", **environment)
    command.wait_until_stopped()
    return command


def check_converged(town: Town, slug: str, before: dict[str, set[str]], *, exists: bool) -> None:
    """Check FAULTS.md's invariants: nothing left over, nothing lost, the neighbour serves, the lock is free.

    Doctor is asked of the site alone; of the whole town when the module's last case is over (`crowded`, conftest.py).
    """
    assert town.get("neighbour").status == 200
    status = town.json("status")
    assert [site["slug"] for site in status["sites"] if site["slug"] == slug] == ([slug] if exists else [])
    assert not [item for item in status["attention"] if item["subject"] == slug and "signed" not in item["what"]]
    after = town.belongings()
    if exists:
        name = slug.replace("-", "_")
        assert after["containers"] - before["containers"] == {f"{town.namespace}.site.{slug}.1"}
        assert after["databases"] - before["databases"] == {f"{name}_1"}
        assert after["users"] - before["users"] == accounts(f"{name}_1")
        assert town.get(slug).status == 200
        users = town.sql(f"SELECT user_login FROM {name}_1.wp_users ORDER BY ID").split()
        assert users == ["presidence", "secretariat"]
        invitations = [mail for mail in town.json("mail", "list") if mail["site"] == slug]
        assert len(invitations) == len(users)
        assert {mail["state"] for mail in invitations} == {"sent"}
        assert town.is_well(slug)
    else:
        assert after == before


def check_nothing_left(town: Town) -> None:
    """Check that an undone init left no container and nothing in its data root."""
    label: dict[str, str | list[str] | bool] = {"label": f"provision.namespace={town.namespace}"}
    assert town.docker().containers.list(all=True, filters=label) == []
    assert not town.data_root.exists() or list(town.data_root.iterdir()) == []
