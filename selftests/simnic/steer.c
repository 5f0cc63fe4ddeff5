// SPDX-License-Identifier: GPL-2.0
/* simnic: which queue a frame goes to: flow rules, and the hash (RSS) */

#include <linux/etherdevice.h>
#include <net/flow_dissector.h>
#include <net/ip6_checksum.h>

#include "simnic.h"

/*
 * How much of the specification of such a flow the device knows: addresses and
 * ports. 0: it knows no such flows.
 */
static u32 simnic_spec_len(u32 flow_type)
{
	switch (flow_type) {
	case TCP_V4_FLOW:
	case UDP_V4_FLOW:
		return offsetof(struct ethtool_tcpip4_spec, tos);
	case TCP_V6_FLOW:
	case UDP_V6_FLOW:
		return offsetof(struct ethtool_tcpip6_spec, tclass);
	default:
		return 0;
	}
}

/*
 * The type of a flow, and the specification that matches this flow only. 0 if
 * it has no ports, as fragments have none.
 */
static u32 simnic_flow_spec(const struct flow_keys *keys,
			    union ethtool_flow_union *spec)
{
	bool tcp = keys->basic.ip_proto == IPPROTO_TCP;

	if (keys->control.flags & FLOW_DIS_IS_FRAGMENT)
		return 0;
	if (!tcp && keys->basic.ip_proto != IPPROTO_UDP)
		return 0;

	if (keys->control.addr_type == FLOW_DISSECTOR_KEY_IPV4_ADDRS) {
		spec->tcp_ip4_spec.ip4src = keys->addrs.v4addrs.src;
		spec->tcp_ip4_spec.ip4dst = keys->addrs.v4addrs.dst;
		spec->tcp_ip4_spec.psrc = keys->ports.src;
		spec->tcp_ip4_spec.pdst = keys->ports.dst;
		return tcp ? TCP_V4_FLOW : UDP_V4_FLOW;
	}
	memcpy(spec->tcp_ip6_spec.ip6src, &keys->addrs.v6addrs.src,
	       sizeof(spec->tcp_ip6_spec.ip6src));
	memcpy(spec->tcp_ip6_spec.ip6dst, &keys->addrs.v6addrs.dst,
	       sizeof(spec->tcp_ip6_spec.ip6dst));
	spec->tcp_ip6_spec.psrc = keys->ports.src;
	spec->tcp_ip6_spec.pdst = keys->ports.dst;
	return tcp ? TCP_V6_FLOW : UDP_V6_FLOW;
}

/* Whether TCP or UDP has the checksum that it should: not so behind padding. */
static bool simnic_csum_ok(const struct simnic_frame *frame,
			   const struct flow_keys *keys)
{
	const struct flow_dissector_key_addrs *addrs = &keys->addrs;
	u32 offset = keys->control.thoff, len = frame->len - offset;
	__wsum sum = csum_partial(frame->data + offset, len, 0);

	if (keys->control.addr_type == FLOW_DISSECTOR_KEY_IPV4_ADDRS)
		return !csum_tcpudp_magic(addrs->v4addrs.src,
					  addrs->v4addrs.dst, len,
					  keys->basic.ip_proto, sum);
	return !csum_ipv6_magic(&addrs->v6addrs.src, &addrs->v6addrs.dst, len,
				keys->basic.ip_proto, sum);
}

/*
 * The kernel's own hash rather than Toeplitz. It is the same for both
 * directions of a flow, whether or not that was asked for (RXH_XFRM_SYM_XOR).
 */
static void simnic_hash(struct simnic_port *port, struct simnic_frame *frame,
			const struct flow_keys *keys, u32 flow_type)
{
	u32 fields = flow_type ? port->rss_fields[flow_type] :
				 RXH_IP_SRC | RXH_IP_DST;
	struct flow_keys in = { .control = keys->control };

	switch (keys->control.addr_type) {
	case FLOW_DISSECTOR_KEY_IPV4_ADDRS:
		if (fields & RXH_IP_SRC)
			in.addrs.v4addrs.src = keys->addrs.v4addrs.src;
		if (fields & RXH_IP_DST)
			in.addrs.v4addrs.dst = keys->addrs.v4addrs.dst;
		break;
	case FLOW_DISSECTOR_KEY_IPV6_ADDRS:
		if (fields & RXH_IP_SRC)
			in.addrs.v6addrs.src = keys->addrs.v6addrs.src;
		if (fields & RXH_IP_DST)
			in.addrs.v6addrs.dst = keys->addrs.v6addrs.dst;
		break;
	default:
		frame->hash = 0;
		frame->hash_type = PKT_HASH_TYPE_NONE;
		return;
	}
	if (fields & RXH_L4_B_0_1)
		in.ports.src = keys->ports.src;
	if (fields & RXH_L4_B_2_3)
		in.ports.dst = keys->ports.dst;
	frame->hash = flow_hash_from_keys_seed(&in, &port->rss_key);
	frame->hash_type = fields & (RXH_L4_B_0_1 | RXH_L4_B_2_3) ?
			   PKT_HASH_TYPE_L4 : PKT_HASH_TYPE_L3;
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

static bool simnic_rule_matches(const struct ethtool_rx_flow_spec *fs,
				const struct simnic_frame *frame, u32 flow_type,
				const union ethtool_flow_union *spec)
{
	u32 type = fs->flow_type & ~FLOW_RSS;

	if (type == ETHER_FLOW)
		return simnic_same(frame->data, &fs->h_u, &fs->m_u, ETH_HLEN);
	return type && type == flow_type &&
	       simnic_same(spec, &fs->h_u, &fs->m_u, sizeof(*spec));
}

/* The queue of a port to which a frame goes. */
u32 simnic_steer(struct simnic_port *port, struct simnic_frame *frame)
{
	const struct ethhdr *eth = (const void *)frame->data;
	/* The sender's, which is there while it sends. */
	struct net_device *dev = port->peer->dev;
	union ethtool_flow_union spec = {};
	struct flow_keys keys = {};
	u32 context = 0;
	int queue = -1;
	u32 flow_type;
	int i;

	__skb_flow_dissect(dev_net(dev), NULL, &flow_keys_dissector, &keys,
			   frame->data, eth->h_proto, ETH_HLEN, frame->len,
			   FLOW_DISSECTOR_F_STOP_BEFORE_ENCAP);
	flow_type = simnic_flow_spec(&keys, &spec);
	frame->hdr_len = flow_type ?
			 eth_get_headlen(dev, frame->data, frame->len) : 0;
	frame->csum_ok = flow_type && simnic_csum_ok(frame, &keys);

	spin_lock_bh(&port->steer_lock);
	for (i = 0; i < SIMNIC_RULES; i++) {
		const struct simnic_rule *rule = &port->rules[i];

		if (!simnic_rule_matches(&rule->fs, frame, flow_type, &spec))
			continue;
		if (rule->fs.flow_type & FLOW_RSS)
			context = rule->rss_context;
		else
			queue = rule->fs.ring_cookie;
		break;
	}
	simnic_hash(port, frame, &keys, flow_type);
	if (queue < 0)
		queue = port->rss_indir[context][frame->hash % SIMNIC_RSS_INDIR];
	if (queue >= port->channels)
		queue = 0;
	spin_unlock_bh(&port->steer_lock);
	return queue;
}

void simnic_steer_init(struct simnic_port *port)
{
	u32 i;

	netdev_rss_key_fill(&port->rss_key, sizeof(port->rss_key));
	for (i = 0; i < ARRAY_SIZE(port->rss_fields); i++)
		port->rss_fields[i] = RXH_IP_SRC | RXH_IP_DST | RXH_L4_B_0_1 |
				      RXH_L4_B_2_3;
	simnic_steer_resize(port, port->channels);
}

/* The table that nobody has set spreads over all channels. */
void simnic_steer_resize(struct simnic_port *port, u32 channels)
{
	int i;

	spin_lock_bh(&port->steer_lock);
	WRITE_ONCE(port->channels, channels);
	for (i = 0; i < SIMNIC_RSS_INDIR && !netif_is_rxfh_configured(port->dev); i++)
		port->rss_indir[0][i] = ethtool_rxfh_indir_default(i, channels);
	spin_unlock_bh(&port->steer_lock);
}

static int simnic_check_rule(struct simnic_port *port,
			     const struct ethtool_rx_flow_spec *fs)
{
	u32 type = fs->flow_type & ~FLOW_RSS;
	u32 len = type == ETHER_FLOW ? ETH_HLEN : simnic_spec_len(type);

	if (!len || memchr_inv(fs->m_u.hdata + len, 0, sizeof(fs->m_u) - len))
		return -EOPNOTSUPP;
	return fs->ring_cookie < port->channels ? 0 : -EINVAL;
}

static int simnic_add_rule(struct simnic_port *port, struct ethtool_rxnfc *nfc)
{
	u32 loc = nfc->fs.location;
	int err;

	err = simnic_check_rule(port, &nfc->fs);
	if (err)
		return err;
	if (loc == RX_CLS_LOC_ANY) {
		for (loc = 0; loc < SIMNIC_RULES; loc++)
			if (!port->rules[loc].fs.flow_type)
				break;
		if (loc == SIMNIC_RULES)
			return -ENOSPC;
	}
	if (loc >= SIMNIC_RULES)
		return -EINVAL;
	nfc->fs.location = loc;

	spin_lock_bh(&port->steer_lock);
	port->rules[loc].fs = nfc->fs;
	port->rules[loc].rss_context = nfc->rss_context;
	spin_unlock_bh(&port->steer_lock);
	return 0;
}

static int simnic_del_rule(struct simnic_port *port, u32 loc)
{
	if (loc >= SIMNIC_RULES || !port->rules[loc].fs.flow_type)
		return -ENOENT;
	spin_lock_bh(&port->steer_lock);
	port->rules[loc].fs.flow_type = 0;
	spin_unlock_bh(&port->steer_lock);
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
			n += !!port->rules[i].fs.flow_type;
		nfc->rule_cnt = n;
		nfc->data = SIMNIC_RULES | RX_CLS_LOC_SPECIAL;
		return 0;
	case ETHTOOL_GRXCLSRULE:
		i = nfc->fs.location;
		if (i >= SIMNIC_RULES || !port->rules[i].fs.flow_type)
			return -ENOENT;
		nfc->fs = port->rules[i].fs;
		nfc->rss_context = port->rules[i].rss_context;
		return 0;
	case ETHTOOL_GRXCLSRLALL:
		for (i = 0; i < SIMNIC_RULES; i++) {
			if (!port->rules[i].fs.flow_type)
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

int simnic_get_rxfh_fields(struct net_device *dev,
			   struct ethtool_rxfh_fields *fields)
{
	if (!simnic_spec_len(fields->flow_type))
		return -EINVAL;
	fields->data = simnic_port(dev)->rss_fields[fields->flow_type];
	return 0;
}

int simnic_set_rxfh_fields(struct net_device *dev,
			   const struct ethtool_rxfh_fields *fields,
			   struct netlink_ext_ack *extack)
{
	struct simnic_port *port = simnic_port(dev);

	if (!simnic_spec_len(fields->flow_type))
		return -EINVAL;
	if (fields->data & ~(RXH_IP_SRC | RXH_IP_DST | RXH_L4_B_0_1 |
			     RXH_L4_B_2_3))
		return -EINVAL;
	spin_lock_bh(&port->steer_lock);
	port->rss_fields[fields->flow_type] = fields->data;
	spin_unlock_bh(&port->steer_lock);
	return 0;
}
