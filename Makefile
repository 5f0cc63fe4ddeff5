# SPDX-License-Identifier: GPL-2.0
# For people: the kernel's own makefile of this directory is Kbuild.

IMPL ?= rust
PROFILE ?= release
GUESTS ?= 2
REPEAT ?= 1
environment = NETKIT_CACHE NETKIT_MIRROR NETKIT_PACKAGES NETKIT_SEED NETKIT_PAIRS KDIR LLVM INLINE_HELPERS
variables = IMPL PROFILE TESTS GUESTS REPEAT ALL SHORT NEEDS ROWS $(environment)
export $(environment)

# A variable that is misspelt would do nothing, and nobody would know.
given := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
unknown := $(filter-out $(variables) MAKEFLAGS MAKEOVERRIDES,$(given))
ifneq ($(unknown),)
$(error unknown variable $(firstword $(unknown)); there are: $(variables))
endif

kernel = --impl $(IMPL) --profile $(PROFILE)

help:
	@sed -n 's/^## //p' $(firstword $(MAKEFILE_LIST))

## make demo             build what is missing, boot, and show packets through pairs, single devices and leased queues
demo:
	@tools/demo $(kernel)

## make check            run the tests in guests; TESTS="create refuse" runs these, ALL=1 also those of the simulated NIC alone,
##                       SHORT=1 a test or two of each part, REPEAT=20 so many times or until one fails; with IMPL=stock,
##                       NEEDS=fail wants to see what needs our patches fail
check:
	@tools/check $(kernel) --guests $(GUESTS) --repeat $(REPEAT) $(if $(ALL),--all) $(if $(SHORT),--short) \
		$(if $(NEEDS),--needs $(NEEDS)) $(TESTS)

## make bench            instructions per packet of the Rust and the C driver, side by side; ROWS="pass drop" measures some
bench:
	@tools/bench $(ROWS)

## make lint             rustfmt, clippy, rustdoc, checkpatch, shellcheck, ruff, and the transmit path's machine code
lint:
	@tools/lint

## make shell            an interactive guest
shell:
	@tools/vm $(kernel)

## make series           write the kernel patch series; make series-check applies it and builds every step
series:
	@tools/series
series-check:
	@tools/series --check

## make rustavailable    say whether the toolchain (LLVM= of this machine, else the tool root's) can build it
rustavailable:
	@tools/kernel --rustavailable

## make rust-analyzer    write rust-project.json and compile_commands.json for editors
rust-analyzer:
	@tools/rust-analyzer

## make clean            remove what was built; make distclean: the whole cache
clean:
	@tools/clean
distclean:
	@tools/clean --all

##
## Variables: PROFILE=release|debug  IMPL=rust|c  TESTS="NAME..."  GUESTS=N  ROWS="NAME..."  NETKIT_CACHE=DIR  NETKIT_MIRROR=URL
##            NETKIT_PACKAGES="NAME..." (more packages in the guest)  KDIR=/path/to/linux  LLVM=-22  INLINE_HELPERS=y|n
## A command of your own in the guest: tools/vm --help

.PHONY: help demo check bench lint shell series series-check rustavailable rust-analyzer clean distclean
