// SPDX-License-Identifier: GPL-2.0

//! BPF programs.
//!
//! C header: [`include/linux/bpf.h`](srctree/include/linux/bpf.h)

use crate::{
    bindings,
    bpf::NetCtx,
    error::{
        from_err_ptr,
        from_result, //
    },
    net::skbuff::Packet,
    prelude::*,
    sync::aref::{
        ARef,
        AlwaysRefCounted, //
    },
    types::Opaque, //
};
use core::ptr::{
    self,
    NonNull, //
};

/// A BPF program, C's `struct bpf_prog`.
///
/// Programs are reference-counted; to keep one, turn a reference into an [`ARef`]. Two references
/// are equal if they refer to the same program.
#[repr(transparent)]
pub struct Prog(Opaque<bindings::bpf_prog>);

// SAFETY: The reference count may be dropped on any thread.
unsafe impl Send for Prog {}

// SAFETY: A program does not change once it has been loaded; its counters are per CPU.
unsafe impl Sync for Prog {}

impl Prog {
    /// Borrows a program from its C pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a program to which somebody holds a reference for the whole of `'a`.
    #[inline(always)]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::bpf_prog) -> &'a Self {
        // SAFETY: The caller guarantees the validity; `Self` is transparent over the C type.
        unsafe { &*ptr.cast() }
    }

    /// Returns the C pointer.
    #[inline(always)]
    pub fn as_raw(&self) -> *mut bindings::bpf_prog {
        self.0.get()
    }

    /// Returns the program that a file descriptor of the current process refers to.
    ///
    /// Fails with [`EBADF`] if there is no such descriptor, and with [`EINVAL`] if it does not
    /// refer to a program of type `kind` (`BPF_PROG_TYPE_*`).
    pub fn from_fd(fd: u32, kind: u32) -> Result<ARef<Self>> {
        // SAFETY: The function looks the descriptor up in the table of the current process.
        let prog = from_err_ptr(unsafe { bindings::bpf_prog_get_type_dev(fd, kind, false) })?;

        // SAFETY: A program that is returned without an error is valid, hence not null, and comes
        // with a reference that is ours.
        Ok(unsafe { ARef::from_raw(NonNull::new_unchecked(prog.cast())) })
    }

    /// Calls `f` for a C function that gives up its reference to a program if it succeeds.
    ///
    /// `f` takes a reference of its own if it keeps the program.
    ///
    /// # Safety
    ///
    /// `prog` must point to a valid program, and if the result is not negative, the caller must
    /// give up a reference to it.
    #[doc(hidden)]
    pub unsafe fn take_if_ok(
        prog: *mut bindings::bpf_prog,
        f: impl FnOnce(&Self) -> Result<c_int>,
    ) -> c_int {
        // SAFETY: The caller guarantees that the program is valid, and holds a reference to it.
        let result = from_result(|| f(unsafe { Self::from_raw(prog) }));

        if result >= 0 {
            // SAFETY: The caller gives up the reference.
            unsafe { bindings::bpf_prog_put(prog) };
        }
        result
    }

    /// Returns the number by which user space can tell the program from others.
    #[inline]
    pub fn id(&self) -> u32 {
        // SAFETY: The program is valid, and has its auxiliary data for as long.
        unsafe { (*(*self.as_raw()).aux).id }
    }

    /// Returns the program's type (`BPF_PROG_TYPE_*`).
    #[inline]
    pub fn kind(&self) -> u32 {
        // SAFETY: The program is valid; its type never changes.
        unsafe { (*self.as_raw()).type_ }
    }

    /// Runs a program on a packet, and returns what it returns.
    ///
    /// The program may change whatever [`Packet`] allows to be changed, and the packet's data.
    ///
    /// # Safety
    ///
    /// The program must be valid, though nobody need hold a reference any more. It must be of a
    /// type that runs on packets whose data starts with their MAC header, as
    /// `BPF_PROG_TYPE_SCHED_CLS` does, and this must be such a packet.
    #[inline(always)]
    pub(super) unsafe fn run(
        prog: *mut bindings::bpf_prog,
        skb: &Packet,
        _context: &NetCtx,
    ) -> i32 {
        // SAFETY: The packet is valid and ours.
        unsafe { bindings::bpf_compute_data_pointers(skb.as_raw()) };

        // SAFETY: The caller guarantees that the program is valid, and the packet what it runs on.
        // `_context` proves that the task has a context for the helpers that the program calls, and
        // that it cannot be migrated to another CPU.
        unsafe { bindings::bpf_prog_run(prog, skb.as_raw().cast()) as i32 }
    }
}

impl PartialEq for Prog {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self, other)
    }
}

impl Eq for Prog {}

// SAFETY: All programs are reference-counted, and freed a grace period after the count has dropped
// to zero.
unsafe impl AlwaysRefCounted for Prog {
    #[inline]
    fn inc_ref(&self) {
        // SAFETY: Who made the reference guarantees that somebody keeps the program alive.
        unsafe { bindings::bpf_prog_inc(self.as_raw()) };
    }

    #[inline]
    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller owns a reference and gives it up.
        unsafe { bindings::bpf_prog_put(obj.as_ptr().cast()) };
    }
}
