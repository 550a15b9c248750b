#!/bin/sh
# Starts dockerd where there is no systemd, and waits until it answers. Prints what it did; nothing when it runs already.
set -u
log=/var/log/docker.log

# Processes of containers are seen here, too, and a container may run an engine of its own.
runs() {
    for process in /proc/[0-9]*; do
        if [ "$(cat "$process/comm" 2> /dev/null)" = "$1" ] \
            && [ "$(readlink "$process/ns/mnt")" = "$(readlink /proc/self/ns/mnt)" ]; then
            return 0
        fi
    done
    return 1
}

# Within so many seconds, unless dockerd dies.
answers() {
    for _ in $(seq "$1"); do
        docker version > /dev/null 2>&1 && return 0
        sleep 1
        runs dockerd || return 1
    done
    return 1
}

if runs dockerd; then
    answers 60 && exit 0
    echo "dockerd runs, but does not answer within 60 s. Its log is $log; end it, and run this again." >&2
    exit 1
fi

# Left by processes that died: their numbers may be others' by now, and a dead socket is waited for.
rm -f /run/docker.pid /run/docker-ssd.pid
if ! runs containerd; then
    rm -f /run/containerd/containerd.sock /run/docker/containerd/containerd.pid /run/docker/containerd/containerd.sock
fi

# The init script fails where it may not raise limits: dockerd itself does without.
if [ -x /etc/init.d/docker ] && service docker start > /dev/null 2>&1 && answers 30; then
    echo 'Started by its init script.'
    exit 0
fi
if ! runs dockerd; then
    setsid nohup dockerd >> "$log" 2>&1 < /dev/null &
fi
if answers 60; then
    echo "Started as a process of its own, which does not start at boot. It logs to $log."
    exit 0
fi
echo "dockerd did not start. The end of $log:" >&2
tail -n 15 "$log" >&2
exit 1
