// SPDX-License-Identifier: GPL-2.0

#include <net/rtnetlink.h>

#ifdef CONFIG_NET

__rust_helper
struct net *rust_helper_rtnl_newlink_peer_net(struct rtnl_newlink_params *p)
{
	return rtnl_newlink_peer_net(p);
}

#endif
