// SPDX-License-Identifier: GPL-2.0

//! XDP sockets (AF_XDP) on devices that have leased the queues of others.
//!
//! A driver that lets user space do so
//! ([`Driver::accept_xsk`](super::device::Driver::accept_xsk)) leaves the rest to this module: what
//! is asked of the virtual device is handed to the physical one, whose queue was leased.
//!
//! C headers: [`include/net/xdp_sock_drv.h`](srctree/include/net/xdp_sock_drv.h),
//! [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h)

use crate::{
    bindings,
    error::to_result,
    net::{
        device::{
            XdpFeature,
            XdpFeatures, //
        },
        queue::Leased, //
    },
    prelude::*, //
};

/// Returns what XDP must be able to do with a device for XDP sockets without copying.
///
/// C: `NETDEV_XDP_ACT_XSK`.
pub fn features() -> XdpFeatures {
    XdpFeature::Basic | XdpFeature::Redirect | XdpFeature::XskZeroCopy
}

/// What a device is asked to do about XDP. C: `struct netdev_bpf`.
pub(crate) enum Command<'a> {
    /// A pool of buffers for a queue is to be put in place, or to be taken away.
    SetupPool(PoolSetup<'a>),
    /// An XDP program is to be attached or detached.
    SetupProg,
    /// Something else.
    Other,
}

impl<'a> Command<'a> {
    /// Reads a command.
    ///
    /// # Safety
    ///
    /// `raw` must be valid for the whole of `'a`.
    pub(crate) unsafe fn from_raw(raw: *const bindings::netdev_bpf) -> Self {
        // SAFETY: The caller guarantees that the command is valid.
        let raw: &'a bindings::netdev_bpf = unsafe { &*raw };

        match raw.command {
            // INVARIANT: It is this command.
            bindings::bpf_netdev_command_XDP_SETUP_XSK_POOL => Self::SetupPool(PoolSetup(raw)),
            bindings::bpf_netdev_command_XDP_SETUP_PROG => Self::SetupProg,
            _ => Self::Other,
        }
    }
}

/// A pool of buffers that is to be put in place for a queue, or to be taken away.
///
/// # Invariants
///
/// The command is `XDP_SETUP_XSK_POOL`.
pub(crate) struct PoolSetup<'a>(&'a bindings::netdev_bpf);

impl PoolSetup<'_> {
    /// Returns the index of the queue.
    pub(crate) fn queue(&self) -> u32 {
        // SAFETY: By the type invariants, this is the variant.
        u32::from(unsafe { self.0.__bindgen_anon_1.xsk.queue_id })
    }

    /// Tells whether a pool is to be put in place.
    pub(crate) fn installs(&self) -> bool {
        // SAFETY: By the type invariants, this is the variant.
        !unsafe { self.0.__bindgen_anon_1.xsk.pool }.is_null()
    }

    /// Has the physical device do it, for the queue that was leased. May sleep.
    ///
    /// Fails with [`EOPNOTSUPP`] if that device does not serve XDP sockets, with [`EBUSY`] if one
    /// of its queues has a memory provider, or with what the device returns.
    pub(super) fn forward(&self, to: &Leased<'_>) -> Result {
        let dev = to.device().as_raw();
        // SAFETY: The device is valid; its operations are set once.
        let ops = unsafe { &*(*dev).netdev_ops };
        let Some(setup) = ops.ndo_bpf else {
            return Err(EOPNOTSUPP);
        };

        if ops.ndo_xdp_xmit.is_none() || ops.ndo_xsk_wakeup.is_none() {
            return Err(EOPNOTSUPP);
        }

        let mut command = *self.0;
        command.__bindgen_anon_1.xsk.queue_id = to.index() as u16;

        let _physical = to.lock();

        if self.installs() {
            let wanted = u32::from(features());

            // SAFETY: The device is valid and locked.
            if unsafe { (*dev).xdp_features } & wanted != wanted {
                return Err(EOPNOTSUPP);
            }
            // SAFETY: The device is valid and locked.
            if unsafe { bindings::dev_get_min_mp_channel_count(dev) } != 0 {
                return Err(EBUSY);
            }
        }
        // SAFETY: The device is valid and locked, the operation its own, and the command valid.
        to_result(unsafe { setup(dev, &mut command) })
    }
}

/// Wakes up the physical device for a queue that was leased, and for what: `XDP_WAKEUP_*`. Does not
/// sleep.
///
/// Fails with [`EOPNOTSUPP`] if that device does not serve XDP sockets, or with what the device
/// returns.
pub(super) fn wake(leased: Leased<'_>, flags: u32) -> Result {
    let dev = leased.device().as_raw();
    // SAFETY: The device is valid; its operations are set once.
    let wakeup = unsafe { (*(*dev).netdev_ops).ndo_xsk_wakeup }.ok_or(EOPNOTSUPP)?;

    // SAFETY: The device is valid, and the operation its own.
    to_result(unsafe { wakeup(dev, leased.index(), flags) })
}
