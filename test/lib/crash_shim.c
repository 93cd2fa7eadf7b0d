/*
 * crash_shim.c
 *	  A libcurl with a bug, for tests.
 *
 * Loaded into a server by LD_PRELOAD.  While the file that OE_CRASH_WORD names is
 * there, a process that sends data with its contents in it dies of a bus error.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

ssize_t
send(int sock, const void *data, size_t size, int flags)
{
	ssize_t		(*real) (int, const void *, size_t, int) = dlsym(RTLD_NEXT, "send");
	const char *name = getenv("OE_CRASH_WORD");
	int			fd = name != NULL ? open(name, O_RDONLY) : -1;
	char		word[256];
	ssize_t		len;

	if (fd >= 0)
	{
		len = read(fd, word, sizeof(word));
		close(fd);
		if (len > 0 && memmem(data, size, word, len) != NULL)
			raise(SIGBUS);
	}
	return real(sock, data, size, flags);
}
