// SPDX-License-Identifier: GPL-2.0

//! Network namespaces.
//!
//! C header: [`include/net/net_namespace.h`](srctree/include/net/net_namespace.h)

use crate::{
    bindings,
    task::CurrentTask,
    types::Opaque, //
};
use core::ptr::{
    self,
    NonNull, //
};

/// A network namespace, C's `struct net`.
///
/// Two references are equal if they refer to the same namespace. A reference keeps nothing alive:
/// as long as there are devices in a namespace, it may be about to go.
///
/// # Examples
///
/// ```
/// use kernel::net::namespace::Namespace;
///
/// // The namespace of the process that makes the system call we serve.
/// let task = current!();
/// let net = task.net_namespace().ok_or(ENODEV)?;
/// assert!(net == net);
/// # Ok::<(), Error>(())
/// ```
#[repr(transparent)]
pub struct Namespace(Opaque<bindings::net>);

// SAFETY: What is reachable through a shared reference is constant or synchronised by C.
unsafe impl Sync for Namespace {}

impl Namespace {
    /// Borrows a namespace from its C pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a namespace that stays valid for the whole of `'a`.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::net) -> &'a Self {
        // SAFETY: The caller guarantees the validity; `Self` is transparent over the C type.
        unsafe { &*ptr.cast() }
    }

    /// Returns the C pointer.
    #[inline]
    pub fn as_raw(&self) -> *mut bindings::net {
        self.0.get()
    }
}

impl PartialEq for Namespace {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self, other)
    }
}

impl Eq for Namespace {}

impl CurrentTask {
    /// Returns the network namespace of the current task.
    ///
    /// It is [`None`] only for a task that is exiting and has left its namespaces.
    #[inline]
    pub fn net_namespace(&self) -> Option<&Namespace> {
        // SAFETY: `nsproxy` of the current task is changed by the task itself only.
        let nsproxy = NonNull::new(unsafe { (*self.as_ptr()).nsproxy })?;

        // SAFETY: The task holds a reference to its `nsproxy`, and that one to the namespace.
        let net = unsafe { (*nsproxy.as_ptr()).net_ns };

        // SAFETY: As above; the task cannot leave the namespace while `self` is borrowed, which
        // `CurrentTask` ties to the current task running this code.
        Some(unsafe { Namespace::from_raw(net) })
    }
}
