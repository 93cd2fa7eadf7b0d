#!/usr/bin/env bash
#
# Makes sure that what the tests and the demo need is on this machine.
#
# Looks for each tool first and installs only what is missing: through apt (as
# root or with sudo, asking nothing) and the receiver's npm packages into a
# build folder that git ignores.  With nothing missing it touches neither
# package manager nor network.
#
# Run it alone, or source it for
#   setup            do the above; sets the variables below
#   $PG_CONFIG       the server to build against; PG_CONFIG in the environment
#                    chooses another one than PostgreSQL 15
#   $OE_NODE         a node (>= 18) that an unprivileged user can run as well
#   $OE_NODE_PATH    the folder of the npm modules
#   $OE_BUILD        the build folder

setup_top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

setup_default_pg_config=/usr/lib/postgresql/15/bin/pg_config

setup_fail()
{
	printf 'set-up: %s\n' "$*" >&2
	exit 1
}

# The clone's build folder, or one of the user's own if the clone is read-only.
setup_build_dir()
{
	OE_BUILD=$setup_top/build
	if ! { mkdir -p "$OE_BUILD" && [ -w "$OE_BUILD" ]; } 2>/dev/null; then
		OE_BUILD=${XDG_CACHE_HOME:-$HOME/.cache}/order_engine
		mkdir -p "$OE_BUILD"
	fi
}

# When root works in somebody else's clone, the files stay that person's.
setup_give_back()
{
	if [ "$(id -u)" = 0 ]; then
		chown -R --reference="$setup_top" "$OE_BUILD"
	fi
}

# Sets OE_NODE.  As root, a node below /root is of no use to the user the
# servers run as, so it has to run without root's rights.
setup_find_node()
{
	local node try=()

	if [ "$(id -u)" = 0 ]; then
		try=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	fi
	for node in "$(command -v node || true)" /usr/bin/node /usr/local/bin/node; do
		# shellcheck disable=SC2016 # the backquotes are JavaScript's
		if [ -n "$node" ] && (cd / && "${try[@]}" "$node" -e \
			'process.exit(parseInt(process.versions.node) >= 18 ? 0 : 1)') 2>/dev/null; then
			# shellcheck disable=SC2034 # for those who source this
			OE_NODE=$node
			return 0
		fi
	done
	return 1
}

setup_modules_ready()
{
	[ -e "$OE_BUILD/npm/node_modules/standardwebhooks/package.json" ] &&
		[ -e "$OE_BUILD/npm/node_modules/cloudevents/package.json" ] &&
		cmp -s "$setup_top/test/lib/package-lock.json" "$OE_BUILD/npm/package-lock.json"
}

# Debian's server package brings pgxs.mk but neither headers nor the test tools.
setup_headers_ready()
{
	[ -x "$PG_CONFIG" ] && [ -e "$("$PG_CONFIG" --pgxs)" ] &&
		[ -e "$("$PG_CONFIG" --includedir-server)/postgres.h" ]
}

# Prints the Debian packages for whatever is not there.
setup_missing_packages()
{
	command -v gcc >/dev/null || echo gcc libc6-dev
	command -v make >/dev/null || echo make
	command -v prove >/dev/null || echo perl
	perl -MIPC::Run -e 1 2>/dev/null || echo libipc-run-perl
	command -v curl-config >/dev/null || echo libcurl4-openssl-dev
	if [ "$PG_CONFIG" = "$setup_default_pg_config" ]; then
		[ -x "${PG_CONFIG%/*}/initdb" ] || echo postgresql-15
		setup_headers_ready || echo postgresql-server-dev-15
	fi
	setup_find_node || echo nodejs
	if ! setup_modules_ready; then
		command -v npm >/dev/null || echo npm
		[ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
	fi
}

# apt-get without a question.  A first PostgreSQL on a machine must not leave a
# default cluster behind, and no package a running service, so they are told so
# while they install.
setup_apt_install()
{
	local sudo=() conf=/etc/postgresql-common/createcluster.d/order_engine.conf status=0
	local policy=/usr/sbin/policy-rc.d

	command -v apt-get >/dev/null ||
		setup_fail "these Debian packages (or their like) are missing: $*"
	if [ "$(id -u)" != 0 ]; then
		sudo=(sudo -n)
		"${sudo[@]}" true 2>/dev/null ||
			setup_fail "this needs root once: apt-get install --no-install-recommends $*"
	fi

	printf 'set-up: installing %s\n' "$*"
	# whatever ends this, the two files must not stay
	(
		temporary=()
		trap '[ "${#temporary[@]}" = 0 ] || "${sudo[@]}" rm -f "${temporary[@]}"' EXIT
		case " $* " in
		*' postgresql-15 '*)
			temporary+=("$conf")
			"${sudo[@]}" mkdir -p "${conf%/*}"
			echo 'create_main_cluster = false' | "${sudo[@]}" tee "$conf" >/dev/null
			;;
		esac
		if [ ! -e "$policy" ]; then
			temporary+=("$policy")
			printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
			"${sudo[@]}" chmod 755 "$policy"
		fi

		# A broken third-party source fails the update and hurts nothing else.
		"${sudo[@]}" apt-get -qq -o DPkg::Lock::Timeout=300 update ||
			echo 'set-up: apt-get update reported errors, going on with what it has' >&2
		"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
			-o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold \
			install "$@" >"$OE_BUILD/apt.log" 2>&1
	) || status=$?

	if [ "$status" != 0 ]; then
		tail -n 30 "$OE_BUILD/apt.log" >&2
		setup_fail "apt-get could not install: $*"
	fi
}

# One at a time: two runs in a fresh clone would remove each other's files.
setup_npm()
{
	local lock

	exec {lock}>"$OE_BUILD/npm.lock"
	flock "$lock"
	setup_modules_ready || setup_npm_install "$setup_top/test/lib" "$OE_BUILD/npm" 'the receiver'
	exec {lock}>&-
}

# Installs what package.json and its lock in folder $1 name into folder $2; it is for $3.
setup_npm_install()
{
	echo "set-up: installing the npm packages of $3"
	rm -rf "$2"
	mkdir -p "$2"
	cp "$1/package.json" "$1/package-lock.json" "$2/"
	(cd "$2" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) \
		>"$2.log" 2>&1 || {
		tail -n 30 "$2.log" >&2
		rm -rf "$2"
		setup_fail "npm could not install the packages of $3"
	}
}

setup()
{
	local packages

	PG_CONFIG=$(command -v "${PG_CONFIG:-$setup_default_pg_config}" || echo "${PG_CONFIG:-$setup_default_pg_config}")
	setup_build_dir
	packages=$(setup_missing_packages)
	if [ -n "$packages" ]; then
		# shellcheck disable=SC2086 # a list of words
		setup_apt_install $packages
		hash -r
	fi
	setup_modules_ready || setup_npm
	setup_give_back

	setup_find_node || setup_fail 'node 18 or newer is needed'
	setup_headers_ready ||
		setup_fail "$PG_CONFIG does not belong to a PostgreSQL with its server headers"
	[ -x "$("$PG_CONFIG" --bindir)/initdb" ] || setup_fail "no initdb beside $PG_CONFIG"
	# shellcheck disable=SC2034 # for those who source this
	OE_NODE_PATH=$OE_BUILD/npm/node_modules
	export PG_CONFIG
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
	set -eu -o pipefail
	setup
	echo 'set-up: everything is there'
fi
