# shellcheck shell=bash
#
# What the checks in test/checks share that run on a server of their own.  They
# set $top, the clone.
#
#   check_options "$@"      reads --short into $short, or prints the script's head
#   check_server BUILD      sees to it that the server is there (server_source.sh)
#   check_logs_begin        makes $check_logs, where a server's tools may write
#   check_wrap WORD...      starts servers, not initdb's, as WORD... postgres
#   check_run WORD...       test/run with these words on that server; keeps what a
#                           failure leaves in build/checks and goes on
#   check_found NAME FILE   a failure: shows the end of the file and keeps it
#   check_end WHAT          says what was done; exits with the check's status
#
# Exit status: 0 passed, 77 skipped with the reason as the last line, else failed.

# shellcheck source=test/lib/setup.sh
. "$top/test/lib/setup.sh"
# shellcheck source=test/lib/sandbox.sh
. "$top/test/lib/sandbox.sh"
# shellcheck source=test/lib/server_source.sh
. "$top/test/lib/server_source.sh"

short=
check_failures=0
check_tests=0
check_logs=
check_kept=
check_name=${0##*/}

check_options()
{
	# shellcheck disable=SC2034 # for those who source this
	case ${1:-} in
	'') ;;
	--short) short=1 ;;
	*)
		sed -n '3,/^$/s/^# \{0,1\}//p' "$0" >&2
		exit 2
		;;
	esac
	umask 022
	unset PG_CONFIG
	SECONDS=0
}

# What the servers need beyond the tests' own set-up is installed here.
check_server()
{
	setup
	if [ -z "$check_kept" ]; then
		check_kept=$OE_BUILD/checks/$check_name
		rm -rf "$check_kept"
	fi
	server_source "$1"
	SECONDS=0
}

# A folder that the unprivileged user may write to.
check_logs_begin()
{
	check_logs=$(as_user mktemp -d "${TMPDIR:-/tmp}/order_engine_logs.XXXXXX")
	trap 'check_logs_end' EXIT
}

check_logs_end()
{
	local status=$?

	rm -rf "$check_logs"
	return "$status"
}

check_wrap()
{
	cat >"$check_logs/postgres" <<-SCRIPT
		#!/bin/sh
		real=\$(dirname "\$0")/postgres.bin
		case \${1:-} in
		--* | -V | -C) exec "\$real" "\$@" ;;
		esac
		exec $* "\$real" "\$@"
	SCRIPT
	export OE_POSTGRES=$check_logs/postgres
}

check_keep()
{
	mkdir -p "$check_kept"
	cp -R "$@" "$check_kept/" 2>/dev/null || true
}

check_run()
{
	local log passed status=0

	log=$(mktemp)
	"$top/test/run" "$@" 2>&1 | tee "$log" || status=$?
	passed=$(sed -n 's/^\([0-9]*\) passed, .*/\1/p' "$log" | tail -n 1)
	check_tests=$((check_tests + ${passed:-0}))
	if [ "$status" != 0 ]; then
		check_failures=$((check_failures + 1))
		mkdir -p "$check_kept"
		cp "$log" "$check_kept/run-$check_failures.log"
		check_keep "$OE_BUILD/failed/."
	fi
	rm -f "$log"
}

check_found()
{
	check_failures=$((check_failures + 1))
	printf '\n%s\n' "$1"
	tail -n 60 "$2"
	check_keep "$2"
}

check_end()
{
	printf '\n%s: %s, %s tests passed in %s seconds\n' "$check_name" "$1" "$check_tests" "$SECONDS"
	[ "$check_failures" = 0 ] || {
		setup_give_back
		echo "logs are kept in $check_kept"
		exit 1
	}
	exit 0
}
