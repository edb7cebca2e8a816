# `make help` lists the verbs. Needs GNU make and sh; what else is missing is
# named by tools/needs.sh, and installed by `make run` and `make test`.

PREFIX ?= /usr/local
LUADIR ?= $(PREFIX)/share/lua/5.4
LIBDIR ?= $(PREFIX)/lib/lua/5.4
FUZZ_SECONDS ?= 10
TEST_TIMEOUT ?= 900
CFLAGS ?= -O2 -g

# B: where the outputs go. `make asan` and `make lint` call make with another.
B ?= build
CONFIG := build/config.mk

ifeq ($(origin CC),default)
CC := cc
endif

export CC LUA LUA_INCDIR EV_INCDIR EV_LIBDIR OPENSSL_INCDIR OPENSSL_LIBDIR

.DEFAULT_GOAL := all
.PHONY: all core testing modules proto run test check lint asan valgrind fuzz \
	bench bench-instructions cov install uninstall clean help \
	setup setup-test setup-lint setup-asan setup-fuzz setup-valgrind

# Only what compiles needs the answers of the probes.
ifneq ($(filter all core testing modules proto install fuzz-targets,\
	$(or $(MAKECMDGOALS),all)),)
include $(CONFIG)
endif

$(CONFIG): tools/configure.sh tools/needs.sh
	@sh tools/configure.sh $@

# --- compile -----------------------------------------------------------------

# What run, test and the like compile with when the caller did not say.
JOBS = $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(shell \
	getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1))

# V=1 shows the commands.
Q := $(if $(filter 1,$(V)),,@)
says = $(if $(filter 1,$(V)),@:,@echo '  $(1)')

WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes \
	-Wmissing-prototypes $(if $(WERROR),-Werror)
COMPILE = $(CC) -std=c11 -D_GNU_SOURCE -fPIC -fvisibility=hidden -pthread \
	$(WARNINGS) $(if $(filter no,$(HAVE_ZLIB)),-DCWS_NO_ZLIB) $(CFLAGS) \
	$(SANITIZE) $(CPPFLAGS)
ZLIB := $(if $(filter yes,$(HAVE_ZLIB)),-lz)

# A resolver thread may outlive lua_close, so the module is never unmapped.
ifeq ($(shell uname -s),Darwin)
SHARED := -bundle -undefined dynamic_lookup
else
SHARED := -shared -Wl,-z,nodelete -Wl,--as-needed
endif

PROTO_SOURCES := csrc/cws.c $(wildcard csrc/proto/*.c)
TESTING_SOURCES := $(PROTO_SOURCES) $(wildcard csrc/lua/testing*.c)
CORE_SOURCES := $(PROTO_SOURCES) $(wildcard csrc/net/*.c) \
	$(filter-out csrc/lua/testing%,$(wildcard csrc/lua/*.c))
objects = $(patsubst csrc/%.c,$(B)/obj/%.o,$(1))

MODULES := $(B)/cws/core.so $(B)/cws/testing.so

all: $(B)/cws/core.so
	@sh tools/built.sh $(B) "$(LUA)" "$(HAVE_ZLIB)"

core: $(B)/cws/core.so
testing: $(B)/cws/testing.so
modules: $(MODULES)

$(B)/cws/core.so: $(call objects,$(CORE_SOURCES))
	@mkdir -p $(@D)
	$(call says,LD $@)
	$(Q)$(CC) $(SHARED) $(SANITIZE) $(LDFLAGS) -o $@ $^ $(LIB_PATHS) \
		-lev -lssl -lcrypto $(ZLIB) -lpthread

$(B)/cws/testing.so: $(call objects,$(TESTING_SOURCES))
	@mkdir -p $(@D)
	$(call says,LD $@)
	$(Q)$(CC) $(SHARED) $(SANITIZE) $(LDFLAGS) -o $@ $^ $(LIB_PATHS) \
		-lev -lcrypto $(ZLIB)

# Layer 1 alone: with nothing but libc, libcrypto and zlib no symbol is open.
proto: $(B)/proto.so
$(B)/proto.so: $(call objects,$(PROTO_SOURCES))
	$(call says,LD $@)
	$(Q)$(CC) -shared -Wl,--no-undefined $(SANITIZE) $(LDFLAGS) -o $@ $^ \
		$(LIB_PATHS) -lcrypto $(ZLIB)
	@echo "layer 1 links alone: $@"

$(B)/obj/%.o: csrc/%.c $(B)/obj/flags
	@mkdir -p $(@D)
	$(call says,CC $<)
	$(Q)$(COMPILE) -MMD -MP $(INC_PATHS) $(if $(filter lua/%,$*),$(LUA_CFLAGS)) \
		-c -o $@ $<

# Rewritten only when the command changes, so that objects follow it.
FLAGS = $(COMPILE) $(INC_PATHS) $(LUA_CFLAGS)
$(B)/obj/flags: force
	@mkdir -p $(@D)
	@echo '$(FLAGS)' | cmp -s - $@ || echo '$(FLAGS)' > $@
.PHONY: force
force:

-include $(patsubst %.o,%.d,$(sort \
	$(call objects,$(CORE_SOURCES) $(TESTING_SOURCES))))

# --- run and test ------------------------------------------------------------

run:
	@sh tools/needs.sh install build
	@$(MAKE) $(JOBS) --no-print-directory all
	@exec $$(sh tools/needs.sh lua) examples/server.lua $(ARGS)

# T=WORD: only tests whose name matches. F=FILE: only that spec file.
test:
	@sh tools/needs.sh install build test
	@$(MAKE) $(JOBS) --no-print-directory modules
	@T='$(T)' F='$(F)' TEST_TIMEOUT=$(TEST_TIMEOUT) sh tools/test.sh plain

check: lint test

lint:
	@sh tools/lint.sh

asan: setup-asan
	@$(MAKE) $(JOBS) --no-print-directory modules B=build/asan/build \
		CFLAGS='-O1 -g -fno-omit-frame-pointer' \
		SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=all'
	@T='$(T)' F='$(F)' TEST_TIMEOUT=$(TEST_TIMEOUT) sh tools/test.sh asan

valgrind: setup-valgrind
	@$(MAKE) $(JOBS) --no-print-directory modules
	@T='$(T)' F='$(F)' TEST_TIMEOUT=$(TEST_TIMEOUT) sh tools/test.sh valgrind

cov: setup-test
	@$(MAKE) $(JOBS) --no-print-directory modules B=build/cov/build CFLAGS='-O0 -g' \
		SANITIZE=--coverage
	@T='$(T)' F='$(F)' TEST_TIMEOUT=$(TEST_TIMEOUT) sh tools/test.sh cov

# --- fuzz: one binary per csrc/fuzz/*.c, linked with layer 1 alone ------------

FUZZ_TARGETS := $(patsubst csrc/fuzz/%.c,%,$(wildcard csrc/fuzz/*.c))
FUZZ_FLAGS := -O1 -g -fno-omit-frame-pointer \
	-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all

fuzz: setup-fuzz
	@$(MAKE) $(JOBS) --no-print-directory fuzz-targets
	@T='$(T)' FUZZ_SECONDS='$(FUZZ_SECONDS)' FUZZ_RUNS='$(FUZZ_RUNS)' \
		sh tools/fuzz.sh $(FUZZ_TARGETS)

.PHONY: fuzz-targets
fuzz-targets: $(patsubst %,build/fuzz/bin/%,$(FUZZ_TARGETS))

build/fuzz/bin/%: csrc/fuzz/%.c $(PROTO_SOURCES) \
		$(wildcard csrc/*.h csrc/proto/*.h csrc/fuzz/*.h)
	@mkdir -p $(@D)
	$(call says,CLANG $<)
	$(Q)clang -std=c11 -D_GNU_SOURCE $(FUZZ_FLAGS) $(INC_PATHS) \
		$(if $(filter no,$(HAVE_ZLIB)),-DCWS_NO_ZLIB) \
		-o $@ $< $(PROTO_SOURCES) $(LIB_PATHS) -lcrypto $(ZLIB)

# --- measure -----------------------------------------------------------------

bench:
	@sh tools/needs.sh install build
	@$(MAKE) $(JOBS) --no-print-directory all
	@python3 bench/run.py $(ARGS)

bench-instructions: setup-valgrind
	@$(MAKE) $(JOBS) --no-print-directory all
	@sh bench/instructions.sh $(if $(RECORD),record)

# --- install -----------------------------------------------------------------

install: $(B)/cws/core.so
	mkdir -p '$(DESTDIR)$(LUADIR)/cws' '$(DESTDIR)$(LIBDIR)/cws'
	install -m 644 lua/cws/*.lua '$(DESTDIR)$(LUADIR)/cws/'
	install -m 755 $(B)/cws/core.so '$(DESTDIR)$(LIBDIR)/cws/'
	@sh tools/installed.sh "$(LUA)" '$(LUADIR)' '$(LIBDIR)'

# Takes away what install put there, and the folders when nothing is left.
uninstall:
	cd lua/cws && for file in *.lua; do \
		rm -f '$(DESTDIR)$(LUADIR)'/cws/"$$file"; done
	rm -f '$(DESTDIR)$(LIBDIR)/cws/core.so'
	-rmdir '$(DESTDIR)$(LUADIR)/cws' '$(DESTDIR)$(LIBDIR)/cws' 2>/dev/null

clean:
	rm -rf build

# --- what has to be there ----------------------------------------------------

setup:
	@sh tools/needs.sh install build
setup-test:
	@sh tools/needs.sh install build test
setup-lint:
	@sh tools/needs.sh install build lint
setup-asan: setup-test
setup-fuzz:
	@sh tools/needs.sh install build fuzz
setup-valgrind:
	@sh tools/needs.sh install build test valgrind

help:
	@sed -n 's/^# help: \{0,1\}//p' Makefile

# help: make                  build the module (build/cws/core.so); V=1 shows how
# help: make run              run the example server; ARGS='-addr :9000'
# help: make test             everything a change must pass
# help: make test T=ping      only the tests whose name matches
# help: make test F=spec/frame_spec.lua
# help: make check            lint and test
# help: make lint             layers, warnings as errors, format, docs
# help: make proto            link layer 1 alone
# help: make asan             the tests under AddressSanitizer and UBSan
# help: make valgrind         the tests under valgrind
# help: make fuzz             every fuzz target; FUZZ_SECONDS=10 T=url
# help: make cov              line coverage of the C sources
# help: make bench            throughput and latency
# help: make bench-instructions   instructions per message
# help: make install          PREFIX=/usr/local DESTDIR=
# help: make uninstall
# help: make setup            install what the build needs (Debian, Ubuntu)
# help: make setup-test       and what the tests need
# help: make clean
