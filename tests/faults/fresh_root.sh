#!/usr/bin/env bash
# Runs make in a clone of this repository on a fresh Debian, with what README asks for installed and nothing else.
#
# usage: fresh_root.sh [SUITE [TARGET OF make ...]]       trixie and demo if none is given; as root
#
# A chroot would not do: what Docker starts in a container does not see it as its root. This is a root file system of its
# own in a mount namespace, with processes, a network and a Docker engine of its own, and all of it is gone at the end.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "fresh_root.sh makes namespaces and mounts: run it as root" >&2; exit 1; }
suite=${1:-trixie}
shift $(($# > 0))
[ $# -gt 0 ] || set -- demo
repository=$(cd "$(dirname "$0")/../.." && pwd)
net=qsmr-fresh
place=$(mktemp -d /var/tmp/qsmr-fresh-XXXXXX)
root=$place/root

clean_up() {
  # The processes ended with the namespace's first one; what the kernel keeps for containers does not.
  for container in "$root"/var/lib/docker/containers/*/; do
    find /sys/fs/cgroup -depth -type d -path "*/$(basename "$container")*" -exec rmdir {} + 2>/dev/null || true
  done
  ip netns delete $net 2>/dev/null || true
  for rule in "${rules[@]}"; do
    # shellcheck disable=SC2086 # words of a command
    iptables -w ${rule/-I/-D} 2>/dev/null || true
  done
  rm -rf --one-file-system "$place"
}
rules=("-t nat -I POSTROUTING -s 10.254.77.0/30 ! -d 10.254.77.0/30 -j MASQUERADE"
  "-I FORWARD -s 10.254.77.0/30 -j ACCEPT" "-I FORWARD -d 10.254.77.0/30 -j ACCEPT")
trap clean_up EXIT

echo "Making a fresh $suite in $root"
mmdebstrap --quiet --variant=apt --include=python3,make,git,ca-certificates,mount "$suite" "$root"
git clone --quiet --no-hardlinks "$repository" "$root/root/qsmr-fleet"
# The way to packages is the machine's: name server, certificates, proxies, indexes.
cp -L /etc/resolv.conf "$root/etc/"
for file in /etc/ssl/certs/ca-certificates.crt /etc/pip.conf; do
  [ ! -e "$file" ] || cp "$file" "$root$file"
done
grep -lsE '^Acquire::' /etc/apt/apt.conf.d/99* | xargs -r cp -t "$root/etc/apt/apt.conf.d" || true
mapfile -t way < <(env | grep -E '^(PIP_CERT|PIP_INDEX_URL|(http|https|no)_proxy|(HTTP|HTTPS|NO)_PROXY)=' || true)

ip netns add $net
ip link add $net type veth peer name eth0 netns $net
ip address add 10.254.77.1/30 dev $net
ip link set $net up
ip -n $net address add 10.254.77.2/30 dev eth0
ip -n $net link set lo up
ip -n $net link set eth0 up
ip -n $net route add default via 10.254.77.1
echo 1 > /proc/sys/net/ipv4/ip_forward
for rule in "${rules[@]}"; do
  # shellcheck disable=SC2086 # words of a command
  iptables -w $rule
done

export root
# shellcheck disable=SC2016 # what is quoted is the inner shell's
nsenter --net=/run/netns/$net unshare --mount --pid --fork --kill-child --uts --ipc --propagation private bash -c '
  set -euo pipefail
  hostname fresh
  mount --bind "$root" "$root"
  mount --rbind /dev "$root/dev"
  mount -t proc proc "$root/proc"
  mount -t sysfs sysfs "$root/sys"
  mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
  mount -t tmpfs tmpfs "$root/run"
  cd "$root"
  pivot_root . mnt
  umount -l /mnt
  cd /root/qsmr-fleet
  env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@"
' bash "${way[@]}" make "$@"
echo "make $* passed on a fresh $suite with $(chroot "$root" python3 --version)"
