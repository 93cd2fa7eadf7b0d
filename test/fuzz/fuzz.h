/*
 * fuzz.h
 *	  What the fuzz targets share.
 *
 * A target is one file with LLVMFuzzerTestOneInput().  libFuzzer drives it, or
 * replay.c, which needs no clang.  Where it can, a target compares the product
 * with a second implementation: as simple as possible, however slow.  A broken
 * promise ends the program.
 */
#ifndef OE_FUZZ_H
#define OE_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HOLDS(condition) \
	do { \
		if (!(condition)) \
		{ \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

/* A reason is text: it ends within its buffer and is there when it must be. */
#define WHY_SIZE	256
#define WHY_POISON	'\x7e'

static inline void
why_begin(char why[WHY_SIZE])
{
	memset(why, WHY_POISON, WHY_SIZE);
}

static inline void
why_check(const char why[WHY_SIZE])
{
	HOLDS(memchr(why, '\0', WHY_SIZE) != NULL && why[0] != '\0');
}

/* A string of exactly these bytes, so that a sanitizer sees a read past its end. */
static inline char *
take_string(const uint8_t *data, size_t size)
{
	char	   *s = malloc(size + 1);

	HOLDS(s != NULL);
	if (size > 0)
		memcpy(s, data, size);
	s[size] = '\0';
	return s;
}

/* The same without an end. */
static inline char *
take_bytes(const uint8_t *data, size_t size)
{
	char	   *s = calloc(1, size > 0 ? size : 1);

	HOLDS(s != NULL);
	if (size > 0)
		memcpy(s, data, size);
	return s;
}

static inline int64_t
take_int64(const uint8_t *data)
{
	int64_t		n;

	memcpy(&n, data, sizeof(n));
	return n;
}

#endif							/* OE_FUZZ_H */
