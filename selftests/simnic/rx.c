// SPDX-License-Identifier: GPL-2.0
/* simnic: what has arrived goes to memory, and to the stack */

#include <linux/etherdevice.h>
#include <net/page_pool/helpers.h>
#include <net/xdp_sock_drv.h>

#include "simnic.h"

#define SIMNIC_BUF_OVERHEAD	(XDP_PACKET_HEADROOM + \
				 SKB_DATA_ALIGN(sizeof(struct skb_shared_info)))

int simnic_xdp_max_mtu(void)
{
	return PAGE_SIZE - SIMNIC_BUF_OVERHEAD - ETH_HLEN - 2 * VLAN_HLEN;
}

/* Post buffers until the ring is full. */
int simnic_rx_refill(struct simnic_channel *ch, struct simnic_rxq *rxq)
{
	while (rxq->head - rxq->tail < rxq->size) {
		union simnic_buf *buf = &rxq->bufs[rxq->head % rxq->size];

		if (simnic_fails(ch->port, SIMNIC_FAIL_RX_ALLOC))
			return -ENOMEM;
		if (rxq->xsk) {
			buf->xdp = xsk_buff_alloc(rxq->xsk);
			if (!buf->xdp)
				return -ENOMEM;
		} else {
			buf->netmem = page_pool_dev_alloc_netmems(rxq->pp);
			if (!buf->netmem)
				return -ENOMEM;
		}
		rxq->head++;
	}
	return 0;
}

static bool simnic_rx_reserve(struct simnic_channel *ch, u32 n)
{
	struct simnic_rxq *rxq = ch->rxq;

	if (rxq->head - rxq->tail < n)
		simnic_rx_refill(ch, rxq);
	if (rxq->head - rxq->tail >= n)
		return true;
	simnic_count(ch, SIMNIC_RX_ALLOC_FAIL, 1);
	return false;
}

static union simnic_buf simnic_rx_take(struct simnic_rxq *rxq)
{
	return rxq->bufs[rxq->tail++ % rxq->size];
}

/* The next buffer, filled. */
static netmem_ref simnic_rx_fill(struct simnic_channel *ch, u32 offset,
				 const void *data, u32 len)
{
	struct simnic_rxq *rxq = ch->rxq;
	netmem_ref netmem = simnic_rx_take(rxq).netmem;
	dma_addr_t dma = page_pool_get_dma_addr_netmem(netmem);

	simnic_dma_write(ch->port, dma + offset, data, len);
	page_pool_dma_sync_netmem_for_cpu(rxq->pp, netmem, offset, len);
	return netmem;
}

static void simnic_rx_add_frags(struct simnic_channel *ch, struct sk_buff *skb,
				const void *data, u32 len)
{
	u32 size = ch->rxq->page_size;

	while (len) {
		u32 n = min(len, size);

		skb_add_rx_frag_netmem(skb, skb_shinfo(skb)->nr_frags,
				       simnic_rx_fill(ch, 0, data, n), 0, n,
				       size);
		data += n;
		len -= n;
	}
}

/* The headers in memory of the kernel, the payload in the queue's buffers. */
static struct sk_buff *simnic_rx_split(struct simnic_channel *ch,
				       const struct simnic_frame *frame,
				       u32 hdr_len)
{
	u32 payload = frame->len - hdr_len;
	struct sk_buff *skb;

	if (!simnic_rx_reserve(ch, DIV_ROUND_UP(payload, ch->rxq->page_size)))
		return NULL;
	skb = napi_alloc_skb(&ch->napi, hdr_len);
	if (!skb) {
		simnic_count(ch, SIMNIC_RX_ALLOC_FAIL, 1);
		return NULL;
	}
	skb_mark_for_recycle(skb);
	skb_put_data(skb, frame->data, hdr_len);
	simnic_rx_add_frags(ch, skb, frame->data + hdr_len, payload);
	if (payload)
		simnic_count(ch, SIMNIC_RX_SPLIT, 1);
	if (!skb_frags_readable(skb))
		simnic_count(ch, SIMNIC_RX_UNREADABLE, 1);
	skb_record_rx_queue(skb, ch->idx);
	skb->protocol = eth_type_trans(skb, ch->port->dev);
	return skb;
}

/* The packet as it came, with headroom for XDP. */
static struct sk_buff *simnic_rx_linear(struct simnic_channel *ch,
					const struct simnic_frame *frame,
					struct bpf_prog *prog)
{
	struct simnic_rxq *rxq = ch->rxq;
	u32 size = rxq->page_size;
	u32 first = min(frame->len, size - (u32)SIMNIC_BUF_OVERHEAD);
	u32 rest = frame->len - first;
	struct sk_buff *skb;
	struct xdp_buff xdp;
	netmem_ref netmem;

	/* No program is shown a part of a packet. */
	if (prog && rest) {
		simnic_count(ch, SIMNIC_RX_DROPS, 1);
		return NULL;
	}
	if (!simnic_rx_reserve(ch, 1 + DIV_ROUND_UP(rest, size)))
		return NULL;
	netmem = simnic_rx_fill(ch, XDP_PACKET_HEADROOM, frame->data, first);
	xdp_init_buff(&xdp, size, &rxq->xdp_rxq);
	xdp_prepare_buff(&xdp, netmem_address(netmem), XDP_PACKET_HEADROOM,
			 first, true);
	if (!simnic_xdp_passes(ch, prog, &xdp))
		return NULL;
	skb = xdp_build_skb_from_buff(&xdp);
	if (!skb) {
		simnic_count(ch, SIMNIC_RX_ALLOC_FAIL, 1);
		xdp_return_buff(&xdp);
		return NULL;
	}
	simnic_rx_add_frags(ch, skb, frame->data + first, rest);
	return skb;
}

/* Into the memory of an AF_XDP socket, which XDP may give it. */
static struct sk_buff *simnic_rx_xsk(struct simnic_channel *ch,
				     const struct simnic_frame *frame,
				     struct bpf_prog *prog)
{
	struct simnic_rxq *rxq = ch->rxq;
	struct sk_buff *skb;
	struct xdp_buff *xdp;

	if (!simnic_rx_reserve(ch, 1))
		return NULL;
	if (frame->len > xsk_pool_get_rx_frame_size(rxq->xsk)) {
		simnic_count(ch, SIMNIC_RX_DROPS, 1);
		return NULL;
	}
	xdp = simnic_rx_take(rxq).xdp;
	xsk_buff_set_size(xdp, frame->len);
	simnic_dma_write(ch->port, xsk_buff_xdp_get_dma(xdp), frame->data,
			 frame->len);
	xsk_buff_dma_sync_for_cpu(xdp);
	simnic_count(ch, SIMNIC_RX_XSK, 1);
	if (!simnic_xdp_passes(ch, prog, xdp))
		return NULL;
	skb = xdp_build_skb_from_zc(xdp);
	if (!skb) {
		simnic_count(ch, SIMNIC_RX_ALLOC_FAIL, 1);
		xsk_buff_free(xdp);
	}
	return skb;
}

/* The device has seen the whole packet, whatever memory it is in. */
static void simnic_rx_csum(struct simnic_channel *ch, struct sk_buff *skb,
			   const struct simnic_frame *frame)
{
	enum simnic_stat stat = SIMNIC_RX_CSUM_NONE;

	if (READ_ONCE(ch->port->csum_complete)) {
		skb->csum = csum_partial(frame->data + ETH_HLEN,
					 frame->len - ETH_HLEN, 0);
		skb->ip_summed = CHECKSUM_COMPLETE;
		stat = SIMNIC_RX_CSUM_COMPLETE;
	} else if (frame->csum_ok) {
		skb->ip_summed = CHECKSUM_UNNECESSARY;
		stat = SIMNIC_RX_CSUM_OK;
	}
	simnic_count(ch, stat, 1);
}

static void simnic_rx_frame(struct simnic_channel *ch,
			    const struct simnic_frame *frame)
{
	struct simnic_port *port = ch->port;
	struct bpf_prog *prog = rcu_dereference_bh(port->xdp_prog);
	struct simnic_rxq *rxq = ch->rxq;
	u32 hdr_len = frame->hdr_len;
	struct sk_buff *skb;

	simnic_count(ch, SIMNIC_RX_PACKETS, 1);
	simnic_count(ch, SIMNIC_RX_BYTES, frame->len);

	if (rxq->xsk)
		skb = simnic_rx_xsk(ch, frame, prog);
	else if (rxq->unreadable)
		skb = simnic_rx_split(ch, frame, hdr_len ?:
				      min(frame->len, SIMNIC_HDR_SIZE));
	else if (!prog && READ_ONCE(port->hds) && hdr_len &&
		 frame->len > hdr_len &&
		 frame->len > READ_ONCE(port->hds_thresh))
		skb = simnic_rx_split(ch, frame, hdr_len);
	else
		skb = simnic_rx_linear(ch, frame, prog);
	if (!skb)
		return;

	/* A program may have changed it. */
	if (!prog)
		simnic_rx_csum(ch, skb, frame);
	skb_set_hash(skb, frame->hash, frame->hash_type);
	napi_gro_receive(&ch->napi, skb);
}

int simnic_poll(struct napi_struct *napi, int budget)
{
	struct simnic_channel *ch = container_of(napi, struct simnic_channel,
						 napi);
	struct simnic_rxq *rxq = ch->rxq;
	struct simnic_frame *frame;
	int done, err;
	bool more;

	more = simnic_tx_poll(ch, budget);
	for (done = 0; done < budget; done++) {
		frame = simnic_fifo_pop(ch);
		if (!frame)
			break;
		simnic_rx_frame(ch, frame);
		kfree(frame);
	}
	err = simnic_rx_refill(ch, rxq);
	xdp_do_flush();
	if (rxq->xsk && xsk_uses_need_wakeup(rxq->xsk)) {
		if (err)
			xsk_set_rx_need_wakeup(rxq->xsk);
		else
			xsk_clear_rx_need_wakeup(rxq->xsk);
	}
	if (more || done == budget)
		return budget;
	napi_complete_done(napi, done);
	return done;
}
