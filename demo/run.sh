#!/usr/bin/env bash
# Two daemons and a client replicate a log: `./dev demo` builds and runs this. The argument is the folder of the binaries.
set -euo pipefail

bin=$1
export PATH="$bin:$PATH"
# Sockets and stores of the demonstration go to a folder of their own, and go with it.
TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/hyperspace-demo.XXXXXX")
export TMPDIR
unset HYPERSPACE_SOCKET
daemons=()
finish() {
    [ ${#daemons[@]} = 0 ] || kill "${daemons[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$TMPDIR"
}
trap finish EXIT

show() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }
die() { printf 'demo: %s\n' "$*" >&2; exit 1; }

# Starts a daemon in the background and waits for a line of its output that matches; prints that line's last word.
start() {
    local name=$1 until=$2 line log
    shift 2
    show "hyperspace-server $* &"
    log=$TMPDIR/$name.log
    : >"$log"
    hyperspace-server "$@" >"$log" &
    daemons+=($!)
    for _ in $(seq 300); do
        line=$(grep -m1 "$until" "$log" || true)
        [ -z "$line" ] || break
        kill -0 "${daemons[-1]}" 2>/dev/null || die "the daemon $name ended"
        sleep 0.1
    done
    [ -n "$line" ] || die "the daemon $name is not ready after 30 s"
    cat "$log"
    answer=${line##* }
}

start alice 'for peers' -h alice -s "$TMPDIR/alice" --offline --peer-listen 127.0.0.1:0
peers=$answer
start bob '^Listening' -h bob -s "$TMPDIR/bob" --offline --connect "$peers"

show "printf 'hello\\nhyperspace\\n' | hyperspace-client -h alice -n greetings write"
written=$(printf 'hello\nhyperspace\n' | hyperspace-client -h alice -n greetings write)
echo "$written"
key=${written%%$'\n'*}

show "hyperspace-client -h bob -k $key read"
read_back=$(hyperspace-client -h bob -k "$key" read)
echo "$read_back"
[ "$read_back" = $'hello\nhyperspace' ] || die "what was read is not what was written"

show "hyperspace-client -h bob -k $key read --live   # while alice writes more"
hyperspace-client -h bob -k "$key" read --live >"$TMPDIR/live" &
live=$!
seq 1 1000 | hyperspace-client -h alice -n greetings write >/dev/null
for _ in $(seq 300); do
    [ "$(wc -l <"$TMPDIR/live")" -lt 1002 ] || break
    sleep 0.1
done
kill "$live" 2>/dev/null || true
{ head -n4 "$TMPDIR/live"; echo ...; tail -n1 "$TMPDIR/live"; }
[ "$(tail -n1 "$TMPDIR/live")" = 1000 ] || die "the live reader did not get everything"

show "hyperspace-client -h bob -k $key info"
hyperspace-client -h bob -k "$key" info

printf '\nA log that alice wrote, bob holds and serves as well.\n'
