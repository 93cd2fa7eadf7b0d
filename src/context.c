/*
 * context.c
 *	  The caller's context: tenant, actor, correlation id, trace.
 *
 * Nothing is kept here: each call reads the settings as they are, so a pooler
 * may hand the session to anybody between two transactions.  The actor falls
 * back to the session user, never the current one, because the verbs run as
 * their owner.
 */
#include "postgres.h"

#include "context.h"
#include "miscadmin.h"
#include "settings.h"
#include "utils/builtins.h"

static const char *
setting_or_null(const char *value)
{
	return (value == NULL || value[0] == '\0') ? NULL : value;
}

const char *
oe_context_tenant(void)
{
	return setting_or_null(oe_tenant);
}

const char *
oe_context_actor(void)
{
	const char *actor = setting_or_null(oe_actor);

	return actor != NULL ? actor : GetUserNameFromId(GetSessionUserId(), false);
}

const char *
oe_context_correlation_id(void)
{
	return setting_or_null(oe_correlation_id);
}

const char *
oe_context_traceparent(void)
{
	return setting_or_null(oe_traceparent);
}

char *
oe_context_scope(void)
{
	const char *tenant = oe_context_tenant();

	if (tenant != NULL)
		return psprintf("tenant:%s", tenant);
	return psprintf("user:%s", GetUserNameFromId(GetSessionUserId(), false));
}

static void
push_pair(JsonbParseState **state, const char *key, const char *value)
{
	JsonbValue	jbv;

	if (value == NULL)
		return;
	jbv.type = jbvString;
	jbv.val.string.val = unconstify(char *, key);
	jbv.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &jbv);
	jbv.val.string.val = unconstify(char *, value);
	jbv.val.string.len = strlen(value);
	pushJsonbValue(state, WJB_VALUE, &jbv);
}

Jsonb *
oe_context_headers(Jsonb *extra)
{
	JsonbParseState *state = NULL;
	JsonbValue *result;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_pair(&state, "actor", oe_context_actor());
	push_pair(&state, "tenant", oe_context_tenant());
	push_pair(&state, "correlation_id", oe_context_correlation_id());
	push_pair(&state, "traceparent", oe_context_traceparent());

	/* of two equal keys the one pushed last is kept */
	if (extra != NULL)
	{
		JsonbIterator *it = JsonbIteratorInit(&extra->root);
		JsonbValue	jbv;
		JsonbIteratorToken token;

		(void) JsonbIteratorNext(&it, &jbv, true);	/* WJB_BEGIN_OBJECT */
		while ((token = JsonbIteratorNext(&it, &jbv, true)) == WJB_KEY || token == WJB_VALUE)
			pushJsonbValue(&state, token, &jbv);
	}
	result = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(result);
}
