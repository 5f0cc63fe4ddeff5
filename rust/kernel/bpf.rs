// SPDX-License-Identifier: GPL-2.0

//! BPF: programs that user space attaches to the kernel.
//!
//! - [`Prog`] is a program, [`NetCtx`] what it needs to run on a packet.
//! - [`mprog`] keeps the programs that are attached to an object, and runs them.
//! - [`link`](mod@link) are the files by which user space holds programs attached.
//! - [`Attach`] says which object a request of the `bpf(2)` system call is about, and
//!   [`bpf_attach_entries!`](crate::bpf_attach_entries) makes the functions that it calls.
//!
//! C header: [`include/linux/bpf.h`](srctree/include/linux/bpf.h)

use crate::{
    bindings,
    error::from_result,
    net::rtnl::{
        self,
        Rtnl, //
    },
    prelude::*, //
};
use mprog::{
    Hook,
    Position,
    Target, //
};

pub mod link;
pub mod mprog;
mod net_ctx;
mod prog;

pub use net_ctx::NetCtx;
pub use prog::Prog;

/// What a request says of the object that it is about.
#[derive(Clone, Copy)]
pub struct Place {
    /// The index of a network interface, in the namespace of the current process.
    pub ifindex: u32,
    /// The attach type (`BPF_*`).
    pub attach_type: u32,
}

/// A driver to whose objects `bpf(2)` attaches programs.
///
/// All that differs between such drivers is how an object is found: the rest of each request is
/// served here, under the RTNL.
pub trait Attach {
    /// What programs are attached to.
    type Target: Target;

    /// Finds the object, or says why there is none.
    fn find<'r>(place: Place, rtnl: &'r Rtnl) -> Result<&'r Self::Target>;
}

/// Serves `BPF_PROG_ATTACH`.
///
/// # Safety
///
/// `request` must be valid and of this command. `prog` must be valid, and if the result is not
/// negative, the caller must give up a reference to it.
#[doc(hidden)]
pub unsafe fn attach<T: Attach>(
    request: *const bindings::bpf_attr,
    prog: *mut bindings::bpf_prog,
) -> c_int {
    // SAFETY: The caller guarantees that the request is valid and of this command.
    let request: &AttachRequest = unsafe { &(*request).__bindgen_anon_5 };
    let serve = |prog: &Prog| {
        let rtnl = rtnl::lock();
        let target = T::find(place_of(request), &rtnl)?;
        let replace = if request.attach_flags & bindings::BPF_F_REPLACE != 0 {
            Some(Prog::from_fd(request.replace_bpf_fd, prog.kind())?)
        } else {
            None
        };

        Hook::attach(
            target,
            prog,
            replace.as_deref(),
            &position_of(request),
            &rtnl,
        )
        .map(|()| 0)
    };

    // SAFETY: The caller guarantees what this asks for.
    unsafe { Prog::take_if_ok(prog, serve) }
}

/// Serves `BPF_LINK_CREATE`.
///
/// # Safety
///
/// As for [`attach`].
#[doc(hidden)]
pub unsafe fn link_attach<T: Attach>(
    request: *const bindings::bpf_attr,
    prog: *mut bindings::bpf_prog,
) -> c_int {
    // SAFETY: The caller guarantees that the request is valid and of this command.
    let request = unsafe { &(*request).link_create };
    // SAFETY: All its variants are plain numbers.
    let relative = unsafe { &request.__bindgen_anon_3.tcx };
    let place = Place {
        // SAFETY: Both variants are numbers.
        ifindex: unsafe { request.__bindgen_anon_2.target_ifindex },
        attach_type: request.attach_type,
    };
    let position = Position {
        flags: request.flags,
        // SAFETY: Both variants are numbers.
        relative: unsafe { relative.__bindgen_anon_1.relative_fd },
        revision: relative.expected_revision,
    };
    let serve = |prog: &Prog| {
        let rtnl = rtnl::lock();
        let target = T::find(place, &rtnl)?;

        Hook::link(target, prog, place.attach_type, &position, &rtnl)
    };

    // SAFETY: The caller guarantees what this asks for.
    unsafe { Prog::take_if_ok(prog, serve) }
}

/// Serves `BPF_PROG_DETACH`.
///
/// # Safety
///
/// `request` must be valid and of this command, `prog` null or valid.
#[doc(hidden)]
pub unsafe fn detach<T: Attach>(
    request: *const bindings::bpf_attr,
    prog: *mut bindings::bpf_prog,
) -> c_int {
    // SAFETY: The caller guarantees that the request is valid and of this command.
    let request: &AttachRequest = unsafe { &(*request).__bindgen_anon_5 };
    // SAFETY: The caller guarantees that the program is null or valid; the type is transparent.
    let prog = unsafe { prog.cast::<Prog>().as_ref() };

    from_result(|| {
        let rtnl = rtnl::lock();
        let target = T::find(place_of(request), &rtnl)?;

        Hook::detach(target, prog, &position_of(request), &rtnl).map(|()| 0)
    })
}

/// Serves `BPF_PROG_QUERY`.
///
/// # Safety
///
/// `request` must be valid and of this command. `answer` is a pointer of user space.
#[doc(hidden)]
pub unsafe fn query<T: Attach>(
    request: *const bindings::bpf_attr,
    answer: *mut bindings::bpf_attr,
) -> c_int {
    // SAFETY: The caller guarantees that the request is valid and of this command.
    let query = unsafe { &(*request).query };
    let place = Place {
        // SAFETY: Both variants are numbers.
        ifindex: unsafe { query.__bindgen_anon_1.target_ifindex },
        attach_type: query.attach_type,
    };

    from_result(|| {
        let rtnl = rtnl::lock();
        let target = T::find(place, &rtnl)?;

        // SAFETY: The caller guarantees that the request is valid.
        unsafe { Hook::query(target, request, answer, &rtnl) }.map(|()| 0)
    })
}

/// The arguments of `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
type AttachRequest = bindings::bpf_attr__bindgen_ty_6;

fn place_of(request: &AttachRequest) -> Place {
    Place {
        // SAFETY: Both variants are numbers.
        ifindex: unsafe { request.__bindgen_anon_1.target_ifindex },
        attach_type: request.attach_type,
    }
}

fn position_of(request: &AttachRequest) -> Position {
    Position {
        flags: request.attach_flags,
        // SAFETY: Both variants are numbers.
        relative: unsafe { request.__bindgen_anon_2.relative_fd },
        revision: request.expected_revision,
    }
}

/// Makes the functions by which the `bpf(2)` system call reaches a driver.
///
/// C declares them for this driver, which implements [`Attach`](crate::bpf::Attach), under names
/// that begin with the given word: `WORD_prog_attach()` for instance.
#[macro_export]
macro_rules! bpf_attach_entries {
    ($driver:ty, $prefix:ident) => {
        $crate::macros::paste! {
            /// # Safety
            ///
            /// As for `kernel::bpf::attach`.
            #[$crate::prelude::export]
            unsafe extern "C" fn [<$prefix _prog_attach>](
                request: *const $crate::bindings::bpf_attr,
                prog: *mut $crate::bindings::bpf_prog,
            ) -> $crate::ffi::c_int {
                // SAFETY: The caller, the system call, guarantees what `attach()` asks for.
                unsafe { $crate::bpf::attach::<$driver>(request, prog) }
            }

            /// # Safety
            ///
            /// As for `kernel::bpf::link_attach`.
            #[$crate::prelude::export]
            unsafe extern "C" fn [<$prefix _link_attach>](
                request: *const $crate::bindings::bpf_attr,
                prog: *mut $crate::bindings::bpf_prog,
            ) -> $crate::ffi::c_int {
                // SAFETY: The caller, the system call, guarantees what `link_attach()` asks for.
                unsafe { $crate::bpf::link_attach::<$driver>(request, prog) }
            }

            /// # Safety
            ///
            /// As for `kernel::bpf::detach`.
            #[$crate::prelude::export]
            unsafe extern "C" fn [<$prefix _prog_detach>](
                request: *const $crate::bindings::bpf_attr,
                prog: *mut $crate::bindings::bpf_prog,
            ) -> $crate::ffi::c_int {
                // SAFETY: The caller, the system call, guarantees what `detach()` asks for.
                unsafe { $crate::bpf::detach::<$driver>(request, prog) }
            }

            /// # Safety
            ///
            /// As for `kernel::bpf::query`.
            #[$crate::prelude::export]
            unsafe extern "C" fn [<$prefix _prog_query>](
                request: *const $crate::bindings::bpf_attr,
                answer: *mut $crate::bindings::bpf_attr,
            ) -> $crate::ffi::c_int {
                // SAFETY: The caller, the system call, guarantees what `query()` asks for.
                unsafe { $crate::bpf::query::<$driver>(request, answer) }
            }
        }
    };
}
