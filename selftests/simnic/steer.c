// SPDX-License-Identifier: GPL-2.0
/* simnic: which queue a frame goes to: flow rules, and the hash (RSS) */

#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <net/ip.h>

#include "simnic.h"

/* The kinds of flow whose hashed fields can be chosen. */
enum {
	SIMNIC_HASH_TCP4,
	SIMNIC_HASH_UDP4,
	SIMNIC_HASH_IP4,
	SIMNIC_HASH_TCP6,
	SIMNIC_HASH_UDP6,
	SIMNIC_HASH_IP6,
};

static void simnic_dissect_l4(const struct simnic_frame *frame,
			      struct simnic_flow *flow)
{
	const u8 *l4 = frame->data + flow->l4_off;
	u32 hdr_len = sizeof(struct udphdr);
	u32 len = flow->end - flow->l4_off;

	if (flow->ip_proto == IPPROTO_TCP) {
		const struct tcphdr *tcp = (const void *)l4;

		if (len < sizeof(*tcp))
			return;
		hdr_len = tcp->doff * 4;
		if (hdr_len < sizeof(*tcp))
			return;
	} else if (flow->ip_proto != IPPROTO_UDP) {
		return;
	}
	if (len < hdr_len)
		return;
	memcpy(flow->port, l4, sizeof(flow->port));
	flow->hdr_len = flow->l4_off + hdr_len;
	flow->l4 = true;
}

static void simnic_dissect_ip(const struct simnic_frame *frame,
			      struct simnic_flow *flow)
{
	const void *net = frame->data + flow->net_off;
	u32 len = frame->len - flow->net_off;

	if (flow->proto == htons(ETH_P_IP)) {
		const struct iphdr *ip = net;

		if (len < sizeof(*ip) || ip->version != 4 || ip->ihl < 5 ||
		    ntohs(ip->tot_len) > len ||
		    ntohs(ip->tot_len) < ip->ihl * 4)
			return;
		flow->ip = true;
		flow->addr[0] = ip->saddr;
		flow->addr[4] = ip->daddr;
		flow->tos = ip->tos;
		flow->ip_proto = ip->protocol;
		flow->l4_off = flow->net_off + ip->ihl * 4;
		flow->end = flow->net_off + ntohs(ip->tot_len);
		if (ip_is_fragment(ip))
			return;
	} else if (flow->proto == htons(ETH_P_IPV6)) {
		const struct ipv6hdr *ip = net;

		if (len < sizeof(*ip) || ip->version != 6 ||
		    ntohs(ip->payload_len) > len - sizeof(*ip))
			return;
		flow->ip = true;
		memcpy(&flow->addr[0], &ip->saddr, sizeof(ip->saddr));
		memcpy(&flow->addr[4], &ip->daddr, sizeof(ip->daddr));
		flow->tos = (ip->priority << 4) | (ip->flow_lbl[0] >> 4);
		/* Behind extension headers it does not look. */
		flow->ip_proto = ip->nexthdr;
		flow->l4_off = flow->net_off + sizeof(*ip);
		flow->end = flow->l4_off + ntohs(ip->payload_len);
	} else {
		return;
	}
	simnic_dissect_l4(frame, flow);
}

void simnic_dissect(const struct simnic_frame *frame, struct simnic_flow *flow)
{
	const struct ethhdr *eth = (const void *)frame->data;
	int vlans;

	memset(flow, 0, sizeof(*flow));
	flow->proto = eth->h_proto;
	flow->net_off = ETH_HLEN;
	for (vlans = 0; vlans < 2 && eth_type_vlan(flow->proto); vlans++) {
		const struct vlan_hdr *vlan;

		if (frame->len < flow->net_off + sizeof(*vlan))
			return;
		vlan = (const void *)(frame->data + flow->net_off);
		flow->proto = vlan->h_vlan_encapsulated_proto;
		flow->net_off += sizeof(*vlan);
	}
	simnic_dissect_ip(frame, flow);
}

/* The Toeplitz hash: the key's 32 bits from each bit that is set. */
static u32 simnic_toeplitz(const u8 *key, const u8 *data, u32 len, u32 hash,
			   u32 *pos)
{
	u32 i, bit;

	for (i = 0; i < len; i++) {
		u32 k = *pos + i;
		u64 window = 0;

		for (bit = 0; bit < 5; bit++)
			window = window << 8 | key[(k + bit) % SIMNIC_RSS_KEY];
		for (bit = 0; bit < 8; bit++)
			if (data[i] & BIT(7 - bit))
				hash ^= (u32)(window >> (8 - bit));
	}
	*pos += len;
	return hash;
}

static u32 simnic_hash_kind(const struct simnic_flow *flow)
{
	bool v6 = flow->proto == htons(ETH_P_IPV6);

	if (!flow->l4)
		return v6 ? SIMNIC_HASH_IP6 : SIMNIC_HASH_IP4;
	if (flow->ip_proto == IPPROTO_TCP)
		return v6 ? SIMNIC_HASH_TCP6 : SIMNIC_HASH_TCP4;
	return v6 ? SIMNIC_HASH_UDP6 : SIMNIC_HASH_UDP4;
}

/* Both directions of a flow have one hash then. */
static void simnic_xor(struct simnic_flow *flow)
{
	int i;

	for (i = 0; i < 4; i++) {
		flow->addr[i] ^= flow->addr[4 + i];
		flow->addr[4 + i] = flow->addr[i];
	}
	flow->port[0] ^= flow->port[1];
	flow->port[1] = flow->port[0];
}

static void __simnic_flow_hash(struct simnic_port *port,
			       struct simnic_flow *flow)
{
	u32 len = flow->proto == htons(ETH_P_IPV6) ? 16 : 4;
	const u8 *key = port->rss_key;
	struct simnic_flow in = *flow;
	u32 pos = 0;
	u32 fields;

	flow->hash = 0;
	flow->hash_type = PKT_HASH_TYPE_NONE;
	if (!flow->ip)
		return;
	fields = port->rss_fields[simnic_hash_kind(flow)];
	if (port->rss_xfrm & RXH_XFRM_SYM_XOR)
		simnic_xor(&in);
	if (fields & RXH_IP_SRC)
		flow->hash = simnic_toeplitz(key, (u8 *)&in.addr[0], len,
					     flow->hash, &pos);
	if (fields & RXH_IP_DST)
		flow->hash = simnic_toeplitz(key, (u8 *)&in.addr[4], len,
					     flow->hash, &pos);
	if (fields)
		flow->hash_type = PKT_HASH_TYPE_L3;
	if (!flow->l4)
		return;
	if (fields & RXH_L4_B_0_1)
		flow->hash = simnic_toeplitz(key, (u8 *)&in.port[0], 2,
					     flow->hash, &pos);
	if (fields & RXH_L4_B_2_3)
		flow->hash = simnic_toeplitz(key, (u8 *)&in.port[1], 2,
					     flow->hash, &pos);
	if (fields & (RXH_L4_B_0_1 | RXH_L4_B_2_3))
		flow->hash_type = PKT_HASH_TYPE_L4;
}

void simnic_flow_hash(struct simnic_port *port, struct simnic_flow *flow)
{
	unsigned long flags;

	spin_lock_irqsave(&port->steer_lock, flags);
	__simnic_flow_hash(port, flow);
	spin_unlock_irqrestore(&port->steer_lock, flags);
}

static bool simnic_same(const void *a, const void *b, const void *mask, u32 len)
{
	const u8 *x = a, *y = b, *m = mask;
	u32 i;

	for (i = 0; i < len; i++)
		if ((x[i] ^ y[i]) & m[i])
			return false;
	return true;
}

#define SIMNIC_SAME(value, spec, mask)					\
	simnic_same(&(value), &(spec), &(mask), sizeof(spec))

static bool simnic_rule_matches(const struct ethtool_rx_flow_spec *fs,
				const struct simnic_frame *frame,
				const struct simnic_flow *flow)
{
	const union ethtool_flow_union *h = &fs->h_u, *m = &fs->m_u;
	const struct ethhdr *eth = (const void *)frame->data;
	u32 type = fs->flow_type & ~FLOW_RSS;
	u8 proto = IPPROTO_UDP;

	if (type == ETHER_FLOW)
		return simnic_same(eth, &h->ether_spec, &m->ether_spec,
				   sizeof(*eth));
	if (!flow->ip)
		return false;

	switch (type) {
	case TCP_V4_FLOW:
		proto = IPPROTO_TCP;
		fallthrough;
	case UDP_V4_FLOW:
		return flow->proto == htons(ETH_P_IP) && flow->l4 &&
		       flow->ip_proto == proto &&
		       SIMNIC_SAME(flow->addr[0], h->tcp_ip4_spec.ip4src,
				   m->tcp_ip4_spec.ip4src) &&
		       SIMNIC_SAME(flow->addr[4], h->tcp_ip4_spec.ip4dst,
				   m->tcp_ip4_spec.ip4dst) &&
		       SIMNIC_SAME(flow->port[0], h->tcp_ip4_spec.psrc,
				   m->tcp_ip4_spec.psrc) &&
		       SIMNIC_SAME(flow->port[1], h->tcp_ip4_spec.pdst,
				   m->tcp_ip4_spec.pdst) &&
		       SIMNIC_SAME(flow->tos, h->tcp_ip4_spec.tos,
				   m->tcp_ip4_spec.tos);
	case TCP_V6_FLOW:
		proto = IPPROTO_TCP;
		fallthrough;
	case UDP_V6_FLOW:
		return flow->proto == htons(ETH_P_IPV6) && flow->l4 &&
		       flow->ip_proto == proto &&
		       SIMNIC_SAME(flow->addr[0], h->tcp_ip6_spec.ip6src,
				   m->tcp_ip6_spec.ip6src) &&
		       SIMNIC_SAME(flow->addr[4], h->tcp_ip6_spec.ip6dst,
				   m->tcp_ip6_spec.ip6dst) &&
		       SIMNIC_SAME(flow->port[0], h->tcp_ip6_spec.psrc,
				   m->tcp_ip6_spec.psrc) &&
		       SIMNIC_SAME(flow->port[1], h->tcp_ip6_spec.pdst,
				   m->tcp_ip6_spec.pdst) &&
		       SIMNIC_SAME(flow->tos, h->tcp_ip6_spec.tclass,
				   m->tcp_ip6_spec.tclass);
	case IPV4_USER_FLOW:
		return flow->proto == htons(ETH_P_IP) &&
		       SIMNIC_SAME(flow->addr[0], h->usr_ip4_spec.ip4src,
				   m->usr_ip4_spec.ip4src) &&
		       SIMNIC_SAME(flow->addr[4], h->usr_ip4_spec.ip4dst,
				   m->usr_ip4_spec.ip4dst) &&
		       SIMNIC_SAME(flow->port, h->usr_ip4_spec.l4_4_bytes,
				   m->usr_ip4_spec.l4_4_bytes) &&
		       SIMNIC_SAME(flow->tos, h->usr_ip4_spec.tos,
				   m->usr_ip4_spec.tos) &&
		       SIMNIC_SAME(flow->ip_proto, h->usr_ip4_spec.proto,
				   m->usr_ip4_spec.proto);
	case IPV6_USER_FLOW:
		return flow->proto == htons(ETH_P_IPV6) &&
		       SIMNIC_SAME(flow->addr[0], h->usr_ip6_spec.ip6src,
				   m->usr_ip6_spec.ip6src) &&
		       SIMNIC_SAME(flow->addr[4], h->usr_ip6_spec.ip6dst,
				   m->usr_ip6_spec.ip6dst) &&
		       SIMNIC_SAME(flow->port, h->usr_ip6_spec.l4_4_bytes,
				   m->usr_ip6_spec.l4_4_bytes) &&
		       SIMNIC_SAME(flow->tos, h->usr_ip6_spec.tclass,
				   m->usr_ip6_spec.tclass) &&
		       SIMNIC_SAME(flow->ip_proto, h->usr_ip6_spec.l4_proto,
				   m->usr_ip6_spec.l4_proto);
	}
	return false;
}

/* The queue that a frame which has arrived at a port goes to; < 0: none. */
int simnic_steer(struct simnic_port *port, const struct simnic_frame *frame)
{
	bool ntuple = port->dev->features & NETIF_F_NTUPLE;
	struct simnic_flow flow;
	unsigned long flags;
	u32 context = 0;
	int queue = -1;
	int i;

	simnic_dissect(frame, &flow);
	spin_lock_irqsave(&port->steer_lock, flags);
	for (i = 0; ntuple && i < SIMNIC_RULES; i++) {
		const struct simnic_rule *rule = &port->rules[i];

		if (!rule->used ||
		    !simnic_rule_matches(&rule->fs, frame, &flow))
			continue;
		if (rule->fs.ring_cookie == RX_CLS_FLOW_DISC)
			goto unlock;
		if (!(rule->fs.flow_type & FLOW_RSS)) {
			queue = rule->fs.ring_cookie;
			goto check;
		}
		context = rule->rss_context;
		break;
	}
	__simnic_flow_hash(port, &flow);
	queue = port->rss_indir[context][flow.hash % SIMNIC_RSS_INDIR];
check:
	if (queue >= port->channels)
		queue = 0;
unlock:
	spin_unlock_irqrestore(&port->steer_lock, flags);
	return queue;
}

void simnic_steer_init(struct simnic_port *port)
{
	int i;

	netdev_rss_key_fill(port->rss_key, sizeof(port->rss_key));
	for (i = 0; i < ARRAY_SIZE(port->rss_fields); i++)
		port->rss_fields[i] = RXH_IP_SRC | RXH_IP_DST;
	port->rss_fields[SIMNIC_HASH_TCP4] |= RXH_L4_B_0_1 | RXH_L4_B_2_3;
	port->rss_fields[SIMNIC_HASH_TCP6] |= RXH_L4_B_0_1 | RXH_L4_B_2_3;
	port->rss_fields[SIMNIC_HASH_UDP4] |= RXH_L4_B_0_1 | RXH_L4_B_2_3;
	port->rss_fields[SIMNIC_HASH_UDP6] |= RXH_L4_B_0_1 | RXH_L4_B_2_3;
	simnic_steer_resize(port, port->channels);
}

/* The table that nobody has set spreads over all channels. */
void simnic_steer_resize(struct simnic_port *port, u32 channels)
{
	unsigned long flags;
	int i;

	spin_lock_irqsave(&port->steer_lock, flags);
	WRITE_ONCE(port->channels, channels);
	for (i = 0; i < SIMNIC_RSS_INDIR && !netif_is_rxfh_configured(port->dev); i++)
		port->rss_indir[0][i] = ethtool_rxfh_indir_default(i, channels);
	spin_unlock_irqrestore(&port->steer_lock, flags);
}

static int simnic_check_rule(struct simnic_port *port,
			     const struct ethtool_rxnfc *nfc)
{
	const struct ethtool_rx_flow_spec *fs = &nfc->fs;

	if (!(port->dev->features & NETIF_F_NTUPLE))
		return -EOPNOTSUPP;
	switch (fs->flow_type & ~FLOW_RSS) {
	case TCP_V4_FLOW:
	case UDP_V4_FLOW:
	case TCP_V6_FLOW:
	case UDP_V6_FLOW:
	case IPV4_USER_FLOW:
	case IPV6_USER_FLOW:
	case ETHER_FLOW:
		break;
	default:
		return -EOPNOTSUPP;
	}
	if (fs->flow_type & FLOW_RSS) {
		if (nfc->rss_context > SIMNIC_RSS_CONTEXTS || fs->ring_cookie)
			return -EINVAL;
	} else if (fs->ring_cookie != RX_CLS_FLOW_DISC &&
		   fs->ring_cookie >= port->channels) {
		return -EINVAL;
	}
	return 0;
}

static int simnic_add_rule(struct simnic_port *port, struct ethtool_rxnfc *nfc)
{
	u32 loc = nfc->fs.location;
	unsigned long flags;
	int err;

	err = simnic_check_rule(port, nfc);
	if (err)
		return err;
	if (loc == RX_CLS_LOC_ANY) {
		for (loc = 0; loc < SIMNIC_RULES; loc++)
			if (!port->rules[loc].used)
				break;
		if (loc == SIMNIC_RULES)
			return -ENOSPC;
	}
	if (loc >= SIMNIC_RULES)
		return -EINVAL;
	nfc->fs.location = loc;

	spin_lock_irqsave(&port->steer_lock, flags);
	port->rules[loc].fs = nfc->fs;
	port->rules[loc].rss_context = nfc->rss_context;
	port->rules[loc].used = true;
	spin_unlock_irqrestore(&port->steer_lock, flags);
	return 0;
}

static int simnic_del_rule(struct simnic_port *port, u32 loc)
{
	unsigned long flags;

	if (loc >= SIMNIC_RULES || !port->rules[loc].used)
		return -ENOENT;
	spin_lock_irqsave(&port->steer_lock, flags);
	port->rules[loc].used = false;
	spin_unlock_irqrestore(&port->steer_lock, flags);
	return 0;
}

int simnic_set_rxnfc(struct net_device *dev, struct ethtool_rxnfc *nfc)
{
	struct simnic_port *port = simnic_port(dev);

	switch (nfc->cmd) {
	case ETHTOOL_SRXCLSRLINS:
		return simnic_add_rule(port, nfc);
	case ETHTOOL_SRXCLSRLDEL:
		return simnic_del_rule(port, nfc->fs.location);
	default:
		return -EOPNOTSUPP;
	}
}

int simnic_get_rxnfc(struct net_device *dev, struct ethtool_rxnfc *nfc,
		     u32 *locs)
{
	struct simnic_port *port = simnic_port(dev);
	u32 i, n = 0;

	switch (nfc->cmd) {
	case ETHTOOL_GRXCLSRLCNT:
		for (i = 0; i < SIMNIC_RULES; i++)
			n += port->rules[i].used;
		nfc->rule_cnt = n;
		nfc->data = SIMNIC_RULES | RX_CLS_LOC_SPECIAL;
		return 0;
	case ETHTOOL_GRXCLSRULE:
		i = nfc->fs.location;
		if (i >= SIMNIC_RULES || !port->rules[i].used)
			return -ENOENT;
		nfc->fs = port->rules[i].fs;
		nfc->rss_context = port->rules[i].rss_context;
		return 0;
	case ETHTOOL_GRXCLSRLALL:
		for (i = 0; i < SIMNIC_RULES; i++) {
			if (!port->rules[i].used)
				continue;
			if (n == nfc->rule_cnt)
				return -EMSGSIZE;
			locs[n++] = i;
		}
		nfc->rule_cnt = n;
		nfc->data = SIMNIC_RULES;
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static int simnic_fields_kind(u32 flow_type)
{
	switch (flow_type) {
	case TCP_V4_FLOW:
		return SIMNIC_HASH_TCP4;
	case UDP_V4_FLOW:
		return SIMNIC_HASH_UDP4;
	case IPV4_FLOW:
		return SIMNIC_HASH_IP4;
	case TCP_V6_FLOW:
		return SIMNIC_HASH_TCP6;
	case UDP_V6_FLOW:
		return SIMNIC_HASH_UDP6;
	case IPV6_FLOW:
		return SIMNIC_HASH_IP6;
	default:
		return -EINVAL;
	}
}

int simnic_get_rxfh_fields(struct net_device *dev,
			   struct ethtool_rxfh_fields *fields)
{
	int kind = simnic_fields_kind(fields->flow_type);
	struct simnic_port *port = simnic_port(dev);

	if (kind < 0)
		return kind;
	fields->data = port->rss_fields[kind];
	return 0;
}

int simnic_set_rxfh_fields(struct net_device *dev,
			   const struct ethtool_rxfh_fields *fields,
			   struct netlink_ext_ack *extack)
{
	int kind = simnic_fields_kind(fields->flow_type);
	struct simnic_port *port = simnic_port(dev);
	u32 allowed = RXH_IP_SRC | RXH_IP_DST;
	unsigned long flags;

	if (kind < 0)
		return kind;
	if (kind != SIMNIC_HASH_IP4 && kind != SIMNIC_HASH_IP6)
		allowed |= RXH_L4_B_0_1 | RXH_L4_B_2_3;
	if (fields->data & ~allowed)
		return -EINVAL;
	spin_lock_irqsave(&port->steer_lock, flags);
	port->rss_fields[kind] = fields->data;
	spin_unlock_irqrestore(&port->steer_lock, flags);
	return 0;
}
