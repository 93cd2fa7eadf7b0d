/*
 * module.c
 *	  Entry point of the library.
 *
 * Loads harmlessly in any backend.  Shared memory and the launcher exist only
 * when the library is named in shared_preload_libraries.
 */
#include "postgres.h"

#include "database_ddl.h"
#include "drop_guard.h"
#include "fmgr.h"
#include "launcher.h"
#include "machine.h"
#include "miscadmin.h"
#include "relations.h"
#include "settings.h"
#include "shared.h"
#include "state_machine.h"
#include "wakeup.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	oe_settings_init();
	oe_relations_init();
	oe_machine_init();
	oe_table_trigger_init();
	oe_wakeup_init();
	oe_drop_guard_init();

	if (process_shared_preload_libraries_in_progress)
	{
		oe_shared_init();
		oe_database_ddl_init();
		oe_launcher_register();
	}
}
