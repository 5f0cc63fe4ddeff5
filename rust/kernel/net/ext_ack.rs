// SPDX-License-Identifier: GPL-2.0

//! Extended acknowledgements: the part of a netlink error that a person reads.
//!
//! C header: [`include/linux/netlink.h`](srctree/include/linux/netlink.h)

use crate::{
    bindings,
    net::nlattr::Attr,
    prelude::*, //
};
use core::{
    marker::PhantomData,
    ptr::{
        self,
        NonNull, //
    },
};

/// Where a request handler says in words, and by pointing at an attribute, why it refused.
///
/// Requests that do not come by netlink have none; then setting a message does nothing but trace
/// it. `'a` is the lifetime of the request: an attribute that is pointed at must belong to it.
///
/// # Examples
///
/// ```
/// use kernel::net::ext_ack::ExtAck;
///
/// fn check(level: u32, extack: ExtAck<'_>) -> Result {
///     if level > 3 {
///         extack.set_msg(c"Level out of range");
///         return Err(EINVAL);
///     }
///     Ok(())
/// }
///
/// assert_eq!(check(4, ExtAck::none()), Err(EINVAL));
/// ```
///
/// # Invariants
///
/// The pointer, if any, is valid for writes during `'a`, and no other thread uses the object.
#[derive(Clone, Copy)]
pub struct ExtAck<'a>(
    Option<NonNull<bindings::netlink_ext_ack>>,
    // Not covariant: it must not be taken for that of a request that is there for a shorter time.
    PhantomData<fn(&'a ()) -> &'a ()>,
);

impl<'a> ExtAck<'a> {
    /// Wraps the C pointer that a request handler is given, which may be null.
    ///
    /// # Safety
    ///
    /// `ptr` must be null, or valid and used by no other thread for the whole of `'a`.
    #[inline]
    pub unsafe fn from_raw(ptr: *mut bindings::netlink_ext_ack) -> Self {
        // INVARIANT: The caller guarantees the validity.
        Self(NonNull::new(ptr), PhantomData)
    }

    /// Returns one that nobody reads.
    #[inline]
    pub const fn none() -> Self {
        // INVARIANT: There is no pointer.
        Self(None, PhantomData)
    }

    /// Returns the C pointer, or null.
    #[inline]
    pub fn as_raw(self) -> *mut bindings::netlink_ext_ack {
        self.0.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    /// Sets the message. The counterpart of `NL_SET_ERR_MSG()`.
    #[inline]
    pub fn set_msg(self, msg: &'static CStr) {
        // SAFETY: `msg` is a NUL-terminated string, which is all that the tracepoint wants.
        unsafe { bindings::do_trace_netlink_extack(msg.as_char_ptr()) };

        if let Some(extack) = self.0 {
            // SAFETY: By the type invariants, `extack` is valid for writes.
            unsafe { (*extack.as_ptr())._msg = msg.as_char_ptr() };
        }
    }

    /// Sets the message and points at the attribute that it is about.
    ///
    /// The counterpart of `NL_SET_ERR_MSG_ATTR()`.
    #[inline]
    pub fn set_msg_attr(self, msg: &'static CStr, attr: Attr<'a>) {
        self.set_msg(msg);

        if let Some(extack) = self.0 {
            // SAFETY: By the type invariants, `extack` is valid for writes.
            unsafe { (*extack.as_ptr()).bad_attr = attr.as_raw() };
            // SAFETY: As above. A policy set by an earlier failure belongs to another attribute.
            unsafe { (*extack.as_ptr()).policy = ptr::null() };
        }
    }
}
