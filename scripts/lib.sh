# shellcheck shell=bash
# What the scripts share; sourced, not run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

say() {
    printf '== %s\n' "$*"
}

# Prints the first Python of 3.11 or later; PYTHON, if set, is the only one that is asked.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3 python}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    die "needs Python 3.11 or later; found none on PATH (PYTHON=/path/to/python names one)"
}

# make_venv LOCK DIRECTORY: exactly the lock's packages, and this project. Takes no time when there is nothing to do.
# Asks no registry for anything that is not locked: the project is built with the lock's own setuptools.
# pip tells whether the directory still works: it does not when it was moved, or when its Python is gone.
make_venv() {
    local lock=$1 directory=$2 part=requirements/embedded.lock
    if ! is_installed "$lock" "$directory"; then
        # What the quickstart has installed is a part of the rest.
        if ! is_installed "$part" "$directory" || ! is_part "$part" "$lock"; then
            new_venv "$directory"
        fi
        install_lock "$lock" "$directory"
    fi
    if ! is_stamped "$directory" pyproject.toml; then
        "$directory/bin/pip" install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e "$root"
        stamp "$directory" pyproject.toml
    fi
}

is_installed() { is_stamped "$2" "$1" && "$2/bin/pip" --version >/dev/null 2>&1; }

# is_part LOCK OTHER: each package of the one is in the other, in the same version.
is_part() { [[ -z $(comm -23 <(packages "$1") <(packages "$2")) ]]; }
packages() { grep -oE '^[^ #]+==[^ ]+' "$root/$1" | sort; }

# new_venv DIRECTORY: made again, so that nothing outlives its place in the lock.
new_venv() {
    local python
    python=$(find_python)
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        die "$python cannot make virtual environments; install its venv package (often python3-venv)"
    "$python" -m venv --clear "$1"
}

# install_lock LOCK DIRECTORY: its packages. Bytecode is left to the first import: to make it of every module that is
# locked takes longer than to install them.
install_lock() {
    say "installing $1 into ${2#"$root"/}, which takes a minute or two"
    rm -f "$2"/*.lock.stamp
    "$2/bin/pip" install --quiet --disable-pip-version-check --no-compile --require-hashes -r "$root/$1"
    stamp "$2" "$1"
}

# A stamp says that what a file asks for was installed, by the file's checksum.
stamp() { cksum <"$root/$2" >"$1/${2##*/}.stamp"; }
is_stamped() { [[ -f $1/${2##*/}.stamp && $(cksum <"$root/$2") == "$(<"$1/${2##*/}.stamp")" ]]; }

# Makes sure that tests can start a ClickHouse: an installed program, or else the engine from npm, whose lock holds its
# digest. Installed beside its place and moved there whole: an interrupted download leaves nothing that looks done.
ensure_clickhouse() {
    local cache=$root/.cache/clickhouse
    (cd "$root" && "$venv/bin/python" -m tests.support.clickhouse >/dev/null 2>&1) && return
    command -v npm >/dev/null ||
        die "needs ClickHouse for the tests: install clickhouse 26 or later, or npm, which then brings the engine"
    say "installing ClickHouse into .cache/clickhouse"
    rm -rf "$cache" "$cache.part"
    mkdir -p "$cache.part"
    cp "$root"/tests/support/npm/package*.json "$cache.part/"
    trust_what_the_system_trusts
    npm ci --prefix "$cache.part" --no-audit --no-fund --loglevel=error
    mv "$cache.part" "$cache"
    (cd "$root" && "$venv/bin/python" -m tests.support.clickhouse >/dev/null)
}

# Makes sure that tests can ask promtool: an installed one, or else that of Debian's package prometheus.
ensure_promtool() {
    (cd "$root" && "$venv/bin/python" -m tests.support.promtool >/dev/null 2>&1) && return
    command -v apt-get >/dev/null || die "needs promtool for the tests: install Prometheus"
    unpack prometheus
    (cd "$root" && "$venv/bin/python" -m tests.support.promtool >/dev/null)
}

# unpack PACKAGE: the programs of a Debian package into .cache/PACKAGE. To install it would start a service.
unpack() {
    local cache=$root/.cache/$1
    say "unpacking Debian's package $1 into .cache/$1"
    rm -rf "$cache" "$cache.part"
    mkdir -p "$cache.part"
    download_packages "$cache.part" "$1"
    dpkg-deb --fsys-tarfile "$cache.part/$1"_*.deb | tar -x -C "$cache.part" --strip-components=3 ./usr/bin
    rm "$cache.part"/*.deb
    mv "$cache.part" "$cache"
}

# Makes sure that there is a ZooKeeper: an installed one, or else that of Debian's packages, which are only unpacked, for
# to install them would start it. Exits with 2 where Java is missing, or apt-get.
ensure_zookeeper() {
    local cache=$root/.cache/zookeeper packages
    packages=(libzookeeper-java libslf4j-java libnetty-java libdropwizard-metrics-java libsnappy-java)
    command -v java >/dev/null || { (die "replicas need a ZooKeeper, which needs Java: install a JRE, 11 or later") || exit 2; }
    (cd "$root" && "$venv/bin/python" -m tests.support.zookeeper >/dev/null 2>&1) && return
    command -v apt-get >/dev/null || { (die "needs ZooKeeper: install it, with its jars in /usr/share/java") || exit 2; }
    say "unpacking ZooKeeper into .cache/zookeeper"
    rm -rf "$cache" "$cache.part"
    mkdir -p "$cache.part/deb"
    download_packages "$cache.part/deb" "${packages[@]}"
    for package in "$cache.part"/deb/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x -C "$cache.part/deb" ./usr/share/java
    done
    mv "$cache.part"/deb/usr/share/java/* "$cache.part/"
    rm -r "$cache.part/deb"
    mv "$cache.part" "$cache"
    (cd "$root" && "$venv/bin/python" -m tests.support.zookeeper >/dev/null)
}

# download_packages DIRECTORY PACKAGE…: Debian's, not installed.
download_packages() {
    (
        cd "$1" || exit
        shift
        apt-get download "$@" >/dev/null 2>&1 || { apt-get update -qq && apt-get download "$@" >/dev/null; } # an image has no lists
    )
}

# npm looks at no certificates but its own, so it would fail behind a proxy that the system and pip know.
trust_what_the_system_trusts() {
    local bundle
    for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt; do
        if [[ -z ${NODE_EXTRA_CA_CERTS:-} && -r $bundle ]]; then
            export NODE_EXTRA_CA_CERTS=$bundle
        fi
    done
}

# What tests write goes with them: in memory, where there is room for it, their many fsyncs cost nothing.
use_memory_for_temporary_files() {
    if [[ -z ${TMPDIR:-} && -w /dev/shm ]] && (($(df --output=avail -k /dev/shm | tail -n 1) > 8 << 20)); then
        export TMPDIR=/dev/shm
    fi
}
