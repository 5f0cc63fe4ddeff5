// SPDX-License-Identifier: GPL-2.0

//! BPF links: programs attached for as long as somebody holds on to the link.
//!
//! A link is a file: user space has descriptors of it, pins it in the BPF file system, updates the
//! program in it, detaches it. It is made in two steps, so that everything that may fail comes
//! before the program is attached: [`Primed`] has its file, its descriptor and its number, which
//! nobody can see yet; dropping it takes all of that back. [`Primed::settle`] shows them.
//!
//! C header: [`include/linux/bpf.h`](srctree/include/linux/bpf.h)

use crate::{
    alloc::KBox,
    bindings,
    bpf::Prog,
    error::to_result,
    prelude::*,
    seq_file::SeqFile,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
    },
    types::Opaque, //
};
use core::{
    marker::PhantomData,
    mem::{
        ManuallyDrop,
        MaybeUninit, //
    },
    ptr::NonNull,
};

/// What a kind of links does.
///
/// The implementing type is what belongs to one link. All operations may sleep.
///
/// C: `struct bpf_link_ops`.
pub trait LinkOps: Send + Sync + Sized + 'static {
    /// The type that user space sees (`BPF_LINK_TYPE_*`).
    const TYPE: u32;

    /// Detaches the program, for good; the link stays, and refers to nothing.
    ///
    /// Called when user space asks for it, and when nobody holds on to the link any more, unless it
    /// was never settled.
    fn detach(link: &Link<Self>);

    /// Puts a program in place of the link's; if `old` is given, of that very one.
    fn update(link: &Link<Self>, new: &Prog, old: Option<&Prog>) -> Result;

    /// Writes what `/proc/PID/fdinfo` shows of the link, beyond what all links have.
    fn show(link: &Link<Self>, seq: &SeqFile);

    /// Reports the same to `BPF_OBJ_GET_INFO_BY_FD`.
    fn info(link: &Link<Self>, info: &mut LinkInfo<'_>);
}

/// What `BPF_OBJ_GET_INFO_BY_FD` reports of a link.
pub struct LinkInfo<'a>(&'a mut bindings::bpf_link_info);

impl LinkInfo<'_> {
    /// Reports a link to a network device: the index of the interface, 0 for none, and the attach
    /// type (`BPF_*`).
    ///
    /// The types of links to network devices that have both share one layout.
    pub fn set_device(&mut self, ifindex: u32, attach_type: u32) {
        self.0.__bindgen_anon_1.tcx.ifindex = ifindex;
        self.0.__bindgen_anon_1.tcx.attach_type = attach_type;
    }
}

/// A link of kind `T`.
///
/// # Invariants
///
/// `raw` has been initialised by `bpf_link_init()` with the operations of `T`, and a reference to
/// the link's program.
#[repr(C)]
pub struct Link<T: LinkOps> {
    raw: Opaque<bindings::bpf_link>,
    data: T,
}

// SAFETY: The C part is reference-counted and synchronises itself; `data` is `Send` and `Sync`.
unsafe impl<T: LinkOps> Send for Link<T> {}

// SAFETY: As above.
unsafe impl<T: LinkOps> Sync for Link<T> {}

impl<T: LinkOps> Link<T> {
    const OPS: bindings::bpf_link_ops = bindings::bpf_link_ops {
        release: Some(Self::release_callback),
        detach: Some(Self::detach_callback),
        dealloc: Some(Self::dealloc_callback),
        update_prog: Some(Self::update_callback),
        show_fdinfo: Some(Self::show_callback),
        fill_link_info: Some(Self::info_callback),
        ..pin_init::zeroed()
    };

    /// Borrows a link from its C pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a link of kind `T` that stays valid for the whole of `'a`.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *const bindings::bpf_link) -> &'a Self {
        // SAFETY: The caller guarantees the validity; the C link is where ours begins.
        unsafe { &*ptr.cast() }
    }

    /// Returns the C pointer.
    #[inline]
    pub fn as_raw(&self) -> *mut bindings::bpf_link {
        self.raw.get()
    }

    /// Returns what belongs to this link.
    #[inline]
    pub fn data(&self) -> &T {
        &self.data
    }

    /// Returns the attach type (`BPF_*`) that the link was created with.
    #[inline]
    pub fn attach_type(&self) -> u32 {
        // SAFETY: By the type invariants, the link is initialised; the type never changes.
        unsafe { (*self.as_raw()).attach_type }
    }

    fn prog_ptr(&self) -> &Atomic<*mut bindings::bpf_prog> {
        // SAFETY: By the type invariants, the link is initialised. C, too, reads and writes the
        // pointer in one piece.
        unsafe { Atomic::from_ptr(&raw mut (*self.as_raw()).prog) }
    }

    /// Returns the link's program.
    ///
    /// # Safety
    ///
    /// The caller must keep [`Link::replace_prog`] from being called for the whole of `'a`.
    pub unsafe fn prog<'a>(&self) -> &'a Prog {
        // SAFETY: By the type invariants the link holds a reference to its program; the caller
        // guarantees that it stays that one.
        unsafe { Prog::from_raw(self.prog_ptr().load(Relaxed)) }
    }

    /// Puts another program into the link, and returns the former one.
    pub fn replace_prog(&self, new: ARef<Prog>) -> ARef<Prog> {
        // INVARIANT: The reference to the new program becomes the link's.
        let old = self
            .prog_ptr()
            .xchg(ARef::into_raw(new).as_ptr().cast(), Full);

        // SAFETY: The pointer to a link's program is not null; and the reference to the program
        // was the link's.
        unsafe { ARef::from_raw(NonNull::new_unchecked(old.cast())) }
    }

    /// # Safety
    ///
    /// `link` must be a link of kind `T` that nobody holds any more.
    unsafe extern "C" fn release_callback(link: *mut bindings::bpf_link) {
        // SAFETY: The caller guarantees that the link is of this kind; it is freed after this.
        T::detach(unsafe { Self::from_raw(link) });
    }

    /// # Safety
    ///
    /// `link` must be a valid link of kind `T`.
    unsafe extern "C" fn detach_callback(link: *mut bindings::bpf_link) -> c_int {
        // SAFETY: The caller guarantees that the link is valid and of this kind.
        T::detach(unsafe { Self::from_raw(link) });
        0
    }

    /// # Safety
    ///
    /// `link` must be a link of kind `T` that is not used any more.
    unsafe extern "C" fn dealloc_callback(link: *mut bindings::bpf_link) {
        // SAFETY: `Primed::new` made all links of this kind of a box; the caller gives it up.
        drop(unsafe { KBox::<Self>::from_raw(link.cast()) });
    }

    /// # Safety
    ///
    /// `link` must be a valid link of kind `T`, `new` a valid program, a reference to which the
    /// caller gives up if the result is 0, and `old` null or a valid program.
    unsafe extern "C" fn update_callback(
        link: *mut bindings::bpf_link,
        new: *mut bindings::bpf_prog,
        old: *mut bindings::bpf_prog,
    ) -> c_int {
        // SAFETY: The caller guarantees that the link is valid and of this kind.
        let link = unsafe { Self::from_raw(link) };
        // SAFETY: The caller guarantees that `old` is null or valid.
        let old = unsafe { old.cast::<Prog>().as_ref() };

        // SAFETY: The caller guarantees that `new` is valid, and that a reference becomes ours if
        // we succeed.
        unsafe { Prog::take_if_ok(new, |new| T::update(link, new, old).map(|()| 0)) }
    }

    /// # Safety
    ///
    /// `link` must be a valid link of kind `T`, `seq` valid and used by nobody else.
    unsafe extern "C" fn show_callback(
        link: *const bindings::bpf_link,
        seq: *mut bindings::seq_file,
    ) {
        // SAFETY: The caller guarantees that the link is valid and of this kind.
        let link = unsafe { Self::from_raw(link) };
        // SAFETY: The caller guarantees that the file is valid and not shared.
        let seq = unsafe { SeqFile::from_raw(seq) };

        T::show(link, seq);
    }

    /// # Safety
    ///
    /// `link` must be a valid link of kind `T`, `info` valid and used by nobody else.
    unsafe extern "C" fn info_callback(
        link: *const bindings::bpf_link,
        info: *mut bindings::bpf_link_info,
    ) -> c_int {
        // SAFETY: The caller guarantees that the link is valid and of this kind.
        let link = unsafe { Self::from_raw(link) };
        // SAFETY: The caller guarantees that the information is valid and not shared.
        let info = unsafe { &mut *info };

        T::info(link, &mut LinkInfo(info));
        0
    }
}

/// A link that user space cannot see yet.
///
/// # Invariants
///
/// `primer` has been filled in by `bpf_link_prime()` for a link of kind `T`.
pub struct Primed<T: LinkOps> {
    primer: bindings::bpf_link_primer,
    _p: PhantomData<T>,
}

impl<T: LinkOps> Primed<T> {
    /// Creates a link for a program, with an attach type (`BPF_*`).
    ///
    /// Fails with [`ENOMEM`], or with [`EMFILE`] if the process has too many open files.
    pub fn new(data: T, prog: &Prog, attach_type: u32) -> Result<Self> {
        let link = KBox::new(
            Link {
                raw: Opaque::zeroed(),
                data,
            },
            GFP_KERNEL_ACCOUNT,
        )?;

        // SAFETY: The link is ours and does not move, as it is in a box. The operations are those
        // of its kind, and live as long as the kernel: no module can call this, as
        // `bpf_link_init()` is not exported.
        unsafe {
            bindings::bpf_link_init(
                link.as_raw(),
                T::TYPE,
                &Link::<T>::OPS,
                prog.as_raw(),
                attach_type,
            )
        };

        let mut primer = MaybeUninit::uninit();
        // SAFETY: The link is initialised, and `primer` valid for writes.
        to_result(unsafe { bindings::bpf_link_prime(link.as_raw(), primer.as_mut_ptr()) })?;

        // The file has the link now, which `dealloc_callback()` frees.
        let _ = KBox::into_raw(link);
        // INVARIANT: The link gets its reference to the program.
        let _ = ARef::into_raw(ARef::from(prog));

        Ok(Self {
            // INVARIANT: `bpf_link_prime()` succeeded.
            // SAFETY: So it has initialised all of it.
            primer: unsafe { primer.assume_init() },
            _p: PhantomData,
        })
    }

    /// Returns the link.
    pub fn link(&self) -> &Link<T> {
        // SAFETY: By the type invariants, the primer's link is of this kind, and stays while its
        // file does, which is ours.
        unsafe { Link::from_raw(self.primer.link) }
    }

    /// Makes the link visible, and returns its file descriptor.
    pub fn settle(self) -> c_int {
        let mut this = ManuallyDrop::new(self);

        // SAFETY: By the type invariants, the link has been primed; it is settled once.
        unsafe { bindings::bpf_link_settle(&mut this.primer) }
    }
}

impl<T: LinkOps> Drop for Primed<T> {
    fn drop(&mut self) {
        // SAFETY: Nobody else knows the link yet.
        let prog = NonNull::from(unsafe { self.link().prog() });

        // SAFETY: By the type invariants, the link has been primed, and not settled: else this
        // would not run.
        unsafe { bindings::bpf_link_cleanup(&mut self.primer) };

        // SAFETY: `bpf_link_cleanup()` made the link forget its program, without giving back the
        // reference that `Primed::new` took.
        drop(unsafe { ARef::from_raw(prog) });
    }
}
