// SPDX-License-Identifier: GPL-2.0

//! The RTNL, the lock under which network devices are configured.
//!
//! A function that needs the RTNL takes a `&`[`Rtnl`], and what it returns under that protection
//! borrows from it. Releasing the RTNL also frees the devices that were unregistered while it was
//! held (`netdev_run_todo()`); since such borrows cannot outlive the [`Guard`], no reference to a
//! freed device can remain.
//!
//! C headers: [`include/linux/rtnetlink.h`](srctree/include/linux/rtnetlink.h)

use crate::{
    bindings,
    types::NotThreadSafe, //
};
use core::ops::Deref;

/// Proof that the RTNL is held by the current task.
///
/// It has no size: passing it around costs nothing.
///
/// # Invariants
///
/// The current task holds the RTNL for as long as a reference to the value exists.
pub struct Rtnl(NotThreadSafe);

impl Rtnl {
    /// Gives the proof to a callback that the network stack calls with the RTNL held.
    ///
    /// With `CONFIG_DEBUG_NET`, warns if the RTNL is not held by anybody, with
    /// `CONFIG_PROVE_LOCKING` if not by this task.
    ///
    /// # Safety
    ///
    /// The current task must hold the RTNL for the whole of `'a`.
    #[inline]
    pub unsafe fn assume_held<'a>() -> &'a Self {
        // INVARIANT: The caller guarantees that the RTNL is held.
        const HELD: &Rtnl = &Rtnl(NotThreadSafe);

        #[cfg(CONFIG_PROVE_LOCKING)]
        // SAFETY: It only looks at what this task holds.
        let held = unsafe { bindings::lockdep_rtnl_is_held() };
        #[cfg(all(CONFIG_DEBUG_NET, not(CONFIG_PROVE_LOCKING)))]
        // SAFETY: It only looks at the lock's state.
        let held = unsafe { bindings::rtnl_is_locked() } != 0;

        #[cfg(any(CONFIG_DEBUG_NET, CONFIG_PROVE_LOCKING))]
        crate::warn_on!(!held);

        HELD
    }
}

/// The RTNL, held until this guard is dropped.
#[must_use = "the RTNL is released as soon as the guard is dropped"]
pub struct Guard(Rtnl);

impl Deref for Guard {
    type Target = Rtnl;

    #[inline]
    fn deref(&self) -> &Rtnl {
        &self.0
    }
}

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: The guard's existence proves that this task locked the RTNL.
        unsafe { bindings::rtnl_unlock() };
    }
}

/// Takes the RTNL. May sleep.
///
/// # Examples
///
/// ```
/// use kernel::net::rtnl;
///
/// let rtnl = rtnl::lock();
/// // ... configure devices, with `&rtnl` as the proof ...
/// drop(rtnl);
/// ```
#[inline]
pub fn lock() -> Guard {
    // SAFETY: `rtnl_lock()` may be called from any context that may sleep.
    unsafe { bindings::rtnl_lock() };

    // INVARIANT: The RTNL was taken above, and is released only when the guard is dropped.
    Guard(Rtnl(NotThreadSafe))
}
