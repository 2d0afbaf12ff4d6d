#!/usr/bin/env bash
# The Debian packages that the Makefile's targets need. Nothing that it does enables or starts a service.
#
#   tools/packages.sh install NAME...       those that are missing, by apt-get; the line that it runs is printed first
#   tools/packages.sh unpack ROOT NAME...   all of them, and what they depend on, into ROOT instead of into the system, unless the
#                                           host has them all: no maintainer script runs, so no unit, user or profile is made. It
#                                           needs no root, and waits for no lock. ROOT/packages lists what is in there.
#   tools/packages.sh unpack-suite SUITE ROOT NAME[>=VERSION]...
#                                           the same from another suite of Debian's, whatever the host has or is. Its signature is
#                                           checked by KEYRING.
#
# What is there already is never asked of apt. Variables: APT=0 (print what is missing, install nothing), APT_WAIT=600 (seconds that
# a lock which another apt or dpkg holds is waited for), DEBIAN_MIRROR (of other suites; the host's own, if it is a Debian),
# KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg.
set -euo pipefail
umask 022

APT=${APT:-1}
APT_WAIT=${APT_WAIT:-600}
KEYRING=${KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}
POLL_S=2
# NEEDRESTART_SUSPEND: where needrestart is installed, apt would restart services of the host. SYSTEMD_OFFLINE: nor does systemctl,
# which a maintainer script calls.
QUIET=(LC_ALL=C DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 SYSTEMD_OFFLINE=1)
INSTALL=(apt-get install -qq -y --no-install-recommends)
BUSY='Could not get lock|Unable to acquire the dpkg frontend lock|(locked|used) by another process'
# Nobody reads these of what is only run.
LEFT_OUT=(--exclude=./{etc,var,dev} --exclude=./usr/include --exclude=./usr/share/{doc,info,locale,man})

if [ "$(id -u)" = 0 ]; then AS_ROOT=(); else AS_ROOT=(sudo); fi

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

missing() { # NAME...: those that are not installed
    local name
    for name in "$@"; do
        dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q ' installed$' || printf '%s\n' "$name"
    done
}

# The first of apt's or dpkg's messages about a lock, as "FILE is held by process 4711 (unattended-upgr)" where it says so.
holder() { # FILE
    grep -E -m 1 "$BUSY" "$1" | sed -E 's/^(E: |dpkg: error: )//; s/^Could not get lock ([^ ]*)\. It is held by/\1 is held by/'
}

# Runs a command of apt's. Another apt or dpkg may hold any of four locks, for three of which apt itself does not wait, and may take
# one between two of our steps: so what fails for a lock is tried again, until APT_WAIT seconds have gone.
patiently() { # COMMAND...
    local errors=$work/errors deadline=$((SECONDS + APT_WAIT)) told='' now
    until "$@" </dev/null 2>"$errors"; do
        now=$(holder "$errors") || { cat "$errors" >&2; return 1; }
        ((SECONDS < deadline)) || fail "Still busy after $APT_WAIT s: $now. Wait until that process has ended, then run this again" \
            "(APT_WAIT=1800 waits longer)."
        [ "$now" = "$told" ] || printf 'apt is busy: %s. Waiting for it, at most %s s.\n' "$now" "$APT_WAIT"
        told=$now
        sleep "$POLL_S"
    done
    cat "$errors" >&2
}

install() { # NAME...
    local names line
    mapfile -t names < <(missing "$@")
    ((${#names[@]})) || return 0
    line="${AS_ROOT[*]:+${AS_ROOT[*]} }apt-get update -qq; ${AS_ROOT[*]:+${AS_ROOT[*]} }${INSTALL[*]} ${names[*]}"
    if [ "$APT" = 0 ]; then
        echo "Missing Debian packages; to install them:  $line"
    elif ! command -v apt-get >/dev/null; then
        echo "No apt-get here. What Debian calls: ${names[*]}"
    elif ((${#AS_ROOT[@]})) && ! command -v sudo >/dev/null; then
        echo "Missing Debian packages, and neither root nor sudo. As root:  ${line//sudo /}"
    else
        echo "Missing Debian packages. Running:  $line"
        # A source that we need nothing of may be out of order.
        patiently "${AS_ROOT[@]}" env "${QUIET[@]}" apt-get -o DPkg::Lock::Timeout=0 update -qq || true
        patiently "${AS_ROOT[@]}" env "${QUIET[@]}" "${INSTALL[@]}" -o DPkg::Lock::Timeout=0 "${names[@]}" ||
            fail "apt-get failed, as it says above. To see it at work:  $line"
    fi
}

# A state of its own, in which nothing is installed: the host's lists, cache, locks and hooks are left alone, and what is downloaded
# runs with the libraries that it was built for.
own_apt() {
    mkdir -p "$work"/{lists,archives}/partial "$work/state"
    : >"$work/state/status"
    cat >"$work/apt.conf" <<EOF
Dir::State "$work/state";
Dir::State::status "$work/state/status";
Dir::State::lists "$work/lists";
Dir::Cache "$work";
Dir::Cache::archives "$work/archives";
#clear APT::Update;
#clear DPkg::Pre-Install-Pkgs;
EOF
}

# Fetches and unpacks; `update` has brought the lists. What the directory holds is there as a whole or not at all.
unpack_into() { # ROOT NAME...
    local root=$1 debs deb
    shift
    env "${QUIET[@]}" "${INSTALL[@]}" -c "$work/apt.conf" --download-only "$@" ||
        fail "These packages could not be fetched, as apt says above: $*"
    # What a source has on a disk of this host (file:) is not copied: apt then still names it.
    mapfile -t debs < <(apt-get -c "$work/apt.conf" "${INSTALL[@]:1}" --print-uris "$@" | sed -n "s/^'file:\\([^']*\\)' .*/\\1/p")
    for deb in "$work"/archives/*.deb; do [ ! -e "$deb" ] || debs+=("$deb"); done
    rm -rf "$root.new" && mkdir -p "$root.new"/usr/{bin,sbin,lib,lib64}
    ln -s usr/bin usr/sbin usr/lib usr/lib64 "$root.new"
    for deb in "${debs[@]}"; do
        dpkg-deb --fsys-tarfile "$deb" |
            tar -x -C "$root.new" --no-same-owner --no-same-permissions --keep-directory-symlink --anchored "${LEFT_OUT[@]}"
        dpkg-deb -W --showformat='${Package} ${Version}\n' "$deb"
    done | sort >"$root.new/packages"
    find "$root.new" -type f -perm /6000 -exec chmod a-s {} +
}

put_in_place() { # ROOT NAMES: they are what the next call compares with
    printf '%s\n' "$2" >"$1.new/names"
    rm -rf "$1" && mv -T "$1.new" "$1"
}

unpack() { # ROOT NAME...
    local root=$1 names
    shift
    mapfile -t names < <(missing "$@")
    ((${#names[@]})) || return 0
    [ "$(cat "$root/names" 2>/dev/null)" != "$*" ] || return 0
    if [ "$APT" = 0 ]; then
        echo "Missing Debian packages; without APT=0 these are unpacked into $root:  $*"
        return 0
    elif ! command -v apt-get >/dev/null; then
        echo "No apt-get here. What Debian calls: ${names[*]}"
        return 0
    fi
    echo "Unpacking into $root, where they start no service:  $*"
    own_apt
    env "${QUIET[@]}" apt-get -c "$work/apt.conf" update -qq || true
    unpack_into "$root" "$@"
    put_in_place "$root" "$*"
}

# That of this host's own packages, so that a mirror nearby is used; that of everybody's where the host is no Debian.
mirror() {
    local own='' nothing_kept=(-o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)
    [ -n "${DEBIAN_MIRROR:-}" ] ||
        own=$(apt-get "${nothing_kept[@]}" indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 'Created-By: Packages' |
            sed -n 's/^Debian|Debian|//p' | head -n 1)
    printf '%s\n' "${DEBIAN_MIRROR:-${own:-http://deb.debian.org/debian}}"
}

unpack-suite() { # SUITE ROOT NAME[>=VERSION]...
    local suite=$1 root=$2 from name version
    shift 2
    local names=("${@%%>=*}")
    [ "$(cat "$root/names" 2>/dev/null)" != "$suite $*" ] || return 0
    if [ "$APT" = 0 ]; then
        echo "Missing packages of Debian's $suite; without APT=0 these are unpacked into $root:  ${names[*]}"
        return 0
    elif ! command -v apt-get >/dev/null; then
        echo "No apt-get here. What Debian calls, in its $suite: ${names[*]}"
        return 0
    fi
    [ -r "$KEYRING" ] || fail "No $KEYRING, by which the signature of Debian's $suite is checked: apt-get install debian-archive-keyring," \
        "or name another file in KEYRING."
    from=$(mirror)
    echo "Unpacking from Debian's $suite ($from) into $root, where they start no service:  ${names[*]}"
    own_apt
    mkdir "$work/none"
    echo "deb [signed-by=$KEYRING] $from $suite main" >"$work/sources.list"
    cat >>"$work/apt.conf" <<EOF
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "$work/none";
Dir::Etc::preferences "$work/none/preferences";
Dir::Etc::preferencesparts "$work/none";
APT::Default-Release "";
EOF
    env "${QUIET[@]}" apt-get -c "$work/apt.conf" -o APT::Update::Error-Mode=any update -qq ||
        fail "Debian's $suite could not be read from $from, as apt says above. Where it has gone from there: another mirror in" \
            "DEBIAN_MIRROR (old releases are at http://archive.debian.org/debian), or another suite in the Makefile. Where its" \
            "signature is refused: a newer debian-archive-keyring, or its file in KEYRING."
    unpack_into "$root" "${names[@]}"
    for name in "$@"; do
        version=$(sed -n "s/^${name%%>=*} //p" "$root.new/packages")
        [ "${name%%>=*}" = "$name" ] || dpkg --compare-versions "$version" ge "${name##*>=}" || {
            rm -rf "$root.new"
            fail "Debian's $suite has ${name%%>=*} $version, and ${name##*>=} or newer is needed: name a newer suite in the Makefile."
        }
    done
    put_in_place "$root" "$suite $*"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # apt downloads as a user of its own
case "${1:-} $#" in
install\ [2-9]* | install\ 1?* | unpack\ [3-9]* | unpack\ 1?* | unpack-suite\ [4-9]* | unpack-suite\ 1?*) "$@" ;;
*) sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
