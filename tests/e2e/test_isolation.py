"""A hacked site (acceptance 3, H8, H12, H13): what an intruder who runs code in it can see, reach, keep and break.

The intruder has the site's own user and a shell in the site's own container. Each refusal stands beside
something similar that works, so that it is the wall that refuses and not a slip of the test.
"""

import json
import re
import socket
import sqlite3
import stat
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from pathlib import Path
from urllib.parse import quote

import pytest
import urllib3
import yaml
from docker.errors import APIError

from tests.support.inside import container, php, processes, shell
from tests.support.town import Town, association

STATEMENT_SECONDS, CONNECTIONS, MEMORY_MB, PROCESSES = 5, 20, 384, 60
ROBBER, VICTIM = "robber", "victim"


# Secrets: everything that could show one is watched while two sites are made and serve


class Watch:
    """Notes what others on the host could see: every process, every container of the town and what it prints."""

    def __init__(self, town: Town) -> None:
        self.seen: dict[str, set[str]] = {"processes": set(), "inspect": set(), "logs": set()}
        self._client = town.docker()
        self._kept = town.data_root / "logs"
        self._label = f"provision.namespace={town.namespace}"
        self._end = threading.Event()

    def __enter__(self) -> "Watch":
        self._events = self._client.events(decode=True, filters={"type": "container", "label": self._label})
        self._threads = [threading.Thread(target=look) for look in (self._watch_processes, self._watch_engine)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        for one in self._client.containers.list(all=True, filters={"label": self._label}):
            self._look_at(one.id or "")
            self.seen["logs"].add(one.logs().decode(errors="replace"))
        self.seen["logs"] |= {path.read_text() for path in self._kept.rglob("*-*") if path.is_file()}
        self._end.set()
        self._events.close()
        for thread in self._threads:
            thread.join()

    def _watch_processes(self) -> None:
        while not self._end.is_set():
            for kind in ("cmdline", "environ"):
                for path in Path("/proc").glob(f"[0-9]*/{kind}"):
                    with suppress(OSError):  # it has ended
                        self.seen["processes"].add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            time.sleep(0.005)

    def _watch_engine(self) -> None:
        """Follow each container from its beginning: the one-shots are gone before one could look for them."""
        for event in self._events:
            if event["Action"] == "start":
                self._look_at(event["id"])
                threading.Thread(target=self._follow, args=[event["id"]], daemon=True).start()

    def _look_at(self, container: str) -> None:
        with suppress(APIError):
            self.seen["inspect"].add(json.dumps(self._client.api.inspect_container(container)))

    def _follow(self, container: str) -> None:
        with suppress(APIError):
            for line in self._client.api.logs(container, stream=True, follow=True):
                self.seen["logs"].add(line.decode(errors="replace"))


@dataclass(frozen=True)
class Sites:
    """Two sites of one town, and what was seen while they were made."""

    town: Town
    watch: Watch
    said: str  # by `provision create`


@pytest.fixture(scope="module")
def sites(town: Town, executed: None) -> Sites:
    """The robber and the victim, whose statements may take a shorter time than usual."""
    settings = yaml.safe_load(town.inventory.read_text())
    strict = town.folder / "strict.yaml"
    strict.write_text(yaml.safe_dump(settings | {"policy": {"site": {"statement_seconds": STATEMENT_SECONDS}}}))
    both = town.describe(association(ROBBER), association(VICTIM))
    with Watch(town) as watch:
        done = town.run("create", "--from", both, PROVISION_INVENTORY=str(strict))
        for slug in (ROBBER, VICTIM):
            for path in ("/", "/agenda/", "/wp-login.php", "/wp-json/wp/v2/pages"):
                assert town.get(slug, path).status == 200
        for to, token in tokens(town).items():
            slug = to.partition("@")[0].rpartition(".")[2]
            assert town.get(slug, f"/wp-login.php?action=rp&key={token}&login=somebody").status == 302
        time.sleep(0.5)
    return Sites(town, watch, done.stdout + done.stderr)


def secrets(town: Town) -> dict[str, str]:
    """Return every secret of the two sites and of the installation, read where it lives."""
    found = {}
    for slug in (ROBBER, VICTIM):
        home = town.data_root / "sites" / slug
        found[f"{slug} password"] = json.loads((home / "generations/1/secrets/generation.json").read_text())["password"]
        salts = json.loads((home / "secrets/site.json").read_text())["salts"]
        found |= {f"{slug} {name}": salt for name, salt in salts.items()}
    found |= {f"token of {to}": token for to, token in tokens(town).items()}
    found["secret.key"] = (town.state / "secret.key").read_text().strip()
    for key in [*town.state.rglob("*.key"), *town.data_root.glob("edge/conf/*/certificates/*.key")]:
        if key.name != "secret.key":
            found[str(key)] = max(key.read_text().splitlines(), key=len)  # of a PEM file, a line of what it says
    return found


def tokens(town: Town) -> dict[str, str]:
    """Return the invitations' tokens by addressee, from the mails."""
    found = {}
    for path in (town.state / "mail").glob("*.eml"):
        mail = message_from_bytes(path.read_bytes(), policy=policy.default)
        if str(mail["To"]).partition("@")[0].endswith((f".{ROBBER}", f".{VICTIM}")):
            text = mail.get_body(("plain",))
            assert text is not None
            link = re.search(r"key=(\w+)", text.get_content())
            assert link
            found[str(mail["To"])] = link[1]
    return found


def test_no_secret_shows_in_processes_engine_or_logs(sites: Sites) -> None:
    known = secrets(sites.town)
    assert len(known) >= 2 * (1 + 8 + 2) + 3
    assert all(len(secret) >= 32 for secret in known.values())
    everything = {kind: "\n".join(seen) for kind, seen in sites.watch.seen.items()} | {"output": sites.said}
    # The watch was awake: it saw the short-lived containers at work, and what they print.
    assert "/srv/provision/provision.php install" in everything["processes"]
    assert "/srv/provision/prepare" in everything["inspect"]
    assert "password_hash" in everything["logs"]
    leaks = [(name, kind) for name, secret in known.items() for kind, text in everything.items() if secret in text]
    assert leaks == []


def test_the_state_database_holds_no_secret_but_the_links_in_the_outbox(sites: Sites) -> None:
    """The mail is kept as it was sent, link included: its token sets one password, once, for 14 days."""
    found = set()
    known = secrets(sites.town).items()
    with sqlite3.connect(f"file:{sites.town.state}/provision.db?mode=ro", uri=True) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            rows = database.execute(f'SELECT * FROM "{table}"')
            columns = [column[0] for column in rows.description]
            for row in rows:
                for column, value in zip(columns, row, strict=True):
                    found |= {(name, table, column) for name, secret in known if secret in str(value)}
    assert found == {(f"token of {to}", "mail", "body") for to in tokens(sites.town)}


def test_secrets_are_readable_by_their_owner_alone(sites: Sites) -> None:
    for path in (sites.town.state, sites.town.state / "secret.key"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    for slug, uid in uids(sites).items():
        home = sites.town.data_root / "sites" / slug
        for path in (home / "secrets/site.json", home / "generations/1/secrets/generation.json"):
            told = path.stat()
            assert (told.st_uid, told.st_gid, stat.S_IMODE(told.st_mode)) == (0, uid, 0o440)
    for key in sites.town.data_root.glob("edge/conf/*/certificates/*.key"):
        assert stat.S_IMODE(key.stat().st_mode) & 0o077 == 0


def uids(sites: Sites) -> dict[str, int]:
    """Return the user of each site."""
    return {slug: int(shell(sites.town, slug, "id -u").stdout) for slug in (ROBBER, VICTIM)}


# The process


def test_the_processes_of_a_site_have_no_powers(sites: Sites) -> None:
    town, own = sites.town, uids(sites)
    assert len(set(own.values())) == len(own)
    for slug, uid in own.items():
        assert uid >= 200_000
        assert town.get(slug).status == 200  # so that a PHP process runs
        running = processes(town, container(town, slug))
        assert {"serve", "nginx"} < {process.name for process in running}
        assert any(process.name.startswith("php-fpm") for process in running)
        for process in running:
            assert process.uids == (uid, uid, uid, uid)
            assert (process.capabilities, process.bounding) == (0, 0)
            assert process.no_new_privileges
            assert process.filtered


REFUSED = [
    "mount -t tmpfs none /mnt", "unshare --user true", "unshare --net true", "mknod /tmp/disk b 8 0",
    "chroot /tmp true", "chown 0 /tmp", "nsenter --target 1 --net true", "cat /etc/shadow", "cat /proc/kcore",
    "echo b > /proc/sysrq-trigger", "echo /tmp/x > /proc/sys/kernel/core_pattern", "hostname elsewhere",
    "setpriv --reuid 0 true", "setpriv --clear-groups true",
    "test -S /var/run/docker.sock", "ls /host",
]  # fmt: skip


@pytest.mark.parametrize("command", REFUSED)
def test_an_intruder_gets_no_further(sites: Sites, command: str) -> None:
    assert shell(sites.town, ROBBER, "true").returncode == 0
    done = shell(sites.town, ROBBER, command)
    assert done.returncode != 0
    assert "command not found" not in done.stderr


def test_setuid_programs_give_nothing(sites: Sites) -> None:
    """Debian brings some: no-new-privileges makes them ordinary."""
    script = "find / -xdev -perm -4000 -type f 2>/dev/null; cp /bin/bash /tmp/mine; chmod u+s /tmp/mine"
    assert "/usr/bin/su" in shell(sites.town, ROBBER, script).stdout.split()
    for command in ("echo | su -c id root", "/tmp/mine -p -c 'test $EUID = 0'"):
        assert shell(sites.town, ROBBER, command).returncode != 0


# The file system

OWN = ["/tmp/x", "/srv/wordpress/wp-content/plugins/x", "/srv/wordpress/wp-content/uploads/x", "/run/site/x"]
FOREIGN = [
    "/x", "/etc/x", "/usr/local/bin/x", "/srv/wordpress/x.php", "/srv/wordpress/wp-admin/x.php", "/srv/provision/x",
    "/srv/provision/mu-plugins/x.php", "/srv/languages/x", "/run/mysqld/x", "/run/activity/x", "/run/secrets/site/x",
    "/run/secrets/generation/x", "/run/x", "/var/lib/x", "/root/x",
]  # fmt: skip
EXISTING = [
    "/srv/wordpress/wp-load.php", "/srv/wordpress/wp-config.php", "/srv/provision/mu-plugins/provision.php",
    "/srv/provision/wp-config.php", "/run/secrets/site/site.json", "/run/secrets/generation/generation.json",
    "/etc/passwd",
]  # fmt: skip


def test_nothing_is_writable_but_the_sites_own_content(sites: Sites) -> None:
    write = 'for path in "$@"; do (echo x > "$path") 2>/dev/null && echo "$path" && rm "$path"; done'
    assert shell(sites.town, ROBBER, write, *OWN, *FOREIGN).stdout.split() == OWN
    attempts = '(echo x >> "$path" || chmod u+w "$path" || rm -f "$path") 2>/dev/null'
    change = f'for path in "$@"; do {attempts} && echo "$path"; done'
    assert shell(sites.town, ROBBER, change, *EXISTING).stdout == ""


def test_everything_of_the_image_belongs_to_root(sites: Sites) -> None:
    """Save for where the site's own directory is mounted: nothing below that is mounted again."""
    script = r"find /srv /etc /usr /opt -xdev ! -type l \( ! -user 0 -o -perm /022 \) 2>/dev/null"
    assert shell(sites.town, ROBBER, script).stdout.split() == ["/srv/wordpress/wp-content"]


def test_another_sites_files_are_not_there(sites: Sites) -> None:
    town = sites.town
    sockets = shell(town, ROBBER, "find / -type s 2>/dev/null").stdout.split()
    mine = {"/run/site/http.sock", "/run/php/fpm.sock", "/run/php/status.sock"}
    assert set(sockets) == {"/run/mysqld/mysqld.sock", "/run/activity/in.sock", *mine}
    by_name = shell(town, ROBBER, f"find / ! -path '/proc/*' -name '*{VICTIM}*' 2>/dev/null").stdout
    assert by_name == ""
    known = shell(town, ROBBER, "cat /proc/net/unix").stdout
    assert "/run/site/http.sock" in known
    assert "docker" not in known
    mounts = town.docker().containers.get(container(town, ROBBER)).attrs["Mounts"]
    root = str(town.data_root)
    own = (f"{root}/sites/{ROBBER}/", f"{root}/run/sites/{ROBBER}/1", f"{root}/run/activity/{ROBBER}")
    assert {mount["Source"] for mount in mounts if not mount["Source"].startswith(own)} == {f"{root}/run/database"}
    read_only = {mount["Destination"] for mount in mounts if not mount["RW"]}
    assert read_only == {"/run/mysqld", "/run/activity", "/run/secrets/site", "/run/secrets/generation"}


# The network


def host_addresses() -> list[str]:
    """Return the host's own addresses, loopback aside."""
    return subprocess.run(["hostname", "-I"], check=True, capture_output=True, text=True).stdout.split()


def test_a_site_has_no_network(sites: Sites) -> None:
    program = """
    $try = static fn (string $address): bool => (bool) @stream_socket_client($address, $number, $text, 2);
    echo json_encode([
        "interfaces" => array_values(array_diff(scandir("/sys/class/net"), [".", ".."])),
        "routes" => array_slice(file("/proc/net/route"), 1),
        "resolved" => array_values(array_filter($given["names"], static fn ($name) => gethostbyname($name) !== $name)),
        "reached" => array_values(array_filter($given["addresses"], $try)),
        "control" => $try("unix:///run/mysqld/mysqld.sock"),
    ]);
    """
    listener = socket.create_server(("0.0.0.0", 0))  # noqa: S104  (somebody is at home on every address of the host)
    port = listener.getsockname()[1]
    at_home = [f"tcp://{address}:{port}" for address in ["127.0.0.1", *host_addresses()] if ":" not in address]
    for address in at_home:
        host, _, number = address.removeprefix("tcp://").partition(":")
        socket.create_connection((host, int(number)), timeout=2).close()
    resolver = re.findall(r"^nameserver\s+([\d.]+)", Path("/etc/resolv.conf").read_text(), re.MULTILINE)
    seen = php(
        sites.town,
        ROBBER,
        program,
        names=["example.org", "example.com", socket.gethostname() + ".local"],
        addresses=[
            *at_home,
            f"tcp://127.0.0.1:{sites.town.port}",
            "tcp://127.0.0.1:3306",
            "tcp://169.254.169.254:80",
            "tcp://172.17.0.1:2375",
            "tcp://192.0.2.1:443",
            "tcp://[2001:db8::1]:443",
            "udp://192.0.2.1:53",
            *(f"udp://{address}:53" for address in resolver),
        ],
    )
    listener.close()
    assert seen == {"interfaces": ["lo"], "routes": [], "resolved": [], "reached": [], "control": True}


# The database

CONNECT = """
mysqli_report(MYSQLI_REPORT_OFF);
ini_set("mysqli.allow_local_infile", "1");
$own = json_decode(file_get_contents("/run/secrets/generation/generation.json"), true);
function connect(string $user, string $password, ?string $database = null): mysqli|int {
    $connection = @mysqli_connect("localhost", $user, $password, $database, 0, "/run/mysqld/mysqld.sock");
    return $connection ?: mysqli_connect_errno();
}
"""
DENIED = {1044, 1045, 1142, 1227}  # database, account or privilege, table, SUPER and its kind
STATEMENTS = {
    f"USE {VICTIM}_1": DENIED,
    f"SELECT * FROM {VICTIM}_1.wp_users": DENIED,
    f"CREATE TABLE {VICTIM}_1.x (x INT)": DENIED,
    f"CREATE DATABASE {ROBBER}x1": DENIED,  # an underscore in a grant would stand for any character
    "CREATE DATABASE other": DENIED,
    "SELECT * FROM mysql.global_priv": DENIED,
    "SELECT 1 INTO OUTFILE '/tmp/out'": DENIED,
    "SELECT 1 INTO DUMPFILE '/tmp/out'": DENIED,
    "LOAD DATA INFILE '/etc/passwd' INTO TABLE wp_options": DENIED,
    "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE wp_options": {4166},
    "CREATE USER other@localhost": DENIED,
    f"GRANT ALL ON *.* TO {ROBBER}_1@localhost": DENIED,
    f"SET PASSWORD FOR {VICTIM}_1@localhost = PASSWORD('x')": DENIED,
    "SET GLOBAL max_connections = 1": DENIED,
    "INSTALL SONAME 'server_audit'": DENIED,
    "CREATE FUNCTION sys_exec RETURNS INT SONAME 'udf.so'": DENIED,
    f"CREATE DEFINER = {VICTIM}_1@localhost PROCEDURE p() SELECT 1": DENIED,
    "SHUTDOWN": DENIED,
    "FLUSH TABLES": DENIED,
}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_the_database_refuses(sites: Sites, statement: str) -> None:
    program = """
    $database = connect($own["user"], $own["password"], $own["database"]);
    $works = $database->query("SELECT 1 FROM wp_users") !== false;
    $database->query($given["it"]);
    echo json_encode([$works, $database->errno]);
    """
    works, code = php(sites.town, ROBBER, CONNECT + program, it=statement)
    assert works
    assert code in STATEMENTS[statement]


def test_the_database_shows_nothing_of_others(sites: Sites) -> None:
    program = """
    $database = connect($own["user"], $own["password"]);
    $first = static fn (string $query): array => array_column($database->query($query)->fetch_all(), 0);
    echo json_encode(array_map($first, $given["queries"]));
    """
    queries = [
        "SHOW DATABASES",
        "SELECT DISTINCT table_schema FROM information_schema.tables",
        "SELECT DISTINCT user FROM information_schema.processlist",
        "SELECT LOAD_FILE('/etc/passwd')",
    ]
    databases, schemata, users, file = php(sites.town, ROBBER, CONNECT + program, queries=queries)
    own = f"{ROBBER}_1"
    assert set(databases) == {own, "information_schema"}
    assert set(schemata) == {own, "information_schema", "performance_schema"}  # the last is the server's, and empty
    assert users == [own]
    assert file == [None]


@pytest.mark.parametrize("user", ["root", "mysql", "mariadb.sys", "", f"{VICTIM}_1", f"{ROBBER}_1"])
def test_no_other_account_opens(sites: Sites, user: str) -> None:
    """Neither without a password nor with the robber's own, save for its own account."""
    program = """
    $code = static fn (string $password): int => is_int($it = connect($given["user"], $password)) ? $it : 0;
    echo json_encode([$code(""), $code($own["password"])]);
    """
    without, with_own = php(sites.town, ROBBER, CONNECT + program, user=user)
    refused = {1045, 1698, 4151}
    assert without in refused
    assert with_own == 0 if user == f"{ROBBER}_1" else with_own in refused


def test_connections_are_counted_per_site(sites: Sites) -> None:
    program = """
    $open = [];
    while (count($open) < 60 && !is_int($one = connect($own["user"], $own["password"]))) {
        $open[] = $one;
    }
    echo json_encode([count($open), $one]), "\\n";
    flush();
    sleep(2);
    """
    script = f"<?php $given = [];\n{CONNECT}{program}"
    command = ["docker", "exec", "-i", container(sites.town, ROBBER), "php"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as greedy:
        assert greedy.stdin
        assert greedy.stdout
        greedy.stdin.write(script)
        greedy.stdin.close()
        opened, code = json.loads(greedy.stdout.readline())
        assert sites.town.get(VICTIM).status == 200
        assert greedy.poll() is None  # it holds them still
    assert code == 1226
    assert CONNECTIONS - 6 <= opened <= CONNECTIONS  # the site itself may hold some


def test_statements_end(sites: Sites) -> None:
    program = """
    $database = connect($own["user"], $own["password"]);
    $begin = microtime(true);
    $database->query("SELECT COUNT(*) FROM information_schema.collations a, information_schema.collations b,
        information_schema.collations c, information_schema.collations d");
    echo json_encode([$database->errno, microtime(true) - $begin]);
    """
    code, seconds = php(sites.town, ROBBER, CONNECT + program)
    assert code == 1969
    assert STATEMENT_SECONDS <= seconds < STATEMENT_SECONDS * 10


# Files that an intruder leaves for the web server (H8)

MARK = "46662"
PAYLOAD = "<?php echo 6 * 7777;"
NAMES = [
    "x.php", "x.PHP", "x.php5", "x.php7", "x.php8", "x.phtml", "x.pht", "x.phar", "x.phps", "x.inc", "x.php.jpg",
    "x.jpg.php", "x.php.", "x.php ", ".php", "x.shtml", "x.cgi", "index.php", "x.txt",
]  # fmt: skip
FOLDERS = ["uploads", "uploads/2026/09", "plugins/theirs", "themes/theirs", "languages", "upgrade"]


@pytest.fixture(scope="module")
def planted(sites: Sites) -> Sites:
    """Programs under every name that some web server would run, and the files that tell servers to run them."""
    script = r"""
    cd /srv/wordpress/wp-content
    payload=$1; shift
    for folder in uploads uploads/2026/09 plugins/theirs themes/theirs languages upgrade; do
        mkdir -p "$folder"
        for name in "$@"; do printf '%s' "$payload" > "$folder/$name"; done
        printf 'AddType application/x-httpd-php .txt .jpg\nphp_value auto_prepend_file x.txt\n' > "$folder/.htaccess"
        printf 'auto_prepend_file=/srv/wordpress/wp-content/uploads/x.txt\n' > "$folder/.user.ini"
        php "$folder/x.php"; echo
    done
    cp uploads/.htaccess uploads/.user.ini .
    """
    done = shell(sites.town, ROBBER, script, PAYLOAD, *NAMES)
    assert done.stdout.split() == [MARK] * len(FOLDERS)  # it would work, if it were run
    return sites


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_lies_in_content_is_never_run(planted: Sites, folder: str) -> None:
    town = planted.town
    answers = {name: town.get(ROBBER, f"/wp-content/{folder}/{quote(name)}") for name in NAMES}
    assert answers["x.txt"].data.decode() == PAYLOAD  # the address is right
    assert [name for name, answer in answers.items() if MARK in answer.data.decode(errors="replace")] == []
    for name in ("x.php", "x.PHP", "x.php5", "x.php7", "x.phtml", "x.pht", "x.phar", "x.phps", ".php", "index.php"):
        assert answers[name].status == 404
    for path in (
        "x.php/x",
        "x.php/x.jpg",
        "x.txt/x.php",
        "x.php.jpg/x.php",
        "x.php%00.jpg",
        "x.txt%00.php",
        "x.php%0a",
        "",
    ):
        answer = town.get(ROBBER, f"/wp-content/{folder}/{path}")
        assert answer.status in (400, 403, 404)
        assert MARK not in answer.data.decode(errors="replace")


CARRIERS = ["svg", "svgz", "html", "htm", "xhtml", "xht", "xml", "xsl", "rdf", "rss", "atom", "mml", "pdf", "swf",
            "mht", "js", "mjs", "txt", "jpg", "unknown"]  # fmt: skip
BACKUPS = ["wp-config.php.bak", "wp-config.php~", "x.php.old", "x.php.orig", ".x.php.swp", "x.php.swo", "x.bak2",
           "#x.php#", "dump.sql", "dump.sql.gz", "dump.sql.zip", "site.bak.zip", "data.sqlite3", "x.php.save", "x.tmp",
           "wp-config.old.php", "wp-config.php.dist"]  # fmt: skip
LEFT_BEHIND = """
for folder in uploads plugins/left; do
    mkdir -p "/srv/wordpress/wp-content/$folder"; cd "/srv/wordpress/wp-content/$folder"
    for name in "$@"; do echo behind > "$name"; done
done
"""


def test_no_upload_may_run_scripts(sites: Sites) -> None:
    shell(sites.town, ROBBER, LEFT_BEHIND, *(f"carrier.{kind}" for kind in CARRIERS))
    for kind in CARRIERS:
        answer = sites.town.get(ROBBER, f"/wp-content/uploads/carrier.{kind}")
        assert (answer.status, answer.data) == (200, b"behind\n"), kind
        assert "script-src 'none'" in answer.headers["Content-Security-Policy"], kind
        assert answer.headers.getlist("X-Content-Type-Options") == ["nosniff"]
    assert "Content-Security-Policy" not in sites.town.get(ROBBER, "/wp-content/plugins/left/carrier.svg").headers


def test_what_editors_and_hosts_leave_behind_is_not_shown(sites: Sites) -> None:
    shell(sites.town, ROBBER, LEFT_BEHIND, *BACKUPS, "kept.zip")
    for folder in ("uploads", "plugins/left"):
        answers = {
            path: sites.town.get(ROBBER, f"/wp-content/{folder}/{quote(path)}") for path in [*BACKUPS, "kept.zip"]
        }
        assert answers.pop("kept.zip").data == b"behind\n"
        assert {path: answer.status for path, answer in answers.items()} == dict.fromkeys(BACKUPS, 404)


def test_what_tells_servers_to_run_things_is_ignored_and_hidden(planted: Sites) -> None:
    town = planted.town
    for folder in ("", *(f"{folder}/" for folder in FOLDERS)):
        for name in (".htaccess", ".user.ini"):
            assert town.get(ROBBER, f"/wp-content/{folder}{name}").status == 404
    for path in ("/", "/wp-login.php", "/wp-json/", "/wp-content/uploads/x.txt"):
        answer = town.get(ROBBER, path)
        assert answer.status == 200
        assert MARK not in answer.data.decode()


def test_core_runs_only_at_its_own_entry_points(sites: Sites) -> None:
    town = sites.town
    inner = ["/wp-load.php", "/wp-config.php", "/wp-settings.php", "/wp-includes/version.php", "/wp-includes/load.php"]
    installers = ["/wp-admin/install.php", "/wp-admin/setup-config.php", "/wp-admin/maint/repair.php"]
    assert {path: town.get(ROBBER, path).status for path in inner + installers} == dict.fromkeys(
        inner + installers, 404
    )


# Login names: nobody's business

AUTHOR_PAGES = [
    "/wp-json/wp/v2/posts?_embed=author", "/wp-json/wp/v2/posts?_embed", "/wp-json/wp/v2/pages?_embed=1",
    "/wp-json/wp/v2/comments?_embed", "/?rest_route=/wp/v2/posts&_embed=author", "/feed/", "/feed/atom/", "/feed/rdf/",
    "/comments/feed/", "/comments/feed/atom/", "/{post}/feed/", "/{post}/", "/", "/actualites/", "/wp-sitemap.xml",
    "/wp-sitemap-users-1.xml", "/wp-json/oembed/1.0/embed?url={url}",
]  # fmt: skip
REFUSED_PAGES = [
    "/wp-json/wp/v2/users", "/wp-json/wp/v2/Users", "/wp-json/wp/v2/users/1", "/wp-json/wp/v2/users?search=a",
    "/?rest_route=/wp/v2/users/1", "/wp-json/wp/v2/users/1?_embed", "/author/{login}/", "/?author=1",
    "/?author_name={login}", "/author/{login}/feed/",
]  # fmt: skip


@pytest.fixture(scope="module")
def written(sites: Sites) -> tuple[str, str]:
    """An article and a comment of somebody who gave no other name than the login; it is open to search engines."""
    program = """
    require "/srv/wordpress/wp-load.php";
    $id = wp_insert_user(["user_login" => $given["login"], "user_pass" => "x", "role" => "editor",
        "user_email" => "redaction@example.org", "display_name" => $given["login"]]);
    $post = wp_insert_post(["post_title" => "Assemblée", "post_content" => "Bonjour", "post_status" => "publish",
        "post_author" => $id]);
    wp_insert_comment(["comment_post_ID" => $post, "comment_author" => $given["login"], "user_id" => $id,
        "comment_content" => "Merci", "comment_approved" => 1, "comment_author_email" => "redaction@example.org"]);
    update_option("blog_public", 1);
    echo json_encode(get_permalink($post));
    """
    login = "zz-redaction-4711"
    return login, php(sites.town, ROBBER, program, login=login)


def test_no_page_shows_a_login_name(sites: Sites, written: tuple[str, str]) -> None:
    login, url = written
    path = "/" + url.partition("://")[2].partition("/")[2]
    for page in AUTHOR_PAGES:
        answer = sites.town.get(ROBBER, page.format(post=path.strip("/"), url=quote(url)))
        assert answer.status == 200, page
        assert login not in answer.data.decode(), page
    for page in REFUSED_PAGES:
        answer = sites.town.get(ROBBER, page.format(login=login))
        assert answer.status in (401, 404), page
        assert login not in answer.data.decode().replace(page.format(login=login), ""), page
    article = sites.town.get(ROBBER, path).data.decode()
    assert "Assemblée" in article
    assert "Merci" in article
    assert "Assemblée" in sites.town.get(ROBBER, "/feed/").data.decode()


# Using everything up (H12)


@dataclass
class Visitor:
    """Reads the neighbour's front page all the time, and notes how long each reading took."""

    town: Town
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Visitor":
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._end.is_set():
            begin = time.monotonic()
            try:
                answer = self.town.get(VICTIM)
                if answer.status != 200:
                    self.failures.append(f"status {answer.status}")
            except urllib3.exceptions.HTTPError as error:
                self.failures.append(repr(error))
            self.seconds.append(time.monotonic() - begin)
            time.sleep(0.1)


MEMORY_HOGS = """
for round in 1 2 3; do
    for hog in 1 2 3 4; do
        php -d memory_limit=-1 -r 'for ($all = [];;) { $all[] = str_repeat("x", 1 << 20); }' &
    done
    wait
done
echo ended
"""
FORK_BOMB = """
timeout --signal KILL 10 bash -c 'sleep 30 & pause=$!; bomb() { bomb | bomb & }; bomb; wait $pause'
echo ended
"""
SPINNERS = """
for spinner in 1 2 3 4 5 6 7 8; do timeout 5 bash -c 'while :; do :; done' & done
wait
echo ended
"""
GREED = {
    "memory": (MEMORY_HOGS, "Killed"),
    "processes": (FORK_BOMB, "Resource temporarily unavailable"),
    "processor": (SPINNERS, ""),
}


slow = pytest.mark.acceptance  # the limits that they meet are looked at in every run, below


@pytest.mark.parametrize(
    "what", ["memory", pytest.param("processes", marks=slow), pytest.param("processor", marks=slow)]
)
def test_a_greedy_site_harms_itself_alone(sites: Sites, what: str) -> None:
    town = sites.town
    script, sign = GREED[what]
    with Visitor(town) as visitor:
        greedy = shell(town, ROBBER, script)
    end = time.monotonic()
    assert sign in greedy.stderr  # the limit was met
    assert visitor.failures == []
    assert len(visitor.seconds) >= 3
    print(f"the neighbour answered within {max(visitor.seconds):.1f} s")
    while not answers(town, ROBBER):
        assert time.monotonic() - end < 10
        time.sleep(0.2)


def answers(town: Town, slug: str) -> bool:
    try:
        return town.get(slug).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def test_limits_are_in_force(sites: Sites) -> None:
    settings = sites.town.docker().containers.get(container(sites.town, ROBBER)).attrs["HostConfig"]
    assert settings["Memory"] == settings["MemorySwap"] == MEMORY_MB << 20
    assert settings["PidsLimit"] == PROCESSES
    assert settings["NanoCpus"] == 1_000_000_000
    assert settings["LogConfig"]["Config"] == {"max-size": "5m", "max-file": "2"}
    assert settings["RestartPolicy"]["Name"] == "unless-stopped"
    assert settings["NetworkMode"] == "none"
    assert settings["ReadonlyRootfs"]
    assert settings["CapDrop"] == ["ALL"]
    assert not settings["CapAdd"]
    # What the kernel was told, by whichever version of control groups.
    kernel = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null"
    assert int(shell(sites.town, ROBBER, kernel).stdout) == MEMORY_MB << 20
    kernel = "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null"
    assert int(shell(sites.town, ROBBER, kernel).stdout) == PROCESSES
