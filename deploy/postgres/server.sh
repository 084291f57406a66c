#!/usr/bin/env bash
# Usage: server.sh
#
# Runs one of two PostgreSQL servers, of which one is the primary and the other its synchronous
# standby: what is acknowledged is on both disks. Which of the two this one becomes is decided at
# each start:
#
#   the other one is a primary   a standby of it; a former primary drops what only it has
#   this one has data            what it was before: a standby stays one, a primary stays one
#   neither has data             the one with FIRST=1 makes the cluster; the other one waits for it
#
# A former primary that starts while the other one is away commits nothing, as it waits for its
# standby: so there are never two that acknowledge. promote.sh makes a standby the primary.
#
#   NODE, PEER     the name by which this one registers with the primary; the other one's host
#   PEER_PORT      5432
#   PGDATA         the folder of the cluster
#   PGPASSWORD     the password of amplifierd, the one role
#   FIRST          1: this one makes the cluster
#   LISTEN, PORT   the addresses it listens to, *; and its port, 5432
#   NETWORK        who may connect, with the password: samenet
#   SOCKETS        the folder of its Unix socket
set -euo pipefail

: "${NODE:?}" "${PEER:?}" "${PGDATA:?}" "${PGPASSWORD:?}"
export PGPASSWORD PGCONNECT_TIMEOUT=3
peer="host=$PEER port=${PEER_PORT:-5432} user=amplifierd dbname=postgres"
port=${PORT:-5432} sockets=${SOCKETS:-/var/run/postgresql}

say() { echo "$NODE: $*" >&2; }

# Prints t if the other one is a primary, f if it is a standby, and nothing if it does not answer.
ask_peer() { psql "$peer" --no-psqlrc -tAc 'SELECT NOT pg_is_in_recovery()' 2>/dev/null || true; }

make_cluster() {
    say "making the cluster"
    initdb --pgdata="$PGDATA" --username=amplifierd --pwfile=<(printf '%s' "$PGPASSWORD") \
        --auth=scram-sha-256 --encoding=UTF8 --locale=C --data-checksums >/dev/null
    {
        echo "host all all ${NETWORK:-samenet} scram-sha-256"
        echo "host replication all ${NETWORK:-samenet} scram-sha-256"
    } >>"$PGDATA/pg_hba.conf"
    cat >>"$PGDATA/postgresql.conf" <<CONF
max_connections = 300
# A lost standby is noticed within a minute. What it has not got is kept for it, and what a former
# primary needs that comes back without a slot.
wal_keep_size = 1GB
wal_level = replica
max_wal_senders = 10
max_replication_slots = 10
max_slot_wal_keep_size = 16GB
hot_standby = on
wal_log_hints = on
# Acknowledged means: on the disks of both. Nothing is acknowledged while there is no standby.
synchronous_commit = on
# By its name: the copy that a new standby begins with is no standby yet.
synchronous_standby_names = 'standby'
# A cut connection does not leave its transaction behind.
tcp_keepalives_idle = 5
tcp_keepalives_interval = 2
tcp_keepalives_count = 3
CONF
    # The first standby can only be made once the role, the database and its slot are there, and
    # until then no commit can wait for it.
    pg_ctl --pgdata="$PGDATA" --wait --silent start \
        --options="-c listen_addresses='' -c unix_socket_directories='$sockets' -c port=$port -c synchronous_standby_names=''" >/dev/null
    createdb --host="$sockets" --port="$port" --username=amplifierd amplifierd
    # What the daemon sets for each connection, where PgBouncer does not pass it on.
    psql --host="$sockets" --port="$port" --username=amplifierd --dbname=postgres --no-psqlrc -qc \
        "ALTER ROLE amplifierd SET statement_timeout = '60s'" -c \
        "ALTER ROLE amplifierd SET idle_in_transaction_session_timeout = '120s'" -c \
        "ALTER ROLE amplifierd SET client_connection_check_interval = '1s'"
    pg_ctl --pgdata="$PGDATA" --wait --silent stop
}

# The standby has a slot of its own at the primary, so that it finds everything when it returns.
copy_peer() {
    say "copying $PEER"
    rm -rf "${PGDATA:?}"/*
    # A slot of an earlier attempt stands for nothing.
    psql "$peer" --no-psqlrc -qtAc "SELECT pg_drop_replication_slot(slot_name)
        FROM pg_replication_slots WHERE slot_name = '$NODE' AND NOT active" >/dev/null
    pg_basebackup --dbname="$peer application_name=copy" --pgdata="$PGDATA" --wal-method=stream \
        --checkpoint=fast --create-slot --slot="$NODE"
    chmod 0700 "$PGDATA"
    configure_standby
}

# The password comes from the environment.
configure_standby() {
    touch "$PGDATA/standby.signal"
    printf "%s\n" "primary_slot_name = '$NODE'" \
        "primary_conninfo = '$peer application_name=standby'" >>"$PGDATA/postgresql.auto.conf"
}

# Drops what the other one does not have.
follow_peer() {
    say "becoming a standby of $PEER"
    rm -f "$PGDATA/postmaster.pid"
    psql "$peer" --no-psqlrc -qtAc "SELECT pg_create_physical_replication_slot('$NODE', true)
        WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '$NODE')" >/dev/null
    # Until its first checkpoint a new primary does not show that it has left the old timeline.
    psql "$peer" --no-psqlrc -qc CHECKPOINT
    if pg_rewind --target-pgdata="$PGDATA" --source-server="$peer" >&2; then
        configure_standby
    else
        copy_peer
    fi
}

mkdir -p -m 0700 "$PGDATA"
while :; do
    state=$(ask_peer)
    if [ -f "$PGDATA/PG_VERSION" ]; then
        [ "$state" = t ] && [ ! -f "$PGDATA/standby.signal" ] && follow_peer
        break
    elif [ "$state" = t ]; then
        copy_peer
        break
    elif [ "${FIRST:-0}" = 1 ] && [ -z "$state" ]; then
        make_cluster
        break
    fi
    say "waiting for $PEER to be a primary"
    sleep 2
done

say "starting $([ -f "$PGDATA/standby.signal" ] && echo "as a standby" || echo "as the primary")"
exec postgres -D "$PGDATA" -c "listen_addresses=${LISTEN:-*}" -c "port=$port" -c "unix_socket_directories=$sockets"
