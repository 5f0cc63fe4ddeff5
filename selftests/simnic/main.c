// SPDX-License-Identifier: GPL-2.0
/* simnic: the module, its two ports and their network devices */

#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <net/netdev_lock.h>

#include "simnic.h"

static unsigned int channels = 4;
module_param(channels, uint, 0444);
MODULE_PARM_DESC(channels, "Combined channels of each port at first (1 to 16)");

static struct simnic_port *simnic_ports[SIMNIC_PORTS];

/* The light at both ends of the wire is on while both ports are up. */
static void simnic_carrier(struct simnic_port *port, bool up)
{
	struct simnic_port *peer = port->peer;

	if (up && netif_running(peer->dev)) {
		netif_carrier_on(port->dev);
		netif_carrier_on(peer->dev);
	} else {
		netif_carrier_off(port->dev);
		netif_carrier_off(peer->dev);
	}
}

/* Allocate and start all queues. The caller wakes the transmit queues. */
int simnic_up(struct simnic_port *port)
{
	struct simnic_rxq *rxq[SIMNIC_MAX_CHANNELS];
	struct net_device *dev = port->dev;
	struct netdev_queue_config qcfg;
	int err, i;

	netdev_assert_locked(dev);

	if (simnic_fails(port, SIMNIC_FAIL_OPEN))
		return -EIO;
	for (i = 0; i < port->channels; i++) {
		netdev_queue_config(dev, i, &qcfg);
		rxq[i] = simnic_rxq_alloc(port, i, &qcfg);
		if (IS_ERR(rxq[i])) {
			err = PTR_ERR(rxq[i]);
			goto err_free;
		}
	}
	for (i = 0; i < port->channels; i++) {
		struct napi_struct *napi = &port->ch[i].napi;

		netif_napi_add_config_locked(dev, napi, simnic_poll, i);
		netif_queue_set_napi(dev, i, NETDEV_QUEUE_TYPE_RX, napi);
		netif_queue_set_napi(dev, i, NETDEV_QUEUE_TYPE_TX, napi);
		simnic_channel_start(&port->ch[i], rxq[i]);
	}
	port->up = true;
	return 0;

err_free:
	while (i--)
		simnic_rxq_free(rxq[i]);
	return err;
}

/* The opposite, after which no packet is sent. */
void simnic_down(struct simnic_port *port)
{
	struct simnic_rxq *rxq[SIMNIC_MAX_CHANNELS];
	struct net_device *dev = port->dev;
	int i;

	netdev_assert_locked(dev);

	/* A change may have left it with no queues. */
	if (!port->up)
		return;
	port->up = false;
	for (i = 0; i < port->channels; i++) {
		rxq[i] = simnic_channel_stop(&port->ch[i]);
		netif_queue_set_napi(dev, i, NETDEV_QUEUE_TYPE_RX, NULL);
		netif_queue_set_napi(dev, i, NETDEV_QUEUE_TYPE_TX, NULL);
		__netif_napi_del_locked(&port->ch[i].napi);
	}
	/* Nothing wakes them now. */
	netif_tx_disable(dev);
	synchronize_net();
	for (i = 0; i < port->channels; i++)
		simnic_tx_purge(&port->ch[i]);
	for (i = 0; i < port->channels; i++)
		simnic_rxq_free(rxq[i]);
}

static int simnic_open(struct net_device *dev)
{
	struct simnic_port *port = simnic_port(dev);
	int err;

	err = simnic_up(port);
	if (err)
		return err;
	netif_tx_start_all_queues(dev);
	simnic_carrier(port, true);
	return 0;
}

static int simnic_stop(struct net_device *dev)
{
	struct simnic_port *port = simnic_port(dev);

	simnic_carrier(port, false);
	simnic_down(port);
	return 0;
}

static int simnic_change_mtu(struct net_device *dev, int mtu)
{
	struct simnic_port *port = simnic_port(dev);

	if (rcu_access_pointer(port->xdp_prog) && mtu > simnic_xdp_max_mtu())
		return -EINVAL;
	WRITE_ONCE(dev->mtu, mtu);
	return 0;
}

static const struct net_device_ops simnic_netdev_ops = {
	.ndo_open		= simnic_open,
	.ndo_stop		= simnic_stop,
	.ndo_start_xmit		= simnic_xmit,
	.ndo_set_mac_address	= eth_mac_addr,
	.ndo_validate_addr	= eth_validate_addr,
	.ndo_change_mtu		= simnic_change_mtu,
	.ndo_get_stats64	= simnic_get_stats64,
	.ndo_bpf		= simnic_bpf,
	.ndo_xdp_xmit		= simnic_xdp_xmit,
	.ndo_xsk_wakeup		= simnic_xsk_wakeup,
};

static void simnic_init_port(struct simnic_port *port, struct net_device *dev,
			     struct platform_device *pdev)
{
	int i;

	port->dev = dev;
	port->pdev = pdev;
	port->channels = channels;
	port->rx_size = SIMNIC_RING_DEFAULT;
	port->tx_size = SIMNIC_RING_DEFAULT;
	spin_lock_init(&port->steer_lock);
	simnic_steer_init(port);
	for (i = 0; i < SIMNIC_MAX_CHANNELS; i++) {
		struct simnic_channel *ch = &port->ch[i];

		ch->port = port;
		ch->idx = i;
		spin_lock_init(&ch->fifo_lock);
		INIT_LIST_HEAD(&ch->fifo);
		INIT_LIST_HEAD(&ch->tx_held);
		skb_queue_head_init(&ch->txq);
	}

	SET_NETDEV_DEV(dev, &pdev->dev);
	dev->netdev_ops = &simnic_netdev_ops;
	dev->ethtool_ops = &simnic_ethtool_ops;
	dev->queue_mgmt_ops = &simnic_queue_mgmt_ops;
	dev->stat_ops = &simnic_stat_ops;
	netdev_lockdep_set_classes(dev);
	dev->netmem_tx = NETMEM_TX_DMA;
	dev->max_mtu = SIMNIC_MAX_MTU;
	dev->priv_flags |= IFF_LIVE_ADDR_CHANGE | IFF_DISABLE_NETPOLL;
	dev->hw_features = NETIF_F_SG | NETIF_F_HW_CSUM;
	dev->features = dev->hw_features | NETIF_F_HIGHDMA | NETIF_F_RXCSUM |
			NETIF_F_RXHASH | NETIF_F_NTUPLE;
	dev->vlan_features = NETIF_F_SG | NETIF_F_HW_CSUM | NETIF_F_HIGHDMA;
	dev->xdp_features = NETDEV_XDP_ACT_BASIC | NETDEV_XDP_ACT_REDIRECT |
			    NETDEV_XDP_ACT_NDO_XMIT |
			    NETDEV_XDP_ACT_XSK_ZEROCOPY;
	eth_hw_addr_random(dev);
	netif_set_real_num_queues(dev, channels, channels);
	netif_carrier_off(dev);
}

static struct simnic_port *simnic_create(unsigned int nr)
{
	struct platform_device *pdev;
	struct net_device *dev;
	int err;

	pdev = platform_device_register_simple("simnic", nr, NULL, 0);
	if (IS_ERR(pdev))
		return ERR_CAST(pdev);
	err = dma_coerce_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (err)
		goto err_unregister;

	dev = alloc_netdev_mqs(sizeof(struct simnic_port), "simnic%d",
			       NET_NAME_ENUM, ether_setup, SIMNIC_MAX_CHANNELS,
			       SIMNIC_MAX_CHANNELS);
	if (!dev) {
		err = -ENOMEM;
		goto err_unregister;
	}
	simnic_init_port(simnic_port(dev), dev, pdev);
	return simnic_port(dev);

err_unregister:
	platform_device_unregister(pdev);
	return ERR_PTR(err);
}

static void simnic_destroy(struct simnic_port *port)
{
	struct platform_device *pdev = port->pdev;

	free_netdev(port->dev);
	platform_device_unregister(pdev);
}

static int __init simnic_init(void)
{
	int err, i;

	if (!channels || channels > SIMNIC_MAX_CHANNELS)
		return -EINVAL;

	for (i = 0; i < SIMNIC_PORTS; i++) {
		simnic_ports[i] = simnic_create(i);
		if (IS_ERR(simnic_ports[i])) {
			err = PTR_ERR(simnic_ports[i]);
			goto err_destroy;
		}
	}
	simnic_ports[0]->peer = simnic_ports[1];
	simnic_ports[1]->peer = simnic_ports[0];

	for (i = 0; i < SIMNIC_PORTS; i++) {
		err = register_netdev(simnic_ports[i]->dev);
		if (err)
			goto err_unregister;
	}
	simnic_debugfs_init();
	for (i = 0; i < SIMNIC_PORTS; i++)
		simnic_debugfs_add(simnic_ports[i], i);
	return 0;

err_unregister:
	while (i--)
		unregister_netdev(simnic_ports[i]->dev);
	i = SIMNIC_PORTS;
err_destroy:
	while (i--)
		simnic_destroy(simnic_ports[i]);
	return err;
}

static void __exit simnic_exit(void)
{
	int i;

	/* Each port sends to the other until both are gone. */
	simnic_debugfs_exit();
	for (i = 0; i < SIMNIC_PORTS; i++)
		unregister_netdev(simnic_ports[i]->dev);
	for (i = 0; i < SIMNIC_PORTS; i++)
		simnic_destroy(simnic_ports[i]);
}

module_init(simnic_init);
module_exit(simnic_exit);
MODULE_DESCRIPTION("Two simulated physical network ports, joined by a wire");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("NETDEV_INTERNAL");
