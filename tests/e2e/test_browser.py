"""What visitors and administrators see (acceptance 1): a real browser, certificate checked, nothing from elsewhere."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from email import message_from_bytes, policy
from urllib.parse import urlsplit

import pytest
import yaml
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, expect, sync_playwright

from tests.support.town import CHECKOUT, Town

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
SECONDS = 30
PASSWORD = "Trois chevaux; une agrafe, juste."

MENU = [
    "Accueil", "L'association", "Qui sommes-nous", "Le bureau", "Nos activités", "Agenda", "Actualités",
    "Nous rejoindre", "Adhérer", "Devenir bénévole", "Contact",
]  # fmt: skip
LEGAL = ["Mentions légales", "Données personnelles", "Accessibilité"]
ENGLISH = re.compile(
    r"\b(the|and|with|your|this|from|leave a|reply|read more|continue reading|next|previous|older|newer|search|skip to|"
    r"powered|log ?in|sign in|password|username|remember me|lost|go to|back to|posts|comments|written by|page not|"
    r"welcome|menu close|open menu|close menu|menu open|sorry|nothing found)\b",
    re.IGNORECASE,
)
READABLE = """() => [document.title, document.body.innerText, ...[...document.querySelectorAll('*')].flatMap(
    it => ['aria-label', 'title', 'alt', 'placeholder', 'value'].map(name => it.getAttribute(name)).filter(Boolean))
].join('\\n')"""


@dataclass
class Visit:
    """One person at one browser, and what their browser asked for and complained about."""

    site: str  # its host name and port
    context: BrowserContext
    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.context.on("console", self._hear)
        self.context.on("weberror", lambda error: self.complaints.append(str(error.error)))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.location.get('url')}: {message.text}")

    def go(self, path: str, status: int = 200) -> None:
        """Open a page of the site."""
        answer = self.page.goto(path if path.startswith("https:") else f"https://{self.site}{path}")
        assert answer is not None
        assert answer.status == status, path

    def check(self) -> None:
        """Check that nothing came from elsewhere, and that the browser found nothing wrong."""
        assert self.requests
        hosts = {urlsplit(url).netloc for url in self.requests if urlsplit(url).scheme not in ("data", "blob")}
        assert hosts == {self.site}
        assert self.complaints == []

    def text(self) -> str:
        """Return what can be read or heard on the page, with straight apostrophes and ordinary spaces."""
        return plain(str(self.page.evaluate(READABLE)))


def plain(text: str) -> str:
    return text.replace("’", "'").replace("\u00a0", " ").replace("\u202f", " ")


@dataclass(frozen=True)
class Association:
    """An association as its file describes it, and its site."""

    town: Town
    browser: Browser
    slug: str
    name: str
    tagline: str

    def visit(self) -> Visit:
        """Return somebody who has never been here."""
        context = self.browser.new_context(locale="fr-FR")
        context.set_default_timeout(SECONDS * 1000)
        return Visit(f"{self.slug}.assos.localhost:{self.town.port}", context, context.new_page())

    def link(self, to: str) -> str:
        """Return the link of an invitation, from the mail as it was sent."""
        (path,) = (self.town.state / "mail").glob(f"*-invitation-{to}.{self.slug}@example.org.eml")
        text = message_from_bytes(path.read_bytes(), policy=policy.default).get_body(("plain",))
        assert text is not None
        links = re.findall(r"https://\S+action=rp\S+", text.get_content())
        assert len(links) == 1
        return str(links[0])


@pytest.fixture(scope="module")
def browser(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium, in a home of its own whose one more authority is the town's."""
    home = tmp_path_factory.mktemp("home")
    store = home / ".pki/nssdb"
    store.mkdir(parents=True)
    for arguments in (["-N", "--empty-password"], ["-A", "-n", "town", "-t", "C,,", "-i", str(town.root)]):
        subprocess.run(["certutil", *arguments, "-d", f"sql:{store}"], check=True)
    expect.set_options(timeout=SECONDS * 1000)
    with sync_playwright() as playwright:
        environment: dict[str, str | float | bool] = {**os.environ, "HOME": str(home)}
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, env=environment)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module", params=["kayane", "regart"])
def association(town: Town, browser: Browser, request: pytest.FixtureRequest) -> Association:
    """Kayane (education), then Reg'art (culture), made from their files in conventions/."""
    path = CHECKOUT / "conventions/associations" / f"{request.param}.yaml"
    town.run("create", "--from", str(path))
    described = yaml.safe_load(path.read_text())
    profile = yaml.safe_load((CHECKOUT / f"templates/kit/profiles/{described['profile']}.yaml").read_text())
    return Association(town, browser, request.param, described["name"], profile["tagline"])


@pytest.fixture
def visit(association: Association) -> Iterator[Visit]:
    """A visitor; whatever a test does, nothing comes from elsewhere and nothing goes wrong in the browser."""
    someone = association.visit()
    yield someone
    someone.context.close()
    someone.check()


def test_the_browser_checks_certificates(association: Association) -> None:
    visit = association.visit()
    with pytest.raises(Error, match="ERR_CERT_COMMON_NAME_INVALID"):
        visit.page.goto(f"https://a.{visit.site}/")
    visit.context.close()


def test_the_front_page_is_the_associations_own_and_french(association: Association, visit: Visit) -> None:
    visit.go("/")
    assert plain(visit.page.title()) == plain(f"{association.name} – {association.tagline}")
    assert visit.page.locator("html").get_attribute("lang") == "fr-FR"
    assert [plain(text) for text in visit.page.locator("header nav a").all_text_contents()] == MENU
    assert visit.page.locator("footer nav a").all_text_contents() == LEGAL
    assert "Nos dernières actualités" in visit.text()


def test_every_page_works_and_reads_french(association: Association, visit: Visit) -> None:
    visit.go("/")
    links = visit.page.locator("header nav a, footer a, main a").evaluate_all("all => all.map(it => it.href)")
    addresses = sorted({link.partition("#")[0] for link in links if link.startswith("http")})
    assert len(addresses) >= len(MENU) + len(LEGAL)
    for address in [*addresses, f"https://{visit.site}/?s=agenda", f"https://{visit.site}/wp-login.php"]:
        visit.go(address)
        assert visit.page.locator("main h1, #login h1").count() >= 1, address
        assert visit.page.locator("html").get_attribute("lang") == "fr-FR", address
        assert ENGLISH.findall(visit.text()) == [], address


def test_the_legal_notice_names_association_and_council(association: Association, visit: Visit) -> None:
    visit.go("/")
    visit.page.locator("footer").get_by_role("link", name="Mentions légales").click()
    expect(visit.page.get_by_role("heading", level=1)).to_have_text("Mentions légales")
    council = yaml.safe_load(association.town.inventory.read_text())["council"]
    text = visit.text()
    for words in (
        f"Nom : {association.name}",
        f"contact.{association.slug}@example.org",
        *(council[key] for key in ("name", "address", "telephone")),
        "[À compléter : adresse du siège]",
    ):
        assert plain(words) in text


def test_a_page_that_does_not_exist(association: Association, visit: Visit) -> None:
    visit.go("/nulle-part/", status=404)
    assert ENGLISH.findall(visit.text()) == []
    visit.complaints.clear()  # the browser says that it was a 404


def test_search_engines_wait_for_the_signature(association: Association, visit: Visit) -> None:
    def robots() -> str:
        visit.go("/")
        found = visit.page.locator("meta[name=robots]")
        return (found.get_attribute("content") or "") if found.count() else ""

    assert "noindex" in robots()
    association.town.run("agreement", "sign", association.slug, "--on", date.today().isoformat())  # noqa: DTZ011
    assert "noindex" not in robots()
    assert "max-image-preview" in robots()


def test_an_administrator_follows_the_link_and_publishes(association: Association, visit: Visit) -> None:
    page, link = visit.page, association.link("presidence")
    visit.go(link)
    new_password = page.locator("#pass1")
    expect(new_password).not_to_have_value("")  # WordPress proposes one, once its scripts are there
    assert ENGLISH.findall(visit.text()) == []
    new_password.fill(PASSWORD)
    page.get_by_role("button", name="Enregistrer").click()
    page.locator("#login").get_by_text("Votre mot de passe a été réinitialisé.").get_by_role("link").click()

    # WordPress puts the cursor there a moment after the page has come.
    expect(page.get_by_label("Identifiant ou adresse e-mail")).to_be_focused()
    page.get_by_label("Identifiant ou adresse e-mail").fill(f"presidence.{association.slug}@example.org")
    page.get_by_label("Mot de passe", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Se connecter").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Tableau de bord")

    title = f"Portes ouvertes de {association.name}"
    visit.go("/wp-admin/post-new.php")
    canvas = page.frame_locator("iframe[name=editor-canvas]")
    canvas.locator(".editor-post-title__input").fill(title)
    canvas.locator(".editor-post-title__input").press("Enter")
    page.keyboard.type("Samedi, de dix heures à midi.")
    page.locator(".editor-post-publish-panel__toggle").click()
    page.locator(".editor-post-publish-button").click()
    page.locator(".post-publish-panel__postpublish").wait_for()

    reader = association.visit()
    reader.go("/")
    assert plain(title) in reader.text()
    reader.page.locator("header").get_by_role("link", name="Actualités").click()
    expect(reader.page.get_by_role("heading", level=1)).to_contain_text("Actualités")
    assert plain(title) in reader.text()
    assert "Samedi, de dix heures à midi." in reader.text()

    # The link has done its work.
    reader.go(link)
    assert "Ce lien n'est pas valable, ou il a déjà servi." in reader.text()
    assert "associations@example.org" in reader.text()
    reader.context.close()
    reader.check()


def test_an_expired_link_says_whom_to_ask(association: Association, visit: Visit) -> None:
    link = association.link("secretariat")
    visit.go(link)
    expect(visit.page.locator("#pass1")).to_be_visible()
    association.town.sql(
        f"UPDATE {association.slug}_1.wp_users SET user_activation_key = "
        "CONCAT(UNIX_TIMESTAMP() - 15 * 86400, ':', SUBSTRING_INDEX(user_activation_key, ':', -1)) "
        f"WHERE user_email = 'secretariat.{association.slug}@example.org'"
    )
    later = association.visit()
    later.go(link)
    assert "Ce lien a expiré. Pour en recevoir un nouveau, écrivez à associations@example.org." in later.text()
    later.context.close()
    later.check()
