// SPDX-License-Identifier: GPL-2.0

//! Devices that come in pairs.
//!
//! C header: [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h)

use super::{
    setup::{
        is_registered,
        private, //
    },
    Device,
    Driver, //
};
use crate::{
    net::rtnl::Rtnl,
    prelude::*,
    sync::{
        rcu,
        rcu_ptr::RcuPtr, //
    },
};

/// The other end of a device that is one of a pair.
///
/// # Invariants
///
/// - A device that has a peer is its peer's peer.
/// - Both have been registered, and `ndo_uninit` has not yet run for either of them.
/// - It is written to under the RTNL only.
pub(super) struct Peer<T: Driver>(RcuPtr<Device<T>>);

impl<T: Driver> Peer<T> {
    /// Returns the state of a device that has no peer.
    #[inline]
    pub(super) const fn none() -> Self {
        // INVARIANT: There is no peer.
        Self(RcuPtr::null())
    }
}

/// Pairs. Any two devices of a driver can be each other's peer.
///
/// A peer can be looked at under RCU, in the transmit path for instance, or under the RTNL. It
/// cannot dangle: when one end is unregistered, both lose their peer before any memory is freed,
/// whatever the driver does.
impl<T: Driver> Device<T> {
    #[inline(always)]
    fn peer_ptr(&self) -> &RcuPtr<Self> {
        &private::<T>(self).peer.0
    }

    /// Returns the peer, for as long as we are in the RCU critical section.
    #[inline(always)]
    pub fn peer<'g>(&self, guard: &'g rcu::Guard) -> Option<&'g Self> {
        self.peer_ptr().load(guard)
    }

    /// Returns the peer, for a caller that has no guard to show.
    ///
    /// # Safety
    ///
    /// The caller must be in an RCU critical section, or have disabled bottom halves, for the whole
    /// of `'g`.
    #[inline(always)]
    pub(super) unsafe fn peer_assumed<'g>(&self) -> Option<&'g Self> {
        // SAFETY: The caller guarantees that no grace period ends during `'g`, so that what has
        // been the peer is there.
        unsafe { self.peer_ptr().load_protected() }
    }

    /// Returns the peer, for as long as the RTNL is held.
    #[inline]
    pub fn peer_rtnl<'r>(&self, _rtnl: &'r Rtnl) -> Option<&'r Self> {
        // SAFETY: By the invariants of `Peer` the pointer changes under the RTNL only; and a device
        // that is unregistered under the RTNL is not freed before it is released.
        unsafe { self.peer_ptr().load_protected() }
    }

    /// Makes this device and another one the peers of each other.
    ///
    /// Returns [`ENODEV`] if one of them is being unregistered, [`EBUSY`] if one has a peer.
    pub fn join(&self, other: &Self, rtnl: &Rtnl) -> Result {
        if !is_registered(self, rtnl) || !is_registered(other, rtnl) {
            return Err(ENODEV);
        }
        if self.peer_rtnl(rtnl).is_some() || other.peer_rtnl(rtnl).is_some() {
            return Err(EBUSY);
        }

        // INVARIANT: Each becomes the peer of the other; both are registered, and the RTNL is held.
        // SAFETY: When `other` is unregistered, `ndo_uninit` calls `part()`, which replaces the
        // pointer. A grace period goes by between that and the time that the memory is freed.
        unsafe { self.peer_ptr().store(Some(other)) };
        // SAFETY: As above, for `self`.
        unsafe { other.peer_ptr().store(Some(self)) };

        Ok(())
    }

    /// Parts this device and its peer, which is returned.
    pub fn part<'r>(&self, rtnl: &'r Rtnl) -> Option<&'r Self> {
        let peer = self.peer_rtnl(rtnl)?;

        // INVARIANT: By the invariants of `Peer` this is the peer's peer: neither has one now.
        self.peer_ptr().clear();
        peer.peer_ptr().clear();

        Some(peer)
    }
}
