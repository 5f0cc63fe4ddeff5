// SPDX-License-Identifier: GPL-2.0
/* simnic: what ethtool shows and sets */

#include <linux/ethtool_netlink.h>
#include <linux/log2.h>

#include "simnic.h"

static const char *const simnic_stat_names[SIMNIC_STATS] = {
	[SIMNIC_RX_PACKETS]		= "rx%u_packets",
	[SIMNIC_RX_BYTES]		= "rx%u_bytes",
	[SIMNIC_RX_ALLOC_FAIL]		= "rx%u_alloc_fail",
	[SIMNIC_RX_DROPS]		= "rx%u_drops",
	[SIMNIC_RX_CSUM_OK]		= "rx%u_csum_ok",
	[SIMNIC_RX_CSUM_COMPLETE]	= "rx%u_csum_complete",
	[SIMNIC_RX_CSUM_NONE]		= "rx%u_csum_none",
	[SIMNIC_RX_SPLIT]		= "rx%u_split",
	[SIMNIC_RX_UNREADABLE]		= "rx%u_unreadable",
	[SIMNIC_RX_XDP_PASS]		= "rx%u_xdp_pass",
	[SIMNIC_RX_XDP_DROP]		= "rx%u_xdp_drop",
	[SIMNIC_RX_XDP_TX]		= "rx%u_xdp_tx",
	[SIMNIC_RX_XDP_REDIRECT]	= "rx%u_xdp_redirect",
	[SIMNIC_RX_XSK]			= "rx%u_xsk",
	[SIMNIC_TX_PACKETS]		= "tx%u_packets",
	[SIMNIC_TX_BYTES]		= "tx%u_bytes",
	[SIMNIC_TX_DROPS]		= "tx%u_drops",
	[SIMNIC_TX_STOP]		= "tx%u_stop",
	[SIMNIC_TX_WAKE]		= "tx%u_wake",
	[SIMNIC_TX_XDP]			= "tx%u_xdp",
	[SIMNIC_TX_XSK]			= "tx%u_xsk",
};

/* The parents have no driver to ask. */
static void simnic_get_drvinfo(struct net_device *dev,
			       struct ethtool_drvinfo *info)
{
	strscpy(info->driver, KBUILD_MODNAME);
	strscpy(info->bus_info, dev_name(dev->dev.parent));
}

static int simnic_get_sset_count(struct net_device *dev, int sset)
{
	if (sset != ETH_SS_STATS)
		return -EOPNOTSUPP;
	return simnic_port(dev)->channels * SIMNIC_STATS;
}

static void simnic_get_strings(struct net_device *dev, u32 sset, u8 *data)
{
	struct simnic_port *port = simnic_port(dev);
	u32 i, stat;

	if (sset != ETH_SS_STATS)
		return;
	for (i = 0; i < port->channels; i++)
		for (stat = 0; stat < SIMNIC_STATS; stat++)
			ethtool_sprintf(&data, simnic_stat_names[stat], i);
}

static void simnic_get_ethtool_stats(struct net_device *dev,
				     struct ethtool_stats *stats, u64 *data)
{
	struct simnic_port *port = simnic_port(dev);
	u32 i, stat;

	for (i = 0; i < port->channels; i++)
		for (stat = 0; stat < SIMNIC_STATS; stat++)
			*data++ = simnic_stat(&port->ch[i], stat);
}

static void simnic_get_channels(struct net_device *dev,
				struct ethtool_channels *channels)
{
	channels->max_combined = SIMNIC_MAX_CHANNELS;
	channels->combined_count = simnic_port(dev)->channels;
}

static int simnic_set_queues(struct simnic_port *port, u32 n, u32 rx_size,
			     u32 tx_size)
{
	struct net_device *dev = port->dev;
	int err;

	simnic_down(port);
	if (n != port->channels) {
		err = netif_set_real_num_queues(dev, n, n);
		if (err)
			return err;
		simnic_steer_resize(port, n);
	}
	port->rx_size = rx_size;
	port->tx_size = tx_size;
	if (!netif_running(dev))
		return 0;
	err = simnic_up(port);
	if (!err)
		netif_tx_wake_all_queues(dev);
	return err;
}

/* Have so many queues of these sizes, or else the ones of before. */
static int simnic_change_queues(struct simnic_port *port, u32 n, u32 rx_size,
				u32 tx_size)
{
	u32 old_rx = port->rx_size, old_tx = port->tx_size;
	u32 old = port->channels;
	int err;

	err = simnic_set_queues(port, n, rx_size, tx_size);
	if (err && simnic_set_queues(port, old, old_rx, old_tx))
		netdev_err(port->dev, "no queues any more\n");
	return err;
}

static int simnic_set_channels(struct net_device *dev,
			       struct ethtool_channels *channels)
{
	struct simnic_port *port = simnic_port(dev);

	return simnic_change_queues(port, channels->combined_count,
				    port->rx_size, port->tx_size);
}

static void simnic_get_ringparam(struct net_device *dev,
				 struct ethtool_ringparam *ring,
				 struct kernel_ethtool_ringparam *kernel_ring,
				 struct netlink_ext_ack *extack)
{
	struct simnic_port *port = simnic_port(dev);

	ring->rx_max_pending = SIMNIC_RING_MAX;
	ring->tx_max_pending = SIMNIC_RING_MAX;
	ring->rx_pending = port->rx_size;
	ring->tx_pending = port->tx_size;
	kernel_ring->tcp_data_split = port->hds ? ETHTOOL_TCP_DATA_SPLIT_ENABLED :
						  ETHTOOL_TCP_DATA_SPLIT_DISABLED;
	kernel_ring->hds_thresh = port->hds_thresh;
	kernel_ring->hds_thresh_max = SIMNIC_HDS_THRESH_MAX;
}

static int simnic_set_ringparam(struct net_device *dev,
				struct ethtool_ringparam *ring,
				struct kernel_ethtool_ringparam *kernel_ring,
				struct netlink_ext_ack *extack)
{
	struct simnic_port *port = simnic_port(dev);
	u32 rx, tx;
	int err;

	if (ring->rx_pending < SIMNIC_RING_MIN ||
	    ring->tx_pending < SIMNIC_RING_MIN) {
		NL_SET_ERR_MSG_FMT(extack, "rings have at least %d descriptors",
				   SIMNIC_RING_MIN);
		return -EINVAL;
	}

	/* Ring indices run on past 2^32, which other sizes do not divide. */
	rx = roundup_pow_of_two(ring->rx_pending);
	tx = roundup_pow_of_two(ring->tx_pending);
	if (rx != port->rx_size || tx != port->tx_size) {
		err = simnic_change_queues(port, port->channels, rx, tx);
		if (err)
			return err;
	}

	/* It is off unless asked for. */
	WRITE_ONCE(port->hds, kernel_ring->tcp_data_split ==
			      ETHTOOL_TCP_DATA_SPLIT_ENABLED);
	WRITE_ONCE(port->hds_thresh, kernel_ring->hds_thresh);
	return 0;
}

static u32 simnic_get_rxfh_key_size(struct net_device *dev)
{
	return sizeof(siphash_key_t);
}

static u32 simnic_get_rxfh_indir_size(struct net_device *dev)
{
	return SIMNIC_RSS_INDIR;
}

static u32 simnic_get_rx_ring_count(struct net_device *dev)
{
	return simnic_port(dev)->channels;
}

static int simnic_get_rxfh(struct net_device *dev,
			   struct ethtool_rxfh_param *rxfh)
{
	struct simnic_port *port = simnic_port(dev);

	rxfh->input_xfrm = port->rss_xfrm;
	if (rxfh->indir)
		memcpy(rxfh->indir, port->rss_indir[0],
		       sizeof(port->rss_indir[0]));
	if (rxfh->key)
		memcpy(rxfh->key, &port->rss_key, sizeof(port->rss_key));
	return 0;
}

static void simnic_set_indir(struct simnic_port *port, u32 context,
			     const u32 *indir)
{
	u32 *to = port->rss_indir[context];
	int i;

	spin_lock_bh(&port->steer_lock);
	for (i = 0; i < SIMNIC_RSS_INDIR; i++)
		to[i] = indir ? indir[i] :
			ethtool_rxfh_indir_default(i, port->channels);
	spin_unlock_bh(&port->steer_lock);
}

static int simnic_set_rxfh(struct net_device *dev,
			   struct ethtool_rxfh_param *rxfh,
			   struct netlink_ext_ack *extack)
{
	struct simnic_port *port = simnic_port(dev);

	if (rxfh->hfunc != ETH_RSS_HASH_NO_CHANGE)
		return -EOPNOTSUPP;
	if (rxfh->indir)
		simnic_set_indir(port, 0, rxfh->indir);
	spin_lock_bh(&port->steer_lock);
	if (rxfh->key)
		memcpy(&port->rss_key, rxfh->key, sizeof(port->rss_key));
	if (rxfh->input_xfrm != RXH_XFRM_NO_CHANGE)
		port->rss_xfrm = rxfh->input_xfrm;
	spin_unlock_bh(&port->steer_lock);
	return 0;
}

/* Contexts have a table each, and share the rest: the core sees to that. */
static int simnic_create_rxfh_context(struct net_device *dev,
				      struct ethtool_rxfh_context *ctx,
				      const struct ethtool_rxfh_param *rxfh,
				      struct netlink_ext_ack *extack)
{
	simnic_set_indir(simnic_port(dev), rxfh->rss_context, rxfh->indir);
	if (!rxfh->indir)
		memcpy(ethtool_rxfh_context_indir(ctx),
		       simnic_port(dev)->rss_indir[rxfh->rss_context],
		       sizeof(u32) * SIMNIC_RSS_INDIR);
	return 0;
}

static int simnic_modify_rxfh_context(struct net_device *dev,
				      struct ethtool_rxfh_context *ctx,
				      const struct ethtool_rxfh_param *rxfh,
				      struct netlink_ext_ack *extack)
{
	if (rxfh->indir)
		simnic_set_indir(simnic_port(dev), rxfh->rss_context,
				 rxfh->indir);
	return 0;
}

static int simnic_remove_rxfh_context(struct net_device *dev,
				      struct ethtool_rxfh_context *ctx,
				      u32 rss_context,
				      struct netlink_ext_ack *extack)
{
	return 0;
}

const struct ethtool_ops simnic_ethtool_ops = {
	.supported_ring_params	= ETHTOOL_RING_USE_TCP_DATA_SPLIT |
				  ETHTOOL_RING_USE_HDS_THRS,
	.supported_input_xfrm	= RXH_XFRM_SYM_XOR,
	.rxfh_max_num_contexts	= 1 + SIMNIC_RSS_CONTEXTS,
	.op_needs_rtnl		= ETHTOOL_OP_NEEDS_RTNL_SCHANNELS |
				  ETHTOOL_OP_NEEDS_RTNL_GLINK,
	.get_drvinfo		= simnic_get_drvinfo,
	.get_link		= ethtool_op_get_link,
	.get_ts_info		= ethtool_op_get_ts_info,
	.get_sset_count		= simnic_get_sset_count,
	.get_strings		= simnic_get_strings,
	.get_ethtool_stats	= simnic_get_ethtool_stats,
	.get_channels		= simnic_get_channels,
	.set_channels		= simnic_set_channels,
	.get_ringparam		= simnic_get_ringparam,
	.set_ringparam		= simnic_set_ringparam,
	.get_rxnfc		= simnic_get_rxnfc,
	.set_rxnfc		= simnic_set_rxnfc,
	.get_rx_ring_count	= simnic_get_rx_ring_count,
	.get_rxfh_key_size	= simnic_get_rxfh_key_size,
	.get_rxfh_indir_size	= simnic_get_rxfh_indir_size,
	.get_rxfh		= simnic_get_rxfh,
	.set_rxfh		= simnic_set_rxfh,
	.get_rxfh_fields	= simnic_get_rxfh_fields,
	.set_rxfh_fields	= simnic_set_rxfh_fields,
	.create_rxfh_context	= simnic_create_rxfh_context,
	.modify_rxfh_context	= simnic_modify_rxfh_context,
	.remove_rxfh_context	= simnic_remove_rxfh_context,
};
