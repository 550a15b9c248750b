#!/bin/sh
# Writes a minimal Debian root file system, as tar, to stdout. Needs root and the package mmdebstrap.
#   bootstrap.sh SUITE MIRROR PACKAGE...
# Package files are kept in $CACHE_DIR/SUITE, so that making it again downloads only what has changed since.
set -eu
suite=$1 mirror=$2 cache=$CACHE_DIR/$1
shift 2
packages=$(echo "$@" | tr ' ' ,)
mkdir -p "$cache"
cache=$(realpath "$cache")

# Packages start no services while an image is built (policy-rc.d); what nobody reads in a container stays out, but for the
# copyright files.
set --
for path in doc info man locale lintian bash-completion; do
    set -- "$@" --dpkgopt="path-exclude=/usr/share/$path/*"
done

# shellcheck disable=SC2016 # the hooks' $1 is mmdebstrap's: the new root
mmdebstrap --mode=root --variant=minbase --format=tar --quiet --include="$packages" \
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Dir::Cache { pkgcache ""; srcpkgcache ""; }' \
    --dpkgopt=force-unsafe-io \
    "$@" --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --skip=download/empty,essential/unlink \
    --setup-hook='mkdir -p "$1/var/cache/apt/archives/partial"' \
    --setup-hook="sync-in '$cache' /var/cache/apt/archives" \
    --customize-hook="sync-out /var/cache/apt/archives '$cache'" \
    --customize-hook='printf "#!/bin/sh\nexit 101\n" > "$1/usr/sbin/policy-rc.d" && chmod 0755 "$1/usr/sbin/policy-rc.d"' \
    "$suite" - \
    "deb $mirror $suite main" \
    "deb $mirror $suite-updates main" \
    "deb $mirror-security $suite-security main"
