"""Measure backups and restores: a night of many sites, one large site against plain tools, what a visitor notices."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.full_site import FullSite
from tests.support.town import SECONDS, Town, association

SITES = 50
CHANGED = 3  # about 5 %
MYISAM_MB = 50
# Writes and reads a row of a table again and again, as the server's administrator beside the site; prints the
# longest answer, in milliseconds.
CLIENT = """
import os, sys, time, pymysql
os.setegid(20100); os.seteuid(20100)
link = pymysql.connect(unix_socket="/run/mysqld/mysqld.sock", user="mysql", database=sys.argv[1], autocommit=True)
cursor, longest, end = link.cursor(), 0.0, time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    for query in ("UPDATE {} SET note = 'x' WHERE id = 1", "SELECT note FROM {} WHERE id = 2"):
        began = time.monotonic()
        cursor.execute(query.format(sys.argv[3]))
        longest = max(longest, time.monotonic() - began)
    time.sleep(0.002)
print(longest * 1000)
"""


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def forget_read_files() -> None:
    """Empty the page cache: at night, nobody has just read the files."""
    subprocess.run(["sync"], check=True)
    Path("/proc/sys/vm/drop_caches").write_text("3")


def night(town: Town, *slugs: str) -> tuple[float, int]:
    """Back up; return the seconds of the whole command and the bytes that the repositories grew by."""
    before = folder_bytes(town.folder / "backups")
    began = time.monotonic()
    town.run("backup", *(slugs or ("--all",)))
    return time.monotonic() - began, folder_bytes(town.folder / "backups") - before


def plain_tools(site: FullSite, folder: Path) -> tuple[float, int]:
    """Dump and pack everything as an administrator would by hand; return seconds and bytes."""
    archive = folder / "plain.tar.zst"
    script = (
        f"docker exec {site.town.namespace}.database mariadb-dump --no-defaults --single-transaction --quick "
        f"{site.database()} > {folder}/plain.sql && "
        f"tar --zstd -cf {archive} {folder}/plain.sql -C {site.directory} media generations/1/content"
    )
    began = time.monotonic()
    subprocess.run(["bash", "-c", script], check=True, capture_output=True, timeout=SECONDS)
    return time.monotonic() - began, archive.stat().st_size


def longest_answer(site: FullSite, table: str, *, beside_backup: bool) -> float:
    """Return the milliseconds of the longest read or write of a client, beside a backup or alone."""
    image = site.town.docker().images.list(name="provision/agent")[0].id or ""
    command = [
        "docker", "run", "--rm", "--network", "none", "--label", f"provision.namespace={site.town.namespace}",
        "-v", f"{site.town.data_root}/run/database:/run/mysqld", "--entrypoint", "python3", image,
        "-c", CLIENT, site.database(), "12", table,
    ]  # fmt: skip
    client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    if beside_backup:
        time.sleep(1)
        site.town.run("backup", site.slug)
    output, _ = client.communicate(timeout=SECONDS)
    return float(output)


def many_sites(town: Town, _folder: Path) -> list[str]:
    """Return the rows of the table about a night of many small sites."""
    slugs = [f"many-{number}" for number in range(SITES)]
    town.run("create", "--from", town.describe(*(association(slug) for slug in slugs)))
    first, first_bytes = night(town)
    for slug in slugs[:CHANGED]:
        upload = town.data_root / "sites" / slug / "media" / "new.bin"
        upload.write_bytes(b"photo" * 100_000)
        town.sql(f"UPDATE {slug.replace('-', '_')}_1.wp_posts SET post_content = CONCAT(post_content, 'x')")
    before = {slug: folder_bytes(town.folder / "backups" / slug) for slug in slugs}
    began = time.monotonic()
    seconds = {one["slug"]: one["seconds"] for one in town.json("backup", "--all")}
    whole = time.monotonic() - began
    grown = {slug: folder_bytes(town.folder / "backups" / slug) - size for slug, size in before.items()}
    rows = [
        f"| first backup, per site, {SITES} small sites | {first / SITES:.2f} s | "
        f"{first_bytes / SITES / 2**20:.2f} MiB written | – |"
    ]
    for kind, some in (("unchanged", slugs[CHANGED:]), ("changed", slugs[:CHANGED])):
        # Some sites are worked on at the same time: each has its share of the night.
        share = whole * sum(seconds[slug] for slug in some) / sum(seconds.values()) / len(some)
        written = sum(grown[slug] for slug in some) / len(some)
        rows.append(
            f"| a night of {SITES} sites of which {CHANGED} changed: per {kind} site | {share:.2f} s | "
            f"{written / 1024:.1f} KiB written | 1.5 s |"
        )
    return rows


def large_site(town: Town, folder: Path) -> list[str]:
    """Return the rows about one site of 500 MiB."""
    site = FullSite(town, "large", 500, 800, 512 * 1024, 100)
    town.create(site.slug)
    site.fill()
    night(town, site.slug)
    forget_read_files()
    seconds, grown = night(town, site.slug)
    forget_read_files()
    plain, size = plain_tools(site, folder)
    alone, beside = (longest_answer(site, "wp_carnet", beside_backup=backup) for backup in (False, True))
    town.sql(
        f"USE {site.database()}; CREATE TABLE wp_carnet_large (id INT PRIMARY KEY, note TEXT) ENGINE=MyISAM; "
        f"INSERT INTO wp_carnet_large SELECT seq, REPEAT(SHA2(seq, 512), 8) FROM seq_1_to_{MYISAM_MB * 1000}"
    )
    locked = longest_answer(site, "wp_carnet_large", beside_backup=True)
    return [
        f"| 500 MiB, unchanged, nothing cached, time | {seconds:.2f} s | `mariadb-dump` + `tar.zst` {plain:.2f} s: "
        f"ratio {seconds / plain:.2f} | 0.5 |",
        f"| 500 MiB, unchanged, bytes | {grown / 2**20:.2f} MiB | {size / 2**20:.0f} MiB: ratio {grown / size:.4f} "
        "| 0.02 |",
        f"| longest read or write beside a backup | {beside:.0f} ms | {alone:.0f} ms with no backup | 200 ms |",
        f"| … of a MyISAM table of {MYISAM_MB} MB | {locked:.0f} ms | – | – |",
    ]


def restored_site(town: Town, _folder: Path) -> list[str]:
    """Return the row about restoring a site of 100 MiB that was lost, until HTTPS answers."""
    site = FullSite(town, "lost", 100, 200, 450 * 1024, 10)
    town.create(site.slug)
    site.fill()
    night(town, site.slug)
    site.destroy()
    began = time.monotonic()
    process = town.start("restore", site.slug, "--yes")
    while town.get(site.slug).status != 200:
        assert time.monotonic() - began < SECONDS
        time.sleep(0.1)
    answered = time.monotonic() - began
    assert process.wait(timeout=SECONDS) == 0
    return [f"| restore of 100 MiB until HTTPS answers | {answered:.2f} s | – | 15 s |"]


PARTS: dict[str, Callable[[Town, Path], list[str]]] = {
    "large": large_site,
    "restore": restored_site,
    "many": many_sites,
}


def main() -> None:
    """Print the table, row by row as they are measured; the arguments name parts of it."""
    sys.stdout.write("\n| backups | figure | baseline, same run | bound |\n| --- | --- | --- | --- |\n")
    with tempfile.TemporaryDirectory(prefix="provision-bench-") as folder:
        town = Town(Path(folder))
        try:
            town.init()
            for part in sys.argv[1:] or PARTS:
                sys.stdout.write("\n".join(PARTS[part](town, Path(folder))) + "\n")
                sys.stdout.flush()
        finally:
            town.remove()


if __name__ == "__main__":
    main()
