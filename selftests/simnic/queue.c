// SPDX-License-Identifier: GPL-2.0
/* simnic: the memory of receive queues, and the operations on them */

#include <linux/platform_device.h>
#include <net/netdev_lock.h>
#include <net/page_pool/helpers.h>
#include <net/xdp_sock_drv.h>

#include "simnic.h"

static struct page_pool *simnic_page_pool(struct simnic_port *port, u32 idx,
					  u32 page_size, bool unreadable)
{
	struct page_pool_params params = {
		.order		= get_order(page_size),
		.pool_size	= port->rx_size,
		.nid		= NUMA_NO_NODE,
		.dev		= &port->pdev->dev,
		.dma_dir	= DMA_FROM_DEVICE,
		.max_len	= page_size,
		.netdev		= port->dev,
		.queue_idx	= idx,
		.flags		= PP_FLAG_DMA_MAP | PP_FLAG_DMA_SYNC_DEV,
	};

	if (unreadable)
		params.flags |= PP_FLAG_ALLOW_UNREADABLE_NETMEM;
	return page_pool_create(&params);
}

static int simnic_xdp_rxq_reg(struct simnic_port *port, u32 idx,
			      struct xdp_rxq_info *info,
			      enum xdp_mem_type type, struct page_pool *pp)
{
	int err = xdp_rxq_info_reg(info, port->dev, idx, 0);

	if (err)
		return err;
	err = xdp_rxq_info_reg_mem_model(info, type, pp);
	if (err)
		xdp_rxq_info_unreg(info);
	return err;
}

/*
 * A receive queue with all that it needs to start, short of its channel: with
 * the buffers of a socket and without.
 */
struct simnic_rxq *simnic_rxq_alloc(struct simnic_port *port, u32 idx,
				    const struct netdev_queue_config *qcfg)
{
	struct simnic_channel *ch = &port->ch[idx];
	struct simnic_rxq *rxq;
	int err;

	rxq = kvzalloc(struct_size(rxq, bufs, port->rx_size), GFP_KERNEL);
	if (!rxq)
		return ERR_PTR(-ENOMEM);
	rxq->size = port->rx_size;
	rxq->page_size = qcfg->rx_page_size ?: PAGE_SIZE;
	rxq->xsk = ch->xsk;
	rxq->unreadable = netif_rxq_has_unreadable_mp(port->dev, idx);
	rxq->pp = simnic_page_pool(port, idx, rxq->page_size, rxq->unreadable);
	if (IS_ERR(rxq->pp)) {
		err = PTR_ERR(rxq->pp);
		goto err_free;
	}

	err = simnic_xdp_rxq_reg(port, idx, &rxq->xdp_rxq, MEM_TYPE_PAGE_POOL,
				 rxq->pp);
	if (err)
		goto err_destroy;
	err = simnic_xdp_rxq_reg(port, idx, &rxq->xsk_rxq,
				 MEM_TYPE_XSK_BUFF_POOL, NULL);
	if (err)
		goto err_unreg;

	/* Those of a socket are posted while no other queue has them. */
	if (!rxq->xsk)
		simnic_rx_refill(ch, rxq);
	return rxq;

err_unreg:
	xdp_rxq_info_unreg(&rxq->xdp_rxq);
err_destroy:
	page_pool_destroy(rxq->pp);
err_free:
	kvfree(rxq);
	return ERR_PTR(err);
}

static void simnic_rxq_unpost(struct simnic_rxq *rxq)
{
	while (rxq->tail != rxq->head) {
		union simnic_buf *buf = &rxq->bufs[rxq->tail++ % rxq->size];

		if (rxq->xsk)
			xsk_buff_free(buf->xdp);
		else
			page_pool_put_full_netmem(rxq->pp, buf->netmem, false);
	}
}

/* The queue is in no channel. */
void simnic_rxq_free(struct simnic_rxq *rxq)
{
	if (!rxq)
		return;
	simnic_rxq_unpost(rxq);
	xdp_rxq_info_unreg(&rxq->xsk_rxq);
	xdp_rxq_info_unreg(&rxq->xdp_rxq);
	page_pool_destroy(rxq->pp);
	kvfree(rxq);
}

void simnic_channel_start(struct simnic_channel *ch, struct simnic_rxq *rxq)
{
	ch->rxq = rxq;
	if (rxq->xsk) {
		xsk_pool_set_rxq_info(rxq->xsk, &rxq->xsk_rxq);
		simnic_rx_refill(ch, rxq);
	} else {
		page_pool_enable_direct_recycling(rxq->pp, &ch->napi);
	}
	napi_enable_locked(&ch->napi);
	simnic_fifo_open(ch);

	/* There may be something to send. */
	simnic_kick(ch);
}

/* The queue that the channel had, if it had one. */
struct simnic_rxq *simnic_channel_stop(struct simnic_channel *ch)
{
	struct simnic_rxq *rxq = ch->rxq;

	if (!rxq)
		return NULL;
	simnic_fifo_close(ch);
	napi_disable_locked(&ch->napi);
	ch->rxq = NULL;
	if (rxq->xsk)
		simnic_rxq_unpost(rxq);
	else
		page_pool_disable_direct_recycling(rxq->pp);
	return rxq;
}

/*
 * Have the channel go on with the buffers of a socket, or with its own again:
 * the queue has what it takes, so that this cannot fail.
 */
void simnic_channel_set_xsk(struct simnic_channel *ch,
			    struct xsk_buff_pool *pool)
{
	struct simnic_rxq *rxq = simnic_channel_stop(ch);

	WRITE_ONCE(ch->xsk, pool);
	if (!rxq)
		return;
	simnic_rxq_unpost(rxq);
	rxq->xsk = pool;
	simnic_channel_start(ch, rxq);
}

/* What the core keeps of a queue is where it is: XDP has pointers to it. */
static int simnic_queue_mem_alloc(struct net_device *dev,
				  struct netdev_queue_config *qcfg,
				  void *per_queue_mem, int idx)
{
	struct simnic_port *port = simnic_port(dev);
	struct simnic_rxq **mem = per_queue_mem;
	struct simnic_rxq *rxq;

	netdev_assert_locked(dev);

	if (simnic_fails(port, SIMNIC_FAIL_QUEUE_MEM_ALLOC))
		return -ENOMEM;
	/* As most NICs do; this is the error that the core puts up with. */
	if (!port->up)
		return -ENETDOWN;
	rxq = simnic_rxq_alloc(port, idx, qcfg);
	if (IS_ERR(rxq))
		return PTR_ERR(rxq);
	*mem = rxq;
	return 0;
}

static void simnic_queue_mem_free(struct net_device *dev, void *per_queue_mem)
{
	struct simnic_rxq **mem = per_queue_mem;

	netdev_assert_locked(dev);
	simnic_rxq_free(*mem);
	*mem = NULL;
}

static int simnic_queue_start(struct net_device *dev,
			      struct netdev_queue_config *qcfg,
			      void *per_queue_mem, int idx)
{
	struct simnic_port *port = simnic_port(dev);
	struct simnic_rxq **mem = per_queue_mem;

	netdev_assert_locked(dev);

	if (simnic_fails(port, SIMNIC_FAIL_QUEUE_START))
		return -EIO;
	/* What had stopped was a queue that had failed to start. */
	if (!*mem)
		return -ENODATA;
	simnic_channel_start(&port->ch[idx], *mem);
	*mem = NULL;
	return 0;
}

static int simnic_queue_stop(struct net_device *dev, void *per_queue_mem,
			     int idx)
{
	struct simnic_port *port = simnic_port(dev);
	struct simnic_rxq **mem = per_queue_mem;

	netdev_assert_locked(dev);

	if (simnic_fails(port, SIMNIC_FAIL_QUEUE_STOP))
		return -EIO;
	*mem = simnic_channel_stop(&port->ch[idx]);
	return 0;
}

static void simnic_default_qcfg(struct net_device *dev,
				struct netdev_queue_config *qcfg)
{
	qcfg->rx_page_size = PAGE_SIZE;
}

static int simnic_validate_qcfg(struct net_device *dev,
				struct netdev_queue_config *qcfg,
				struct netlink_ext_ack *extack)
{
	struct simnic_port *port = simnic_port(dev);

	if (simnic_fails(port, SIMNIC_FAIL_QUEUE_VALIDATE)) {
		NL_SET_ERR_MSG(extack, "simnic was asked to fail");
		return -EINVAL;
	}
	if (!is_power_of_2(qcfg->rx_page_size) ||
	    qcfg->rx_page_size < PAGE_SIZE ||
	    qcfg->rx_page_size > SIMNIC_MAX_PAGE_SIZE) {
		NL_SET_ERR_MSG(extack, "rx-page-size out of range");
		return -ERANGE;
	}
	return 0;
}

static struct device *simnic_queue_dma_dev(struct net_device *dev, int idx)
{
	struct simnic_port *port = simnic_port(dev);

	if (simnic_fails(port, SIMNIC_FAIL_QUEUE_DMA_DEV))
		return NULL;
	return &port->pdev->dev;
}

const struct netdev_queue_mgmt_ops simnic_queue_mgmt_ops = {
	.ndo_queue_mem_size	= sizeof(struct simnic_rxq *),
	.ndo_queue_mem_alloc	= simnic_queue_mem_alloc,
	.ndo_queue_mem_free	= simnic_queue_mem_free,
	.ndo_queue_start	= simnic_queue_start,
	.ndo_queue_stop		= simnic_queue_stop,
	.ndo_default_qcfg	= simnic_default_qcfg,
	.ndo_validate_qcfg	= simnic_validate_qcfg,
	.ndo_queue_get_dma_dev	= simnic_queue_dma_dev,
	.supported_params	= QCFG_RX_PAGE_SIZE,
};

static u64 simnic_sum(struct net_device *dev, int from, int to,
		      enum simnic_stat stat)
{
	u64 sum = 0;

	for (; from < to; from++)
		sum += simnic_stat(&simnic_port(dev)->ch[from], stat);
	return sum;
}

static void simnic_sum_rx(struct net_device *dev, int from, int to,
			  struct netdev_queue_stats_rx *stats)
{
	stats->packets = simnic_sum(dev, from, to, SIMNIC_RX_PACKETS);
	stats->bytes = simnic_sum(dev, from, to, SIMNIC_RX_BYTES);
	stats->alloc_fail = simnic_sum(dev, from, to, SIMNIC_RX_ALLOC_FAIL);
	stats->hw_drops = simnic_sum(dev, from, to, SIMNIC_RX_DROPS);
	stats->csum_unnecessary = simnic_sum(dev, from, to, SIMNIC_RX_CSUM_OK);
	stats->csum_none = simnic_sum(dev, from, to, SIMNIC_RX_CSUM_NONE);
	stats->csum_complete = simnic_sum(dev, from, to,
					  SIMNIC_RX_CSUM_COMPLETE);
}

static void simnic_sum_tx(struct net_device *dev, int from, int to,
			  struct netdev_queue_stats_tx *stats)
{
	stats->packets = simnic_sum(dev, from, to, SIMNIC_TX_PACKETS);
	stats->bytes = simnic_sum(dev, from, to, SIMNIC_TX_BYTES);
	stats->hw_drops = simnic_sum(dev, from, to, SIMNIC_TX_DROPS);
	stats->stop = simnic_sum(dev, from, to, SIMNIC_TX_STOP);
	stats->wake = simnic_sum(dev, from, to, SIMNIC_TX_WAKE);
}

static void simnic_get_queue_stats_rx(struct net_device *dev, int idx,
				      struct netdev_queue_stats_rx *stats)
{
	simnic_sum_rx(dev, idx, idx + 1, stats);
}

static void simnic_get_queue_stats_tx(struct net_device *dev, int idx,
				      struct netdev_queue_stats_tx *stats)
{
	simnic_sum_tx(dev, idx, idx + 1, stats);
}

/* Those of the queues that there are not at present. */
static void simnic_get_base_stats(struct net_device *dev,
				  struct netdev_queue_stats_rx *rx,
				  struct netdev_queue_stats_tx *tx)
{
	simnic_sum_rx(dev, dev->real_num_rx_queues, SIMNIC_MAX_CHANNELS, rx);
	simnic_sum_tx(dev, dev->real_num_tx_queues, SIMNIC_MAX_CHANNELS, tx);
}

const struct netdev_stat_ops simnic_stat_ops = {
	.get_queue_stats_rx	= simnic_get_queue_stats_rx,
	.get_queue_stats_tx	= simnic_get_queue_stats_tx,
	.get_base_stats		= simnic_get_base_stats,
};

void simnic_get_stats64(struct net_device *dev,
			struct rtnl_link_stats64 *stats)
{
	struct netdev_queue_stats_rx rx;
	struct netdev_queue_stats_tx tx;

	simnic_sum_rx(dev, 0, SIMNIC_MAX_CHANNELS, &rx);
	simnic_sum_tx(dev, 0, SIMNIC_MAX_CHANNELS, &tx);
	stats->rx_packets = rx.packets;
	stats->rx_bytes = rx.bytes;
	stats->rx_dropped = rx.alloc_fail;
	stats->rx_missed_errors = rx.hw_drops;
	stats->tx_packets = tx.packets;
	stats->tx_bytes = tx.bytes;
	stats->tx_dropped = tx.hw_drops;
}
