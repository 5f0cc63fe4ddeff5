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
            Queues,
            XdpFeatures, //
        },
        ext_ack::ExtAck,
        link_ops::LinkOps,
        notifier::{
            Event,
            Notifier, //
        },
        queue::{
            for_each_lessee,
            Locked, //
        },
        rtnl::Rtnl,
        xsk::{
            self,
            Command, //
        },
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
pub(crate) fn create_queue(dev: &Locked<'_, Netkit>, extack: ExtAck<'_>) -> Result<u32> {
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

/// Sets up AF_XDP: a pool of buffers goes to the physical device whose queue was leased.
pub(crate) fn setup_xdp(dev: &Locked<'_, Netkit>, command: Command<'_>) -> Result {
    match command {
        Command::SetupPool(_) if dev.data().pairing == Pairing::Pair => Err(EOPNOTSUPP),
        Command::SetupPool(pool) => {
            let queue = dev.rx_queue(pool.queue()).ok_or(EINVAL)?;

            pool.forward(&queue.leased().ok_or(EOPNOTSUPP)?)
        }
        Command::SetupProg => Err(EOPNOTSUPP),
        Command::Other => Err(EINVAL),
    }
}

/// Deletes the devices that have leased queues of a physical device when that one goes.
pub(crate) struct LeaseWatch;

impl Notifier for LeaseWatch {
    fn notify(&self, event: Event<'_>, rtnl: &Rtnl) {
        let Event::Unregistering(physical) = event else {
            return;
        };

        if !physical.is_unregistering(rtnl) || !physical.is_physical() {
            return;
        }
        KillList::unregister(rtnl, |kill, rtnl| {
            for_each_lessee(physical, rtnl, |dev| {
                if let Some(dev) = dev.downcast::<Netkit>() {
                    Netkit::delete_link(dev, kill, rtnl);
                }
            });
        });
    }
}
