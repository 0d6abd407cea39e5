"""nginx over TLS: as a cache in front of the upstream, and as a server of files.

The cache is what rpardini's proxy has inside, without its CONNECT in front.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers.listening import listens
from bench.peers.server import Server
from bench.upstream import Upstream
from tests.support.pki import TestAuthority
from tests.support.ports import ReservedPort
from tests.support.processes import Program

_START_S = 20.0


@contextmanager
def nginx_cache(
    directory: Path, upstream: Upstream, authority: TestAuthority, prefix: list[str]
) -> Iterator[Server]:
    directory.mkdir()
    port = upstream.authority.rpartition(":")[2]
    with _nginx(
        directory,
        authority,
        prefix,
        outside=f"""
          proxy_cache_path {directory}/cache levels=1:2 use_temp_path=off keys_zone=all:16m
            max_size=6g inactive=1d;
          upstream registry {{ server 127.0.0.1:{port}; keepalive 16; }}""",
        inside=f"""
          location / {{
            proxy_pass https://registry; proxy_http_version 1.1;
            proxy_set_header Connection ""; proxy_set_header Host $host;
            proxy_ssl_verify on; proxy_ssl_name localhost;
            proxy_ssl_trusted_certificate {authority.ca_file};
            proxy_cache all; proxy_cache_key $uri; proxy_cache_valid 200 206 1d;
            proxy_cache_lock on; proxy_cache_lock_timeout 1h; proxy_cache_lock_age 1h; }}""",
    ) as (address, pid):
        yield Server("nginx", address, authority.ca_file, pid)


@contextmanager
def nginx_files(
    directory: Path, authority: TestAuthority, prefix: list[str], root: Path
) -> Iterator[Server]:
    directory.mkdir()
    location = f"location / {{ root {root}; }}"
    with _nginx(directory, authority, prefix, outside="", inside=location) as (address, pid):
        yield Server("nginx files", address, authority.ca_file, pid)


@contextmanager
def _nginx(
    directory: Path, authority: TestAuthority, prefix: list[str], *, outside: str, inside: str
) -> Iterator[tuple[str, int]]:
    certificate = authority.issue("127.0.0.1", "localhost")
    reserved = ReservedPort("127.0.0.1")
    file = directory / "nginx.conf"
    places = "".join(
        f"{name}_temp_path {directory}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file.write_text(f"""
        daemon off; worker_processes 1; pid {directory}/pid; error_log {directory}/error.log;
        user root; worker_rlimit_nofile 8192;
        events {{ worker_connections 4096; }}
        http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 10000000; {places}
          default_type application/octet-stream; {outside}
          server {{ listen 127.0.0.1:{reserved.number} ssl backlog=1024;
            ssl_certificate {certificate.certificate}; ssl_certificate_key {certificate.key};
            {inside} }} }}
    """)
    program = Program([*prefix, "nginx", "-e", "stderr", "-c", str(file)], directory / "log")
    try:
        program.wait_ready(lambda: listens(reserved.number), _START_S)
        yield f"127.0.0.1:{reserved.number}", program.pid
    finally:
        # Not killed: its worker would stay.
        program.terminate()
