# shellcheck shell=bash
#
# What the checks in test/checks that look at the sources share.  A check sources
# this first.
#
#   $top                    the clone; also the working directory
#   $short                  not empty: test/check --short
#   need COMMAND PACKAGE... installs the packages when there is no such command
#   server_flags            sets $cflags, what the server's headers need of a compiler
#   scratch                 makes $scratch, a folder that goes when the check ends
#   skip WHY                ends the check as skipped

set -eu -o pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$top"
# shellcheck source=test/lib/setup.sh
. "$top/test/lib/setup.sh"
# what programs say is compared and counted below
export LC_ALL=C
short=
# shellcheck disable=SC2034 # for those who source this
[ "${1:-}" != --short ] || short=1

skip()
{
	echo "$*"
	exit 77
}

need()
{
	command -v "$1" >/dev/null && return
	setup_build_dir
	# a check that cannot be installed here says so and is no failure
	(setup_apt_install "${@:2}") || skip "$1 is not here, and ${*:2} could not be installed"
	hash -r
}

# The flags PGXS compiles with that change what the code means, and the server's
# headers as headers of the system, whose own warnings are not ours.
server_flags()
{
	PG_CONFIG=$(command -v "${PG_CONFIG:-$setup_default_pg_config}") || skip 'no pg_config'
	export PG_CONFIG
	setup_headers_ready || skip "$PG_CONFIG has no server headers"
	# shellcheck disable=SC2034 # for those who source this
	mapfile -t source_files < <(printf '%s\n' src/*.c bgworker/*.c)
	cflags=(-std=gnu11 -fno-strict-aliasing -fwrapv -fPIC -D_GNU_SOURCE '-DOE_VERSION="0"'
		-Isrc -Ibgworker -isystem "$("$PG_CONFIG" --includedir-server)"
		-isystem "$("$PG_CONFIG" --pkgincludedir)/internal")
	if [ -d "$("$PG_CONFIG" --includedir)/internal" ]; then
		cflags+=(-isystem "$("$PG_CONFIG" --includedir)/internal")
	fi
}

scratch()
{
	scratch=$(mktemp -d)
	trap 'rm -rf "$scratch"' EXIT
}

# Runs "$@" once for each file of standard input, several at a time.  Everything
# is said; fails when one of them did.
each_file()
{
	xargs -P "$(nproc)" -n 1 "$@"
}
