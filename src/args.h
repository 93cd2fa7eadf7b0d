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

/* largest metadata, and largest document of any kind, in bytes as text */
#define OE_MAX_METADATA_BYTES	(64 * 1024)
#define OE_MAX_DOCUMENT_BYTES	(1024 * 1024)

/* longest number in jsonb, in digits before the point, and behind it */
#define OE_MAX_NUMBER_DIGITS	1000

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

/*
 * A jsonb value of at most limit bytes as text (22023), NULL for null.  Verbs
 * take it before anything else is done with the value.
 */
extern Jsonb *oe_arg_jsonb(FunctionCallInfo fcinfo, int argno, const char *argname, size_t limit);

/* A jsonb object of at most OE_MAX_METADATA_BYTES as text (22023), NULL for null. */
extern Jsonb *oe_arg_metadata(FunctionCallInfo fcinfo, int argno, const char *argname);

/*
 * What is wrong with the size of a jsonb value, in words that fit behind its
 * name, in the current memory context; NULL when it has at most limit bytes as
 * text and no number is longer than OE_MAX_NUMBER_DIGITS.
 */
extern char *oe_jsonb_size_fault(JsonbContainer *value, size_t limit);

/*
 * Whether bytes may be a name; if not, *why says so in words that fit behind
 * "the name".
 */
extern bool oe_name_is_valid(const char *name, size_t len, const char **why);

#endif							/* OE_ARGS_H */
