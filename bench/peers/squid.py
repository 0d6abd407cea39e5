"""Squid with ssl_bump: the one peer that is reached by CONNECT as we are."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers.listening import listens
from bench.peers.server import Server
from bench.upstream import Upstream
from tests.support.pki import TestAuthority
from tests.support.ports import ReservedPort
from tests.support.processes import Program

_START_S = 30.0
_CERTIFICATES = "/usr/lib/squid/security_file_certgen"
# Debian's own user, which it becomes when it is started by root.
_USER = "proxy"


@contextmanager
def squid(
    directory: Path, upstream: Upstream, authority: TestAuthority, prefix: list[str]
) -> Iterator[Server]:
    directory.mkdir()
    _make_authority(directory)
    reserved = ReservedPort("127.0.0.1")
    (directory / "cache").mkdir()
    made = [_CERTIFICATES, "-c", "-s", str(directory / "certificates"), "-M", "4MB"]
    subprocess.run(made, check=True, capture_output=True)
    file = directory / "squid.conf"
    file.write_text(_config(directory, authority, reserved.number))
    _give_to_squid(directory)
    command = ["squid", "-N", "-f", str(file)]
    subprocess.run([*command, "-z"], check=True, capture_output=True)
    program = Program([*prefix, *command], directory / "log")
    try:
        program.wait_ready(lambda: listens(reserved.number), _START_S)
        trust = directory / "trust.pem"
        trust.write_text((directory / "ca.pem").read_text() + authority.pem)
        address = f"127.0.0.1:{reserved.number}"
        yield Server("squid", f"localhost:{upstream.port}", trust, program.pid, proxy=address)
    finally:
        program.terminate()


def _make_authority(directory: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=Bench"]
    command += ["-keyout", str(directory / "ca.key"), "-out", str(directory / "ca.pem")]
    subprocess.run(command, check=True, capture_output=True)


def _config(directory: Path, authority: TestAuthority, port: int) -> str:
    return f"""
http_port 127.0.0.1:{port} ssl-bump tls-cert={directory}/ca.pem tls-key={directory}/ca.key \
generate-host-certificates=on dynamic_cert_mem_cache_size=4MB
sslcrtd_program {_CERTIFICATES} -s {directory}/certificates -M 4MB
sslcrtd_children 2
ssl_bump bump all
http_access allow all
tls_outgoing_options cafile={authority.ca_file}
maximum_object_size 4 GB
cache_mem 64 MB
cache_dir ufs {directory}/cache 6144 16 64
collapsed_forwarding on
access_log none
cache_log {directory}/cache.log
cache_store_log none
coredump_dir {directory}
pid_filename none
shutdown_lifetime 1 seconds
visible_hostname bench.test
pinger_enable off
"""


def _give_to_squid(directory: Path) -> None:
    if os.geteuid() != 0:
        return
    for path in (directory, *directory.rglob("*")):
        shutil.chown(path, _USER)
