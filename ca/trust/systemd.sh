#!/bin/sh
# Points docker or containerd on this machine at an Entrepot proxy and makes the machine trust the
# proxy's CA; or takes both back. The proxy serves this file:
#
#   curl -fsS http://docker-registry.local:3128/setup/systemd | sudo sh
#   curl -fsS http://docker-registry.local:3128/setup/systemd | sudo sh -s -- --undo
#
# The proxy puts two assignments before it; run from a file, it takes them from the environment:
#   ENTREPOT_URL        http://docker-registry.local:3128
#   ENTREPOT_CA_SHA256  SHA-256 of the certificate in /ca.crt, in DER; of several: space-separated
# ENTREPOT_ROOT is put before every path, for tests.
#
# Nothing but definitions stands before the last line, so that a download that was cut off does
# nothing. Only what every system has is used: no openssl, no awk.

usage() {
    cat <<'END'
usage: systemd.sh [--unit NAME]... [--no-proxy LIST]... [--ca-sha256 HEX]... [--no-restart] [--dry-run]
       systemd.sh --undo [--no-restart] [--dry-run]

  --unit NAME      the service to set up, repeatable; default: docker, or containerd without docker
  --no-proxy LIST  what else is reached directly: names, .domains, addresses, ranges (cluster ranges!)
  --ca-sha256 HEX  fingerprint of the CA, from `entrepot ca show` on the proxy: nothing else is trusted
  --no-restart     do not restart the services that are running
  --dry-run        say what would be done, and do nothing
  --undo           remove what an earlier run added
END
}

say() { printf 'entrepot: %s\n' "$*"; }
warn() { printf 'entrepot: warning: %s\n' "$*" >&2; }

fail() {
    printf 'entrepot: %s\n' "$*" >&2
    exit 1
}

misused() {
    printf 'entrepot: %s\n' "$*" >&2
    usage >&2
    exit 2
}

# Says what is done, or would be; its status says whether to do it.
doing() {
    if [ -n "$dry_run" ]; then
        say "would $*"
        return 1
    fi
    say "$*"
}

# ---- settings

parse_options() {
    undo='' dry_run='' restart=1 units='' no_proxy='' pins=''
    while [ $# -gt 0 ]; do
        case $1 in
            --unit | --no-proxy | --ca-sha256) [ $# -ge 2 ] || misused "$1 needs a value" ;;
        esac
        case $1 in
            --unit) add_unit "$2" && shift ;;
            --no-proxy) add_no_proxy "$2" && shift ;;
            --ca-sha256) add_pin "$2" && shift ;;
            --undo) undo=1 ;;
            --no-restart) restart='' ;;
            --dry-run) dry_run=1 ;;
            --help) usage && exit 0 ;;
            *) misused "unknown option: $1" ;;
        esac
        shift
    done
    if [ -n "$undo" ] && [ -n "$units$no_proxy$pins" ]; then
        misused "--undo takes back everything: no --unit, --no-proxy or --ca-sha256 with it"
    fi
}

add_unit() {
    case $1 in
        '' | *[!A-Za-z0-9@._-]*) misused "not the name of a unit: $1" ;;
    esac
    units="$units ${1%.service}"
}

add_no_proxy() {
    case $1 in
        *[!]A-Za-z0-9._:/,*%\ [-]*) misused "not a list for NO_PROXY: $1" ;;
    esac
    no_proxy="$no_proxy,$1"
}

add_pin() {
    pin=$(plain_hex "$1")
    is_sha256 "$pin" || misused "not a SHA-256 in hexadecimal: $1"
    pins="$pins $pin"
}

# Fingerprints are written with colons by some tools, in capitals by others.
plain_hex() { printf '%s' "$1" | tr -d ': ' | tr A-F a-f; }

is_sha256() {
    case $1 in
        *[!0-9a-f]*) return 1 ;;
    esac
    [ ${#1} -eq 64 ]
}

check_settings() {
    for name in ENTREPOT_URL ENTREPOT_CA_SHA256; do
        eval "value=\${$name:-}"
        if [ -z "$value" ]; then
            fail "$name is not set: fetch this script from the proxy, http://HOST:3128/setup/systemd"
        fi
    done
    case $ENTREPOT_URL in
        http://*[!]A-Za-z0-9.:%_[-]* | http://) fail "not the URL of a proxy: $ENTREPOT_URL" ;;
        http://*) ;;
        *) fail "not the URL of a proxy: $ENTREPOT_URL" ;;
    esac
    for value in $ENTREPOT_CA_SHA256; do
        is_sha256 "$(plain_hex "$value")" || fail "ENTREPOT_CA_SHA256 is not a SHA-256: $value"
    done
}

# ---- files

# put FILE TEXT: status 0 if the file was, or would be, changed. A half-written file is never seen
# under its own name, and under a hidden one no tool takes it for a certificate or a drop-in.
put() {
    if [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; then return 1; fi
    if doing "write ${1#"$root"}"; then
        half=${1%/*}/.entrepot.$$
        printf '%s\n' "$2" >"$half" || fail "cannot write $1"
        mv -f "$half" "$1" || fail "cannot write $1"
    fi
}

take_away() {
    if doing "remove ${1#"$root"}"; then rm -f "$1" || fail "cannot remove $1"; fi
}

# Directories that are made here are noted in the drop-ins, the deepest first, for --undo.
made_directories=''
make_directory() {
    if [ -d "$1" ]; then return 0; fi
    make_directory "${1%/*}"
    made_directories="${1#"$root"} $made_directories"
    if [ -z "$dry_run" ]; then mkdir "$1" || fail "cannot make $1"; fi
}

# ---- the CA

# Where the distribution takes further CAs from, and what reads them in.
# The order matters: SUSE has Debian's tool too, Arch has Fedora's.
find_trust_store() {
    if [ -d "$root/etc/pki/trust/anchors" ] && has update-ca-certificates; then
        anchors=$root/etc/pki/trust/anchors trust_tool=update-ca-certificates
    elif [ -d "$root/etc/pki/ca-trust/source/anchors" ] && has update-ca-trust; then
        anchors=$root/etc/pki/ca-trust/source/anchors trust_tool='update-ca-trust extract'
    elif [ -d "$root/etc/ca-certificates/trust-source/anchors" ] && has update-ca-trust; then
        anchors=$root/etc/ca-certificates/trust-source/anchors trust_tool='update-ca-trust extract'
    elif [ -d "$root/etc/ca-certificates/trust-source/anchors" ] && has trust; then
        anchors=$root/etc/ca-certificates/trust-source/anchors trust_tool='trust extract-compat'
    elif has update-ca-certificates; then
        anchors=$root/usr/local/share/ca-certificates trust_tool=update-ca-certificates
    else
        return 1
    fi
}

has() { command -v "$1" >/dev/null 2>&1; }

# Only when asked to start afresh does update-ca-certificates drop its links to files that are gone.
start_afresh() {
    case $trust_tool in
        update-ca-certificates) trust_tool='update-ca-certificates --fresh' ;;
    esac
}

update_trust_store() {
    if doing "run $trust_tool"; then
        # shellcheck disable=SC2086  # a command and its argument
        $trust_tool >"$work/tool.log" 2>&1 || return 1
    fi
}

# The proxy is asked directly, whatever proxy this shell is set to use.
fetch() {
    (
        unset http_proxy HTTP_PROXY https_proxy HTTPS_PROXY all_proxy ALL_PROXY
        if has curl; then
            curl -fsS --noproxy '*' --max-time 30 -o "$2" "$1"
        elif has wget; then
            # No -T: with it and -q, wget of BusyBox 1.35 crashes.
            wget -q -O "$2" "$1"
        else
            fail "neither curl nor wget is installed"
        fi
    ) || fail "could not fetch $1"
}

# One file per certificate: during a rotation there are two, and update-ca-certificates wants them
# apart. Whatever stands between them is left out.
split_certificates() {
    count=0 inside='' return_character=$(printf '\r')
    while IFS= read -r line || [ -n "$line" ]; do
        line=${line%"$return_character"}
        case $line in
            '-----BEGIN CERTIFICATE-----') count=$((count + 1)) inside=1 ;;
        esac
        if [ -n "$inside" ]; then printf '%s\n' "$line" >>"$work/$count.pem"; fi
        case $line in
            '-----END CERTIFICATE-----') inside='' ;;
        esac
    done <"$1"
    [ "$count" -gt 0 ] && [ -z "$inside" ]
}

# A certificate is a DER sequence, 30 82 and two bytes of length, and nothing after it.
decode_certificate() {
    sed '/^-----/d' "$1" | base64 -d >"$2" 2>/dev/null || return 1
    # shellcheck disable=SC2046  # four numbers
    set -- "$(($(wc -c <"$2")))" $(od -An -tu1 -N4 "$2")
    [ $# -eq 5 ] && [ "$2" -eq 48 ] && [ "$3" -eq 130 ] && [ $(($4 * 256 + $5 + 4)) -eq "$1" ]
}

sha256() {
    digest=$(sha256sum) || return 1
    printf '%s' "${digest%% *}"
}

# Sets $fingerprints, in the order of $work/1.pem, $work/2.pem and so on.
fetch_certificates() {
    fetch "$ENTREPOT_URL/ca.crt" "$work/ca.crt"
    split_certificates "$work/ca.crt" || fail "$ENTREPOT_URL/ca.crt is not a whole PEM file"
    fingerprints='' index=0
    while [ "$index" -lt "$count" ]; do
        index=$((index + 1))
        decode_certificate "$work/$index.pem" "$work/$index.der" ||
            fail "$ENTREPOT_URL/ca.crt does not hold certificates"
        cat "$work/$index.der" >>"$work/all.der"
        fingerprints="$fingerprints $(sha256 <"$work/$index.der")"
    done
}

# What the proxy says of its own file proves only that the file came whole: who can change the one
# can change the other. A fingerprint brought from elsewhere proves who it is, and then every
# certificate has to be named by one.
choose_certificates() {
    if [ -z "$pins" ]; then
        chosen=$fingerprints
        for expected in $(printf '%s' "$ENTREPOT_CA_SHA256" | tr A-F a-f | tr -d ':'); do
            among "$expected" "$fingerprints $(sha256 <"$work/all.der")" ||
                fail "$ENTREPOT_URL/ca.crt did not come whole: SHA-256 $expected is not in it"
        done
        return 0
    fi
    chosen=''
    for fingerprint in $fingerprints; do
        if among "$fingerprint" "$pins"; then
            chosen="$chosen $fingerprint"
        else
            warn "not trusted, as no --ca-sha256 names it: the CA with SHA-256 $fingerprint"
        fi
    done
    [ -n "$chosen" ] || fail "the CA of $ENTREPOT_URL is not the one that --ca-sha256 names"
}

among() {
    case " $2 " in
        *" $1 "*) return 0 ;;
    esac
    return 1
}

anchor_name() { printf '%s/entrepot-ca-%.16s.crt' "$1" "$2"; }

our_anchors() {
    for file in "$1"/entrepot-ca-????????????????.crt; do
        name=${file##*/entrepot-ca-}
        case ${name%.crt} in
            *[!0-9a-f]*) ;;
            *) printf '%s\n' "$file" ;;
        esac
    done
}

# If the tool fails the files are as before: a second run then tries again.
install_certificates() {
    wanted='' added='' trust_changed='' index=0
    make_directory "$anchors"
    mkdir "$work/removed"
    for fingerprint in $fingerprints; do
        index=$((index + 1))
        among "$fingerprint" "$chosen" || continue
        say "the proxy's CA has the SHA-256 $fingerprint"
        file=$(anchor_name "$anchors" "$fingerprint")
        wanted="$wanted $file"
        if put "$file" "$(cat "$work/$index.pem")"; then added="$added $file" trust_changed=1; fi
    done
    for file in $(our_anchors "$anchors"); do
        among "$file" "$wanted" && continue
        cp -p "$file" "$work/removed/"
        take_away "$file"
        trust_changed=1
        start_afresh
    done
    if [ -n "$trust_changed" ] && ! update_trust_store; then
        for file in $added; do rm -f "$file"; done
        for file in $(our_anchors "$work/removed"); do cp -p "$file" "$anchors/"; done
        cat "$work/tool.log" >&2
        fail "$trust_tool failed; the trust store is as it was"
    fi
}

# ---- the services

unit_exists() {
    for place in etc run usr/local/lib usr/lib lib; do
        if [ -f "$root/$place/systemd/system/$1.service" ]; then return 0; fi
    done
    return 1
}

choose_units() {
    if [ -z "$units" ] && unit_exists docker; then
        units=docker
        if unit_exists containerd; then
            say "only docker is set up; what uses containerd itself needs --unit containerd too"
        fi
    elif [ -z "$units" ] && unit_exists containerd; then
        units=containerd
    elif [ -z "$units" ]; then
        fail "there is neither a docker.service nor a containerd.service here: see --unit"
    fi
    for unit in $units; do
        unit_exists "$unit" || fail "there is no $unit.service here"
    done
}

mark='# Made by the setup/systemd script of an Entrepot proxy, which takes it back with --undo.'
note='# made directory: '

is_ours() { [ -f "$1" ] && grep -qxF "$mark" "$1"; }

# Everything systemd reads for a unit, our own part left out.
others_files() {
    for place in etc run usr/local/lib usr/lib lib; do
        for file in "$root/$place/systemd/system/$1.service" \
            "$root/$place/systemd/system/$1.service.d"/*.conf; do
            if [ -f "$file" ] && ! is_ours "$file"; then printf '%s\n' "$file"; fi
        done
    done
}

# Drop-ins are read in the order of their names and the last to set a variable wins: past a
# http-proxy.conf, the name that docker's documentation gives, ours has to be the later one.
dropin_name() {
    for file in $(others_files "$1"); do
        expr "x${file##*/}" \> xentrepot.conf >/dev/null || continue
        case $file in
            *.conf) if grep -qi '^[^#;]*_proxy=' "$file"; then echo zz-entrepot.conf && return; fi ;;
        esac
    done
    echo entrepot.conf
}

others_no_proxy() {
    for file in $(others_files "$1"); do
        sed -n -e '/^[[:space:]]*[#;]/d' -e 's/.*[Nn][Oo]_[Pp][Rr][Oo][Xx][Yy]=//p' "$file" |
            sed -e 's/^\([^"]*\)" .*/\1/' -e "s/[\"'\\\\]//g" -e 's/ [A-Za-z_]*=.*//' -e 's/%%/%/g'
    done | tr '\n' ','
}

# Words between commas or blanks, each once, in their order.
each_once() (
    set -f
    list=''
    for word in $(printf '%s' "$1" | tr ',' ' '); do
        case ,$list, in
            *",$word,"*) ;;
            *) list=$list,$word ;;
        esac
    done
    printf '%s' "${list#,}"
)

dropin_text() {
    # Not the proxy's own name: a registry of that name may be reached by way of the proxy alone.
    list=$(each_once "localhost,127.0.0.0/8,::1,$(others_no_proxy "$1"),$no_proxy")
    echo "$mark"
    for directory in $2; do echo "$note$directory"; done
    echo '[Service]'
    # A % begins a specifier in a unit.
    printf 'Environment="%s"\n' "HTTP_PROXY=$ENTREPOT_URL" "HTTPS_PROXY=$ENTREPOT_URL" "NO_PROXY=$list" |
        sed 's/%/%%/g'
}

noted_directories() { sed -n "s/^$note//p" "$1"; }

install_dropin() {
    directory=$root/etc/systemd/system/$1.service.d
    make_directory "$directory"
    name=$(dropin_name "$1")
    noted=''
    for file in "$directory/entrepot.conf" "$directory/zz-entrepot.conf"; do
        is_ours "$file" || continue
        noted="$noted $(noted_directories "$file" | tr '\n' ' ')"
        if [ "${file##*/}" != "$name" ]; then take_away "$file"; fi
    done
    if put "$directory/$name" "$(dropin_text "$1" "$made_directories $noted")"; then
        changed_units="$changed_units $1"
    fi
    made_directories=''
}

systemd_runs() { [ -d "$root/run/systemd/system" ] && has systemctl; }

restart_units() {
    if ! systemd_runs; then
        say "systemd does not run here: nothing was restarted"
        return 0
    fi
    if doing "run systemctl daemon-reload"; then systemctl daemon-reload; fi
    for unit; do
        systemctl is-active --quiet "$unit.service" || continue
        if [ -z "$restart" ]; then
            say "$unit goes on as before until: systemctl restart $unit"
        elif doing "restart $unit"; then
            systemctl restart "$unit.service" || fail "$unit did not restart: journalctl -u $unit"
        fi
    done
}

# An EnvironmentFile wins over a drop-in, and daemon.json over both.
check_effect() {
    if [ "$1" = docker ] && grep -qs '"proxies"' "$root/etc/docker/daemon.json"; then
        warn "\"proxies\" in /etc/docker/daemon.json wins over what was set up here"
    fi
    if [ -n "$dry_run" ] || [ -z "$restart" ] || ! systemd_runs; then return 0; fi
    pid=$(systemctl show --property=MainPID "$1.service") || return 0
    environment=$root/proc/${pid#MainPID=}/environ
    if [ -r "$environment" ] &&
        ! tr '\0' '\n' <"$environment" | grep -qxF "HTTPS_PROXY=$ENTREPOT_URL"; then
        warn "$1 runs with another HTTPS_PROXY: look for an EnvironmentFile in systemctl cat $1"
    fi
}

# ---- what it does

set_up() {
    check_settings
    choose_units
    find_trust_store || fail "no tool for the trust store was found: install ca-certificates"
    fetch_certificates
    choose_certificates
    install_certificates
    changed_units=''
    for unit in $units; do install_dropin "$unit"; done
    if [ -z "$trust_changed$changed_units" ]; then
        say "everything is set up already: nothing was changed, nothing restarted"
        return 0
    fi
    # The trust store is read once, at a service's start.
    if [ -n "$trust_changed" ]; then changed_units=$units; fi
    # shellcheck disable=SC2086  # a list of names
    restart_units $changed_units
    for unit in $changed_units; do check_effect "$unit"; done
    if [ -z "$pins" ]; then
        say "compare the SHA-256 above with \`entrepot ca show\` on the proxy: it came over plain HTTP"
    fi
}

remove_dropins() {
    for file in "$root"/etc/systemd/system/*.service.d/entrepot.conf \
        "$root"/etc/systemd/system/*.service.d/zz-entrepot.conf; do
        is_ours "$file" || continue
        unit=${file%.service.d/*}
        changed_units="$changed_units ${unit##*/}"
        noted="$noted $(noted_directories "$file" | tr '\n' ' ')"
        take_away "$file"
    done
}

remove_anchors() {
    for place in usr/local/share/ca-certificates etc/pki/ca-trust/source/anchors \
        etc/pki/trust/anchors etc/ca-certificates/trust-source/anchors; do
        for file in $(our_anchors "$root/$place"); do
            take_away "$file"
            trust_changed=1
        done
    done
}

take_back() {
    changed_units='' trust_changed='' noted=''
    remove_dropins
    remove_anchors
    if [ -z "$trust_changed$changed_units" ]; then
        say "there is nothing to undo"
        return 0
    fi
    if [ -n "$trust_changed" ] && find_trust_store; then
        start_afresh
        update_trust_store || { cat "$work/tool.log" >&2 && fail "$trust_tool failed"; }
    fi
    for directory in $noted; do
        if [ -z "$dry_run" ]; then rmdir "$root$directory" 2>/dev/null || true; fi
    done
    # shellcheck disable=SC2086  # a list of names
    restart_units $changed_units
}

main() {
    set -eu
    umask 022
    export LC_ALL=C
    root=${ENTREPOT_ROOT:-}
    parse_options "$@"
    if [ -z "$root$dry_run" ] && [ "$(id -u)" -ne 0 ]; then
        fail "this needs root: put sudo before sh"
    fi
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    # The script itself may be coming in on standard input, and a tool must not eat it.
    if [ -n "$undo" ]; then take_back; else set_up; fi </dev/null
}

{ main "$@"; }
