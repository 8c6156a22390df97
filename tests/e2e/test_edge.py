"""The front door (H14, B7): whom it lets through, what of a request it believes, and what it says itself."""

import functools
import json
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from threading import Thread
from urllib.parse import urlencode

import pytest
import urllib3
import yaml

from tests.support.inside import container, php, processes
from tests.support.town import Town

DOMAIN = "assos.localhost"
PASSWORD = "un mot de passe assez long"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
NET_BIND_SERVICE, SETUID, SETGID = 1 << 10, 1 << 7, 1 << 6


class _Site(ThreadingMixIn, UnixStreamServer):
    """Stands where a site's socket stands, and answers with the request that it got."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.seen: list[str] = []
        super().__init__(str(path), _Echo)
        path.chmod(0o777)
        Thread(target=self.serve_forever, daemon=True).start()


class _Echo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, _Site)
        self.server.seen.append(f"{self.command} {self.path}")
        body = json.dumps({"path": self.path, "headers": self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def echo(town: Town) -> Iterator[tuple[_Site, _Site]]:
    """Two generations of the site `echo`; the first is `current`."""
    folder = town.data_root / "run/sites/echo"
    (folder / "1").mkdir(parents=True)
    (folder / "2").mkdir()
    (folder / "current").symlink_to("1")
    sites = _Site(folder / "1/http.sock"), _Site(folder / "2/http.sock")
    yield sites
    for site in sites:
        site.shutdown()
        site.server_close()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def gate(town: Town) -> Town:
    """Three real sites, the last of which has a host name of its own; an administrator of each has a password."""
    town.create("gate", "gate-beside")
    town.create("gate-own", host_name="own.example.test")
    for slug in ("gate", "gate-beside"):
        program = 'require "/srv/wordpress/wp-load.php"; wp_set_password($given["to"], 1); echo "true";'
        assert php(town, slug, program, to=PASSWORD)
    return town


def name(slug: str) -> str:
    return f"{slug}.{DOMAIN}"


def received(answer: urllib3.BaseHTTPResponse) -> dict[str, str]:
    assert answer.status == 200
    headers: list[tuple[str, str]] = json.loads(answer.data)["headers"]
    assert len({key.lower() for key, _ in headers}) == len(headers)
    return {key.lower(): value for key, value in headers}


# What a client claims about itself (H14)

FORGED = [
    "CF-Connecting-IP", "Client-IP", "Forwarded", "Front-End-Https", "Proxy", "True-Client-IP", "X-Client-IP",
    "X-Cluster-Client-IP", "X-Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port",
    "X-Forwarded-Prefix", "X-Forwarded-Proto", "X-Forwarded-Scheme", "X-Forwarded-Server", "X-Forwarded-Ssl",
    "X-Host", "X-HTTP-Host-Override", "X-Original-Host", "X-Original-URL", "X-Real-IP", "X-Rewrite-URL", "X-Scheme",
    "x_forwarded_for", "X_Real_IP",
]  # fmt: skip


def test_nothing_forged_reaches_a_site(town: Town, echo: tuple[_Site, _Site]) -> None:
    forged = dict.fromkeys([*FORGED, "X-Ordinary"], "forged.example")
    headers = received(town.get("echo", "/page", **forged))
    assert {header for header, value in headers.items() if "forged" in value} == {"x-ordinary"}
    truth = {
        "host": f"{name('echo')}:{town.port}",
        "x-real-ip": "127.0.0.1",
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-host": f"{name('echo')}:{town.port}",
        "x-forwarded-port": str(town.port),
        "x-forwarded-proto": "https",
    }
    assert {header: headers[header] for header in truth} == truth


def exchange(town: Town, request: str) -> bytes:
    """Send a request as it stands, and return the whole answer."""
    context = ssl.create_default_context(cafile=str(town.root))
    with (
        socket.create_connection(("127.0.0.1", town.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name("echo")) as tls,
    ):
        tls.sendall(request.encode())
        return b"".join(iter(lambda: tls.recv(65536), b""))


@pytest.mark.parametrize(
    "request_line_and_host",
    [
        "GET https://echo.assos.localhost/ HTTP/1.1\r\nHost: forged.example",
        "GET / HTTP/1.1\r\nHost: echo.assos.localhost:1",
        "GET / HTTP/1.1\r\nHost: ECHO.assos.localhost.",
    ],
)
def test_the_host_name_that_chose_the_site_is_the_one_it_hears(
    town: Town, echo: tuple[_Site, _Site], request_line_and_host: str
) -> None:
    answer = exchange(town, f"{request_line_and_host}\r\nConnection: close\r\n\r\n")
    headers = dict(json.loads(answer.partition(b"\r\n\r\n")[2])["headers"])
    assert headers["Host"] == headers["X-Forwarded-Host"] == f"{name('echo')}:{town.port}"


def test_two_host_names_in_one_request_are_refused(town: Town, echo: tuple[_Site, _Site]) -> None:
    two = "GET / HTTP/1.1\r\nHost: echo.assos.localhost\r\nHost: forged.example\r\nConnection: close\r\n\r\n"
    assert exchange(town, two).startswith(b"HTTP/1.1 400 ")


def test_wordpress_believes_the_edge_alone(gate: Town) -> None:
    plain = gate.get("gate").data
    forged = gate.get("gate", **dict.fromkeys(FORGED, "forged.example"))
    assert (forged.status, forged.data) == (200, plain)
    post = gate.sql("SELECT ID FROM gate_1.wp_posts WHERE post_type = 'post' AND post_status = 'publish'").split()[0]
    comment = {"comment_post_ID": post, "author": "Visiteuse", "email": "visiteuse@example.org", "comment": "Bonjour"}
    liar = {"X-Real-IP": "192.0.2.1", "X-Forwarded-For": "192.0.2.1", "Client-IP": "192.0.2.1"}
    answer = gate.request("POST", name("gate"), "/wp-comments-post.php", FORM | liar, urlencode(comment).encode())
    assert answer.status == 302
    assert gate.sql("SELECT DISTINCT comment_author_IP FROM gate_1.wp_comments").split() == ["127.0.0.1"]


# Names


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "host", ["nobody.assos.localhost", "assos.localhost", "forged.example", "a.gate.assos.localhost"]
)
def test_an_unknown_name_gets_a_french_page(gate: Town, method: str, host: str) -> None:
    answer = gate.request(method, name("gate"), "/", {"Host": host})
    assert answer.status == 404
    check_page(answer, "Aucun site à cette adresse")


def check_page(answer: urllib3.BaseHTTPResponse, title: str) -> None:
    """Check a page of the edge itself: French, of the council, kept by no search engine."""
    page = answer.data.decode()
    assert f"<title>{title}</title>" in page
    assert '<html lang="fr">' in page
    assert "associations@example.org" in page
    assert "noindex" in page
    assert answer.headers["Content-Type"].startswith("text/html")


def test_http_leads_to_https(gate: Town) -> None:
    edge = yaml.safe_load(gate.inventory.read_text())["hosts"][0]["edge"]
    with urllib3.HTTPConnectionPool("127.0.0.1", edge["http_port"], retries=False) as pool:
        answer = pool.request("GET", "/agenda/?mois=9", headers={"Host": name("gate")}, redirect=False)
    assert answer.status == 301
    assert answer.headers["Location"] == f"https://{name('gate')}:{gate.port}/agenda/?mois=9"


def certificate_names(town: Town, host: str) -> set[str]:
    """Return the names that the certificate shown to a visitor of ``host`` is good for; it has been checked."""
    context = ssl.create_default_context(cafile=str(town.root))
    with (
        socket.create_connection(("127.0.0.1", town.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        shown = tls.getpeercert()
        assert shown is not None
        return {str(entry[1]) for entry in shown["subjectAltName"]}


def test_a_site_may_have_a_name_of_its_own(gate: Town) -> None:
    own = f"own.example.test:{gate.port}"
    assert certificate_names(gate, "own.example.test") == {"own.example.test"}
    assert certificate_names(gate, name("gate")) == {f"*.{DOMAIN}", DOMAIN}
    page = gate.request("GET", "own.example.test", "/")
    assert page.status == 200
    links = set(re.findall(r'href="https?://([^/"]+)', page.data.decode()))
    assert links == {own}
    moved = gate.get("gate-own", "/agenda/?mois=9")
    assert (moved.status, moved.headers["Location"]) == (301, f"https://{own}/agenda/?mois=9")


def test_nobody_elses_name_has_a_certificate(gate: Town) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        certificate_names(gate, "other.example.test")


# Cookies and headers of sites (J11)

SAID = [
    ("Set-Cookie", "a=1; Domain=assos.localhost; Path=/"),
    ("Set-Cookie", "b=2; Secure; domain=.ASSOS.localhost"),
    ("Set-Cookie", "c=3; DOMAIN = assos.localhost ; Domain=localhost"),
    ("Set-Cookie", 'd=4;Domain="assos.localhost";HttpOnly'),
    ("Set-Cookie", "e=5;\tDomain=assos.localhost"),
    ("Set-Cookie", "f=6; Domain\t=\tassos.localhost"),
    ("Set-Cookie", "g=7; Path=/; SameSite=Lax"),
    ("X-Frame-Options", "ALLOWALL"),
    ("X-Frame-Options", "SAMEORIGIN"),
    ("X-Content-Type-Options", "sniff"),
    ("Referrer-Policy", "unsafe-url"),
    ("Alt-Svc", 'h2="other.example.test:443"; ma=86400'),
    ("X-Accel-Redirect", "/.edge/throttled"),
    ("X-Accel-Limit-Rate", "1"),
]


class _Sayer(BaseHTTPRequestHandler):
    """A site that is hostile down to its web server."""

    said = SAID

    def do_GET(self) -> None:
        self.send_response(200)
        for key, value in self.said:
            self.send_header(key, value)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def sayer(town: Town) -> Iterator[None]:
    """A site `sayer`, whose every answer is hostile."""
    folder = town.data_root / "run/sites/sayer"
    (folder / "1").mkdir(parents=True)
    (folder / "current").symlink_to("1")

    class Server(ThreadingMixIn, UnixStreamServer):
        daemon_threads = True

    with Server(str(folder / "1/http.sock"), _Sayer) as server:
        (folder / "1/http.sock").chmod(0o777)
        Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()
    shutil.rmtree(folder)


def domains(cookie: str) -> list[str]:
    """Return the domains that a cookie names, as a browser reads it: each attribute trimmed, empty ones passed over."""
    attributes = [part.partition("=") for part in cookie.split(";")[1:]]
    named = [value.strip(' \t"') for key, _, value in attributes if key.strip(" \t").lower() == "domain"]
    return [value for value in named if value]


def test_a_sites_cookies_stay_with_it(town: Town, sayer: None) -> None:
    cookies = town.get("sayer").headers.getlist("Set-Cookie")
    assert [cookie.partition("=")[0] for cookie in cookies] == list("abcdefg")
    assert {cookie: domains(cookie) for cookie in cookies if domains(cookie)} == {}
    assert cookies[-1] == "g=7; Path=/; SameSite=Lax"


def test_each_security_header_is_there_once(town: Town, sayer: None, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = town.get("sayer")
    assert (answer.status, answer.data) == (200, b"ok")
    once = {
        "X-Frame-Options": "SAMEORIGIN",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "strict-origin-when-cross-origin",
    }
    assert {key: answer.headers.getlist(key) for key in once} == {key: [value] for key, value in once.items()}
    assert "Alt-Svc" not in answer.headers
    stricter = [("X-Frame-Options", "DENY"), ("Referrer-Policy", "no-referrer")]
    monkeypatch.setattr(_Sayer, "said", stricter)
    answer = town.get("sayer")
    assert [answer.headers.getlist(key) for key, _ in stricter] == [[value] for _, value in stricter]


@pytest.mark.parametrize("path", ["/", "/wp-login.php", "/wp-content/uploads/x.jpg", "/wp-json/"])
def test_a_real_site_has_each_security_header_once(gate: Town, path: str) -> None:
    answer = gate.get("gate", path)
    for key in ("X-Frame-Options", "X-Content-Type-Options", "Referrer-Policy"):
        assert len(answer.headers.getlist(key)) == 1, key


def test_no_cipher_is_cbc(town: Town) -> None:
    def agreed(ciphers: str) -> str | None:
        context = ssl.create_default_context(cafile=str(town.root))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
        with (
            socket.create_connection(("127.0.0.1", town.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=name("nobody")) as tls,
        ):
            chosen = tls.cipher()
            return chosen[0] if chosen else None

    assert agreed("ECDHE+AESGCM") is not None
    for weak in ("ECDHE+AES256+SHA384:!AESGCM", "ECDHE+AES+SHA1", "RSA+AES", "DHE+AES"):
        with pytest.raises(ssl.SSLError):
            agreed(weak)


def test_port_80_leads_from_known_names_only(gate: Town) -> None:
    edge = yaml.safe_load(gate.inventory.read_text())["hosts"][0]["edge"]
    with urllib3.HTTPConnectionPool("127.0.0.1", edge["http_port"], retries=False) as pool:
        for known in (name("gate"), "own.example.test"):
            assert pool.request("GET", "/", headers={"Host": known}, redirect=False).status == 301
        for unknown in (name("nobody"), DOMAIN, "forged.example", "127.0.0.1", f"a.{name('gate')}"):
            answer = pool.request("GET", "/x", headers={"Host": unknown}, redirect=False)
            assert answer.status == 404
            assert "Location" not in answer.headers
            check_page(answer, "Aucun site à cette adresse")


# The login throttle


def log_in(town: Town, slug: str, path: str = "/wp-login.php", password: str = PASSWORD) -> urllib3.BaseHTTPResponse:
    form = urlencode({"log": "presidence", "pwd": password, "testcookie": "1"}).encode()
    return town.request("POST", name(slug), path, FORM | {"Cookie": "wordpress_test_cookie=WP+Cookie+check"}, form)


def is_logged_in(answer: urllib3.BaseHTTPResponse) -> bool:
    return "wordpress_logged_in_" in "".join(answer.headers.getlist("Set-Cookie"))


def exhaust(town: Town, slug: str) -> urllib3.BaseHTTPResponse:
    """Guess passwords until the edge has had enough."""
    for _ in range(30):
        answer = log_in(town, slug, password="faux")
        if answer.status == 429:
            return answer
        assert not is_logged_in(answer)
    raise AssertionError("thirty guesses and no end")


def check_refused(town: Town, attempt: Callable[[], urllib3.BaseHTTPResponse]) -> None:
    """Check that ``attempt`` gets nowhere once the edge has had enough of its address.

    It lets one more guess through every five seconds: on a slow machine that may be ``attempt`` itself, but not thrice.
    """
    for _ in range(3):
        exhaust(town, "gate")
        answer = attempt()
        if answer.status in (404, 429):
            assert not is_logged_in(answer)
            return
    raise AssertionError(f"it is let through: {answer.status}")


# Each would log in, if it reached WordPress: the same page by another name, or another door to the same lock.
AROUND = [
    "/wp-login.php?action=login", "//wp-login.php", "/%77p-login.php", "/wp-login%2ephp", "/./wp-login.php",
    "/wp-admin/../wp-login.php", "/wp-login.php/x", "/wp-login.php/", "/wp-login.php%20", "/wp-login.php%2f",
    "/WP-LOGIN.php", "/wp-login.php;x", "/index.php/wp-login.php", "/wp-admin/wp-login.php",
]  # fmt: skip


def test_guessing_passwords_is_slowed_down(gate: Town) -> None:
    refused = exhaust(gate, "gate")
    check_page(refused, "Trop d’essais de connexion")
    assert int(refused.headers["Retry-After"]) > 0
    # Whoever only reads notices nothing, nor do the administrators of another site, from the same address.
    assert [gate.get("gate", path).status for path in ("/", "/wp-login.php", "/agenda/")] == [200, 200, 200]
    assert is_logged_in(log_in(gate, "gate-beside"))


@pytest.mark.parametrize("path", AROUND)
def test_no_spelling_goes_round_the_throttle(gate: Town, path: str) -> None:
    check_refused(gate, lambda: log_in(gate, "gate", path))


def test_nor_does_xml_rpc(gate: Town) -> None:
    value = "<param><value><string>{}</string></value></param>"
    parameters = value.format("presidence") + value.format(PASSWORD)
    call = f"<methodCall><methodName>wp.getUsersBlogs</methodName><params>{parameters}</params></methodCall>".encode()

    def ask(slug: str, path: str) -> urllib3.BaseHTTPResponse:
        return gate.request("POST", name(slug), path, {"Content-Type": "text/xml"}, call)

    assert b"isAdmin" in ask("gate-beside", "/xmlrpc.php").data  # it is a door
    for path in ("/xmlrpc.php", "//xmlrpc.php", "/xmlrpc%2ephp"):
        check_refused(gate, functools.partial(ask, "gate", path))


# A site that is down


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_site_that_is_down_says_so_in_french(gate: Town, method: str) -> None:
    stopped = gate.docker().containers.get(container(gate, "gate-beside"))
    stopped.stop()
    try:
        answer = gate.request(method, name("gate-beside"), "/")
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
        check_page(answer, "Ce site est momentanément indisponible")
        assert gate.get("gate").status == 200
    finally:
        stopped.start()
    wait_for(lambda: gate.get("gate-beside").status == 200)


def wait_for(what: object, seconds: float = 10) -> None:
    assert callable(what)
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


# Cron


def tick(town: Town) -> None:
    """Run the ticker's first round now, in its own container, instead of within the minute."""
    command = ["docker", "exec", f"{town.namespace}.cron", "timeout", "5", "/usr/local/bin/ticker"]
    assert subprocess.run(command, check=False, capture_output=True).returncode in (0, 124)


def test_cron_runs_for_the_current_generation_only(town: Town, echo: tuple[_Site, _Site]) -> None:
    current, kept = echo
    current.seen.clear()
    tick(town)
    assert "GET /wp-cron.php?doing_wp_cron" in current.seen
    assert kept.seen == []


def test_a_planned_article_appears_by_the_ticker_and_not_by_a_visitor(gate: Town) -> None:
    program = """
    require "/srv/wordpress/wp-load.php";
    $post = ["post_title" => "Planifié", "post_content" => "Demain", "post_status" => "future"];
    $id = wp_insert_post($post + ["post_date_gmt" => gmdate("Y-m-d H:i:s", time() + 3600)], true);
    $planned = get_post_status($id);
    // An hour goes by.
    $wpdb->update($wpdb->posts, ["post_date_gmt" => gmdate("Y-m-d H:i:s", time() - 1)], ["ID" => $id]);
    wp_clear_scheduled_hook("publish_future_post", [$id]);
    wp_schedule_single_event(time() - 1, "publish_future_post", [$id]);
    echo json_encode([$id, $planned]);
    """
    post, status = php(gate, "gate", program)
    assert status == "future"
    for path in ("/wp-cron.php", "/wp-cron.php?doing_wp_cron", "//wp-cron.php"):
        assert gate.get("gate", path, **{"X-Real-IP": "unix:"}).status == 403
    tick(gate)
    query = f"SELECT post_status FROM gate_1.wp_posts WHERE ID = {int(post)}"
    wait_for(lambda: gate.sql(query).strip() == "publish")


# What the host's own containers may do

ALLOWED = {
    "edge": (
        NET_BIND_SERVICE | SETUID | SETGID,
        "host",
        {"/edge": False, "/run/sites": False, "/var/tmp/nginx": True, "/logs": True},
    ),
    "cron": (0, "none", {"/run/sites": True}),
    "database": (0, "none", {"/var/lib/mysql": True, "/run/mysqld": True}),
    "recorder": (0, "none", {"/run/activity": True, "/logs": True}),
}


@pytest.mark.parametrize("role", ALLOWED)
def test_the_hosts_own_containers_may_do_no_more_than_they_must(town: Town, role: str) -> None:
    capabilities, network, mounts = ALLOWED[role]
    attributes = town.docker().containers.get(f"{town.namespace}.{role}").attrs
    settings = attributes["HostConfig"]
    assert settings["NetworkMode"] == network
    assert settings["ReadonlyRootfs"]
    assert not settings["Privileged"]
    assert not settings["PidMode"]
    assert not settings["Devices"]
    assert not settings["PortBindings"]
    assert settings["LogConfig"]["Config"] == {"max-size": "5m", "max-file": "2"}
    assert {mount["Destination"]: mount["RW"] for mount in attributes["Mounts"]} == mounts
    assert all(mount["Source"].startswith(f"{town.data_root}/") for mount in attributes["Mounts"])

    running = processes(town, f"{town.namespace}.{role}")
    assert running
    for process in running:
        assert process.bounding == capabilities
        assert process.no_new_privileges
        assert process.filtered
        if process.uids != (0, 0, 0, 0):
            assert process.capabilities == 0
    root = [process for process in running if 0 in process.uids]
    assert len(root) == (1 if role == "edge" else 0)  # nginx's master, which opens the ports


def test_what_faces_visitors_is_not_root(town: Town) -> None:
    workers = [process for process in processes(town, f"{town.namespace}.edge") if 0 not in process.uids]
    assert {process.uids for process in workers} == {(20101, 20101, 20101, 20101)}
