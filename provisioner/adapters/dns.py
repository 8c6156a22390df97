"""Questions to the domain name system. Answers are warnings: a name may well be set up later."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dns.exception

LIFETIME_SECONDS = 2.0
# RFC 2606 and RFC 6761: these never resolve to anything of an association's.
SPECIAL_USE = ("localhost", "test", "example", "invalid", "example.org", "example.com", "example.net")


def is_special_use(name: str) -> bool:
    """Return whether ``name`` is reserved for documentation, tests or this very machine."""
    return any(name == special or name.endswith(f".{special}") for special in SPECIAL_USE)


def warnings(mail_domains: Iterable[str], host_names: Iterable[str]) -> list[str]:
    """Return what is wrong with these names, asked all at once, within 2 s."""
    domains = sorted({domain for domain in mail_domains if not is_special_use(domain)})
    hosts = sorted({name for name in host_names if not is_special_use(name)})
    if not domains and not hosts:
        return []
    with ThreadPoolExecutor(max_workers=8) as pool:
        asked = [*pool.map(_mail_problem, domains), *pool.map(_host_problem, hosts)]
    return [problem for problem in asked if problem]


def _mail_problem(domain: str) -> str | None:
    import dns.resolver

    try:
        records = dns.resolver.resolve(domain, "MX", lifetime=LIFETIME_SECONDS)
    except dns.resolver.NXDOMAIN:
        return f"the mail domain {domain} does not exist"
    except dns.resolver.NoAnswer:
        return None  # RFC 5321: without an MX record the domain's own address takes its mail
    except dns.exception.DNSException as error:
        return f"the mail domain {domain} could not be looked up: {_reason(error)}"
    if all(str(record.exchange) == "." for record in records):  # RFC 7505, null MX
        return f"the mail domain {domain} says that it takes no mail"
    return None


def _host_problem(name: str) -> str | None:
    import dns.resolver

    for kind in ("A", "AAAA"):
        try:
            dns.resolver.resolve(name, kind, lifetime=LIFETIME_SECONDS)
        except dns.resolver.NoAnswer:
            continue
        except dns.resolver.NXDOMAIN:
            return f"the name {name} does not exist yet"
        except dns.exception.DNSException as error:
            return f"the name {name} could not be looked up: {_reason(error)}"
        else:
            return None
    return f"the name {name} has no address yet"


def _reason(error: "dns.exception.DNSException") -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
