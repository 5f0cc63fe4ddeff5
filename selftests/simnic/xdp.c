// SPDX-License-Identifier: GPL-2.0
/* simnic: XDP programs, what they send, and AF_XDP */

#include <linux/bpf_trace.h>
#include <linux/filter.h>
#include <linux/platform_device.h>
#include <net/netdev_lock.h>
#include <net/xdp_sock_drv.h>

#include "simnic.h"

static bool simnic_xdp_send(struct simnic_channel *ch, const void *data,
			    u32 len)
{
	struct simnic_frame *frame = simnic_frame_alloc(len);

	if (!frame)
		return false;
	memcpy(frame->data, data, len);
	if (simnic_send(ch, frame, true)) {
		kfree(frame);
		return false;
	}
	return true;
}

/* True if the packet goes on to the stack. If not, its buffer is gone. */
bool simnic_xdp_passes(struct simnic_channel *ch, struct bpf_prog *prog,
		       struct xdp_buff *xdp)
{
	struct net_device *dev = ch->port->dev;
	enum simnic_stat stat = SIMNIC_RX_XDP_DROP;
	u32 act;

	if (!prog)
		return true;

	act = bpf_prog_run_xdp(prog, xdp);
	switch (act) {
	case XDP_PASS:
		simnic_count(ch, SIMNIC_RX_XDP_PASS, 1);
		return true;
	case XDP_REDIRECT:
		if (!xdp_do_redirect(dev, xdp, prog)) {
			simnic_count(ch, SIMNIC_RX_XDP_REDIRECT, 1);
			return false;
		}
		trace_xdp_exception(dev, prog, act);
		break;
	case XDP_TX:
		if (simnic_xdp_send(ch, xdp->data, xdp->data_end - xdp->data))
			stat = SIMNIC_RX_XDP_TX;
		else
			trace_xdp_exception(dev, prog, act);
		break;
	default:
		bpf_warn_invalid_xdp_action(dev, prog, act);
		fallthrough;
	case XDP_ABORTED:
		trace_xdp_exception(dev, prog, act);
		break;
	case XDP_DROP:
		break;
	}
	simnic_count(ch, stat, 1);
	xdp_return_buff(xdp);
	return false;
}

int simnic_xdp_xmit(struct net_device *dev, int n, struct xdp_frame **frames,
		    u32 flags)
{
	struct simnic_port *port = simnic_port(dev);
	struct simnic_channel *ch;
	int i;

	if (flags & ~XDP_XMIT_FLAGS_MASK)
		return -EINVAL;
	if (!netif_running(dev) || !netif_carrier_ok(dev))
		return -ENETDOWN;

	ch = &port->ch[smp_processor_id() % READ_ONCE(port->channels)];
	for (i = 0; i < n; i++) {
		if (xdp_frame_has_frags(frames[i]) ||
		    !simnic_xdp_send(ch, frames[i]->data, frames[i]->len))
			break;
		xdp_return_frame_rx_napi(frames[i]);
	}
	return i;
}

static int simnic_set_prog(struct simnic_port *port, struct bpf_prog *prog,
			   struct netlink_ext_ack *extack)
{
	struct bpf_prog *old;

	if (prog && port->dev->mtu > simnic_xdp_max_mtu()) {
		NL_SET_ERR_MSG(extack, "MTU too large for XDP");
		return -EINVAL;
	}
	old = rcu_replace_pointer(port->xdp_prog, prog,
				  lockdep_is_held(&port->dev->lock));
	if (old)
		bpf_prog_put(old);
	return 0;
}

static int simnic_set_xsk(struct simnic_port *port, struct xsk_buff_pool *pool,
			  u16 queue)
{
	struct xsk_buff_pool *old;
	struct simnic_channel *ch;
	int err;

	netdev_assert_locked(port->dev);

	if (queue >= port->channels)
		return -EINVAL;
	ch = &port->ch[queue];
	old = ch->xsk;
	if (!pool == !old)
		return pool ? -EBUSY : -EINVAL;
	if (pool) {
		if (simnic_fails(port, SIMNIC_FAIL_XSK_POOL))
			return -EIO;
		err = xsk_pool_dma_map(pool, &port->pdev->dev, 0);
		if (err)
			return err;
	}

	simnic_channel_set_xsk(ch, pool);
	if (!pool)
		xsk_pool_dma_unmap(old, 0);
	return 0;
}

int simnic_bpf(struct net_device *dev, struct netdev_bpf *bpf)
{
	struct simnic_port *port = simnic_port(dev);

	switch (bpf->command) {
	case XDP_SETUP_PROG:
		return simnic_set_prog(port, bpf->prog, bpf->extack);
	case XDP_SETUP_XSK_POOL:
		return simnic_set_xsk(port, bpf->xsk.pool, bpf->xsk.queue_id);
	default:
		return -EINVAL;
	}
}

int simnic_xsk_wakeup(struct net_device *dev, u32 queue, u32 flags)
{
	struct simnic_port *port = simnic_port(dev);
	struct simnic_channel *ch;

	if (!netif_running(dev) || !netif_carrier_ok(dev))
		return -ENETDOWN;
	if (queue >= READ_ONCE(port->channels))
		return -EINVAL;
	ch = &port->ch[queue];
	if (!READ_ONCE(ch->xsk))
		return -ENXIO;
	simnic_kick(ch);
	return 0;
}

/* Send what a socket has queued. True if there may be more. */
bool simnic_xsk_tx(struct simnic_channel *ch, int budget)
{
	struct xsk_buff_pool *pool = ch->xsk;
	u32 i, n = xsk_tx_peek_release_desc_batch(pool, budget);

	for (i = 0; i < n; i++) {
		struct xdp_desc *desc = &pool->tx_descs[i];
		dma_addr_t dma = xsk_buff_raw_get_dma(pool, desc->addr);
		struct simnic_frame *frame = simnic_frame_alloc(desc->len);

		if (!frame) {
			simnic_count(ch, SIMNIC_TX_DROPS, 1);
			continue;
		}
		xsk_buff_raw_dma_sync_for_device(pool, dma, desc->len);
		simnic_dma_read(ch->port, frame->data, dma, desc->len);
		simnic_count(ch, SIMNIC_TX_XSK, 1);
		simnic_send_or_hold(ch, frame);
	}
	if (n)
		xsk_tx_completed(pool, n);
	/* Nothing is sent but when the channel is polled. */
	if (xsk_uses_need_wakeup(pool))
		xsk_set_tx_need_wakeup(pool);
	return n == budget && list_empty(&ch->tx_held);
}
