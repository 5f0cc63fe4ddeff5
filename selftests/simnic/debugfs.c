// SPDX-License-Identifier: GPL-2.0
/*
 * simnic: debugfs/simnic/<port>/
 *
 * fail_*: write N, and the next N times that this is tried, it fails.
 * csum_complete: write Y, and packets come with the sum of all their bytes.
 * queue_restart: write the number of a receive queue to restart it.
 */

#include <linux/debugfs.h>
#include <linux/fs.h>
#include <net/netdev_lock.h>
#include <net/netdev_rx_queue.h>

#include "simnic.h"

static const char *const simnic_fault_names[SIMNIC_FAULTS] = {
	[SIMNIC_FAIL_QUEUE_MEM_ALLOC]	= "fail_queue_mem_alloc",
	[SIMNIC_FAIL_QUEUE_START]	= "fail_queue_start",
	[SIMNIC_FAIL_QUEUE_STOP]	= "fail_queue_stop",
	[SIMNIC_FAIL_QUEUE_VALIDATE]	= "fail_queue_validate",
	[SIMNIC_FAIL_QUEUE_DMA_DEV]	= "fail_queue_dma_dev",
	[SIMNIC_FAIL_RX_ALLOC]		= "fail_rx_alloc",
	[SIMNIC_FAIL_XSK_POOL]		= "fail_xsk_pool",
	[SIMNIC_FAIL_OPEN]		= "fail_open",
	[SIMNIC_FAIL_WIRE]		= "fail_wire",
};

static struct dentry *simnic_debugfs;

static int simnic_queue_restart(void *data, u64 queue)
{
	struct simnic_port *port = data;
	int err;

	netdev_lock(port->dev);
	if (queue >= port->channels)
		err = -ERANGE;
	else
		err = netdev_rx_queue_restart(port->dev, queue);
	netdev_unlock(port->dev);
	return err;
}

DEFINE_DEBUGFS_ATTRIBUTE(simnic_queue_restart_fops, NULL, simnic_queue_restart,
			 "%llu\n");

void simnic_debugfs_init(void)
{
	simnic_debugfs = debugfs_create_dir("simnic", NULL);
}

void simnic_debugfs_exit(void)
{
	debugfs_remove_recursive(simnic_debugfs);
}

void simnic_debugfs_add(struct simnic_port *port, unsigned int nr)
{
	struct dentry *dir;
	char name[16];
	int i;

	snprintf(name, sizeof(name), "simnic%u", nr);
	dir = debugfs_create_dir(name, simnic_debugfs);
	for (i = 0; i < SIMNIC_FAULTS; i++)
		debugfs_create_atomic_t(simnic_fault_names[i], 0600, dir,
					&port->faults[i]);
	debugfs_create_bool("csum_complete", 0600, dir, &port->csum_complete);
	debugfs_create_file("queue_restart", 0200, dir, port,
			    &simnic_queue_restart_fops);
}
