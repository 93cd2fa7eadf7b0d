# shellcheck shell=bash
#
# A throw-away place to build and run in, for test/run and test/demo/run, which
# set $top, the clone.
#
#   sandbox_open        makes $work, a private folder, and sees to it that
#                       sandbox_close runs when the script ends, however it ends
#   as_user CMD...      runs CMD in $work as a user that may run a server: never root
#   run CMD...          the same, in the background and waited for, so that a
#                       signal to the script is heard at once
#   sandbox_receiver    makes the receiver's npm modules readable for that user
#   sandbox_build       copies the tree to $work/src, builds it with -Werror and
#                       installs it into $root, a private copy of the server;
#                       $OE_COPT in the environment adds flags of the compiler
#   sandbox_close       ends everything that runs in $work, then removes it
#
# Neither the clone nor the system's PostgreSQL is ever written to.  PostgreSQL
# finds its shared files relative to its binary, which is what makes a copy of
# the server work.

work=
root=
bindir=
keep_work=

as_user_prefix=()
if [ "$(id -u)" = 0 ]; then
	for user in postgres nobody; do
		if setpriv --reuid="$user" --regid="$user" --clear-groups true 2>/dev/null ||
			[ "$user" = nobody ]; then
			as_user_prefix=(setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups)
			break
		fi
	done
fi

as_user()
{
	env --chdir="${work:-/}" --default-signal=INT,QUIT "${as_user_prefix[@]}" "$@"
}

run()
{
	# without <&0 a background command would read /dev/null
	as_user "$@" <&0 &
	wait "$!"
}

sandbox_open()
{
	local parent name

	cd /
	umask 022
	# What the caller's environment holds about other servers, or about the make
	# that called, is not for ours.  How long to wait is.
	for name in $(compgen -e); do
		case $name in
		PG_CONFIG | PG_TEST_* | PGCTLTIMEOUT | PGISOLATIONTIMEOUT) ;;
		PG* | MAKE* | MFLAGS | PERL5LIB | NODE_PATH | NODE_OPTIONS) unset "$name" ;;
		esac
	done
	export LC_ALL=C.UTF-8

	# A socket's path holds 107 bytes and pg_regress does not quote: TMPDIR serves
	# if it is short, plain, ours to write to and not mounted noexec.
	for parent in "${TMPDIR:-}" /tmp /var/tmp; do
		# as processes that run in it show it, without symbolic links
		parent=$(cd "${parent:-/nowhere}" 2>/dev/null && pwd -P) || continue
		[[ $parent =~ ^/[A-Za-z0-9._/-]{1,40}$ ]] || continue
		work=$(as_user env TMPDIR= mktemp -d "$parent/order_engine.XXXXXX" 2>/dev/null) || continue
		trap sandbox_close EXIT
		trap 'exit 129' HUP
		trap 'exit 130' INT
		trap 'exit 143' TERM
		if as_user cp /bin/true "$work/true" && as_user "$work/true" 2>/dev/null; then
			break
		fi
		as_user rm -rf "$work"
		work=
	done
	[ -n "$work" ] || {
		echo 'no folder for temporary files: neither TMPDIR nor /tmp nor /var/tmp serves' >&2
		exit 1
	}
	as_user mkdir "$work/home" "$work/tmp" "$work/src" "$work/npm" "$work/input"
	export HOME=$work/home TMPDIR=$work/tmp
}

# Prints the processes that live in the folder $1, except this script.  The
# folder is ours alone, so they are ours.
sandbox_processes()
{
	local process cwd

	for process in /proc/[0-9]*; do
		cwd=$(readlink "$process/cwd" 2>/dev/null) || continue
		case ${cwd% (deleted)} in
		"$1" | "$1"/*) [ "${process#/proc/}" = "$$" ] || echo "${process#/proc/}" ;;
		esac
	done
}

# A server hears SIGQUIT as "stop at once", everybody else SIGTERM; who is still
# there after five seconds is killed.
sandbox_end_processes()
{
	local pid pids try

	pids=$(sandbox_processes "$1")
	for pid in $pids; do
		case $(cat "/proc/$pid/comm" 2>/dev/null) in
		postgres) kill -QUIT "$pid" 2>/dev/null || true ;;
		*) kill -TERM "$pid" 2>/dev/null || true ;;
		esac
	done
	for ((try = 0; try < 50; try++)); do
		pids=$(sandbox_processes "$1")
		[ -n "$pids" ] || return 0
		sleep 0.1
	done
	for pid in $pids; do
		kill -KILL "$pid" 2>/dev/null || true
	done
}

sandbox_close()
{
	local status=$?

	trap - EXIT
	trap '' HUP INT TERM
	if [ -n "$work" ] && [ -z "$keep_work" ]; then
		cd /
		sandbox_end_processes "$work"
		rm -rf "$work"
	fi
	exit "$status"
}

# Readies the receiver for as_user: its modules may lie where only root can read.
sandbox_receiver()
{
	tar -C "$OE_NODE_PATH" -cf - . | as_user tar -C "$work/npm" -xf - --no-same-permissions
	export OE_NODE NODE_PATH=$work/npm
}

# Prints the value of a variable of the Makefile.
make_variable()
{
	as_user make -s --no-print-directory -C "$work/src" -f Makefile -f - print-variable \
		PG_CONFIG="$PG_CONFIG" <<<"print-variable: ; @echo \$($1)"
}

sandbox_build()
{
	local dir log=$work/build.log option=(PG_CONFIG="$PG_CONFIG" with_llvm=no WERROR=1)

	[ -z "${OE_COPT:-}" ] || option+=(COPT="$OE_COPT")

	# root reads the tree, the user writes the copy
	# shellcheck disable=SC2154 # $top: see the head of this file
	tar -C "$top" -cf - --exclude=./.git --exclude=./build --exclude='./test/*/build' --exclude='*.o' --exclude='*.so' \
		--exclude='*.bc' . | as_user tar -C "$work/src" -xf - --no-same-permissions

	root=$work/root
	bindir=$root$("$PG_CONFIG" --bindir)
	for dir in "$("$PG_CONFIG" --bindir)" "$("$PG_CONFIG" --pkglibdir)" "$("$PG_CONFIG" --sharedir)"; do
		as_user mkdir -p "$root$dir"
		as_user cp -a --no-preserve=ownership "$dir/." "$root$dir/"
	done
	export PATH="$bindir:$PATH"
	# a script that starts postgres.bin in its own way, for a check
	if [ -n "${OE_POSTGRES:-}" ]; then
		as_user mv "$bindir/postgres" "$bindir/postgres.bin"
		as_user tee "$bindir/postgres" <"$OE_POSTGRES" >/dev/null
		as_user chmod 755 "$bindir/postgres"
	fi

	if ! { run make -s -C "$work/src" -j "$(nproc)" "${option[@]}" >"$log" 2>&1 &&
		run make -s -C "$work/src" install DESTDIR="$root" "${option[@]}" >>"$log" 2>&1; }; then
		tail -n 60 "$log" >&2
		echo 'the build failed' >&2
		return 1
	fi
}
