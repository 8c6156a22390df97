"""The starter content of a site: templates/kit/, rendered for one association."""

from functools import cache
from typing import Any

import yaml
from markupsafe import Markup, escape

from provisioner import render
from provisioner.inventory import Inventory
from provisioner.model.tables import Site
from provisioner.typography import typeset


@cache
def _description(name: str) -> Any:
    source = (render.resources("templates") / "kit" / name).read_text(encoding="utf-8")
    return yaml.safe_load(typeset(source, html=False))


def tagline(profile: str) -> str:
    """Return the tagline that a site of this profile starts with."""
    return str(_description(f"profiles/{profile}.yaml")["tagline"])


def rendered(site: Site, inventory: Inventory, url: str) -> dict[str, Any]:
    """Return pages, posts, categories, menu and footer as WordPress is to have them."""
    common, profile = _description("kit.yaml"), _description(f"profiles/{site.profile}.yaml")
    council, policy = inventory.council, inventory.policy
    values = {
        "association": {key: _inert(value) for key, value in site.model_dump().items()},
        "council": {key: _inert(value) for key, value in council.model_dump().items()},
        "notices": _inert(inventory.legal.notice_mail or council.mail),
        "log_days": max(policy.activity_log_days, policy.access_log_days),
        "profile": profile,
        "site": {"url": url, "host": site.host_name},
    }
    folder = render.resources("templates") / "kit"
    pages = []
    for order, page in enumerate(common["pages"]):
        template = f"kit/pages/{page['slug']}.html"
        has_content = (folder.parent / template).exists()
        pages.append(
            {
                "slug": page["slug"],
                "title": page["title"],
                "parent": page.get("parent"),
                "role": page.get("role"),
                "order": order,
                "content": render.html(template, **values) if has_content else "",
            }
        )
    first = profile["first_post"]
    post = {
        "slug": first["slug"],
        "title": first["title"],
        "category": first["category"],
        "content": render.html("kit/post.html", paragraphs=first["content"]),
    }
    return {
        "categories": common["categories"],
        "pages": pages,
        "posts": [post],
        "navigation": render.html("kit/navigation.html", **values),
        "footer": render.html("kit/footer.html", **values),
    }


def _inert(value: Any) -> Any:
    """Return text as HTML in which neither WordPress' shortcodes nor our {page:…} placeholders can begin (H5)."""
    if not isinstance(value, str):
        return value
    return Markup(str(escape(value)).replace("[", "&#91;").replace("{", "&#123;"))  # noqa: S704  (escaped just before)
