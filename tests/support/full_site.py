"""A site that holds everything a snapshot must bring back: many files with awkward names, many rows, odd tables."""

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.town import Town

AWKWARD = (
    "with spaces.jpg",
    'it\'s "quoted".jpg',
    "line\nbreak.jpg",
    "été à l’étang.jpg",
    "e\u0301te\u0301.jpg",
    "日本語.jpg",
    "-rf.jpg",
    "$(true);&|.jpg",
    "x" * 246 + ".jpg",
)
PLUGIN = """<?php
/* Plugin Name: Carnet */
add_action('wp_footer', function () { echo '<!-- carnet -->'; });
"""
POST = (
    "INSERT INTO wp_posts (post_author, post_date, post_date_gmt, post_content, post_title, post_excerpt, post_status, "
    "post_name, to_ping, pinged, post_modified, post_modified_gmt, post_content_filtered, post_type, post_mime_type)"
)
OBJECTS = """
CREATE TABLE wp_carnet (id INT PRIMARY KEY AUTO_INCREMENT, note TEXT) ENGINE=InnoDB;
CREATE TABLE wp_carnet_old (id INT PRIMARY KEY, note VARCHAR(200), FULLTEXT (note)) ENGINE=MyISAM;
CREATE TABLE wp_carnet_before (
    id INT PRIMARY KEY, note VARCHAR(99) CHARACTER SET latin1 COLLATE latin1_german2_ci,
    more TEXT CHARACTER SET utf8mb3 COLLATE utf8mb3_general_ci, raw BLOB, twice INT AS (id * 2) STORED,
    at DATETIME NOT NULL DEFAULT '0000-00-00 00:00:00'
) ENGINE=InnoDB DEFAULT CHARSET=latin1;
INSERT INTO wp_carnet_before (id, note, more, raw) VALUES (1, 'déjà vu', 'œuvre', X'00FF27225C0A1A0D');
INSERT INTO wp_carnet (note) SELECT CONCAT('élève ', seq, ' 🎒') FROM seq_1_to_1000;
INSERT INTO wp_carnet_old SELECT seq, CONCAT('CREATE DEFINER=`x`@`y` ', seq, '\\n(1),') FROM seq_1_to_300;
CREATE VIEW wp_carnet_view AS SELECT id, note FROM wp_carnet WHERE id > 10;
CREATE TRIGGER wp_carnet_stamp BEFORE INSERT ON wp_carnet FOR EACH ROW SET NEW.note = CONCAT(NEW.note, '!');
CREATE PROCEDURE wp_carnet_count() SELECT COUNT(*) FROM wp_carnet;
CREATE FUNCTION wp_carnet_one() RETURNS INT DETERMINISTIC RETURN 1;
CREATE EVENT wp_carnet_nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM wp_carnet_old WHERE id > 1000000;
"""


@dataclass(frozen=True)
class FullSite:
    """A site of a town, filled by rows and files as WordPress writes them."""

    town: Town
    slug: str
    posts: int
    media: int
    media_bytes: int  # of one file
    database_mb: int

    def database(self, number: int = 1) -> str:
        """Return the name of a generation's database."""
        return f"{self.slug.replace('-', '_')}_{number}"

    @property
    def directory(self) -> Path:
        """Return the site's directory on the host."""
        return self.town.data_root / "sites" / self.slug

    def fill(self) -> None:
        """Write everything."""
        owner = (self.directory / "media").stat().st_uid
        uploads = self.directory / "media" / "2026" / "11"
        uploads.mkdir(parents=True, exist_ok=True)
        names = [*AWKWARD, *(f"photo-{number}.jpg" for number in range(self.media - len(AWKWARD)))]
        for name in names:
            (uploads / name).write_bytes(os.urandom(self.media_bytes))
        plugin = self.directory / "generations" / "1" / "content" / "plugins" / "carnet"
        plugin.mkdir(parents=True, exist_ok=True)
        (plugin / "carnet.php").write_text(PLUGIN)
        for folder in (self.directory / "media", plugin):
            for path in (folder, *folder.rglob("*")):
                os.lchown(path, owner, owner)
        # Files with awkward names have no row: WordPress would not name them so, an FTP client did.
        self.town.sql(
            f"USE {self.database()};"
            f"{POST} SELECT 1, NOW(), UTC_TIMESTAMP(), CONCAT('Contenu de l’article ', seq, REPEAT(' été', 50)), "
            "CONCAT('Article ', seq), '', 'publish', CONCAT('article-', seq), '', '', NOW(), UTC_TIMESTAMP(), '', "
            f"'post', '' FROM seq_1_to_{self.posts};"
            f"{POST} SELECT 1, NOW(), UTC_TIMESTAMP(), '', CONCAT('photo-', seq), '', 'inherit', "
            "CONCAT('photo-', seq), '', '', NOW(), UTC_TIMESTAMP(), '', 'attachment', 'image/jpeg' "
            f"FROM seq_0_to_{self.media - len(AWKWARD) - 1};"
            "INSERT INTO wp_postmeta (post_id, meta_key, meta_value) SELECT ID, '_wp_attached_file', "
            "CONCAT('2026/11/', post_title, '.jpg') FROM wp_posts WHERE post_type = 'attachment';"
            "INSERT INTO wp_comments (comment_post_ID, comment_author, comment_author_email, comment_author_url, "
            "comment_author_IP, comment_date, comment_date_gmt, comment_content, comment_agent) "
            "SELECT ID, 'Visite', 'visite@example.org', '', '', NOW(), UTC_TIMESTAMP(), CONCAT('Bravo ', seq), '' "
            f"FROM wp_posts, seq_1_to_{self.posts} WHERE post_name = 'article-1';"
            "INSERT INTO wp_users (user_login, user_pass, user_nicename, user_email, user_registered, display_name)"
            " SELECT CONCAT('membre-', seq), '!', CONCAT('membre-', seq), CONCAT('membre-', seq, '@example.org'), "
            "NOW(), CONCAT('Membre ', seq) FROM seq_1_to_50;"
            "UPDATE wp_options SET option_value = 'a:1:{i:0;s:17:\"carnet/carnet.php\";}' "
            "WHERE option_name = 'active_plugins';"
            + OBJECTS
            + f"INSERT INTO wp_carnet (note) SELECT REPEAT(SHA2(seq, 512), 8) FROM seq_1_to_{self.database_mb * 1000};"
        )
        self._run_due_tasks()

    def _run_due_tasks(self) -> None:
        """Let WordPress do what it has due: its first tasks write options, which must not fall between two looks."""
        socket = f"/run/sites/{self.slug}/current/http.sock"
        call = ["curl", "--silent", "--fail", "--unix-socket", socket, "http://localhost/wp-cron.php?doing_wp_cron"]
        subprocess.run(["docker", "exec", f"{self.town.namespace}.cron", *call], check=True, timeout=120)

    def checksums(self, number: int) -> dict[str, str]:
        """Return MariaDB's own checksum of every table, and the text of every view, trigger, routine and event.

        WordPress writes to its options by itself (times of the next cron run): those rows are left out.
        """
        name = self.database(number)
        sql = self.town.sql
        tables = sql(
            "SELECT table_name FROM information_schema.tables "
            f"WHERE table_schema = '{name}' AND table_type = 'BASE TABLE' AND table_name <> 'wp_options' ORDER BY 1"
        ).split()
        found = {}
        for line in sql(f"CHECKSUM TABLE {', '.join(f'{name}.{table}' for table in tables)}").splitlines():
            table, checksum = line.split("\t")
            found[table.partition(".")[2]] = checksum
        kept = "option_name NOT LIKE '%transient%' AND option_name NOT IN ('cron', 'rewrite_rules')"
        found["wp_options"] = sql(
            f"SELECT option_name, MD5(option_value) FROM {name}.wp_options WHERE {kept} ORDER BY BINARY option_name"
        )
        for kind, query in {
            "views": "SELECT table_name, "
            f"REPLACE(view_definition, '`{name}`.', '') FROM views WHERE table_schema = '{name}'",
            "triggers": f"SELECT trigger_name, action_statement FROM triggers WHERE trigger_schema = '{name}'",
            "routines": f"SELECT routine_name, routine_definition FROM routines WHERE routine_schema = '{name}'",
            "events": f"SELECT event_name, event_definition FROM events WHERE event_schema = '{name}'",
        }.items():
            found[kind] = sql(f"USE information_schema; {query} ORDER BY 1")
        return found

    def definers(self, number: int) -> set[str]:
        """Return who owns the views, triggers, routines and events of a generation's database."""
        name = self.database(number)
        return set(
            self.town.sql(
                "USE information_schema; "
                f"SELECT definer FROM views WHERE table_schema = '{name}' "
                f"UNION SELECT definer FROM triggers WHERE trigger_schema = '{name}' "
                f"UNION SELECT definer FROM routines WHERE routine_schema = '{name}' "
                f"UNION SELECT definer FROM events WHERE event_schema = '{name}'"
            ).split()
        )

    def hashes(self, number: int, media: str) -> dict[str, str]:
        """Return the SHA-256 of every file of a generation, by its path in wp-content."""
        content = self.directory / "generations" / str(number) / "content"
        found = {}
        for root, prefix in ((content, ""), (self.directory / media, "uploads/")):
            for path in root.rglob("*"):
                if path.is_file():
                    digest = hashlib.file_digest(path.open("rb"), "sha256").hexdigest()
                    found[f"{prefix}{path.relative_to(root)}"] = (
                        f"{digest} {path.stat().st_uid} {path.stat().st_mtime_ns}"
                    )
        return found

    def destroy(self) -> None:
        """Remove all of the first generation behind the back of `provision`: database, files, media."""
        self.town.docker().containers.get(f"{self.town.namespace}.site.{self.slug}.1").remove(force=True)
        name = self.database()
        self.town.sql(f"DROP DATABASE {name}; DROP USER {name}@localhost, {name}_reader@localhost")
        shutil.rmtree(self.directory / "generations" / "1")
        shutil.rmtree(self.directory / "media")
