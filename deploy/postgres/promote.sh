#!/usr/bin/env bash
# Usage: promote.sh
#
# Makes the standby in PGDATA the primary, after the other server has failed. Make sure first that
# the other one is stopped or cut off, as `docker compose stop` does.
#
# A standby that was synchronous has everything that was acknowledged. The new primary commits
# alone until the other one is back; `promote.sh --pair` then waits for it and makes it synchronous.
set -euo pipefail

: "${PGDATA:?}" "${PGPASSWORD:?}"
export PGPASSWORD
connection="host=${SOCKETS:-/var/run/postgresql} port=${PORT:-5432} user=amplifierd dbname=postgres"

ask() { psql "$connection" --no-psqlrc -qtAc "$1"; }

set_standbys() {
    # ALTER SYSTEM commits nothing that a standby has to confirm.
    ask "ALTER SYSTEM SET synchronous_standby_names = '$1'"
    ask "SELECT pg_reload_conf()" >/dev/null
}

case "${1:-}" in
"")
    [ "$(ask 'SELECT pg_is_in_recovery()')" = t ] || {
        echo "This server is the primary already." >&2
        exit 1
    }
    [ "$(ask "SELECT pg_promote(true, 60)")" = t ] || {
        echo "It did not become the primary within a minute; see its log." >&2
        exit 1
    }
    set_standbys ""
    echo "This server is the primary. Start the other one again, then run promote.sh --pair here."
    ;;
--pair)
    until [ "$(ask "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name = 'standby'")" -gt 0 ]; do
        echo "Waiting for the standby to stream." >&2
        sleep 1
    done
    set_standbys "standby"
    echo "The standby is synchronous: what is acknowledged is on both disks."
    ;;
*)
    echo "Usage: promote.sh [--pair]" >&2
    exit 2
    ;;
esac
