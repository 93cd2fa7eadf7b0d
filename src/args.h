/*
 * args.h
 *	  Arguments of the SQL functions.
 *
 * The verbs are not STRICT: a null where a value is needed is an error that
 * names the argument.
 */
#ifndef OE_ARGS_H
#define OE_ARGS_H

#include "fmgr.h"
#include "utils/jsonb.h"

/* longest key or name that a caller may choose, in bytes */
#define OE_MAX_NAME_BYTES		255

/* longest free text, in bytes; a reason goes into history, events and the ledger */
#define OE_MAX_TEXT_BYTES		8192

/* largest metadata, in bytes as stored */
#define OE_MAX_METADATA_BYTES	(64 * 1024)

/* 22004 unless the argument is given */
extern void oe_arg_require(FunctionCallInfo fcinfo, int argno, const char *argname);

/*
 * A name or key: 1 to 255 bytes without control characters (22023), in the
 * current memory context.  The first form demands it, the second returns NULL
 * for null.
 */
extern char *oe_arg_name(FunctionCallInfo fcinfo, int argno, const char *argname);
extern char *oe_arg_name_or_null(FunctionCallInfo fcinfo, int argno, const char *argname);

/* Free text such as a reason, at most OE_MAX_TEXT_BYTES (22023); NULL for null. */
extern char *oe_arg_text_or_null(FunctionCallInfo fcinfo, int argno);

/* A jsonb object of at most OE_MAX_METADATA_BYTES (22023), NULL for null. */
extern Jsonb *oe_arg_metadata(FunctionCallInfo fcinfo, int argno, const char *argname);

/*
 * Whether bytes may be a name; if not, *why says so in words that fit behind
 * "the name".
 */
extern bool oe_name_is_valid(const char *name, size_t len, const char **why);

#endif							/* OE_ARGS_H */
