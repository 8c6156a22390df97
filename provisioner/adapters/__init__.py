"""The world outside: Docker hosts, MariaDB, the edge, certificates, mail servers, name servers."""
