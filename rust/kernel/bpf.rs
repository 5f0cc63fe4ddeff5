// SPDX-License-Identifier: GPL-2.0

//! BPF.
//!
//! C header: [`include/linux/bpf.h`](srctree/include/linux/bpf.h)

use crate::{
    bindings,
    prelude::*,
    types::Opaque, //
};

/// A BPF program, C's `struct bpf_prog`.
#[repr(transparent)]
pub struct Prog(Opaque<bindings::bpf_prog>);

/// The arguments of a `bpf(2)` system call, C's `union bpf_attr`.
#[repr(transparent)]
pub struct Request(Opaque<bindings::bpf_attr>);

/// A driver whose devices programs can be attached to by `bpf(2)`.
///
/// The system call knows such drivers by name, see
/// [`bpf_attach_entries!`](crate::bpf_attach_entries).
pub trait Attach {
    /// Attaches a program (`BPF_PROG_ATTACH`).
    fn attach(request: &Request, prog: &Prog) -> Result;

    /// Attaches a program by a link (`BPF_LINK_CREATE`).
    fn link_attach(request: &Request, prog: &Prog) -> Result;

    /// Detaches a program (`BPF_PROG_DETACH`): this one, or the one that the request tells.
    fn detach(request: &Request, prog: Option<&Prog>) -> Result;

    /// Tells which programs are attached (`BPF_PROG_QUERY`).
    fn query(request: &Request) -> Result;
}

/// Makes the functions by which the `bpf(2)` system call reaches a driver.
///
/// Their names and types must be those that C declares for this driver.
#[macro_export]
macro_rules! bpf_attach_entries {
    (
        $driver:ty,
        attach: $attach:ident,
        link_attach: $link_attach:ident,
        detach: $detach:ident,
        query: $query:ident $(,)?
    ) => {
        /// # Safety
        ///
        /// Both pointers must be valid.
        #[$crate::prelude::export]
        unsafe extern "C" fn $attach(
            request: *const $crate::bindings::bpf_attr,
            prog: *mut $crate::bindings::bpf_prog,
        ) -> $crate::ffi::c_int {
            $crate::error::from_result(|| {
                // SAFETY: The system call passes valid arguments; both types are transparent.
                let (request, prog) = unsafe { (&*request.cast(), &*prog.cast()) };

                <$driver as $crate::bpf::Attach>::attach(request, prog).map(|()| 0)
            })
        }

        /// # Safety
        ///
        /// Both pointers must be valid.
        #[$crate::prelude::export]
        unsafe extern "C" fn $link_attach(
            request: *const $crate::bindings::bpf_attr,
            prog: *mut $crate::bindings::bpf_prog,
        ) -> $crate::ffi::c_int {
            $crate::error::from_result(|| {
                // SAFETY: The system call passes valid arguments; both types are transparent.
                let (request, prog) = unsafe { (&*request.cast(), &*prog.cast()) };

                <$driver as $crate::bpf::Attach>::link_attach(request, prog).map(|()| 0)
            })
        }

        /// # Safety
        ///
        /// `request` must be valid, `prog` null or valid.
        #[$crate::prelude::export]
        unsafe extern "C" fn $detach(
            request: *const $crate::bindings::bpf_attr,
            prog: *mut $crate::bindings::bpf_prog,
        ) -> $crate::ffi::c_int {
            $crate::error::from_result(|| {
                // SAFETY: The system call passes valid arguments; both types are transparent.
                let (request, prog) = unsafe {
                    (
                        &*request.cast(),
                        prog.cast_const().cast::<$crate::bpf::Prog>().as_ref(),
                    )
                };

                <$driver as $crate::bpf::Attach>::detach(request, prog).map(|()| 0)
            })
        }

        /// # Safety
        ///
        /// `request` must be valid.
        #[$crate::prelude::export]
        unsafe extern "C" fn $query(
            request: *const $crate::bindings::bpf_attr,
            _answer: *mut $crate::bindings::bpf_attr,
        ) -> $crate::ffi::c_int {
            $crate::error::from_result(|| {
                // SAFETY: The system call passes a valid argument; the type is transparent.
                let request = unsafe { &*request.cast() };

                <$driver as $crate::bpf::Attach>::query(request).map(|()| 0)
            })
        }
    };
}
