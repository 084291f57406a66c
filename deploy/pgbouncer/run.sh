#!/bin/sh
# Usage: run.sh CONFIG
#
# Runs PgBouncer with the config, in front of whichever of two servers takes writes. Which one that
# is, is asked every two seconds; after a failover PgBouncer is given the new one's address.
#
# PgBouncer alone could not do this: it takes connections while its server is away, so a client with
# several addresses would stay at the first.
#
#   POSTGRES     the hosts of the servers, separated by commas
#   PORTS        their ports, in the same order: 5432
#   PGPASSWORD   the password of amplifierd
#   TMPDIR       where the config with the password is written, readable by nobody else: /tmp
set -eu
: "${POSTGRES:?}" "${PGPASSWORD:?}"
export PGPASSWORD PGCONNECT_TIMEOUT=3
folder=${TMPDIR:-/tmp} config=$1 current=none
umask 077

# Prints host and port of the server that takes writes; nothing if there is none.
find_primary() {
    echo '\\echo host=:HOST port=:PORT' |
        psql --no-psqlrc --quiet "host=$POSTGRES port=${PORTS:-5432} user=amplifierd dbname=amplifierd target_session_attrs=read-write" 2>/dev/null || true
}

follow() {
    found=$(find_primary)
    [ -n "$found" ] && [ "$found" != "$current" ] || return 0
    echo "The server that takes writes: $found" >&2
    current=$found
    sed -e "s|host=POSTGRES port=5432|$found|" -e "s|/tmp/userlist.txt|$folder/userlist.txt|" "$config" >"$folder/pgbouncer.new"
    mv "$folder/pgbouncer.new" "$folder/pgbouncer.ini"
}

printf '"amplifierd" "%s"\n' "$(printf '%s' "$PGPASSWORD" | sed 's/"/""/g')" >"$folder/userlist.txt"
until follow && [ "$current" != none ]; do sleep 1; done
pgbouncer "$folder/pgbouncer.ini" &
pooler=$!
trap 'kill -INT $pooler' INT TERM
while kill -0 $pooler 2>/dev/null; do
    before=$current
    follow
    # Connections to the old server are closed as soon as nobody uses them.
    [ "$current" = "$before" ] || kill -HUP $pooler
    # A signal ends this wait, unlike that for `sleep` alone.
    sleep 2 &
    wait $! || true
done
wait $pooler
