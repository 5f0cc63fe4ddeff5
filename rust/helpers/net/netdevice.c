// SPDX-License-Identifier: GPL-2.0

#include <linux/etherdevice.h>
#include <linux/netdevice.h>
#include <net/netdev_lock.h>

#ifdef CONFIG_NET

__rust_helper struct net *rust_helper_dev_net(const struct net_device *dev)
{
	return dev_net(dev);
}

__rust_helper void rust_helper_dev_hold(struct net_device *dev)
{
	dev_hold(dev);
}

__rust_helper void rust_helper_dev_put(struct net_device *dev)
{
	dev_put(dev);
}

__rust_helper void rust_helper_eth_hw_addr_random(struct net_device *dev)
{
	eth_hw_addr_random(dev);
}

__rust_helper bool rust_helper_is_valid_ether_addr(const u8 *addr)
{
	return is_valid_ether_addr(addr);
}

__rust_helper
void rust_helper_dev_sw_netstats_rx_add(struct net_device *dev, unsigned int len)
{
	dev_sw_netstats_rx_add(dev, len);
}

__rust_helper
void rust_helper_dev_sw_netstats_tx_add(struct net_device *dev,
					unsigned int packets, unsigned int len)
{
	dev_sw_netstats_tx_add(dev, packets, len);
}

__rust_helper void rust_helper_dev_core_stats_tx_dropped_inc(struct net_device *dev)
{
	dev_core_stats_tx_dropped_inc(dev);
}

__rust_helper
u64 rust_helper_dev_stats_read_tx_dropped(struct net_device *dev)
{
	return DEV_STATS_READ(dev, tx_dropped);
}

/*
 * The counterpart of netdev_lockdep_set_classes(), which keeps its keys in
 * function-local statics: a helper must not own state, so the keys are passed.
 */
__rust_helper
void rust_helper_netdev_lockdep_set_keys(struct net_device *dev,
					 struct lock_class_key *tx_busylock,
					 struct lock_class_key *xmit_lock,
					 struct lock_class_key *addr_list_lock,
					 struct lock_class_key *instance_lock)
{
	unsigned int i;

	dev->qdisc_tx_busylock = tx_busylock;
	lockdep_set_class(&dev->addr_list_lock, addr_list_lock);
	lockdep_set_class(&dev->lock, instance_lock);
	lock_set_cmp_fn(&dev->lock, netdev_lock_cmp_fn, NULL);
	for (i = 0; i < dev->num_tx_queues; i++)
		lockdep_set_class(&dev->_tx[i]._xmit_lock, xmit_lock);
}

#endif
