/*
 * replay.c
 *	  Runs a fuzz target over the files of its corpus, as a TAP program.
 *
 *	  replay DIRECTORY
 *
 * A target that finds something aborts, which fails the program.  Needs no
 * clang, so the unit tests do this everywhere.
 */
#include "fuzz.h"

#include <dirent.h>

static void
run_file(const char *path)
{
	FILE	   *file = fopen(path, "rb");
	uint8_t		data[64 * 1024];
	size_t		size;

	HOLDS(file != NULL);
	size = fread(data, 1, sizeof(data), file);
	HOLDS(!ferror(file));
	fclose(file);

	/* a copy of exactly this size: see take_string */
	{
		char	   *copy = take_bytes(data, size);

		LLVMFuzzerTestOneInput((const uint8_t *) copy, size);
		free(copy);
	}
}

int
main(int argc, char **argv)
{
	const char *directory = argc > 1 ? argv[1] : OE_CORPUS;
	DIR		   *dir = opendir(directory);
	struct dirent *entry;
	int			n = 0;

	if (dir == NULL)
	{
		perror(directory);
		return 1;
	}
	while ((entry = readdir(dir)) != NULL)
	{
		char		path[4096];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
		run_file(path);
		n++;
	}
	closedir(dir);
	printf("%sok 1 - %d inputs of %s\n1..1\n", n > 0 ? "" : "not ", n, directory);
	return n > 0 ? 0 : 1;
}
