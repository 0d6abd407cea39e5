#!/bin/sh
# Makes a Debian 13 or Ubuntu 24.04 machine (Python >= 3.12) into a proxy under systemd: user, virtual
# environment in /opt/entrepot, configuration in /etc/entrepot, units. Run again, it upgrades what is
# installed; a configuration that exists is never touched.
#
#   sudo packaging/provision.sh [--source DIR] [--announce ADDRESS] [--registry]
#
#   --source DIR        the checkout to install from; default: the one this script is in
#   --announce ADDRESS  tell the local network by mDNS that docker-registry.local is at ADDRESS
#   --registry          a private registry behind the proxy, too: docker-registry.local/NAME:TAG
set -eu

home=/opt/entrepot
source=
announce=
registry=

say() { printf 'provision: %s\n' "$*"; }

fail() {
    printf 'provision: %s\n' "$*" >&2
    exit 1
}

parse_options() {
    while [ $# -gt 0 ]; do
        case $1 in
            --source | --announce) [ $# -ge 2 ] || fail "$1 needs a value" ;;
            --registry) ;;
            *) fail "unknown option: $1" ;;
        esac
        case $1 in
            --source) source=$2; shift ;;
            --announce) announce=$2; shift ;;
            --registry) registry=yes ;;
        esac
        shift
    done
}

# Only what is missing, so that a second run needs no package mirror.
install_packages() {
    missing=
    for package; do
        status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) || status=
        if [ "$status" != installed ]; then missing="$missing $package"; fi
    done
    if [ -z "$missing" ]; then return 0; fi
    say "installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update --quiet --quiet
    # shellcheck disable=SC2086  # a list of names
    apt-get install --quiet --quiet --yes --no-install-recommends $missing </dev/null
}

check_python() {
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 12))' ||
        fail "$(python3 --version) is too old: Debian 13 and Ubuntu 24.04 bring one that fits (>= 3.12)"
}

make_user() {
    if id entrepot >/dev/null 2>&1; then return 0; fi
    say "making the user entrepot"
    useradd --system --user-group --home-dir /var/lib/entrepot --no-create-home \
        --shell /usr/sbin/nologin entrepot
}

# A Python that was upgraded leaves an environment that no longer runs: then a new one is made.
install_program() {
    if ! "$home/.venv/bin/python" -c 'import pip' 2>/dev/null; then
        say "making $home/.venv"
        python3 -m venv --clear "$home/.venv"
    fi
    say "installing from $source"
    "$home/.venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
        --upgrade "$source"
}

# Readable for the service only: it may come to hold passwords.
install_configuration() {
    install -d -m 0750 -o root -g entrepot /etc/entrepot
    if [ -e /etc/entrepot/entrepot.yaml ]; then
        say "/etc/entrepot/entrepot.yaml stays as it is"
    else
        install -m 0640 -o root -g entrepot "$source/config/entrepot.yaml" /etc/entrepot/entrepot.yaml
    fi
    if [ -n "$announce" ]; then
        printf 'ADDRESS=%s\nNAME=docker-registry.local\n' "$announce" >/etc/entrepot/announce
    fi
}

# Once made they stay: clients have logged in with the password. Not shown, as logs are kept.
make_registry_secrets() {
    password=/etc/entrepot/registry-password
    if [ ! -e "$password" ]; then
        (umask 027 && random_text >"$password.new")
        chgrp entrepot "$password.new"
        mv "$password.new" "$password"
    fi
    if [ ! -e /etc/entrepot/registry.env ]; then
        (umask 077 && printf 'REGISTRY_HTTP_SECRET=%s\n' "$(random_text)" >/etc/entrepot/registry.env)
    fi
    environment=/etc/entrepot/environment
    if ! grep -qs '^PRIVATE_REGISTRY=' "$environment"; then
        (umask 077 && cat >>"$environment" <<-END
		PRIVATE_REGISTRY=http://127.0.0.1:5000
		REGISTRY_LISTEN=*:443
		USERNAME=admin
		PASSWORD_FILE=$password
		END
        )
    fi
}

random_text() {
    head -c 24 /dev/urandom | base64 | tr '+/' '-_'
}

# Both run as one user: the proxy collects garbage in the registry's storage.
install_registry() {
    install_packages docker-registry
    make_registry_secrets
    install -d -m 0750 -o entrepot -g entrepot /var/lib/registry
    ln -sf /usr/bin/docker-registry /usr/local/bin/registry
    settings=/etc/docker/registry/config.yml
    # What Debian's package brought is kept once; later the file is the operator's.
    if [ ! -e "$settings.debian" ]; then
        mv "$settings" "$settings.debian"
        install -m 0644 "$source/config/registry.yml" "$settings"
    fi
    for unit in docker-registry entrepot; do
        install -d -m 0755 "/etc/systemd/system/$unit.service.d"
    done
    install -m 0644 "$source/packaging/registry.conf" \
        /etc/systemd/system/docker-registry.service.d/entrepot.conf
    install -m 0644 "$source/packaging/entrepot-registry.conf" \
        /etc/systemd/system/entrepot.service.d/registry.conf
}

install_units() {
    units=entrepot.service
    if [ -n "$announce" ]; then units="$units entrepot-announce.service"; fi
    for unit in $units; do
        install -m 0644 "$source/packaging/$unit" "/etc/systemd/system/$unit"
    done
    if [ -n "$registry" ]; then units="docker-registry.service $units"; fi
    systemctl daemon-reload
    for unit in $units; do
        systemctl enable --quiet "$unit"
        # Not start: after an upgrade the new code is to run.
        systemctl restart "$unit"
    done
}

main() {
    parse_options "$@"
    [ "$(id -u)" -eq 0 ] || fail "this needs root"
    if [ -z "$source" ]; then source=$(cd "$(dirname "$0")/.." && pwd); fi
    [ -f "$source/pyproject.toml" ] || fail "$source is not a checkout of Entrepot: see --source"
    install_packages ca-certificates python3 python3-venv
    if [ -n "$announce" ]; then install_packages avahi-daemon avahi-utils; fi
    check_python
    make_user
    install_program
    install_configuration
    if [ -n "$registry" ]; then install_registry; fi
    install_units
    if [ -n "$registry" ]; then
        say "the registry's user is admin, the password in /etc/entrepot/registry-password"
    fi
    say "done: http://docker-registry.local:3128/ once the name resolves; journalctl -u entrepot"
}

main "$@"
