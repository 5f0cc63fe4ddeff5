// SPDX-License-Identifier: GPL-2.0-only

//! Attaching BPF programs: where the `bpf(2)` system call enters the driver.

use crate::{
    netkit_policy::Pairing,
    Netkit, //
};
use kernel::{
    bpf::{
        Attach,
        Place, //
    },
    net::{
        device::{
            Device,
            NetDevice,
            RunsPrograms, //
        },
        rtnl::Rtnl, //
    },
    prelude::*,
    uapi, //
};

const PRIMARY: u32 = uapi::bpf_attach_type_BPF_NETKIT_PRIMARY;
const PEER: u32 = uapi::bpf_attach_type_BPF_NETKIT_PEER;

kernel::bpf_attach_entries!(Netkit, netkit);

impl Attach for Netkit {
    type Target = Device<Netkit>;

    /// Finds the end of a pair that a request means. Both are reached through the primary, so that
    /// whoever has the peer only cannot change the programs of either.
    fn find<'r>(place: Place, rtnl: &'r Rtnl) -> Result<&'r Device<Netkit>> {
        if !matches!(place.attach_type, PRIMARY | PEER) {
            return Err(EINVAL);
        }

        let task = current!();
        let net = task.net_namespace().ok_or(ENODEV)?;
        let dev = NetDevice::by_index(net, place.ifindex as i32, rtnl).ok_or(ENODEV)?;
        let dev = dev.downcast::<Netkit>().ok_or(ENXIO)?;

        if !dev.data().primary {
            return Err(EACCES);
        }
        if dev.data().pairing == Pairing::Single {
            return Err(EOPNOTSUPP);
        }
        if place.attach_type == PEER {
            return dev.peer_rtnl(rtnl).ok_or(ENODEV);
        }
        Ok(dev)
    }
}

impl RunsPrograms for Netkit {
    const LINK_TYPE: u32 = uapi::bpf_link_type_BPF_LINK_TYPE_NETKIT;

    fn attach_type_name(attach_type: u32) -> &'static str {
        if attach_type == PRIMARY {
            "primary"
        } else {
            "peer"
        }
    }
}
