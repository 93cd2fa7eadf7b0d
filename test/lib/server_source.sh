#!/usr/bin/env bash
#
# Builds a PostgreSQL server from source, for checks that need one of their own.
#
#   test/lib/server_source.sh BUILD [VERSION]
#
# BUILD is
#   assert    assertions, memory context checks, caches dropped as early as they
#             may be
#   valgrind  tells valgrind about memory contexts; nothing else, for it is slow enough
#   sanitize  the sanitizers for addresses and for undefined behaviour
#   plain     neither: another VERSION than the machine has
# VERSION is a major version, 15 if not given.
#
# The last line printed is the path of its pg_config, for PG_CONFIG=... test/run.
# Exit status 77 says that the source or a tool cannot be had here, and why.
#
# The source is Debian's, got through apt with a folder of its own for apt's
# state: the machine's lists and sources stay as they are.  It is built by a user
# who may run a server, never by root.  A server once built is kept in
# build/servers until its options change; remove it to have it built anew.
#
# May be sourced as well, after setup.sh and sandbox.sh, for
#   server_source BUILD [VERSION]     does the above and sets PG_CONFIG

source_dir=
user_dir=

server_source_cannot()
{
	echo "server: $*"
	exit 77
}

# Removes what the build left, then goes on to the sandbox's own end.
server_source_end()
{
	# shellcheck disable=SC2320 # of whatever ended the script
	local status=$?

	rm -rf ${source_dir:+"$source_dir"} ${user_dir:+"$user_dir"}
	source_dir=
	user_dir=
	return "$status"
}

# Sets $configure, $cflags and $cppflags for the build $1.
server_source_options()
{
	# Only what the extension and its tests use.
	configure=(--enable-debug --enable-tap-tests --with-openssl --without-icu
		--without-readline --without-zlib)
	cppflags=
	case $1 in
	assert)
		configure+=(--enable-cassert)
		cflags='-Og -g -fno-omit-frame-pointer'
		cppflags='-DRELCACHE_FORCE_RELEASE -DCATCACHE_FORCE_RELEASE'
		;;
	valgrind)
		cflags='-O1 -g -fno-omit-frame-pointer'
		cppflags='-DUSE_VALGRIND'
		;;
	sanitize)
		cflags='-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined'
		cflags+=' -fno-sanitize-recover=undefined'
		;;
	plain)
		cflags='-O2 -g'
		;;
	*)
		echo "unknown build $1: assert, valgrind, sanitize or plain" >&2
		exit 2
		;;
	esac
}

# A folder that the user the servers run as can read: the clone's may be private.
server_source_folder()
{
	servers=$OE_BUILD/servers
	mkdir -p "$servers"
	as_user test -x "$servers" -a -r "$servers" && return
	servers=/var/tmp/order_engine-servers.$(id -u)
	mkdir -m 755 "$servers" 2>/dev/null || true
	if [ ! -O "$servers" ] || [ -L "$servers" ]; then
		server_source_cannot "$servers belongs to somebody else"
	fi
}

# The Debian packages for whatever is not there.
server_source_tools()
{
	command -v bison >/dev/null || echo bison
	command -v flex >/dev/null || echo flex
	command -v bzip2 >/dev/null || echo bzip2
	[ -e /usr/include/openssl/ssl.h ] || echo libssl-dev
	[ "$1" != valgrind ] || [ -e /usr/include/valgrind/memcheck.h ] || echo valgrind
}

# apt-get with its lists, cache and sources in the folder $source_dir/apt.
server_source_apt()
{
	local apt=$source_dir/apt tool=$1

	shift
	(cd "$apt" && "$tool" -qq -o Dir::State="$apt/state" -o Dir::State::status=/dev/null \
		-o Dir::Cache="$apt/cache" -o Dir::Etc::sourcelist=/dev/null \
		-o Dir::Etc::sourceparts="$apt/sources.d" -o APT::Sandbox::User= \
		-o Acquire::Languages=none -o Acquire::http::Timeout=30 "$@")
}

# Gets the source of major version $1 as the file $tarball.
server_source_get()
{
	local apt=$source_dir/apt file found mirror suite

	command -v apt-get >/dev/null || server_source_cannot 'no apt here to get the source with'
	mkdir -p "$apt/sources.d" "$apt/state/lists/partial" "$apt/cache/archives/partial"
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
		case $file in
		*.sources) sed -E 's/^Types:.*/Types: deb-src/' "$file" ;;
		*.list) sed -nE 's/^deb(-src)?[[:space:]]/deb-src /p' "$file" ;;
		esac >"$apt/sources.d/${file##*/}" 2>/dev/null || rm -f "$apt/sources.d/${file##*/}"
	done
	# A later Debian's source builds here as well; with the mirror that is in use.
	if ! apt-cache show "postgresql-$1" >/dev/null 2>&1; then
		# shellcheck disable=SC2016 # a placeholder of apt's
		mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' \
			'Origin: Debian' 2>/dev/null | head -n 1)
		for suite in trixie sid; do
			echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]" \
				"${mirror:-http://deb.debian.org/debian} $suite main"
		done >"$apt/sources.d/later.list"
	fi
	server_source_apt apt-get update >"$apt/log" 2>&1 || true
	# A mirror may list a version that it no longer has, or does not have yet.
	while read -r found; do
		server_source_apt apt-get source --download-only --only-source \
			"postgresql-$1=$found" >>"$apt/log" 2>&1 || continue
		tarball=$(compgen -G "$apt/postgresql-$1_*.orig.tar.*[!c]")
		return
	done < <(server_source_apt apt-cache showsrc --only-source "postgresql-$1" 2>>"$apt/log" |
		sed -n 's/^Version: //p' | sort -rVu)
	grep -E '^[EW]:' "$apt/log" | tail -n 5
	server_source_cannot "apt has no source of postgresql-$1"
}

# Configures, builds and installs into $source_dir/root as the unprivileged user.
server_source_make()
{
	local dir log=$source_dir/log status=0

	# sanitizers: neither configure's probes nor the build's tools give memory back
	export ASAN_OPTIONS=detect_leaks=0
	dir=$(as_user mktemp -d "${TMPDIR:-/tmp}/order_engine_server.XXXXXX")
	user_dir=$dir
	{
		as_user tar -C "$dir" --strip-components=1 -xjf - <"$tarball" &&
			as_user nice -n 19 env --chdir="$dir" ./configure --prefix="$prefix" \
				"${configure[@]}" CFLAGS="$cflags" CPPFLAGS="$cppflags" </dev/null &&
			as_user nice -n 19 make -C "$dir" -s -j 2 </dev/null &&
			as_user nice -n 19 make -C "$dir/contrib/postgres_fdw" -s </dev/null &&
			as_user make -C "$dir" -s install DESTDIR="$dir/root" </dev/null &&
			as_user make -C "$dir/contrib/postgres_fdw" -s install DESTDIR="$dir/root" </dev/null &&
			as_user cp "$dir/src/tools/valgrind.supp" "$dir/root$prefix/share/"
	} >"$log" 2>&1 || status=$?
	if [ "$status" = 0 ]; then
		rm -rf "$prefix"
		mkdir "$prefix"
		tar -C "$dir/root$prefix" -cf - . | tar -C "$prefix" -xf - --no-same-owner
	fi
	if [ "$status" != 0 ]; then
		tail -n 40 "$log"
		echo 'the server could not be built'
		exit 1
	fi
}

server_source()
{
	local build=$1 version=${2:-15} configure cflags cppflags servers prefix stamp packages tarball

	server_source_options "$build"
	server_source_folder
	prefix=$servers/$build-$version
	stamp="${configure[*]} | $cflags | $cppflags"
	exec {server_lock}>"$prefix.lock"
	flock "$server_lock"
	if [ "$(cat "$prefix/built_with" 2>/dev/null)" != "$stamp" ]; then
		packages=$(server_source_tools "$build")
		# shellcheck disable=SC2086 # a list of words
		[ -z "$packages" ] || setup_apt_install $packages
		source_dir=$(mktemp -d)
		trap 'server_source_end' EXIT
		echo "getting the source of PostgreSQL $version"
		server_source_get "$version"
		echo "building PostgreSQL from ${tarball##*/}, which takes some minutes"
		server_source_make
		echo "$stamp" >"$prefix/built_with"
		server_source_end
	fi
	exec {server_lock}>&-
	export PG_CONFIG=$prefix/bin/pg_config
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
	set -eu -o pipefail
	top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
	# shellcheck source=test/lib/setup.sh
	. "$top/test/lib/setup.sh"
	# shellcheck source=test/lib/sandbox.sh
	. "$top/test/lib/sandbox.sh"
	umask 022
	if [ "$#" = 0 ]; then
		sed -n '3,18s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
		exit 2
	fi
	setup_build_dir
	server_source "$@"
	echo "$PG_CONFIG"
fi
