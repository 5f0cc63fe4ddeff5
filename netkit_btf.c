// SPDX-License-Identifier: GPL-2.0-only
/*
 * Types of the driver's user API, for the kernel's BTF, which has none from
 * Rust: BPF programs take them from there (vmlinux.h), as they do where the
 * driver is the one in C.
 */

#include <linux/btf.h>
#include <linux/if_link.h>

static void __used netkit_btf_types(void)
{
	BTF_TYPE_EMIT(enum netkit_action);
	BTF_TYPE_EMIT(enum netkit_mode);
	BTF_TYPE_EMIT(enum netkit_pairing);
	BTF_TYPE_EMIT(enum netkit_scrub);
	BTF_TYPE_EMIT_ENUM(IFLA_NETKIT_UNSPEC);
}
