// SPDX-License-Identifier: GPL-2.0-only

//! Receive queues, which are leased from physical devices, and AF_XDP on them.

use crate::{
    netkit_policy::Pairing,
    Netkit, //
};
use kernel::{
    net::{
        device::{
            KillList,
            NetDevice,
            Queues,
            XdpFeatures, //
        },
        ext_ack::ExtAck,
        link_ops::LinkOps,
        notifier::Notifier,
        queue::{
            for_each_lessee,
            AddedQueue,
            Locked, //
        },
        rtnl::Rtnl,
        xsk, //
    },
    prelude::*, //
};

/// How many queues a device can have: receive queues are there to be leased.
pub(crate) const MAX_QUEUES: Queues = Queues { tx: 1, rx: 1024 };

/// How many queues are in use before any is leased.
pub(crate) const REAL_QUEUES: Queues = Queues { tx: 1, rx: 1 };

/// What XDP can do with a single device once it has leased a queue: AF_XDP sockets are served by
/// the physical device. Without a lease, they are refused.
pub(crate) fn xdp_features() -> XdpFeatures {
    xsk::features()
}

/// Makes one more receive queue, for one of a physical device that is being leased.
///
/// The primary of a pair is for those who manage it, and the queues are for those who use it.
pub(crate) fn create_queue<'a>(
    dev: &'a Locked<'_, Netkit>,
    extack: ExtAck<'_>,
) -> Result<AddedQueue<'a>> {
    let data = dev.data();

    if data.pairing == Pairing::Pair && data.primary {
        extack.set_msg(c"In a pair, only the peer can lease queues");
        return Err(EOPNOTSUPP);
    }
    dev.add_rx_queue().inspect_err(|_| {
        extack.set_msg(if dev.is_full() {
            c"All receive queues of the device are in use"
        } else {
            c"The receive queue cannot be added"
        })
    })
}

/// Lets AF_XDP sockets be put on the queues of a single device. Packets for a pair come by the
/// stack.
pub(crate) fn accept_xsk(dev: &Locked<'_, Netkit>) -> Result {
    match dev.data().pairing {
        Pairing::Single => Ok(()),
        Pairing::Pair => Err(EOPNOTSUPP),
    }
}

/// Deletes the devices that have leased queues of a physical device when that one goes.
pub(crate) struct LeaseWatch;

impl Notifier for LeaseWatch {
    fn unregistering(&self, dev: &NetDevice, kill: &mut KillList<'_>, rtnl: &Rtnl) {
        for_each_lessee(dev, rtnl, |lessee| {
            if let Some(lessee) = lessee.downcast::<Netkit>() {
                Netkit::delete_link(lessee, kill, rtnl);
            }
        });
    }
}
