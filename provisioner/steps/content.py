"""WordPress itself: installed, published, concealed."""

from concurrent.futures import ThreadPoolExecutor

from provisioner import kit, records
from provisioner.agent.protocol import Install, Publish
from provisioner.probes import page
from provisioner.steps.site import ANSWER_SECONDS, SiteWork


def install_wordpress(work: SiteWork) -> None:
    """Install WordPress in French with its kit and its administrators alone; the container boots meanwhile."""
    settings = work.installation
    with settings.store.transaction() as session:
        people = records.administrators(session, work.site.key)
    request = Install(
        site={
            "title": work.site.name,
            "tagline": kit.tagline(work.site.profile),
            "url": work.url,
            "theme": work.site.theme,
        },
        administrators=[
            {
                "name": person.name,
                "mail": person.mail,
                "login": person.login,
                "token": settings.keys.invitation_token(work.operation_id, person.id or 0),
            }
            for person in people
        ],
        kit=kit.rendered(work.site, settings.inventory, work.url),
        reset_days=settings.inventory.policy.invitation_days,
    )
    with ThreadPoolExecutor(max_workers=1) as beside:
        booted = beside.submit(work.host.ensure_service, work.service)
        work.run_in_site(request)
        booted.result()


def probe_generation(work: SiteWork) -> None:
    """Ask the generation for its front page over its own socket: what fails here is never routed (B3)."""
    page.wait_until_well(
        lambda: page.generation_problem(work.host, work.names),
        f"{work.slug}: the front page of generation {work.number}",
        f"docker logs {work.names.container}",
    )


def probe_site(work: SiteWork) -> None:
    """Ask for the site over HTTPS, as a visitor does."""
    page.wait_until_well(
        lambda: page.site_problem(work.host, work.site.host_name, work.installation.authority.root),
        work.url,
        "provision doctor",
    )


def publish(work: SiteWork) -> None:
    """Let search engines index the site."""
    work.run_in_site(Publish(public=True), seconds=ANSWER_SECONDS)


def conceal(work: SiteWork) -> None:
    """Ask search engines not to index the site, as before the agreement was signed."""
    work.run_in_site(Publish(public=False), seconds=ANSWER_SECONDS)
