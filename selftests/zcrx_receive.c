// SPDX-License-Identifier: GPL-2.0
/*
 * zcrx_receive DEVICE QUEUE [PORT]
 *
 * Opens a ring for zero-copy reception on a queue. With a port, says so, takes
 * one connection there, and receives up to its end: the alphabet, over and
 * over.
 *
 * Ends with 0, with the error number of a ring that was refused, or with 255.
 */
#include <err.h>
#include <liburing.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define FAILED		255
#define PAGES		1024
#define REFILL_ENTRIES	1024
#define LETTERS		26

struct receiver {
	struct io_uring ring;
	struct io_uring_zcrx_rq refill;
	char *area;
	__u64 token;
	__u64 received;
};

static void *map(size_t size)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);

	if (mem == MAP_FAILED)
		err(FAILED, "mmap");
	return mem;
}

static int open_ring(struct receiver *rx, const char *device, int queue)
{
	size_t page = sysconf(_SC_PAGESIZE);
	size_t refill_size = page +
		REFILL_ENTRIES * sizeof(struct io_uring_zcrx_rqe);
	char *refill = map(refill_size);
	struct io_uring_zcrx_area_reg area = {
		.len = PAGES * page,
	};
	struct io_uring_region_desc region = {
		.user_addr = (uintptr_t)refill,
		.size = refill_size,
		.flags = IORING_MEM_REGION_TYPE_USER,
	};
	struct io_uring_zcrx_ifq_reg reg = {
		.if_idx = if_nametoindex(device),
		.if_rxq = queue,
		.rq_entries = REFILL_ENTRIES,
		.area_ptr = (uintptr_t)&area,
		.region_ptr = (uintptr_t)&region,
	};
	int ret;

	/* Room for what the memory has room for, or the reception ends. */
	ret = io_uring_queue_init(PAGES, &rx->ring,
				  IORING_SETUP_SINGLE_ISSUER |
				  IORING_SETUP_DEFER_TASKRUN |
				  IORING_SETUP_CQE32);
	if (ret)
		errx(FAILED, "no ring: %d", ret);

	rx->area = map(area.len);
	area.addr = (uintptr_t)rx->area;
	ret = io_uring_register_ifq(&rx->ring, &reg);
	if (ret)
		return -ret;

	rx->refill.ktail = (unsigned int *)(refill + reg.offsets.tail);
	rx->refill.rqes = (void *)(refill + reg.offsets.rqes);
	rx->refill.ring_entries = reg.rq_entries;
	rx->token = area.rq_area_token;
	return 0;
}

static void want_more(struct receiver *rx, int fd)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&rx->ring);
	int ret;

	io_uring_prep_rw(IORING_OP_RECV_ZC, sqe, fd, NULL, 0, 0);
	sqe->ioprio |= IORING_RECV_MULTISHOT;
	ret = io_uring_submit(&rx->ring);
	if (ret != 1)
		errx(FAILED, "submit: %d", ret);
}

/* Compares what has come, and gives its memory back. */
static void take(struct receiver *rx, const struct io_uring_cqe *cqe)
{
	const struct io_uring_zcrx_cqe *zcqe = (const void *)(cqe + 1);
	__u64 offset = zcqe->off & ~IORING_ZCRX_AREA_MASK;
	struct io_uring_zcrx_rqe *rqe;
	int i;

	for (i = 0; i < cqe->res; i++, rx->received++)
		if (rx->area[offset + i] != 'a' + (char)(rx->received % LETTERS))
			errx(FAILED, "byte %llu is wrong",
			     (unsigned long long)rx->received);

	rqe = &rx->refill.rqes[rx->refill.rq_tail++ &
			       (rx->refill.ring_entries - 1)];
	rqe->off = offset | rx->token;
	rqe->len = cqe->res;
	io_uring_smp_store_release(rx->refill.ktail, rx->refill.rq_tail);
}

static void receive(struct receiver *rx, int fd)
{
	struct io_uring_cqe *cqe;
	bool more = false;
	int ret;

	for (;;) {
		if (!more)
			want_more(rx, fd);
		ret = io_uring_wait_cqe(&rx->ring, &cqe);
		if (ret)
			errx(FAILED, "wait: %d", ret);
		if (cqe->res < 0)
			errx(FAILED, "end: %d", cqe->res);
		if (!cqe->res)
			return;
		take(rx, cqe);
		more = cqe->flags & IORING_CQE_F_MORE;
		io_uring_cqe_seen(&rx->ring, cqe);
	}
}

static int listen_at(int port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
	};
	int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(fd, 1))
		err(FAILED, "listen");
	return fd;
}

int main(int argc, char **argv)
{
	struct receiver rx = {};
	int fd, ret;

	if (argc != 3 && argc != 4)
		errx(FAILED, "usage: zcrx_receive DEVICE QUEUE [PORT]");
	ret = open_ring(&rx, argv[1], atoi(argv[2]));
	if (ret || argc == 3)
		return ret;

	fd = listen_at(atoi(argv[3]));
	puts("ready");
	fflush(stdout);
	fd = accept(fd, NULL, NULL);
	if (fd < 0)
		err(FAILED, "accept");
	receive(&rx, fd);
	printf("%llu\n", (unsigned long long)rx.received);
	return 0;
}
