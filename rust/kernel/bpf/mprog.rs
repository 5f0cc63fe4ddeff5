// SPDX-License-Identifier: GPL-2.0

//! Places that many programs can be attached to, in an order that users choose.
//!
//! A [`Hook`] is such a place. It belongs to a [`Target`], a network device for instance, and holds
//! the programs that have been attached to it, by themselves or by [links](crate::bpf::link). Users
//! say where among the others a program is to go, and may require that nobody else has changed
//! anything meanwhile: [`Position`].
//!
//! The programs are run from an array that readers find under RCU. A change fills in a second
//! array, and publishes it; then nobody may use the first one any more before the next change, and
//! before a program that was taken out can be freed. Publishing, waiting for the readers and
//! completing the change are one step here ([`Hook`] has no way to do one without the others).
//!
//! All changes are made under the RTNL.
//!
//! C header: [`include/linux/bpf_mprog.h`](srctree/include/linux/bpf_mprog.h)

use crate::{
    bindings,
    bpf::{
        link::{
            Link,
            LinkInfo,
            LinkOps,
            Primed, //
        },
        NetCtx,
        Prog, //
    },
    error::to_result,
    net::{
        rtnl::{
            self,
            Rtnl, //
        },
        skbuff::Packet, //
    },
    num::casts::u32_as_usize,
    prelude::*,
    seq_file::SeqFile,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        rcu,
        rcu_ptr::RcuPtr, //
    },
    types::Opaque, //
};
use core::{
    marker::PhantomData,
    ptr::{
        self,
        NonNull, //
    },
};

/// What a program returns to leave the decision to the next one.
pub const NEXT: i32 = bindings::tcx_action_base_TCX_NEXT;

/// The type of the programs that can be attached.
const PROG_TYPE: u32 = bindings::bpf_prog_type_BPF_PROG_TYPE_SCHED_CLS;

/// Where among the others a program is to be attached, or which one is to be detached.
#[derive(Clone, Copy, Default)]
pub struct Position {
    /// `BPF_F_BEFORE`, `BPF_F_AFTER`, `BPF_F_REPLACE`; what `relative` means: `BPF_F_ID`,
    /// `BPF_F_LINK`.
    pub flags: u32,
    /// The program or link that the position is relative to, by descriptor or by number.
    pub relative: u32,
    /// The revision that the hook must have, 0 for any.
    pub revision: u64,
}

/// What programs are attached to.
///
/// # Safety
///
/// - [`Target::hook`] always returns the same hook for the same object, and for no other one.
/// - [`Hook::close`] is called before the object is freed, a grace period ahead of it at least, and
///   from then on [`Target::is_open`] is false.
pub unsafe trait Target: Sync + Sized + 'static {
    /// The type of the links to such objects (`BPF_LINK_TYPE_*`).
    const LINK_TYPE: u32;

    /// Returns the object's hook.
    fn hook(&self) -> &Hook<Self>;

    /// Tells whether programs can be attached: the object is there to stay for a while.
    fn is_open(&self, rtnl: &Rtnl) -> bool;

    /// Writes what `/proc/PID/fdinfo` shows of a link to `target`, or to an object that has gone.
    fn show_link(target: Option<&Self>, attach_type: u32, seq: &SeqFile);

    /// Reports the same to `BPF_OBJ_GET_INFO_BY_FD`.
    fn link_info(target: Option<&Self>, attach_type: u32, info: &mut LinkInfo<'_>);
}

/// The programs that a hook runs, one after the other: C's `struct bpf_mprog_entry`.
///
/// # Invariants
///
/// Valid, and part of the bundle of a [`Hook`]. The pointers to programs end with a null pointer; a
/// program stays valid for a grace period after it was taken out or replaced, as all programs do
/// after their last reference has gone.
#[repr(transparent)]
struct Entry(Opaque<bindings::bpf_mprog_entry>);

// SAFETY: Readers load the pointers to programs atomically; all else is used under the RTNL.
unsafe impl Sync for Entry {}

impl Entry {
    fn as_raw(&self) -> *mut bindings::bpf_mprog_entry {
        self.0.get()
    }

    /// Returns how many programs there are, in all entries of the bundle: one is active at a time.
    fn total(&self, _rtnl: &Rtnl) -> u32 {
        // SAFETY: By the type invariants, the entry is part of a bundle; its count is used under
        // the RTNL only.
        unsafe { (*(*self.as_raw()).parent).count }
    }
}

/// A place that programs are attached to.
///
/// # Invariants
///
/// - `bundle` is initialised, and used under the RTNL but for the programs of its entries.
/// - `active` is null, or one of the two entries of `bundle`.
/// - All programs are of type `PROG_TYPE`.
/// - All links are `Link<Attached<T>>`. They are not freed while they are in `bundle`.
#[pin_data]
#[repr(C)]
pub struct Hook<T: Target> {
    active: RcuPtr<Entry>,
    #[pin]
    bundle: Opaque<bindings::bpf_mprog_bundle>,
    _p: PhantomData<fn() -> T>,
}

// SAFETY: By the type invariants, the bundle is protected by the RTNL.
unsafe impl<T: Target> Sync for Hook<T> {}

impl<T: Target> Hook<T> {
    /// Makes a hook to which nothing is attached.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            active: RcuPtr::null(),
            // SAFETY: The memory is valid for writes, and will not move.
            bundle <- Opaque::ffi_init(|bundle| unsafe {
                bindings::bpf_mprog_bundle_init(bundle)
            }),
            _p: PhantomData,
        })
    }

    /// Runs the programs on a packet, until one decides, and returns what it returned.
    ///
    /// Returns `default` if there are no programs, and [`NEXT`] if none of them decides.
    ///
    /// # Safety
    ///
    /// The packet's data must start with its MAC header.
    #[inline(always)]
    pub unsafe fn run(
        &self,
        default: i32,
        skb: &Packet,
        context: &NetCtx,
        guard: &rcu::Guard,
    ) -> i32 {
        let Some(entry) = self.active.load(guard) else {
            return default;
        };
        let mut result = default;
        // SAFETY: By the type invariants, the entry is valid.
        let mut item =
            unsafe { (&raw mut (*entry.as_raw()).fp_items) }.cast::<*mut bindings::bpf_prog>();

        loop {
            // SAFETY: By the invariants of `Entry`, `item` points to a program or to the null
            // pointer after the last one. Both are written atomically.
            let prog = unsafe { Atomic::from_ptr(item) }.load(Relaxed);

            if prog.is_null() {
                return result;
            }
            // SAFETY: By the invariants of `Entry`, the program is valid until a grace period after
            // it was taken out, which cannot end while `guard` exists. By the type invariants, it
            // is of a type that runs on packets from their MAC header on, where the caller
            // guarantees that the data starts.
            result = unsafe { Prog::run(prog, skb, context) };
            if result != NEXT {
                return result;
            }
            // SAFETY: The array goes on, since this was not its end.
            item = unsafe { item.add(1) };
        }
    }

    /// Attaches a program to `target`.
    ///
    /// With `BPF_F_REPLACE`, `replace` is the program that it takes the place of.
    ///
    /// Fails with [`ENODEV`] if the object is going away, [`ESTALE`] if the revision is another
    /// one, [`EEXIST`] if the program is attached already, [`ERANGE`] if there are too many, and
    /// [`ENOENT`], [`EBUSY`], [`EINVAL`] or what the look-up of a descriptor returns if there is no
    /// such position. May sleep.
    pub fn attach(
        target: &T,
        prog: &Prog,
        replace: Option<&Prog>,
        position: &Position,
        rtnl: &Rtnl,
    ) -> Result {
        // SAFETY: There is no link.
        unsafe { Self::insert(target, prog, ptr::null_mut(), replace, position, rtnl)? };

        // The hook holds a reference to a program that is attached by itself.
        let _ = ARef::into_raw(ARef::from(prog));
        Ok(())
    }

    /// Detaches a program from `target`: `prog`, or the one at the position.
    ///
    /// Fails like [`Hook::attach`], and with [`ENOENT`] if there is none. May sleep.
    pub fn detach(target: &T, prog: Option<&Prog>, position: &Position, rtnl: &Rtnl) -> Result {
        // SAFETY: There is no link.
        unsafe { Self::remove(target, prog, ptr::null_mut(), position, rtnl) }
    }

    /// Attaches a program to `target` by a link, and returns a file descriptor of the link.
    ///
    /// Fails like [`Hook::attach`] and [`Primed::new`]. May sleep.
    pub fn link(
        target: &T,
        prog: &Prog,
        attach_type: u32,
        position: &Position,
        rtnl: &Rtnl,
    ) -> Result<c_int> {
        let primed = Primed::new(Attached::<T>(RcuPtr::null()), prog, attach_type)?;
        let link = primed.link();

        // SAFETY: The link is of the right kind, and holds the program. When it is freed,
        // `Attached::detach` has taken it out.
        unsafe { Self::insert(target, prog, link.as_raw(), None, position, rtnl)? };
        // SAFETY: By the requirements of `Target`, `close()` clears the pointer a grace period
        // before the object is freed.
        unsafe { link.data().0.store(Some(target)) };

        Ok(primed.settle())
    }

    /// Answers a query for the programs of `target`, in the memory of the process that asks.
    ///
    /// Fails with [`EINVAL`] if the query has flags, [`ENOSPC`] if not all fit, [`EFAULT`].
    ///
    /// # Safety
    ///
    /// `request` must be valid. `answer` is a pointer of user space.
    pub(crate) unsafe fn query(
        target: &T,
        request: *const bindings::bpf_attr,
        answer: *mut bindings::bpf_attr,
        rtnl: &Rtnl,
    ) -> Result {
        let entry = target
            .hook()
            .entry(rtnl)
            .map_or(ptr::null_mut(), Entry::as_raw);

        // SAFETY: The caller guarantees that the request is valid; the entry is null or, by the
        // type invariants, valid; the RTNL is held. C copes with any pointer of user space.
        to_result(unsafe { bindings::bpf_mprog_query(request, answer, entry) })
    }

    /// Takes everything out: what was attached by itself is let go of, links refer to nothing, and
    /// the hook is as it was made.
    ///
    /// For what a [`Target`] is part of, before it frees it. May sleep.
    pub fn close(&self, rtnl: &Rtnl) {
        let Some(entry) = self.entry(rtnl) else {
            return;
        };

        self.active.clear();
        rcu::synchronize_rcu();

        // SAFETY: By the type invariants, the entry is part of a bundle.
        let links = unsafe { &raw mut (*(*entry.as_raw()).parent).cp_items };
        // SAFETY: As above.
        let progs = unsafe { &raw mut (*entry.as_raw()).fp_items };

        for i in 0..u32_as_usize(entry.total(rtnl)) {
            // SAFETY: The arrays have as many members as there are programs, at least; they do not
            // change while the RTNL is held.
            let (prog, link) = unsafe { ((*progs)[i].prog, (*links)[i].link) };

            if link.is_null() {
                // SAFETY: `attach()` left a reference here. No reader sees the program any more.
                drop(unsafe { ARef::from_raw(NonNull::new_unchecked(prog.cast::<Prog>())) });
            } else {
                // SAFETY: By the type invariants, the link is of this kind and valid.
                let link = unsafe { Link::<Attached<T>>::from_raw(link) };

                link.data().0.clear();
            }
        }

        // INVARIANT: The links and programs that are forgotten here have been let go of.
        // SAFETY: The bundle is valid, and no reader uses it any more.
        unsafe { bindings::bpf_mprog_bundle_init(self.bundle.get()) };
    }

    /// Returns the entry that programs are run from.
    fn entry<'r>(&self, _rtnl: &'r Rtnl) -> Option<&'r Entry> {
        // SAFETY: The pointer changes under the RTNL only, and the bundle lives as long as the
        // target, which is not freed before the RTNL is released.
        unsafe { self.active.load_protected() }
    }

    /// Returns the entry that a first program is put next to.
    fn first_entry<'r>(&self, _rtnl: &'r Rtnl) -> &'r Entry {
        // SAFETY: By the type invariants, the bundle is initialised, and lives as long as the
        // target, which is not freed before the RTNL is released.
        unsafe { &*(&raw mut (*self.bundle.get()).a).cast() }
    }

    /// Completes a change: publishes the new entry, if it is one, waits until nobody uses the old
    /// one, and lets go of what is in there only.
    fn commit(&self, old: &Entry, new: Option<&Entry>) {
        if !new.is_some_and(|new| ptr::eq(new, old)) {
            // SAFETY: By the type invariants, the entries are part of this hook, which lives for
            // a grace period after `close()` has cleared the pointer.
            unsafe { self.active.store(new) };
            rcu::synchronize_rcu();
        }

        // SAFETY: The old entry is valid, and unused where it was replaced.
        unsafe { bindings::bpf_mprog_commit(old.as_raw()) };
    }

    /// Puts a program in.
    ///
    /// # Safety
    ///
    /// `link` must be null, or a `Link<Attached<T>>` that holds `prog` and will be taken out before
    /// it is freed. If it is null, the caller must leave a reference to `prog` to the hook.
    unsafe fn insert(
        target: &T,
        prog: &Prog,
        link: *mut bindings::bpf_link,
        replace: Option<&Prog>,
        position: &Position,
        rtnl: &Rtnl,
    ) -> Result {
        let hook = target.hook();
        let mut new = ptr::null_mut();

        if !target.is_open(rtnl) {
            return Err(ENODEV);
        }
        if prog.kind() != PROG_TYPE {
            return Err(EINVAL);
        }

        let old = hook.entry(rtnl).unwrap_or_else(|| hook.first_entry(rtnl));

        // INVARIANT: The program is of the right type, and the caller guarantees the link's.
        // SAFETY: The entry, the programs and the link are valid; the RTNL is held.
        to_result(unsafe {
            bindings::bpf_mprog_attach(
                old.as_raw(),
                &mut new,
                prog.as_raw(),
                link,
                replace.map_or(ptr::null_mut(), Prog::as_raw),
                position.flags,
                position.relative,
                position.revision,
            )
        })?;

        // SAFETY: Having succeeded, `bpf_mprog_attach()` has stored one of the hook's entries.
        hook.commit(old, Some(unsafe { &*new.cast() }));
        Ok(())
    }

    /// Takes a program out.
    ///
    /// # Safety
    ///
    /// `link` must be null, or valid and hold `prog`.
    unsafe fn remove(
        target: &T,
        prog: Option<&Prog>,
        link: *mut bindings::bpf_link,
        position: &Position,
        rtnl: &Rtnl,
    ) -> Result {
        let hook = target.hook();
        let old = hook.entry(rtnl).ok_or(ENOENT)?;
        let mut new = ptr::null_mut();

        // SAFETY: The entry, the program and the link are valid; the RTNL is held.
        to_result(unsafe {
            bindings::bpf_mprog_detach(
                old.as_raw(),
                &mut new,
                prog.map_or(ptr::null_mut(), Prog::as_raw),
                link,
                position.flags,
                position.relative,
                position.revision,
            )
        })?;

        // SAFETY: Having succeeded, `bpf_mprog_detach()` has stored one of the hook's entries.
        let new: &Entry = unsafe { &*new.cast() };

        hook.commit(old, (new.total(rtnl) != 0).then_some(new));
        Ok(())
    }
}

/// What a link to a `T` refers to: the object, until it goes or the link is detached.
struct Attached<T: Target>(RcuPtr<T>);

impl<T: Target> Attached<T> {
    /// Returns the object.
    fn target<'r>(&self, _rtnl: &'r Rtnl) -> Option<&'r T> {
        // SAFETY: The pointer changes under the RTNL only, and the object is not freed before the
        // RTNL is released.
        unsafe { self.0.load_protected() }
    }
}

impl<T: Target> LinkOps for Attached<T> {
    const TYPE: u32 = T::LINK_TYPE;

    fn detach(link: &Link<Self>) {
        let rtnl = rtnl::lock();
        let Some(target) = link.data().target(&rtnl) else {
            return;
        };

        // SAFETY: Programs are replaced by `update()` only, under the RTNL.
        let prog = unsafe { link.prog() };

        // SAFETY: The link is valid, and the program is its own.
        let removed = unsafe {
            Hook::remove(
                target,
                Some(prog),
                link.as_raw(),
                &Position::default(),
                &rtnl,
            )
        };

        // A link that refers to an object is in the object's hook.
        crate::warn_on!(removed.is_err());
        link.data().0.clear();
    }

    fn update(link: &Link<Self>, new: &Prog, old: Option<&Prog>) -> Result {
        let rtnl = rtnl::lock();
        let target = link.data().target(&rtnl).ok_or(ENOLINK)?;
        // SAFETY: Programs are replaced here only, under the RTNL.
        let current = unsafe { link.prog() };

        if old.is_some_and(|old| old != current) {
            return Err(EPERM);
        }
        if new == current {
            return Ok(());
        }
        target.hook().entry(&rtnl).ok_or(ENOENT)?;

        let position = Position {
            flags: bindings::BPF_F_REPLACE | bindings::BPF_F_ID,
            relative: current.id(),
            revision: 0,
        };

        // SAFETY: The link is of the right kind, and will be taken out before it is freed; it gets
        // the program below, before the RTNL is released.
        unsafe {
            Hook::insert(target, new, link.as_raw(), Some(current), &position, &rtnl)?;
        }
        drop(link.replace_prog(ARef::from(new)));
        Ok(())
    }

    fn show(link: &Link<Self>, seq: &SeqFile) {
        let rtnl = rtnl::lock();

        T::show_link(link.data().target(&rtnl), link.attach_type(), seq);
    }

    fn info(link: &Link<Self>, info: &mut LinkInfo<'_>) {
        let rtnl = rtnl::lock();

        T::link_info(link.data().target(&rtnl), link.attach_type(), info);
    }
}
