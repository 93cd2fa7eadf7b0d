/*
 * crash_shim.c
 *	  A libcurl with a bug, for tests.
 *
 * Loaded into a server by LD_PRELOAD.  While the file that OE_CRASH_WORD names is
 * there, a process that sends data with its contents in it dies of a bus error, by
 * a true fault: one that only raise()d the signal would be caught also where that
 * is blocked, and a fault would not.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* Reads behind the end of a file that is mapped into memory. */
static void
fault(void)
{
	volatile char *page = mmap(NULL, 1, PROT_READ, MAP_SHARED, memfd_create("empty", 0), 0);

	(void) page[0];
}

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
			fault();
	}
	return real(sock, data, size, flags);
}
