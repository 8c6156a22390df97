"""What one site's SQL may do to the server that all share."""

import subprocess
import time

import pytest

from tests.support.inside import php
from tests.support.town import Town

SITE, NEIGHBOUR = "robber", "neighbour"
# Each statement as the site's own user; what it was answered, or nothing.
AS_THE_SITE = """
$login = json_decode(file_get_contents('/run/secrets/generation/generation.json'), true);
mysqli_report(MYSQLI_REPORT_OFF);
$link = new mysqli('localhost', $login['user'], $login['password'], $login['database']);
foreach ($given['statements'] as $statement) {
    $answers[] = $link->query($statement) ? '' : $link->error;
}
echo json_encode($answers);
"""
ELSEWHERE = {
    "innodb": "ENGINE=InnoDB DATA DIRECTORY='/tmp/'",
    "innodb-run": "ENGINE=InnoDB DATA DIRECTORY='/run/mysqld/'",
    "myisam": "ENGINE=MyISAM DATA DIRECTORY='/tmp/' INDEX DIRECTORY='/tmp/'",
    "aria": "ENGINE=Aria TRANSACTIONAL=1 DATA DIRECTORY='/tmp/' INDEX DIRECTORY='/tmp/'",
    "partition": "ENGINE=InnoDB PARTITION BY HASH (a) (PARTITION p0 DATA DIRECTORY='/tmp/', PARTITION p1)",
    "partition-aria": "ENGINE=Aria PARTITION BY HASH (a) (PARTITION p0 DATA DIRECTORY='/tmp/', PARTITION p1)",
}


@pytest.fixture(scope="module")
def sites(town: Town) -> Town:
    """A town with two sites."""
    town.create(SITE, NEIGHBOUR)
    return town


@pytest.mark.parametrize("strict", ["ON", "OFF"])
def test_a_table_outside_the_data_directory_ends_nobody(sites: Town, strict: str) -> None:
    """J5: refused or put where all tables are; after a power cut the server starts, and the neighbour serves."""
    statements = [f"SET SESSION innodb_strict_mode = {strict}"]
    for kind, options in ELSEWHERE.items():
        name = f"wp_{kind.replace('-', '_')}_{strict.lower()}"
        statements += [f"CREATE TABLE {name} (a INT PRIMARY KEY) {options}", f"INSERT INTO {name} VALUES (1), (2)"]
    answers = php(sites, SITE, AS_THE_SITE, statements=statements)
    database = sites.docker().containers.get(f"{sites.namespace}.database")
    outside = "find /tmp /run/mysqld -name '*.ibd' -o -name '*.MYD' -o -name '*.MAD' -o -name '*.MAI'"
    assert database.exec_run(["sh", "-c", outside]).output == b"", answers
    database.kill()
    database.start()
    deadline = time.monotonic() + 60
    while True:
        try:
            assert sites.sql("SELECT 1") == "1\n"
            break
        except subprocess.CalledProcessError:
            assert time.monotonic() < deadline, database.logs(tail=5).decode()
            time.sleep(0.5)
    assert sites.get(NEIGHBOUR).status == 200
    for statement, answer in zip(statements, answers, strict=True):  # what was accepted is there
        if statement.startswith("INSERT") and not answer:
            assert sites.sql(f"SELECT COUNT(*) FROM {SITE}_1.{statement.split()[2]}") == "2\n"
