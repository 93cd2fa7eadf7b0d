/*
 * identity.c
 *	  Which database this is: that of this server, or a copy.
 *
 * The identity of a database is the identifier of the server, the oid of the
 * database, and a random token for the data directory.  The first two are the
 * same in a clone.  The token is not, because the file that holds it has a name
 * that pg_basebackup, other tools for backups and pg_rewind leave out: it begins
 * with pgsql_tmp.  It is in the folder "global", because pg_rewind looks at such
 * names in folders only.  (What the server itself clears of such names when it
 * starts is elsewhere.)
 *
 * Lifecycle: the token is made when it is missing, when the server starts or
 * else when it is first asked for, and never changes while the server runs.  A
 * server that is told to begin from a backup (backup_label, recovery.signal)
 * gets another, so that a copy that brought the file along is a copy all the
 * same.  One that starts as a standby gets a mark, in a second file, because
 * when it is promoted it shall go on where the primary was: the worker takes over
 * each database that the mark does not name yet, and then adds it to the mark.
 *
 * Accidents survived: a crash at any point (files are made under another name
 * and synced; what is added to the mark is a line of its own); processes that
 * make the token at the same time (one wins); a folder that cannot be written to
 * or a disk that is full (nothing is sent, the error says why, the server runs);
 * files that were truncated, replaced or filled with anything else (refused, and
 * not read to their end).
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "common/file_utils.h"
#include "fmgr.h"
#include "identity.h"
#include "miscadmin.h"
#include "shared.h"
#include "storage/fd.h"
#include "utils/builtins.h"

#define INSTANCE_FILE	"global/" PG_TEMP_FILE_PREFIX "_order_engine"
#define STANDBY_FILE	INSTANCE_FILE "_standby"
#define TEMPORARY_FILE	INSTANCE_FILE ".%d"

#define INSTANCE_HEAD	"order_engine instance 1\n"
#define STANDBY_HEAD	"order_engine standby 1\n"

/* of the mark: so many databases that no server has them, a line each */
#define MAX_STANDBY		65536

PG_FUNCTION_INFO_V1(oe_database_identity);
PG_FUNCTION_INFO_V1(oe_shares_transactions);

/* ---------- files ---------- */

static bool
exists(const char *name)
{
	struct stat st;

	return lstat(name, &st) == 0;
}

/*
 * Reads a file whole and puts a zero behind; returns its length, or -1 with errno
 * set.  What is larger than the buffer, or no regular file, is not ours: EINVAL.
 */
static ssize_t
read_file(const char *name, char *buffer, size_t size)
{
	int			fd = OpenTransientFile(name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | PG_BINARY);
	struct stat st;
	ssize_t		got = -1;
	int			save_errno;

	if (fd < 0)
	{
		if (errno == ELOOP)		/* a symbolic link */
			errno = EINVAL;
		return -1;
	}
	if (fstat(fd, &st) == 0)
	{
		errno = EINVAL;
		if (S_ISREG(st.st_mode) && st.st_size < size)
			got = read(fd, buffer, size - 1);
	}
	save_errno = errno;
	CloseTransientFile(fd);
	errno = save_errno;
	if (got >= 0)
		buffer[got] = '\0';
	return got;
}

/* Writes and syncs a file under the name that only this process uses. */
static bool
write_temporary(const char *name, const char *contents)
{
	size_t		len = strlen(contents);
	int			fd;
	bool		ok;
	int			save_errno;

	/* one of a process that had our number and was killed */
	(void) unlink(name);
	fd = OpenTransientFile(name, O_WRONLY | O_CREAT | O_EXCL | PG_BINARY);
	if (fd < 0)
		return false;
	errno = ENOSPC;				/* when write() does not say why it wrote less */
	ok = write(fd, contents, len) == len && pg_fsync(fd) == 0;
	save_errno = errno;
	CloseTransientFile(fd);
	if (!ok)
		(void) unlink(name);
	errno = save_errno;
	return ok;
}

/* ---------- the token ---------- */

/* Reads the token; false with errno set, to EINVAL when it is not what we write. */
static bool
read_instance(char *instance)
{
	char		buffer[sizeof(INSTANCE_HEAD) + OE_INSTANCE_LEN + 2];
	size_t		head = strlen(INSTANCE_HEAD);
	ssize_t		len = read_file(INSTANCE_FILE, buffer, sizeof(buffer));

	if (len < 0)
		return false;
	if (len != head + OE_INSTANCE_LEN + 1 || memcmp(buffer, INSTANCE_HEAD, head) != 0 ||
		buffer[len - 1] != '\n' || strspn(buffer + head, "0123456789abcdef") != OE_INSTANCE_LEN)
	{
		errno = EINVAL;
		return false;
	}
	strlcpy(instance, buffer + head, OE_INSTANCE_LEN + 1);
	return true;
}

/* Makes a token.  When another process was faster that is as good. */
static bool
make_instance(void)
{
	uint8		bytes[OE_INSTANCE_LEN / 2];
	char		contents[sizeof(INSTANCE_HEAD) + OE_INSTANCE_LEN + 1];
	char	   *p = contents + strlen(INSTANCE_HEAD);
	char		name[MAXPGPATH];
	bool		ok;
	int			save_errno;

	if (!pg_strong_random(bytes, sizeof(bytes)))
	{
		errno = EIO;
		return false;
	}
	strcpy(contents, INSTANCE_HEAD);
	for (int i = 0; i < sizeof(bytes); i++, p += 2)
		sprintf(p, "%02x", bytes[i]);
	strlcpy(p, "\n", contents + sizeof(contents) - p);

	snprintf(name, sizeof(name), TEMPORARY_FILE, (int) getpid());
	if (!write_temporary(name, contents))
		return false;
	ok = link(name, INSTANCE_FILE) == 0 || errno == EEXIST;
	save_errno = errno;
	(void) unlink(name);
	errno = save_errno;
	return ok && fsync_fname_ext("global", true, false, LOG) == 0;
}

static bool
read_or_make_instance(char *instance)
{
	return read_instance(instance) ||
		(errno == ENOENT && make_instance() && read_instance(instance));
}

static void
report_instance(int elevel)
{
	int			save_errno = errno;

	if (save_errno == EINVAL)
		ereport(elevel,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("file \"%s\" does not hold what order_engine wrote", INSTANCE_FILE),
				 errhint("Remove it and restart the server. Its databases are copies then: call order_engine.adopt_database() in those that shall send.")));
	else
	{
		errno = save_errno;
		ereport(elevel,
				(errcode_for_file_access(),
				 errmsg("could not read or make file \"%s\": %m", INSTANCE_FILE),
				 errhint("order_engine keeps in it by which it tells this server from its copies. The server must be able to write to the folder \"global\" of its data directory.")));
	}
}

/* The token of this server; NULL when there is none. */
static const char *
find_instance(void)
{
	static char known[OE_INSTANCE_LEN + 1] = "";

	/* of all processes the same one, whatever becomes of the file */
	if (oe_shared != NULL && oe_shared->instance[0] != '\0')
		return oe_shared->instance;
	if (oe_shared != NULL && oe_shared->old_instance)
		return NULL;
	if (known[0] == '\0' && !read_or_make_instance(known))
		return NULL;
	return known;
}

/* The same; raises an error when there is none. */
static const char *
instance_of_server(void)
{
	const char *instance = find_instance();

	if (instance == NULL && oe_shared != NULL && oe_shared->old_instance)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("file \"%s\" was not removed when the server began from a backup", INSTANCE_FILE),
				 errhint("Remove it and restart the server.")));
	if (instance == NULL)
		report_instance(ERROR);
	return instance;
}

char *
oe_identity_prefix(void)
{
	return psprintf(UINT64_FORMAT "/%u/", GetSystemIdentifier(), MyDatabaseId);
}

/*
 * database_identity()
 */
Datum
oe_database_identity(PG_FUNCTION_ARGS)
{
	char	   *prefix = oe_identity_prefix();

	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%s%s", prefix, instance_of_server())));
}

/*
 * A clone, or a standby that was promoted, goes on from the transactions that it
 * has, and its databases keep their oids.  A database of another oid was copied
 * within this data directory if it has its token.  What came with a dump, even
 * from a clone of this server, is of neither kind.  Never raises an error: for
 * somebody who writes an event it is as good to take a copy for a dump.
 */
bool
oe_identity_shares_transactions(const char *identity)
{
	char	   *prefix = oe_identity_prefix();
	char	   *server = psprintf(UINT64_FORMAT "/", GetSystemIdentifier());
	const char *token = strrchr(identity, '/');
	bool		result = false;

	if (strncmp(identity, prefix, strlen(prefix)) == 0)
		result = true;
	else if (token != NULL && strncmp(identity, server, strlen(server)) == 0)
	{
		const char *instance = find_instance();

		result = instance != NULL && strcmp(token + 1, instance) == 0;
	}
	pfree(prefix);
	pfree(server);
	return result;
}

/*
 * shares_transactions(identity)
 */
Datum
oe_shares_transactions(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(oe_identity_shares_transactions(text_to_cstring(PG_GETARG_TEXT_PP(0))));
}

/* ---------- the mark ---------- */

static void
set_mark(void)
{
	char		name[MAXPGPATH];

	snprintf(name, sizeof(name), TEMPORARY_FILE, (int) getpid());
	if (!write_temporary(name, STANDBY_HEAD) || durable_rename(name, STANDBY_FILE, LOG) != 0)
		ereport(WARNING,
				(errcode_for_file_access(),
				 errmsg("could not make file \"%s\": %m", STANDBY_FILE),
				 errhint("When this server is promoted, call order_engine.adopt_database() in its databases that shall send.")));
}

/* The mark's list of databases that were taken over; false: there is no mark. */
static bool
read_mark(char **list)
{
	char	   *buffer = palloc(MAX_STANDBY);
	ssize_t		len = read_file(STANDBY_FILE, buffer, MAX_STANDBY);

	if (len < 0 || strncmp(buffer, STANDBY_HEAD, strlen(STANDBY_HEAD)) != 0)
	{
		if (len >= 0 || errno != ENOENT)
			ereport(LOG,
					(errmsg("file \"%s\" is ignored: it does not hold what order_engine wrote",
							STANDBY_FILE)));
		pfree(buffer);
		return false;
	}
	*list = buffer + strlen(STANDBY_HEAD) - 1;	/* from its line's end on */
	return true;
}

bool
oe_identity_was_standby(void)
{
	char	   *list;
	char		line[32];

	if (!read_mark(&list))
		return false;
	snprintf(line, sizeof(line), "\n%u\n", MyDatabaseId);
	return strstr(list, line) == NULL;
}

/*
 * Databases may do so at the same time: one write at the end of the file is one
 * line.  It begins with an end of line, for before it may be what a crash left.
 */
void
oe_identity_taken_over(void)
{
	char		line[32];
	int			fd = OpenTransientFile(STANDBY_FILE, O_WRONLY | O_APPEND | O_NOFOLLOW | PG_BINARY);
	bool		ok;
	int			len = snprintf(line, sizeof(line), "\n%u\n", MyDatabaseId);

	errno = fd >= 0 ? ENOSPC : errno;
	ok = fd >= 0 && write(fd, line, len) == len && pg_fsync(fd) == 0;
	if (!ok)
		ereport(WARNING,
				(errcode_for_file_access(),
				 errmsg("could not write to file \"%s\": %m", STANDBY_FILE)));
	if (fd >= 0)
		CloseTransientFile(fd);
}

/* ---------- the start of the server ---------- */

void
oe_identity_startup(void)
{
	bool		standby = exists(STANDBY_SIGNAL_FILE);
	bool		from_backup = exists(BACKUP_LABEL_FILE) || exists(RECOVERY_SIGNAL_FILE);

	oe_shared->instance[0] = '\0';
	oe_shared->old_instance = from_backup && unlink(INSTANCE_FILE) != 0 && errno != ENOENT;
	if (!oe_shared->old_instance && !read_or_make_instance(oe_shared->instance))
	{
		oe_shared->instance[0] = '\0';
		report_instance(WARNING);
	}
	if (standby)
		set_mark();
	else if (from_backup && unlink(STANDBY_FILE) != 0 && errno != ENOENT)
		ereport(WARNING,
				(errcode_for_file_access(),
				 errmsg("could not remove file \"%s\": %m", STANDBY_FILE)));
}
