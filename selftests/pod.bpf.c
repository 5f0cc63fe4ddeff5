// SPDX-License-Identifier: GPL-2.0
/*
 * What a container network runs on the devices of its pods: programs on both
 * ends of each pair, and one on the host's end that brings packets for another
 * pod straight there.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Nobody may send to this port. */
#define BLOCKED_PORT 9

enum counter {
	FROM_POD,
	TO_POD,
	DELIVERED,
	BLOCKED,
	COUNTERS,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* The interface on the host by which a pod is reached, by its address. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __be32);
	__type(value, __u32);
} pods SEC(".maps");

static void count(__u32 counter)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &counter);

	if (value)
		__sync_fetch_and_add(value, 1);
}

static struct iphdr *ipv4_header(struct __sk_buff *skb)
{
	void *end = (void *)(long)skb->data_end;
	void *data = (void *)(long)skb->data;
	struct iphdr *ip = data + ETH_HLEN;

	if (skb->protocol != bpf_htons(ETH_P_IP) || (void *)(ip + 1) > end)
		return NULL;
	return ip;
}

static int is_blocked(struct __sk_buff *skb)
{
	struct iphdr *ip = ipv4_header(skb);
	struct udphdr *udp;

	if (!ip || ip->protocol != IPPROTO_UDP || ip->ihl != 5)
		return 0;
	udp = (void *)(ip + 1);
	if ((void *)(udp + 1) > (void *)(long)skb->data_end)
		return 0;
	return udp->dest == bpf_htons(BLOCKED_PORT);
}

SEC("netkit/peer")
int from_pod(struct __sk_buff *skb)
{
	if (is_blocked(skb)) {
		count(BLOCKED);
		return NETKIT_DROP;
	}
	count(FROM_POD);
	return NETKIT_PASS;
}

SEC("netkit/primary")
int to_pod(struct __sk_buff *skb)
{
	count(TO_POD);
	return NETKIT_PASS;
}

SEC("tcx/ingress")
int deliver(struct __sk_buff *skb)
{
	struct iphdr *ip = ipv4_header(skb);
	__u32 *ifindex;

	if (!ip)
		return TCX_NEXT;
	ifindex = bpf_map_lookup_elem(&pods, &ip->daddr);
	if (!ifindex)
		return TCX_NEXT;
	count(DELIVERED);
	return bpf_redirect_peer(*ifindex, 0);
}

char _license[] SEC("license") = "GPL";
