# SPDX-License-Identifier: GPL-2.0
# For people: the kernel's own makefile of this directory is Kbuild.

export NETKIT_CACHE KDIR LLVM INLINE_HELPERS NETKIT_MIRROR
IMPL ?= rust
PROFILE ?= release
TESTS ?=
ROWS ?=
vm_options = --impl $(IMPL) --profile $(PROFILE)

help:
	@sed -n 's/^## //p' $(firstword $(MAKEFILE_LIST))

## make demo             build what is missing, boot, and show packets through pairs, single devices and leased queues
demo:
	@tools/demo $(vm_options)

## make check            run the tests in the guest; TESTS="create refuse" runs some of them
check:
	@tools/check $(vm_options) $(TESTS)

## make bench            instructions per packet of the Rust and the C driver, side by side; ROWS="pass drop" measures some
bench:
	@tools/bench $(ROWS)

## make lint             rustfmt, clippy, rustdoc, checkpatch, shellcheck, ruff, and the transmit path's machine code
lint:
	@tools/lint

## make shell            an interactive guest
shell:
	@tools/vm $(vm_options)

## make series           write the kernel patch series; make series-check applies it and builds every step
series:
	@tools/series
series-check:
	@tools/series --check

## make rustavailable    say whether the toolchain (LLVM= of this machine, else the tool root's) can build it
rustavailable:
	@tools/kernel --rustavailable

## make clean            remove what was built; make distclean: the whole cache
clean:
	@tools/clean
distclean:
	@tools/clean --all

##
## Variables: PROFILE=release|debug  IMPL=rust|c  TESTS="NAME..."  ROWS="NAME..."  NETKIT_CACHE=DIR  NETKIT_MIRROR=URL
##            KDIR=/path/to/linux  LLVM=-22  INLINE_HELPERS=y|n
## A command of your own in the guest: tools/vm --help

.PHONY: help demo check bench lint shell series series-check rustavailable clean distclean
