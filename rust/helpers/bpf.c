// SPDX-License-Identifier: GPL-2.0

#include <linux/bpf.h>
#include <linux/bpf_mprog.h>
#include <linux/filter.h>

#ifdef CONFIG_BPF_SYSCALL
__rust_helper void rust_helper_bpf_mprog_bundle_init(struct bpf_mprog_bundle *bundle)
{
	bpf_mprog_bundle_init(bundle);
}

__rust_helper void rust_helper_bpf_mprog_commit(struct bpf_mprog_entry *entry)
{
	bpf_mprog_commit(entry);
}

__rust_helper struct bpf_net_context *
rust_helper_bpf_net_ctx_set(struct bpf_net_context *context)
{
	return bpf_net_ctx_set(context);
}

__rust_helper void rust_helper_bpf_net_ctx_clear(struct bpf_net_context *context)
{
	bpf_net_ctx_clear(context);
}

__rust_helper void rust_helper_bpf_compute_data_pointers(struct sk_buff *skb)
{
	bpf_compute_data_pointers(skb);
}

__rust_helper u32 rust_helper_bpf_prog_run(const struct bpf_prog *prog, const void *context)
{
	return bpf_prog_run(prog, context);
}
#endif
