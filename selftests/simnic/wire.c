// SPDX-License-Identifier: GPL-2.0
/* simnic: the wire, what sends to it, and how the device reaches memory */

#include <linux/dma-direct.h>
#include <linux/dma-mapping.h>
#include <linux/highmem.h>
#include <linux/platform_device.h>
#include <net/netdev_queues.h>

#include "simnic.h"

#define SIMNIC_TX_BATCH		64

/*
 * There is no IOMMU before this device, so what the DMA API gave out for
 * memory is where the memory is. Zero is what a buffer has after its provider
 * has unmapped it, which a device must not be using any more then.
 */
static void simnic_dma_copy(struct simnic_port *port, dma_addr_t dma, void *buf,
			    u32 len, bool write)
{
	phys_addr_t phys = dma_to_phys(&port->pdev->dev, dma);

	while (len) {
		struct page *page = pfn_to_page(PHYS_PFN(phys));
		u32 offset = offset_in_page(phys);
		u32 n = min_t(u32, len, PAGE_SIZE - offset);

		if (WARN_ONCE(!dma || !pfn_valid(PHYS_PFN(phys)),
			      "simnic: DMA to no memory at %pad\n", &dma))
			return;
		if (write)
			memcpy_to_page(page, offset, buf, n);
		else
			memcpy_from_page(buf, page, offset, n);
		phys += n;
		buf += n;
		len -= n;
	}
}

void simnic_dma_write(struct simnic_port *port, dma_addr_t dma,
		      const void *from, u32 len)
{
	simnic_dma_copy(port, dma, (void *)from, len, true);
}

void simnic_dma_read(struct simnic_port *port, void *to, dma_addr_t dma,
		     u32 len)
{
	simnic_dma_copy(port, dma, to, len, false);
}

struct simnic_frame *simnic_frame_alloc(u32 len)
{
	struct simnic_frame *frame;

	if (len < ETH_HLEN || len > SIMNIC_MAX_FRAME)
		return NULL;
	frame = kmalloc(struct_size(frame, data, len), GFP_ATOMIC | __GFP_NOWARN);
	if (frame)
		frame->len = len;
	return frame;
}

static void simnic_count_tx(struct simnic_channel *ch, u32 len, bool xdp)
{
	simnic_count(ch, SIMNIC_TX_PACKETS, 1);
	simnic_count(ch, SIMNIC_TX_BYTES, len);
	if (xdp)
		simnic_count(ch, SIMNIC_TX_XDP, 1);
}

/*
 * Send a frame from a channel to the queue that it finds at the other end.
 * -EBUSY: there is no room, and the frame is still the caller's. Its channel
 * is polled again when there is, but not for XDP, which does not wait.
 */
int simnic_send(struct simnic_channel *ch, struct simnic_frame *frame,
		bool xdp)
{
	struct simnic_port *peer = ch->port->peer;
	struct simnic_channel *to;

	if (simnic_fails(ch->port, SIMNIC_FAIL_WIRE))
		goto lost;
	to = &peer->ch[simnic_steer(peer, frame)];
	spin_lock_bh(&to->fifo_lock);
	if (!to->fifo_open) {
		spin_unlock_bh(&to->fifo_lock);
		simnic_count(to, SIMNIC_RX_DROPS, 1);
		goto lost;
	}
	if (to->fifo_len >= to->fifo_max) {
		if (!xdp)
			to->waiters |= BIT(ch->idx);
		spin_unlock_bh(&to->fifo_lock);
		if (xdp)
			simnic_count(to, SIMNIC_RX_DROPS, 1);
		return -EBUSY;
	}
	/* Who sees it at the other end finds it counted here. */
	simnic_count_tx(ch, frame->len, xdp);
	list_add_tail(&frame->list, &to->fifo);
	to->fifo_len++;
	napi_schedule(&to->napi);
	spin_unlock_bh(&to->fifo_lock);
	return 0;

lost:
	simnic_count_tx(ch, frame->len, xdp);
	kfree(frame);
	return 0;
}

/* Send a frame, after those that wait for room. */
void simnic_send_or_hold(struct simnic_channel *ch, struct simnic_frame *frame)
{
	if (!list_empty(&ch->tx_held) || simnic_send(ch, frame, false))
		list_add_tail(&frame->list, &ch->tx_held);
}

/* Poll a channel soon, if it runs. */
void simnic_kick(struct simnic_channel *ch)
{
	spin_lock_bh(&ch->fifo_lock);
	if (ch->fifo_open)
		napi_schedule(&ch->napi);
	spin_unlock_bh(&ch->fifo_lock);
}

static void simnic_kick_waiters(struct simnic_port *peer, unsigned long waiters)
{
	int i;

	for_each_set_bit(i, &waiters, SIMNIC_MAX_CHANNELS)
		simnic_kick(&peer->ch[i]);
}

/* What has arrived first, or NULL. */
struct simnic_frame *simnic_fifo_pop(struct simnic_channel *ch)
{
	struct simnic_frame *frame;
	unsigned long waiters = 0;

	spin_lock_bh(&ch->fifo_lock);
	frame = list_first_entry_or_null(&ch->fifo, struct simnic_frame, list);
	if (frame) {
		list_del(&frame->list);
		ch->fifo_len--;
	}
	if (ch->fifo_len <= ch->fifo_max / 2)
		swap(waiters, ch->waiters);
	spin_unlock_bh(&ch->fifo_lock);
	simnic_kick_waiters(ch->port->peer, waiters);
	return frame;
}

void simnic_fifo_open(struct simnic_channel *ch)
{
	spin_lock_bh(&ch->fifo_lock);
	ch->fifo_max = ch->rxq->size;
	ch->fifo_open = true;
	spin_unlock_bh(&ch->fifo_lock);
}

/* After this nothing arrives, and the channel is not scheduled any more. */
void simnic_fifo_close(struct simnic_channel *ch)
{
	struct simnic_frame *frame, *next;
	unsigned long waiters = 0;
	LIST_HEAD(frames);

	spin_lock_bh(&ch->fifo_lock);
	ch->fifo_open = false;
	ch->fifo_len = 0;
	list_splice_init(&ch->fifo, &frames);
	swap(waiters, ch->waiters);
	spin_unlock_bh(&ch->fifo_lock);
	simnic_kick_waiters(ch->port->peer, waiters);
	list_for_each_entry_safe(frame, next, &frames, list) {
		simnic_count(ch, SIMNIC_RX_DROPS, 1);
		kfree(frame);
	}
}

/* How many packets there is room for in the queue to a channel. */
static u32 simnic_tx_room(const struct simnic_channel *ch)
{
	u32 size = ch->port->tx_size;

	return size - min(skb_queue_len_lockless(&ch->txq), size);
}

netdev_tx_t simnic_xmit(struct sk_buff *skb, struct net_device *dev)
{
	struct simnic_port *port = simnic_port(dev);
	struct simnic_channel *ch = &port->ch[skb_get_queue_mapping(skb)];
	struct netdev_queue *txq = netdev_get_tx_queue(dev, ch->idx);

	/* Once it is queued it may be completed, by another processor. */
	skb_tx_timestamp(skb);
	netdev_tx_sent_queue(txq, skb->len);
	skb_queue_tail(&ch->txq, skb);
	if (!netif_txq_maybe_stop(txq, simnic_tx_room(ch), 1,
				  port->tx_size / 2))
		simnic_count(ch, SIMNIC_TX_STOP, 1);
	if (!netdev_xmit_more() || netif_xmit_stopped(txq))
		simnic_kick(ch);
	return NETDEV_TX_OK;
}

/* The device reads the packet, and computes what checksum it was left. */
static struct simnic_frame *simnic_read_skb(struct simnic_port *port,
					    struct sk_buff *skb)
{
	struct simnic_frame *frame = simnic_frame_alloc(skb->len);
	const skb_frag_t *frag = skb_shinfo(skb)->frags;
	u32 len;

	if (!frame)
		return NULL;

	len = skb_frags_readable(skb) ? skb->len : skb_headlen(skb);
	skb_copy_bits(skb, 0, frame->data, len);
	for (; len < skb->len; len += skb_frag_size(frag++)) {
		/* That of a provider is mapped already. */
		dma_addr_t dma = skb_frag_dma_map(&port->pdev->dev, frag, 0,
						  skb_frag_size(frag),
						  DMA_TO_DEVICE);

		simnic_dma_read(port, frame->data + len, dma,
				skb_frag_size(frag));
	}

	if (skb->ip_summed == CHECKSUM_PARTIAL) {
		u32 start = skb_checksum_start_offset(skb);
		__sum16 *sum = (void *)(frame->data + start + skb->csum_offset);

		*sum = csum_fold(csum_partial(frame->data + start, len - start,
					      0)) ?: CSUM_MANGLED_0;
	}
	return frame;
}

/* Send what the stack has queued. True if there is more that can be sent. */
static bool simnic_tx_skbs(struct simnic_channel *ch, int budget)
{
	struct net_device *dev = ch->port->dev;
	unsigned int packets = 0, bytes = 0;
	struct simnic_frame *frame;
	struct sk_buff *skb;

	while (packets < SIMNIC_TX_BATCH && list_empty(&ch->tx_held)) {
		skb = skb_dequeue(&ch->txq);
		if (!skb)
			break;
		packets++;
		bytes += skb->len;
		frame = simnic_read_skb(ch->port, skb);
		napi_consume_skb(skb, budget);
		if (frame)
			simnic_send_or_hold(ch, frame);
		else
			simnic_count(ch, SIMNIC_TX_DROPS, 1);
	}
	if (!netif_txq_completed_wake(netdev_get_tx_queue(dev, ch->idx),
				      packets, bytes, simnic_tx_room(ch),
				      ch->port->tx_size / 2))
		simnic_count(ch, SIMNIC_TX_WAKE, 1);
	return list_empty(&ch->tx_held) && !skb_queue_empty_lockless(&ch->txq);
}

/* Send for a channel. True if there is more that can be sent. */
bool simnic_tx_poll(struct simnic_channel *ch, int budget)
{
	struct simnic_frame *frame, *next;
	bool more;

	list_for_each_entry_safe(frame, next, &ch->tx_held, list) {
		/* The list it is in is the receiver's once it is sent. */
		list_del(&frame->list);
		if (simnic_send(ch, frame, false)) {
			list_add(&frame->list, &ch->tx_held);
			return false;
		}
	}
	more = simnic_tx_skbs(ch, budget);
	if (ch->xsk && list_empty(&ch->tx_held))
		more |= simnic_xsk_tx(ch, budget);
	return more;
}

/* Nobody polls the channel, nor sends by its queue. */
void simnic_tx_purge(struct simnic_channel *ch)
{
	struct simnic_frame *frame, *next;

	list_for_each_entry_safe(frame, next, &ch->tx_held, list) {
		list_del(&frame->list);
		kfree(frame);
	}
	skb_queue_purge(&ch->txq);
	netdev_tx_reset_queue(netdev_get_tx_queue(ch->port->dev, ch->idx));
}
