"""`provision create` and what surrounds it, as an operator meets them."""

import json
import os
import pty
import re
import socket
import subprocess
import sys
import venv
from datetime import date
from pathlib import Path

import pytest

from tests.support.town import CHECKOUT, PROVISION, Town, association


@pytest.fixture(scope="module")
def kayane(town: Town) -> str:
    """A site created by options alone, by the program as it is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Town, "forks", False)
        town.run(
            "create", "kayane", "--name", "Kayane", "--profile", "education", "--agreement-start", "2025-03-01",
            "--administrator", "Présidence de Kayane <presidence.kayane@example.org>",
            "--administrator", "Secrétariat <secretariat.kayane@example.org>",
            "--contact", "Trésorerie <tresorerie.kayane@example.org>",
            "--siret", "732 829 320 00074", "--rna", "w751234567", "--commune", "Kayane-sur-Mer",
        )  # fmt: skip
        town.run("doctor")
    return "kayane"


def test_status_says_what_design_promises(town: Town, kayane: str) -> None:
    site = town.json("status", kayane)
    assert site["slug"] == "kayane"
    assert site["state"] == "preparing"
    assert site["url"] == f"https://kayane.assos.localhost:{town.port}"
    assert site["generation"] == 1
    assert site["release"] == "6.8"
    assert re.fullmatch(r"6\.8\.\d+", site["wordpress"])
    assert re.match(r"8\.4\.", site["php"])
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", site["image"])
    assert [person["login"] for person in site["administrators"]] == ["presidence-de-kayane", "secretariat"]
    assert site["last_backup"] is None
    assert site["agreement"]["state"] == "draft"
    assert [term["end"] for term in site["agreement"]["terms"]] == ["2028-02-29", "2031-02-28", "2034-02-28"]
    assert [term["notice_by"] for term in site["agreement"]["terms"]] == ["2027-11-30", "2030-11-30", None]


def test_content_hash_changes_with_content_alone(town: Town, kayane: str) -> None:
    before = town.json("status", kayane)["content_sha256"]
    assert re.fullmatch(r"[0-9a-f]{64}", before)
    assert town.get(kayane).status == 200
    assert town.json("status", kayane)["content_sha256"] == before
    town.sql("UPDATE kayane_1.wp_posts SET post_content = CONCAT(post_content, '.') WHERE post_name = 'adherer'")
    assert town.json("status", kayane)["content_sha256"] != before


def test_there_is_no_account_but_the_administrators(town: Town, kayane: str) -> None:
    users = town.sql("SELECT user_login, user_email FROM kayane_1.wp_users ORDER BY ID").splitlines()
    assert users == [
        "presidence-de-kayane\tpresidence.kayane@example.org",
        "secretariat\tsecretariat.kayane@example.org",
    ]


def test_pages_are_french_and_complete(town: Town, kayane: str) -> None:
    front = town.get(kayane).data.decode()
    assert 'lang="fr-FR"' in front
    for entry in ("Accueil", "Nos activités", "Agenda", "Actualités", "Nous rejoindre", "Contact", "Mentions légales"):
        assert entry in front
    notice = town.get(kayane, "/mentions-legales/")
    assert notice.status == 200
    for text in ("Kayane", "W751234567", "Commune de test", "1 place de la Mairie"):
        assert text in notice.data.decode()


def test_the_same_again_changes_nothing(town: Town, kayane: str) -> None:
    source = town.describe(association("same"))
    town.run("create", "--from", source)
    events = len(town.json("log", "-n", "10000"))
    done = town.run("create", "--from", source)
    assert done.stdout.startswith("same: unchanged")
    assert len(town.json("log", "-n", "10000")) == events


def test_a_second_init_changes_nothing(town: Town) -> None:
    events = len(town.json("log", "-n", "10000"))
    before = town.belongings()
    town.run("init")
    assert len(town.json("log", "-n", "10000")) == events
    assert town.belongings() == before


def test_a_dry_run_lists_the_steps_and_changes_nothing(town: Town) -> None:
    before = town.belongings()
    events = len(town.json("log", "-n", "10000"))
    done = town.run("create", "--from", town.describe(association("dry")), "--dry-run", "--json")
    plan = json.loads(done.stdout)
    assert plan["steps"][0]["name"] == "reserve"
    assert all(step["does"] for step in plan["steps"])
    assert plan["sites"] == [{"slug": "dry", "change": "create"}]
    assert town.belongings() == before
    assert len(town.json("log", "-n", "10000")) == events


def test_one_contact_alone_warns(town: Town) -> None:
    alone = association("alone")
    alone["contacts"] = alone["contacts"][:1]
    done = town.run("create", "--from", town.describe(alone), "--dry-run")
    assert "one contact only" in done.stderr
    assert "one administrator alone" in done.stderr


def test_a_fault_in_one_of_many_stops_no_other(town: Town) -> None:
    (town.data_root / "sites" / "many-2").touch()  # where its directory must be
    specs = [association(f"many-{number}") for number in (1, 2, 3)]
    done = town.run("create", "--from", town.describe(*specs), "--json", code=1)
    results = {result["slug"]: result["outcome"] for result in json.loads(done.stdout)}
    assert results["many-1"] == results["many-3"] == "created"
    assert "many-2: create failed at files" in results["many-2"]
    assert town.get("many-3").status == 200
    assert town.get("many-2").status == 404


def test_a_theme_that_the_release_has_not_is_refused_first(town: Town) -> None:
    before = town.belongings()
    done = town.run("create", "--from", town.describe(association("plain", theme="no-such-theme")), code=2)
    assert "has no theme 'no-such-theme'; it has twentytwenty" in done.stderr
    assert town.belongings() == before


def test_a_site_is_noindex_until_its_agreement_is_signed(town: Town, kayane: str) -> None:
    assert "noindex" in town.get(kayane).data.decode()
    future = town.run("agreement", "sign", kayane, "--on", "2099-01-01", code=2)
    assert "lies in the future" in future.stderr
    town.run("agreement", "sign", kayane, "--on", "2026-01-15")
    assert "noindex" not in town.get(kayane).data.decode()
    site = town.json("status", kayane)
    assert site["state"] == "online"
    assert site["agreement"]["signed_on"] == "2026-01-15"
    again = town.run("agreement", "sign", kayane, "--on", "2026-01-15", code=2)
    assert "signed on 2026-01-15 already" in again.stderr


@pytest.mark.parametrize(
    ("today", "state"), [("2028-03-01", "active"), ("2031-03-01", "final_term"), ("2034-03-01T00:30", "expired")]
)
def test_the_agreements_state_follows_the_calendar(town: Town, kayane: str, today: str, state: str) -> None:
    town.run("agreement", "sign", kayane, "--on", "2026-01-15", code=None)
    done = town.run("status", "--json", PROVISION_NOW=today)
    agreements = {site["slug"]: site["agreement"] for site in json.loads(done.stdout)["sites"]}
    assert agreements[kayane] == state


def test_levers_are_refused_outside_tests(town: Town, tmp_path: Path) -> None:
    other = Town(tmp_path, namespace="production")
    done = other.run("status", code=2, PROVISION_NOW="2029-01-01")
    assert done.stderr.startswith("provision: PROVISION_NOW is set, but the namespace is 'production'")


def test_check_is_one_line_for_the_monitoring(town: Town, kayane: str) -> None:
    done = town.run("status", "--check")
    assert re.fullmatch(r"PROVISION OK - \d+ sites, 0 critical, 0 warnings\n", done.stdout)


def test_doctor_finds_and_mends_both_ways(town: Town, kayane: str) -> None:
    town.create("mended")
    failing = town.describe(association("stray"))
    town.run("create", "--from", failing, code=1, PROVISION_FAILPOINT="create.verify:before:fail")
    client = town.docker()
    client.containers.get(f"{town.namespace}.site.mended.1").remove(force=True)
    image = client.containers.get(f"{town.namespace}.edge").image
    assert image is not None
    client.containers.run(
        image,
        ["sleep", "600"],
        name=f"{town.namespace}.site.stray.1",
        labels={"provision.namespace": town.namespace, "provision.site": "stray", "provision.generation": "1"},
        network_mode="none",
        detach=True,
    )
    town.sql("CREATE DATABASE stray_1; CREATE USER stray_1@localhost")
    done = town.run("doctor", code=3)
    for problem in (
        "container.*site.mended.1 does not run",
        "site.stray.1 belongs to no record",
        "database stray_1",
        "user stray_1",
    ):
        assert re.search(problem, done.stdout), problem
    critical = town.run("status", "--check", code=2)
    assert "site.mended.1 does not run" in critical.stdout
    untouched = town.run("doctor", "--fix", "--dry-run", code=3)
    assert "stray_1" in untouched.stdout
    assert town.run("doctor", "--fix").stdout.startswith("all is well")
    assert town.get("mended").status == 200
    assert "stray_1" not in town.sql("SHOW DATABASES")


def test_a_lost_state_costs_no_site(empty_town: Town) -> None:
    """What the journal has never heard of may be all that is left of a site: doctor shows it and leaves it."""
    empty_town.init()
    empty_town.create("orphaned")
    before = empty_town.belongings()
    (empty_town.state / "provision.db").unlink()
    empty_town.init()
    done = empty_town.run("doctor", "--fix", code=3)
    assert "was the state lost?" in done.stdout
    again = empty_town.run("create", "--from", empty_town.describe(association("orphaned")), code=2)
    assert "runs orphaned, which no record knows" in again.stderr
    assert empty_town.belongings() == before
    assert empty_town.get("orphaned").status == 200


def test_an_init_that_fails_empties_no_data_root_that_it_found(empty_town: Town) -> None:
    empty_town.data_root.mkdir()
    kept = empty_town.data_root / "sites" / "kayane"
    kept.mkdir(parents=True)
    empty_town.run("init", code=1, PROVISION_FAILPOINT="init.cron:after:fail")
    assert kept.exists()


def test_a_lost_secret_is_made_again(empty_town: Town) -> None:
    empty_town.init()
    (empty_town.state / "secret.key").unlink()
    empty_town.init()
    empty_town.create("kayane")


def test_a_taken_port_is_told(empty_town: Town) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", empty_town.port))
        listener.listen()
        done = empty_town.run("init", code=1)
    assert "Address already in use" in done.stderr
    empty_town.init()


def test_an_expired_invitation_is_replaced(town: Town, kayane: str) -> None:
    refused = town.run("contact", "invite", kayane, "nobody@example.org", code=2)
    assert "no administrator has the address" in refused.stderr
    town.run("contact", "invite", kayane, "presidence.kayane@example.org")
    mails = [mail for mail in town.json("mail", "list") if mail["to"] == "presidence.kayane@example.org"]
    assert [mail["state"] for mail in mails] == ["sent", "sent"]
    old, new = (link_in(Path(mail["outcome"].removeprefix("written to "))) for mail in mails)
    assert answer_to_link(town, kayane, old) == (302, "lostpassword&error=invalidkey")
    assert answer_to_link(town, kayane, new) == (200, "")


def link_in(mail: Path) -> str:
    """Return path and query of the link that an invitation's file shows as it is."""
    found = re.search(r"https://[^/\s]+(/wp-login\.php\?action=rp\S+)", mail.read_text())
    assert found is not None
    return found.group(1)


def answer_to_link(town: Town, slug: str, link: str) -> tuple[int, str]:
    """Return status and what WordPress redirects to, after the redirect that hides the key in a cookie."""
    first = town.get(slug, link)
    assert first.status == 302
    cookies = "; ".join(cookie.partition(";")[0] for cookie in first.headers.getlist("Set-Cookie"))
    answer = town.get(slug, "/wp-login.php?action=rp", Cookie=cookies)
    return answer.status, answer.headers.get("Location", "").rpartition("action=")[2]


def test_questions_are_asked_at_a_terminal(town: Town) -> None:
    answers = ["asked", "Demandée", "sport", "Présidence <p@example.org>", "n"]
    command = [PROVISION, "create"]
    screen = ""
    child, terminal = pty.fork()
    if child == 0:
        os.execve(command[0], command, town.environment())  # noqa: S606
    try:
        for question, answer in zip(
            ("slug", "Name of", "Profile", "Administrator, as", "second"), answers, strict=True
        ):
            while question not in screen:
                screen += os.read(terminal, 4096).decode(errors="replace")
            screen = ""
            os.write(terminal, f"{answer}\n".encode())
        while True:
            screen += os.read(terminal, 4096).decode(errors="replace")
    except OSError:
        pass  # the terminal closes when the program ends
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, screen
    assert "asked: created" in screen
    assert "Demandée" in town.get("asked").data.decode()


def test_today_is_the_default_start(town: Town) -> None:
    spec = association("today")
    del spec["agreement_start"]
    town.run("create", "--from", town.describe(spec))
    start = date.fromisoformat(town.json("status", "today")["agreement"]["start"])
    assert abs((start - date.today()).days) <= 1  # noqa: DTZ011


def test_the_wheel_carries_its_templates(tmp_path: Path) -> None:
    """Installed elsewhere, away from the checkout, it still finds templates and migrations."""
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(CHECKOUT),
    ]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next(tmp_path.glob("provision-*.whl"))
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True, capture_output=True)
    site_packages = next((Path(sys.executable).parent.parent / "lib").glob("python3*/site-packages"))
    script = (
        "import provisioner.kit as kit, provisioner.render as render, provisioner.store as store, sys;"
        f"assert str(render.resources('templates')).startswith({str(tmp_path)!r});"
        "assert kit.tagline('culture');"
        f"s = store.Store('sqlite:///{tmp_path}/state.db'); s.upgrade(); s.check();"
        "assert (render.resources('templates') / 'images' / 'site' / 'Dockerfile').exists()"
    )
    # The wheel comes first on the path; only its dependencies are taken from the tests' own environment.
    dependencies = {
        **os.environ,
        "PYTHONPATH": f"{next((tmp_path / 'venv').glob('lib/python3*/site-packages'))}:{site_packages}",
    }
    done = subprocess.run(
        [python, "-c", script], env=dependencies, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "venv" / "bin" / "provision").exists()
