// SPDX-License-Identifier: GPL-2.0

//! Devices that come in pairs.

use super::{
    setup::is_registered,
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

/// The other end of a device that is one of a pair, kept in the private data of both.
///
/// The driver names it by [`Driver::peer`]. A peer can be looked at under RCU, in the transmit path
/// for instance, or under the RTNL. It cannot dangle: when one end is unregistered, both ends lose
/// their peer before any memory is freed, whatever the driver does.
///
/// # Invariants
///
/// - A device that has a peer is its peer's peer.
/// - Both have been registered, and `ndo_uninit` has not yet run for either of them.
/// - It is written to under the RTNL only.
pub struct Peer<T: Driver>(RcuPtr<Device<T>>);

impl<T: Driver> Peer<T> {
    /// Returns the state of a device that has no peer.
    #[inline]
    pub const fn none() -> Self {
        // INVARIANT: There is no peer.
        Self(RcuPtr::null())
    }

    /// Returns the peer, for as long as we are in the RCU critical section.
    #[inline(always)]
    pub fn get<'g>(&self, guard: &'g rcu::Guard) -> Option<&'g Device<T>> {
        self.0.load(guard)
    }

    /// Returns the peer, for as long as the RTNL is held.
    #[inline]
    pub fn get_rtnl<'r>(&self, _rtnl: &'r Rtnl) -> Option<&'r Device<T>> {
        // SAFETY: By the type invariants the pointer changes under the RTNL only; and a device that
        // is unregistered under the RTNL is not freed before it is released.
        unsafe { self.0.load_protected() }
    }

    /// Makes two devices the peers of each other.
    ///
    /// Returns [`ENODEV`] if one of them is being unregistered, [`EBUSY`] if one has a peer.
    pub fn link(a: &Device<T>, b: &Device<T>, rtnl: &Rtnl) -> Result {
        let (peer_of_a, peer_of_b) = (T::peer(a.data()), T::peer(b.data()));

        if !is_registered(a, rtnl) || !is_registered(b, rtnl) {
            return Err(ENODEV);
        }
        if peer_of_a.get_rtnl(rtnl).is_some() || peer_of_b.get_rtnl(rtnl).is_some() {
            return Err(EBUSY);
        }

        // INVARIANT: Each becomes the peer of the other; both are registered, and the RTNL is held.
        // SAFETY: When `b` is unregistered, `ndo_uninit` calls `unlink()`, which replaces the
        // pointer. A grace period goes by between that and the time that the memory is freed.
        unsafe { peer_of_a.0.store(Some(b)) };
        // SAFETY: As above, for `a`.
        unsafe { peer_of_b.0.store(Some(a)) };

        Ok(())
    }

    /// Parts a device and its peer, which is returned.
    pub fn unlink<'r>(dev: &Device<T>, rtnl: &'r Rtnl) -> Option<&'r Device<T>> {
        let this = T::peer(dev.data());
        let peer = this.get_rtnl(rtnl)?;

        // INVARIANT: By the type invariants `dev` is the peer of `peer`: neither has one now.
        this.0.clear();
        T::peer(peer.data()).0.clear();

        Some(peer)
    }
}
