/* SPDX-License-Identifier: GPL-2.0 */
/*
 * simnic: two simulated physical network ports, joined by a wire.
 *
 * What travels on the wire is a frame: the bytes of a packet, without the skb.
 * A port writes what it receives at DMA addresses only, as a device does: the
 * kernel may have no mapping of that memory, which can be a memory provider's.
 * Such memory, and that of AF_XDP sockets, it also sends from by DMA address.
 * All else that it sends it copies out of the skb.
 */
#ifndef SIMNIC_H
#define SIMNIC_H

#include <linux/atomic.h>
#include <linux/etherdevice.h>
#include <linux/ethtool.h>
#include <linux/if_vlan.h>
#include <linux/netdevice.h>
#include <linux/siphash.h>
#include <net/netdev_queues.h>
#include <net/page_pool/types.h>
#include <net/xdp.h>

#define SIMNIC_PORTS		2
#define SIMNIC_MAX_CHANNELS	16
#define SIMNIC_RING_MIN		16
#define SIMNIC_RING_MAX		4096
#define SIMNIC_RING_DEFAULT	256
#define SIMNIC_MAX_MTU		9000
#define SIMNIC_MAX_FRAME	(SIMNIC_MAX_MTU + ETH_HLEN + 2 * VLAN_HLEN)
#define SIMNIC_MAX_PAGE_SIZE	SZ_64K
#define SIMNIC_HDR_SIZE		256	/* of the buffers for split headers */
#define SIMNIC_HDS_THRESH_MAX	1024
#define SIMNIC_RSS_INDIR	128
#define SIMNIC_RSS_CONTEXTS	8	/* besides the default one */
#define SIMNIC_RULES		64

struct bpf_prog;
struct platform_device;
struct simnic_port;
struct xsk_buff_pool;

/* Counters of a channel. */
enum simnic_stat {
	SIMNIC_RX_PACKETS,
	SIMNIC_RX_BYTES,
	SIMNIC_RX_ALLOC_FAIL,
	SIMNIC_RX_DROPS,
	SIMNIC_RX_CSUM_OK,
	SIMNIC_RX_CSUM_COMPLETE,
	SIMNIC_RX_CSUM_NONE,
	SIMNIC_RX_SPLIT,
	SIMNIC_RX_UNREADABLE,
	SIMNIC_RX_XDP_PASS,
	SIMNIC_RX_XDP_DROP,
	SIMNIC_RX_XDP_TX,
	SIMNIC_RX_XDP_REDIRECT,
	SIMNIC_RX_XSK,
	SIMNIC_TX_PACKETS,
	SIMNIC_TX_BYTES,
	SIMNIC_TX_DROPS,
	SIMNIC_TX_STOP,
	SIMNIC_TX_WAKE,
	SIMNIC_TX_XDP,
	SIMNIC_TX_XSK,
	SIMNIC_STATS,
};

/* What debugfs can make fail: the next so many times. */
enum simnic_fault {
	SIMNIC_FAIL_QUEUE_MEM_ALLOC,
	SIMNIC_FAIL_QUEUE_START,
	SIMNIC_FAIL_QUEUE_STOP,
	SIMNIC_FAIL_QUEUE_VALIDATE,
	SIMNIC_FAIL_QUEUE_DMA_DEV,
	SIMNIC_FAIL_RX_ALLOC,
	SIMNIC_FAIL_XSK_POOL,
	SIMNIC_FAIL_OPEN,
	SIMNIC_FAIL_WIRE,
	SIMNIC_FAULTS,
};

struct simnic_frame {
	struct list_head list;
	/* What the receiving port has found in it. */
	u32 hdr_len;		/* where the payload of TCP or UDP begins, or 0 */
	bool csum_ok;		/* theirs */
	u32 hash;
	enum pkt_hash_types hash_type;
	u32 len;
	u8 data[] __counted_by(len);
};

union simnic_buf {
	netmem_ref netmem;
	struct xdp_buff *xdp;
};

/* The memory of a receive queue: what the queue operations hand around. */
struct simnic_rxq {
	struct page_pool *pp;
	struct xdp_rxq_info xdp_rxq;
	struct xsk_buff_pool *xsk;	/* then pp waits */
	struct xdp_rxq_info xsk_rxq;
	bool unreadable;
	u32 page_size;
	u32 size;
	u32 head;
	u32 tail;
	union simnic_buf bufs[] __counted_by(size);
};

struct simnic_channel {
	struct simnic_port *port;
	u32 idx;
	struct napi_struct napi;
	struct simnic_rxq *rxq;		/* NULL: it does not run */
	struct xsk_buff_pool *xsk;

	/* What has arrived from the wire. Leaf lock. */
	spinlock_t fifo_lock;
	struct list_head fifo;
	u32 fifo_len;
	u32 fifo_max;
	bool fifo_open;
	unsigned long waiters;		/* channels of the other port */

	struct sk_buff_head txq;
	struct list_head tx_held;	/* no room at the other end */

	atomic64_t stats[SIMNIC_STATS];
};

struct simnic_rule {
	u32 rss_context;
	struct ethtool_rx_flow_spec fs;	/* flow_type 0: no rule */
};

struct simnic_port {
	struct net_device *dev;
	struct simnic_port *peer;
	struct platform_device *pdev;
	struct bpf_prog __rcu *xdp_prog;
	u32 rx_size;
	u32 tx_size;
	u32 hds_thresh;
	bool hds;
	bool csum_complete;
	bool up;		/* running, with queues */

	/* How frames find their queues. Leaf lock. */
	spinlock_t steer_lock;
	u32 channels;
	siphash_key_t rss_key;
	u8 rss_xfrm;		/* RXH_XFRM_* */
	u32 rss_indir[1 + SIMNIC_RSS_CONTEXTS][SIMNIC_RSS_INDIR];
	u32 rss_fields[UDP_V6_FLOW + 1];	/* by type of flow */
	struct simnic_rule rules[SIMNIC_RULES];

	atomic_t faults[SIMNIC_FAULTS];
	struct simnic_channel ch[SIMNIC_MAX_CHANNELS];
};

static inline struct simnic_port *simnic_port(struct net_device *dev)
{
	return netdev_priv(dev);
}

static inline void simnic_count(struct simnic_channel *ch,
				enum simnic_stat stat, u64 n)
{
	atomic64_add(n, &ch->stats[stat]);
}

static inline u64 simnic_stat(const struct simnic_channel *ch,
			      enum simnic_stat stat)
{
	return atomic64_read(&ch->stats[stat]);
}

static inline bool simnic_fails(struct simnic_port *port, enum simnic_fault f)
{
	return atomic_dec_if_positive(&port->faults[f]) >= 0;
}

/* main.c */
int simnic_up(struct simnic_port *port);
void simnic_down(struct simnic_port *port);

/* wire.c */
void simnic_dma_write(struct simnic_port *port, dma_addr_t dma,
		      const void *from, u32 len);
void simnic_dma_read(struct simnic_port *port, void *to, dma_addr_t dma,
		     u32 len);
struct simnic_frame *simnic_frame_alloc(u32 len);
int simnic_send(struct simnic_channel *ch, struct simnic_frame *frame,
		bool xdp);
void simnic_send_or_hold(struct simnic_channel *ch, struct simnic_frame *frame);
struct simnic_frame *simnic_fifo_pop(struct simnic_channel *ch);
void simnic_fifo_open(struct simnic_channel *ch);
void simnic_fifo_close(struct simnic_channel *ch);
void simnic_kick(struct simnic_channel *ch);
netdev_tx_t simnic_xmit(struct sk_buff *skb, struct net_device *dev);
bool simnic_tx_poll(struct simnic_channel *ch, int budget);
void simnic_tx_purge(struct simnic_channel *ch);

/* rx.c */
int simnic_rx_refill(struct simnic_channel *ch, struct simnic_rxq *rxq);
int simnic_poll(struct napi_struct *napi, int budget);

/* queue.c */
extern const struct netdev_queue_mgmt_ops simnic_queue_mgmt_ops;
extern const struct netdev_stat_ops simnic_stat_ops;
void simnic_get_stats64(struct net_device *dev,
			struct rtnl_link_stats64 *stats);
struct simnic_rxq *simnic_rxq_alloc(struct simnic_port *port, u32 idx,
				    const struct netdev_queue_config *qcfg);
void simnic_rxq_free(struct simnic_rxq *rxq);
void simnic_channel_start(struct simnic_channel *ch, struct simnic_rxq *rxq);
struct simnic_rxq *simnic_channel_stop(struct simnic_channel *ch);
void simnic_channel_set_xsk(struct simnic_channel *ch,
			    struct xsk_buff_pool *pool);

/* xdp.c */
int simnic_bpf(struct net_device *dev, struct netdev_bpf *bpf);
int simnic_xdp_xmit(struct net_device *dev, int n, struct xdp_frame **frames,
		    u32 flags);
int simnic_xsk_wakeup(struct net_device *dev, u32 queue, u32 flags);
bool simnic_xdp_passes(struct simnic_channel *ch, struct bpf_prog *prog,
		       struct xdp_buff *xdp);
int simnic_xdp_max_mtu(void);
bool simnic_xsk_tx(struct simnic_channel *ch, int budget);

/* steer.c */
u32 simnic_steer(struct simnic_port *port, struct simnic_frame *frame);
int simnic_get_rxnfc(struct net_device *dev, struct ethtool_rxnfc *nfc,
		     u32 *locs);
int simnic_set_rxnfc(struct net_device *dev, struct ethtool_rxnfc *nfc);
int simnic_get_rxfh_fields(struct net_device *dev,
			   struct ethtool_rxfh_fields *fields);
int simnic_set_rxfh_fields(struct net_device *dev,
			   const struct ethtool_rxfh_fields *fields,
			   struct netlink_ext_ack *extack);
void simnic_steer_init(struct simnic_port *port);
void simnic_steer_resize(struct simnic_port *port, u32 channels);

/* ethtool.c */
extern const struct ethtool_ops simnic_ethtool_ops;

/* debugfs.c */
void simnic_debugfs_init(void);
void simnic_debugfs_exit(void);
void simnic_debugfs_add(struct simnic_port *port, unsigned int nr);

#endif /* SIMNIC_H */
