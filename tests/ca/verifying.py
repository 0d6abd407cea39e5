"""Leaves as verifiers see them that are not ours."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from entrepot.ca.issuer import key_pem, pem
from entrepot.ca.leaf import Leaf


def openssl_verify(
    directory: Path, leaf: Leaf, trusted: Sequence[x509.Certificate], host: str, now: float
) -> str:
    """Empty where OpenSSL is content; else what it says. As strict as it can be."""
    files = {
        "trusted": pem(trusted),
        "chain": pem(leaf.chain),
        "leaf": pem([leaf.certificate]),
    }
    for name, content in files.items():
        (directory / name).write_bytes(content)
    is_address = all(character in "0123456789abcdef:." for character in host) and (
        ":" in host or host.replace(".", "").isdecimal()
    )
    command = [
        *("openssl", "verify", "-x509_strict", "-purpose", "sslserver"),
        *("-attime", str(int(now)), "-no-CApath", "-no-CAstore"),
        *("-verify_ip" if is_address else "-verify_hostname", host),
        *("-CAfile", str(directory / "trusted")),
        *(("-untrusted", str(directory / "chain")) if leaf.chain else ()),
        str(directory / "leaf"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr


def write_server_files(directory: Path, leaf: Leaf) -> tuple[Path, Path]:
    certificate, key = directory / "server.crt", directory / "server.key"
    certificate.write_bytes(pem([leaf.certificate, *leaf.chain]))
    key.write_bytes(key_pem(leaf.key))
    return certificate, key
