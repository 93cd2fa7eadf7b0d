/*
 * resolve_shim.c
 *	  getaddrinfo for tests: names that lie, change their minds, or never answer.
 *
 * Loaded into a server by LD_PRELOAD.  The file that OE_RESOLVE names has lines
 * "name address..." and is read at each look-up.  For the address "hang" the
 * look-up makes the file NAME.hangs beside it and takes until a file NAME.go
 * is there, two minutes at most.  Other names are left to the C library.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int (*resolver) (const char *, const char *, const struct addrinfo *, struct addrinfo **);

static int
hang(const char *file, const char *name)
{
	char		path[4096];
	FILE	   *mark;

	snprintf(path, sizeof(path), "%s.%s.hangs", file, name);
	mark = fopen(path, "w");
	if (mark != NULL)
		fclose(mark);
	snprintf(path, sizeof(path), "%s.%s.go", file, name);
	for (int i = 0; i < 12000 && access(path, F_OK) != 0; i++)
		usleep(10000);
	return EAI_AGAIN;
}

int
getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
			struct addrinfo **result)
{
	resolver	real = (resolver) dlsym(RTLD_NEXT, "getaddrinfo");
	const char *file = getenv("OE_RESOLVE");
	FILE	   *f = name != NULL && file != NULL ? fopen(file, "r") : NULL;
	char		line[1024];
	struct addrinfo **end = result;

	if (f == NULL)
		return real(name, service, hints, result);
	*result = NULL;
	while (fgets(line, sizeof(line), f) != NULL)
	{
		char	   *rest = line;
		char	   *word = strtok_r(rest, " \n", &rest);

		if (word == NULL || strcmp(word, name) != 0)
			continue;
		while ((word = strtok_r(NULL, " \n", &rest)) != NULL)
		{
			struct addrinfo numeric;

			if (strcmp(word, "hang") == 0)
			{
				fclose(f);
				return hang(file, name);
			}
			memset(&numeric, 0, sizeof(numeric));
			if (hints != NULL)
				numeric.ai_socktype = hints->ai_socktype;
			numeric.ai_flags = AI_NUMERICHOST;
			if (real(word, service, &numeric, end) == 0)
			{
				while (*end != NULL)
					end = &(*end)->ai_next;
			}
		}
		fclose(f);
		return *result != NULL ? 0 : EAI_NONAME;
	}
	fclose(f);
	return real(name, service, hints, result);
}
