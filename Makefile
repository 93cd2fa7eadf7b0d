# order_engine: build with PGXS
#
#   make && make install      build and install into the server that pg_config names
#   make test                 everything that checks the product (test/run)
#   make demo                 see it work (test/demo/run)

EXTENSION = order_engine
EXTVERSION = $(shell sed -n "s/^default_version *= *'\([^']*\)'.*/\1/p" order_engine.control)

MODULE_big = order_engine
OBJS = $(sort $(patsubst %.c,%.o,$(wildcard src/*.c bgworker/*.c)))

SCRIPT = sql/order_engine--$(EXTVERSION).sql
SCRIPT_PARTS = $(sort $(wildcard sql/[0-9]*.sql))
DATA_built = $(SCRIPT)

PG_CPPFLAGS = -Isrc -Ibgworker -DOE_VERSION='"$(EXTVERSION)"' $(shell curl-config --cflags)
PG_CFLAGS = -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers \
	$(if $(WERROR),-Werror)
# -lcrypto: for AES, which the server does not export
SHLIB_LINK = $(shell curl-config --libs) -lcrypto

# Regression tests run in the order of their names; each is independent.
REGRESS = $(sort $(notdir $(basename $(wildcard test/sql/*.sql))))
REGRESS_OPTS = --inputdir=test --temp-config=test/regress.conf --load-extension=order_engine
ISOLATION = $(sort $(notdir $(basename $(wildcard test/specs/*.spec))))
ISOLATION_OPTS = --inputdir=test --outputdir=. --temp-config=test/regress.conf \
	--load-extension=order_engine
PROVE_TESTS = $(sort $(wildcard test/t/*.pl))

EXTRA_CLEAN = $(SCRIPT) results output_iso tmp_check

# "make test" and "make demo" install PostgreSQL first where it is missing
ifneq ($(filter-out test demo,$(or $(MAKECMDGOALS),all)),)
PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)
endif

all: $(SCRIPT)

$(SCRIPT): $(SCRIPT_PARTS) order_engine.control
	cat $(SCRIPT_PARTS) > $@

# A header changes seldom and everything is built in seconds.
$(OBJS): $(wildcard src/*.h bgworker/*.h) order_engine.control

.PHONY: test demo
test:
	./test/run
demo:
	./test/demo/run
