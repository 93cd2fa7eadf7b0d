/*-------------------------------------------------------------------------
 *
 * tap.h
 *	  Just enough of the Test Anything Protocol for one-file programs.
 *
 * A program calls ok(), is_int(), is_str() and at the end of main
 * `return done_testing();`.  A failed test does not end the program.
 *
 *-------------------------------------------------------------------------
 */
#ifndef OE_TAP_H
#define OE_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int	tap_count = 0;
static int	tap_failed = 0;

static inline bool
__attribute__((format(printf, 2, 3)))
ok(bool condition, const char *format,...)
{
	va_list		args;

	tap_count++;
	if (!condition)
		tap_failed++;
	printf("%sok %d - ", condition ? "" : "not ", tap_count);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	return condition;
}

static inline void
is_int(int64_t got, int64_t want, const char *name)
{
	if (!ok(got == want, "%s", name))
		printf("# got %lld, want %lld\n", (long long) got, (long long) want);
}

static inline void
is_str(const char *got, const char *want, const char *name)
{
	if (!ok(strcmp(got, want) == 0, "%s", name))
		printf("# got \"%s\"\n# want \"%s\"\n", got, want);
}

static inline int
done_testing(void)
{
	printf("1..%d\n", tap_count);
	return tap_failed == 0 && tap_count > 0 ? 0 : 1;
}

/*
 * Pseudo-random numbers (splitmix64).  The seed is fixed so that a failure
 * repeats; OE_TEST_SEED tries another one.
 */
static uint64_t tap_random_state;

static inline void
random_seed(uint64_t seed)
{
	const char *env = getenv("OE_TEST_SEED");

	tap_random_state = env ? strtoull(env, NULL, 0) : seed;
	printf("# seed %llu\n", (unsigned long long) tap_random_state);
}

static inline uint64_t
random_u64(void)
{
	uint64_t	z = (tap_random_state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* uniform enough in 0 .. n - 1 */
static inline size_t
random_below(size_t n)
{
	return (size_t) (random_u64() % n);
}

static inline double
random_unit(void)
{
	return (double) (random_u64() >> 11) / 9007199254740992.0;
}

/*
 * A copy in a block of exactly len bytes, so that a sanitizer sees any read
 * past the end.  The caller frees it.
 */
static inline char *
exact_copy(const void *bytes, size_t len)
{
	char	   *copy = malloc(len > 0 ? len : 1);

	if (copy == NULL)
		abort();
	memcpy(copy, bytes, len);
	return copy;
}

#endif							/* OE_TAP_H */
