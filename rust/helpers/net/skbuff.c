// SPDX-License-Identifier: GPL-2.0

#include <linux/etherdevice.h>
#include <linux/netfilter_netdev.h>
#include <linux/skbuff.h>

#ifdef CONFIG_NET

/* Not a constant expression. */
__rust_helper u16 rust_helper_net_skb_pad(void)
{
	return NET_SKB_PAD;
}

__rust_helper void rust_helper_kfree_skb(struct sk_buff *skb)
{
	kfree_skb(skb);
}

__rust_helper void rust_helper_consume_skb(struct sk_buff *skb)
{
	consume_skb(skb);
}

__rust_helper struct sk_buff *rust_helper_alloc_skb(unsigned int size, gfp_t flags)
{
	return alloc_skb(size, flags);
}

__rust_helper bool rust_helper_pskb_may_pull(struct sk_buff *skb, unsigned int len)
{
	return pskb_may_pull(skb, len);
}

__rust_helper int rust_helper_skb_orphan_frags(struct sk_buff *skb, gfp_t flags)
{
	return skb_orphan_frags(skb, flags);
}

__rust_helper void rust_helper_skb_reset_mac_header(struct sk_buff *skb)
{
	skb_reset_mac_header(skb);
}

__rust_helper void rust_helper_skb_clear_tstamp(struct sk_buff *skb)
{
	skb_clear_tstamp(skb);
}

__rust_helper void rust_helper_nf_skip_egress(struct sk_buff *skb, bool skip)
{
	nf_skip_egress(skb, skip);
}

__rust_helper
void rust_helper_eth_skb_pkt_type(struct sk_buff *skb, const struct net_device *dev)
{
	eth_skb_pkt_type(skb, dev);
}

__rust_helper
void rust_helper_skb_set_queue_mapping(struct sk_buff *skb, u16 queue_mapping)
{
	skb_set_queue_mapping(skb, queue_mapping);
}

/* Takes the Ethernet header, still there at skb_mac_header(), off the data. */
__rust_helper void rust_helper_eth_skb_pull_mac_rcsum(struct sk_buff *skb)
{
	eth_skb_pull_mac(skb);
	skb_postpull_rcsum(skb, eth_hdr(skb), ETH_HLEN);
}

/*
 * These fields lie in anonymous unions, for which bindgen makes up names that
 * depend on the configuration.
 */
__rust_helper void rust_helper_skb_set_mark(struct sk_buff *skb, u32 mark)
{
	skb->mark = mark;
}

__rust_helper void rust_helper_skb_set_priority(struct sk_buff *skb, u32 priority)
{
	skb->priority = priority;
}

#endif
