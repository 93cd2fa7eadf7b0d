/*
 * cppcheck.h
 *	  What cppcheck has to know of the server, whose headers it does not get.
 */
#define PG_VERSION_NUM	150000
#define PG_MODULE_MAGIC
#define PG_FUNCTION_INFO_V1(function)	extern Datum function(FunctionCallInfo fcinfo)
#define foreach(cell, list) \
	for ((cell) = list_head(list); (cell) != NULL; (cell) = lnext((list), (cell)))
#define foreach_delete_current(list, cell)	list_delete_cell((list), (cell))
#define dlist_foreach(iter, head) \
	for ((iter).cur = dlist_head_node(head); (iter).cur != NULL; (iter).cur = dlist_next_node((head), (iter).cur))
#define dlist_foreach_modify(iter, head)	dlist_foreach((iter), (head))
#define slist_foreach(iter, head) \
	for ((iter).cur = slist_head_node(head); (iter).cur != NULL; (iter).cur = slist_next_node((iter).cur))
#define slist_foreach_modify(iter, head)	slist_foreach((iter), (head))
#define PG_TRY() \
	{ int caught = setjmp(jump); if (caught == 0) {
#define PG_CATCH()	} else {
#define PG_FINALLY()	} {
#define PG_END_TRY()	} }
#define PG_USED_FOR_ASSERTS_ONLY
#define pg_attribute_noreturn()	__attribute__((noreturn))
#define pg_attribute_printf(format, first)
#define PGDLLEXPORT
#define lengthof(array)	(sizeof(array) / sizeof((array)[0]))
#define ERROR	21
#define FATAL	22
#define ereport(level, ...) \
	do { report(level, __VA_ARGS__); if ((level) >= 21) abort(); } while (0)
#define elog(level, ...) \
	do { report(level, __VA_ARGS__); if ((level) >= 21) abort(); } while (0)
#define pg_unreachable()	abort()
