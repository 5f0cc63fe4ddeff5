// SPDX-License-Identifier: GPL-2.0

//! Pointers that readers follow under RCU.
//!
//! C header: [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h)

use crate::sync::{
    atomic::{
        Atomic,
        Relaxed,
        Release, //
    },
    rcu, //
};
use core::ptr;

/// A pointer to an object whose memory outlives the RCU readers that can still see it.
///
/// The C counterpart is a pointer marked `__rcu`: [`RcuPtr::load`] is `rcu_dereference()`,
/// [`RcuPtr::store`] is `rcu_assign_pointer()`. What the pointer refers to is borrowed from the RCU
/// guard, so it cannot be kept beyond the critical section.
///
/// # Invariants
///
/// The pointer is null, or it points to a `T` that stays valid for shared access until the pointer
/// has been replaced and an RCU grace period has gone by after that.
///
/// # Examples
///
/// ```
/// use kernel::sync::{rcu, rcu_ptr::RcuPtr};
///
/// static ANSWER: u32 = 42;
///
/// let ptr = RcuPtr::<u32>::null();
/// assert!(ptr.load(&rcu::read_lock()).is_none());
///
/// // SAFETY: A static lives for ever.
/// unsafe { ptr.store(Some(&ANSWER)) };
/// assert_eq!(ptr.load(&rcu::read_lock()), Some(&42));
///
/// ptr.clear();
/// assert!(ptr.load(&rcu::read_lock()).is_none());
/// ```
#[repr(transparent)]
pub struct RcuPtr<T>(Atomic<*mut T>);

// SAFETY: An `RcuPtr` gives out nothing but `&T`, so sending it shares the `T`.
unsafe impl<T: Sync> Send for RcuPtr<T> {}

// SAFETY: As above, for sharing it.
unsafe impl<T: Sync> Sync for RcuPtr<T> {}

impl<T> RcuPtr<T> {
    /// Creates a pointer that is null.
    #[inline]
    pub const fn null() -> Self {
        // INVARIANT: The pointer is null.
        Self(Atomic::new(ptr::null_mut()))
    }

    /// Returns what the pointer refers to, for as long as the RCU read lock is held.
    ///
    /// Like `rcu_dereference()`, this relies on the address dependency between the load of the
    /// pointer and the accesses through it, hence needs no acquire ordering.
    #[inline(always)]
    pub fn load<'g>(&self, _guard: &'g rcu::Guard) -> Option<&'g T> {
        // SAFETY: By the type invariants the object is valid until a grace period after the pointer
        // was replaced; the guard keeps such a grace period from ending during `'g`.
        unsafe { self.0.load(Relaxed).as_ref() }
    }

    /// Returns what the pointer refers to, for a caller that keeps it from being replaced.
    ///
    /// The counterpart of `rcu_dereference_protected()`.
    ///
    /// # Safety
    ///
    /// The caller must hold the lock that all callers of [`RcuPtr::store`] and [`RcuPtr::clear`] on
    /// this pointer hold, or otherwise keep the object valid, for the whole of `'a`.
    #[inline(always)]
    pub unsafe fn load_protected<'a>(&self) -> Option<&'a T> {
        // SAFETY: By the type invariants the object is valid while the pointer is in place; the
        // caller guarantees that it remains so during `'a`.
        unsafe { self.0.load(Relaxed).as_ref() }
    }

    /// Publishes a new object, or none.
    ///
    /// What was written to the object before is visible to each reader that loads the new pointer.
    ///
    /// # Safety
    ///
    /// The object must stay valid for shared access until this pointer has been replaced and an RCU
    /// grace period has gone by after that.
    #[inline]
    pub unsafe fn store(&self, new: Option<&T>) {
        let new = new.map_or(ptr::null(), ptr::from_ref).cast_mut();

        // INVARIANT: The caller guarantees the object's validity.
        self.0.store(new, Release);
    }

    /// Makes the pointer null; readers may see the former object for one more grace period.
    #[inline]
    pub fn clear(&self) {
        // INVARIANT: The pointer is null.
        self.0.store(ptr::null_mut(), Relaxed);
    }
}
