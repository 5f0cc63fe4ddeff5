// SPDX-License-Identifier: GPL-2.0

//! What programs that run on packets keep from one helper to the next.
//!
//! C header: [`include/linux/filter.h`](srctree/include/linux/filter.h)

use crate::{
    bindings,
    net::skbuff::TxContext,
    prelude::*,
    types::NotThreadSafe, //
};
use core::mem::MaybeUninit;

// Had bindgen seen a declaration of the type only, it would have made up one of a single byte.
static_assert!(size_of::<bindings::bpf_net_context>() > size_of::<bindings::bpf_redirect_info>());

/// Proof that the current task has a context for programs that run on packets.
///
/// `bpf_redirect()` and its kin, called by a program, write there where the packet is to go, and
/// what carries that out reads it. Both would follow a null pointer if there were no context, so
/// running a program and redirecting a packet require this proof.
///
/// # Invariants
///
/// `current->bpf_net_context` points to a context, and bottom halves are disabled, for as long as a
/// reference to the value exists.
pub struct NetCtx(NotThreadSafe);

impl NetCtx {
    /// Calls `f` with a context.
    ///
    /// The task keeps the context that it has, if it has one.
    ///
    /// This takes a closure, since the context lies on the stack: a guard could be forgotten, and
    /// the task would be left with a pointer to where it was.
    ///
    /// C: `bpf_net_ctx_set()`, `bpf_net_ctx_clear()`.
    #[inline(always)]
    pub fn enter<R>(_context: &TxContext, f: impl FnOnce(&Self) -> R) -> R {
        let mut context = MaybeUninit::<bindings::bpf_net_context>::uninit();

        // SAFETY: `context` is valid for writes until the end of this function, where the task lets
        // go of it; `bpf_net_ctx_set()` initialises as much of it as C reads without asking.
        let set = unsafe { bindings::bpf_net_ctx_set(context.as_mut_ptr()) };

        // INVARIANT: The task has a context until the call below. Bottom halves are disabled, as
        // `_context` proves.
        let result = f(&Self(NotThreadSafe));

        // SAFETY: `set` is what `bpf_net_ctx_set()` returned.
        unsafe { bindings::bpf_net_ctx_clear(set) };

        result
    }
}
