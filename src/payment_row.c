/*
 * payment_row.c
 *	  Rows of payments and of their transactions.
 */
#include "postgres.h"

#include "append.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "id.h"
#include "money.h"
#include "payment.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* columns of payment_transaction, as sql/32_payment.sql defines them */
enum
{
	COL_TRANSACTION_ID, COL_PAYMENT_ID, COL_ORDER_ID, COL_AMOUNT, COL_REQUESTED, COL_CREATED_AT,
	COL_UPDATED_AT, COL_DECIDED_AT, COL_RETURN_ID, COL_ATTEMPT, COL_KIND, COL_STATE, COL_PROVIDER,
	COL_PROVIDER_REF, COL_REASON, COL_DETAILS, COL_CREDITED, NUM_COLS
};

Numeric
oe_payment_get(const OePart *part, int column)
{
	return DatumGetNumeric(part->values[column - 1]);
}

void
oe_payment_set(OePart *part, int column, Numeric amount)
{
	part->values[column - 1] = NumericGetDatum(amount);
}

char *
oe_payment_text(const OePart *part, int column)
{
	return part->nulls[column - 1] ? NULL : TextDatumGetCString(part->values[column - 1]);
}

int64 *
oe_payment_ids(int64 order_id, int *count)
{
	static OeQuery query = {
		"SELECT payment_id FROM order_engine.payment WHERE order_id = $1 ORDER BY payment_id",
		1, {INT8OID}
	};
	MemoryContext caller = CurrentMemoryContext;
	Datum		arg = Int64GetDatum(order_id);
	int64	   *ids;

	oe_spi_connect();
	*count = (int) oe_query_run(&query, &arg, NULL, false, SPI_OK_SELECT);
	ids = MemoryContextAlloc(caller, Max(*count, 1) * sizeof(int64));
	for (int i = 0; i < *count; i++)
	{
		bool		isnull;

		ids[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	oe_spi_finish();
	return ids;
}

static void
read_undecided(OeQuery *query, int64 id, OeUndecided *undecided)
{
	Numeric    *sums[] = {&undecided->authorizations, &undecided->captures,
	&undecided->voids, &undecided->refunds};
	MemoryContext caller = CurrentMemoryContext;
	Datum		arg = Int64GetDatum(id);

	oe_spi_connect();
	(void) oe_query_run(query, &arg, NULL, false, SPI_OK_SELECT);
	for (int i = 0; i < lengthof(sums); i++)
	{
		bool		isnull;
		Datum		sum = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &isnull);
		MemoryContext spi = MemoryContextSwitchTo(caller);

		*sums[i] = DatumGetNumericCopy(sum);
		MemoryContextSwitchTo(spi);
	}
	oe_spi_finish();
}

#define UNDECIDED_SUMS \
	"SELECT coalesce(sum(requested) FILTER (WHERE kind = 'authorization'), 0)," \
	" coalesce(sum(requested) FILTER (WHERE kind = 'capture'), 0)," \
	" coalesce(sum(requested) FILTER (WHERE kind = 'void'), 0)," \
	" coalesce(sum(requested) FILTER (WHERE kind = 'refund'), 0)" \
	" FROM order_engine.payment_transaction WHERE state IN ('initial', 'pending')"

void
oe_payment_undecided(int64 payment_id, OeUndecided *undecided)
{
	static OeQuery query = {UNDECIDED_SUMS " AND payment_id = $1", 1, {INT8OID}};

	read_undecided(&query, payment_id, undecided);
}

void
oe_payments_undecided(int64 order_id, OeUndecided *undecided)
{
	static OeQuery query = {UNDECIDED_SUMS " AND order_id = $1", 1, {INT8OID}};

	read_undecided(&query, order_id, undecided);
}

void
oe_transaction_add(const OePart *part, OePaymentTransaction *transaction, Numeric amount,
				   TimestampTz at)
{
	Datum		values[NUM_COLS] = {0};
	bool		nulls[NUM_COLS] = {false};
	bool		decided;

	transaction->transaction_id = oe_new_id();
	transaction->payment_id = part->id;
	transaction->order_id = part->order_id;
	transaction->amount = transaction->requested = amount;
	transaction->provider = oe_payment_text(part, Anum_payment_provider);
	if (transaction->attempt == 0)
		transaction->attempt = 1;
	if (transaction->state == NULL)
		transaction->state = OE_INITIAL;
	if (transaction->credited == NULL)
		transaction->credited = oe_amount_sub(amount, amount);	/* 0 with its decimals */
	decided = strcmp(transaction->state, OE_SUCCESS) == 0;

	values[COL_TRANSACTION_ID] = Int64GetDatum(transaction->transaction_id);
	values[COL_PAYMENT_ID] = Int64GetDatum(part->id);
	values[COL_ORDER_ID] = Int64GetDatum(part->order_id);
	values[COL_AMOUNT] = values[COL_REQUESTED] = NumericGetDatum(amount);
	values[COL_CREATED_AT] = values[COL_UPDATED_AT] = values[COL_DECIDED_AT] = TimestampTzGetDatum(at);
	nulls[COL_DECIDED_AT] = !decided;
	values[COL_RETURN_ID] = Int64GetDatum(transaction->return_id);
	nulls[COL_RETURN_ID] = transaction->return_id == 0;
	values[COL_ATTEMPT] = Int32GetDatum(transaction->attempt);
	values[COL_KIND] = CStringGetTextDatum(transaction->kind);
	values[COL_STATE] = CStringGetTextDatum(transaction->state);
	values[COL_PROVIDER] = CStringGetTextDatum(transaction->provider);
	if (transaction->provider_ref != NULL)
		values[COL_PROVIDER_REF] = CStringGetTextDatum(transaction->provider_ref);
	nulls[COL_PROVIDER_REF] = transaction->provider_ref == NULL;
	if (transaction->reason != NULL)
		values[COL_REASON] = CStringGetTextDatum(transaction->reason);
	nulls[COL_REASON] = transaction->reason == NULL;
	values[COL_DETAILS] = JsonbPGetDatum(transaction->details);
	nulls[COL_DETAILS] = transaction->details == NULL;
	values[COL_CREDITED] = NumericGetDatum(transaction->credited);
	oe_append(oe_relid(OE_REL_PAYMENT_TRANSACTION), NUM_COLS, OE_CHECKED, values, nulls);
	CommandCounterIncrement();
}

static char *
copy_text(Datum value, bool isnull)
{
	return isnull ? NULL : TextDatumGetCString(value);
}

void
oe_transaction_read(int64 transaction_id, OePaymentTransaction *transaction)
{
	static OeQuery query = {
		"SELECT * FROM order_engine.payment_transaction WHERE transaction_id = $1",
		1, {INT8OID}
	};
	MemoryContext caller = CurrentMemoryContext;
	Datum		arg = Int64GetDatum(transaction_id);
	HeapTuple	tuple;
	Datum	   *values;
	bool	   *nulls;

	oe_spi_connect();
	if (oe_query_run(&query, &arg, NULL, false, SPI_OK_SELECT) != 1)
		oe_not_found("transaction", transaction_id);
	if (SPI_tuptable->tupdesc->natts < NUM_COLS)
		elog(ERROR, "order_engine.payment_transaction has %d columns, not %d",
			 SPI_tuptable->tupdesc->natts, NUM_COLS);
	MemoryContextSwitchTo(caller);
	tuple = heap_copytuple(SPI_tuptable->vals[0]);
	values = palloc(sizeof(Datum) * SPI_tuptable->tupdesc->natts);
	nulls = palloc(sizeof(bool) * SPI_tuptable->tupdesc->natts);
	heap_deform_tuple(tuple, SPI_tuptable->tupdesc, values, nulls);
	oe_spi_finish();

	memset(transaction, 0, sizeof(OePaymentTransaction));
	transaction->transaction_id = transaction_id;
	transaction->payment_id = DatumGetInt64(values[COL_PAYMENT_ID]);
	transaction->order_id = DatumGetInt64(values[COL_ORDER_ID]);
	transaction->return_id = nulls[COL_RETURN_ID] ? 0 : DatumGetInt64(values[COL_RETURN_ID]);
	transaction->attempt = DatumGetInt32(values[COL_ATTEMPT]);
	transaction->amount = DatumGetNumeric(values[COL_AMOUNT]);
	transaction->requested = DatumGetNumeric(values[COL_REQUESTED]);
	transaction->credited = DatumGetNumeric(values[COL_CREDITED]);
	transaction->kind = TextDatumGetCString(values[COL_KIND]);
	transaction->state = TextDatumGetCString(values[COL_STATE]);
	transaction->provider = TextDatumGetCString(values[COL_PROVIDER]);
	transaction->provider_ref = copy_text(values[COL_PROVIDER_REF], nulls[COL_PROVIDER_REF]);
	transaction->reason = copy_text(values[COL_REASON], nulls[COL_REASON]);
}

int64
oe_transaction_by_ref(const char *provider, const char *kind, const char *provider_ref)
{
	static OeQuery query = {
		"SELECT transaction_id FROM order_engine.payment_transaction"
		" WHERE provider = $1 AND kind = $2 AND provider_ref = $3",
		3, {TEXTOID, TEXTOID, TEXTOID}
	};
	Datum		values[3] = {
		CStringGetTextDatum(provider), CStringGetTextDatum(kind), CStringGetTextDatum(provider_ref)
	};
	int64		id = 0;

	oe_spi_connect();
	if (oe_query_run(&query, values, NULL, false, SPI_OK_SELECT) > 0)
	{
		bool		isnull;

		id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	}
	oe_spi_finish();
	return id;
}

bool
oe_transaction_ref_is_taken(MemoryContext caller)
{
	MemoryContext errors = MemoryContextSwitchTo(caller);
	ErrorData  *error = CopyErrorData();

	/* a trigger of the application may have violated something else */
	if (error->sqlerrcode == ERRCODE_UNIQUE_VIOLATION && error->constraint_name != NULL &&
		strcmp(error->constraint_name, "payment_transaction_provider_ref_key") == 0)
	{
		FlushErrorState();
		return true;
	}
	MemoryContextSwitchTo(errors);
	return false;
}
