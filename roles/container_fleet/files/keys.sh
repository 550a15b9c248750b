#!/bin/sh
# Makes the SSH keys of a fleet, those that are missing: keys.sh DIRECTORY [HOST=ADDRESS...]
#   id_ed25519       the control node's                known_hosts  the hosts', by address
#   HOST/            what is mounted into a host: its own key, and the control node's that may log in
# Prints what it made.
set -eu
umask 077
directory=$1
shift

make_key() {
    [ -f "$1" ] || { ssh-keygen -q -t ed25519 -N "" -C "$2" -f "$1" && echo "$1"; }
}

mkdir -p "$directory"
cd "$directory"
make_key id_ed25519 control
: > known_hosts.new
for host in "$@"; do
    name=${host%%=*}
    mkdir -p "$name"
    make_key "$name/ssh_host_ed25519_key" "$name"
    cmp -s id_ed25519.pub "$name/authorized_keys" || cp -v id_ed25519.pub "$name/authorized_keys"
    echo "${host#*=} $(cat "$name/ssh_host_ed25519_key.pub")" >> known_hosts.new
done
cmp -s known_hosts.new known_hosts || cp -v known_hosts.new known_hosts
rm known_hosts.new
