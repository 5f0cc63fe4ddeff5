// SPDX-License-Identifier: GPL-2.0

//! Kinds of network devices that users create, change, show and delete by rtnetlink
//! (`ip link add type KIND`).
//!
//! A driver implements [`LinkOps`], keeps a static [`LinkTable`], and holds a [`Registration`] of
//! it for as long as the kind is to be there.
//!
//! C header: [`include/net/rtnetlink.h`](srctree/include/net/rtnetlink.h)

use crate::{
    bindings,
    error::{
        from_err_ptr,
        from_result,
        to_result,
        VTABLE_DEFAULT_ERROR, //
    },
    net::{
        device::{
            unregister_if_registered,
            Device,
            Driver,
            KillList,
            Name,
            NewDevice,
            NewLink,
            Private,
            Queues,
            Setup,
            UnregisteredDevice, //
        },
        ext_ack::ExtAck,
        namespace::Namespace,
        nlattr::{
            AttrSet,
            Family,
            Key,
            MsgWriter,
            Validated, //
        },
        rtnl::Rtnl, //
    },
    prelude::*,
    str::as_char_ptr_in_const_context,
    sync::atomic::{
        Acquire,
        Atomic,
        Release, //
    },
    types::Opaque, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

mod attrs;

pub use attrs::{
    LinkAttrs,
    PeerAttr,
    PeerInfo, //
};

/// A request to create a link. `'a` is the lifetime of the request.
pub struct NewLinkParams<'a, T: LinkOps> {
    /// The attributes of links of all kinds, those of the second device not included.
    pub link: AttrSet<'a, LinkAttrs>,
    /// The attributes of this kind.
    pub data: AttrSet<'a, T::Attrs>,
    /// The namespace that the second device of a pair goes to.
    pub peer_net: &'a Namespace,
    /// Where to say why the request is refused.
    pub extack: ExtAck<'a>,
    /// The table of the kind, which is registered, and stays so while the request is handled.
    table: NonNull<bindings::rtnl_link_ops>,
}

/// The operations of a kind of links. C: `struct rtnl_link_ops`.
///
/// They may sleep, unless they say otherwise.
#[vtable]
pub trait LinkOps: Driver {
    /// The attributes of the kind, which are what `ip link add type KIND` is followed by.
    type Attrs: Validated;

    /// The name of the kind.
    const KIND: &'static CStr;

    /// The attribute that describes the second device of a pair.
    const PEER_ATTR: Option<Key<Self::Attrs, PeerAttr>> = None;

    /// The numbers of transmit and receive queues that a user may ask for.
    const MAX_QUEUES: Queues = Queues { tx: 4096, rx: 4096 };

    /// The number of queues that are in use at first, if it is not all of them; at least one of
    /// each kind.
    const REAL_QUEUES: Option<Queues> = None;

    /// Returns the table of the kind: a static that the driver defines.
    fn table() -> &'static LinkTable<Self>;

    /// Checks the attributes of a request, before it is looked at any further.
    ///
    /// Called without the RTNL; for the attributes of the second device of a pair, once more by
    /// themselves.
    fn validate<'a>(
        _link: AttrSet<'a, LinkAttrs>,
        _data: AttrSet<'a, Self::Attrs>,
        _extack: ExtAck<'a>,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Creates a link: completes and registers the device.
    ///
    /// On failure nothing may be left behind, but `dev`, which the caller frees.
    fn new_link<'a>(
        dev: NewDevice<'a, Self>,
        params: &NewLinkParams<'_, Self>,
        rtnl: &'a Rtnl,
    ) -> Result<NewLink<'a, Self>>;

    /// Changes a link. Without this, links of the kind cannot be changed.
    fn change_link<'a>(
        _dev: &Device<Self>,
        _data: AttrSet<'a, Self::Attrs>,
        _extack: ExtAck<'a>,
        _rtnl: &Rtnl,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Deletes a link: adds its device, and those that go with it, to the list. The device itself
    /// goes even if it is not added.
    fn delete_link(dev: &Device<Self>, kill: &mut KillList<'_>, rtnl: &Rtnl) {
        kill.add(dev, rtnl);
    }

    /// Returns the namespace of what the link is linked to. Called under RCU too; must not sleep.
    fn link_net<'r>(_dev: &Device<Self>, _rtnl: &'r Rtnl) -> &'r Namespace {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the room that [`LinkOps::report`] needs at most, in bytes. Called under RCU; must
    /// not sleep.
    fn report_room() -> usize {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Reports the link's attributes.
    fn report(_dev: &Device<Self>, _msg: &mut MsgWriter<'_>, _rtnl: &Rtnl) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

impl<'a, T: LinkOps> UnregisteredDevice<'a, T> {
    /// Allocates the second device of a pair that is asked for, and applies the attributes to it
    /// that links of all kinds have, as if it had been asked for on its own.
    ///
    /// The request proves that the kind is registered: when it no longer is, its devices go.
    pub fn create(
        params: &NewLinkParams<'_, T>,
        name: &Name,
        attrs: AttrSet<'_, LinkAttrs>,
        _rtnl: &'a Rtnl,
    ) -> Result<Self> {
        // SAFETY: The RTNL is held, the table is that of this kind and registered, and the
        // attributes are those of links, all of which were validated.
        let dev = from_err_ptr(unsafe {
            bindings::rtnl_create_link(
                params.peer_net.as_raw(),
                name.as_ptr(),
                name.assigned(),
                params.table.as_ptr(),
                attrs.as_raw(),
                params.extack.as_raw(),
            )
        })?;

        // SAFETY: The device was allocated and set up by our own `alloc`, for us.
        Ok(unsafe { Self::from_raw(NonNull::new(dev).ok_or(ENOMEM)?) })
    }
}

/// The table of a kind of links, for a static of the driver.
pub struct LinkTable<T: LinkOps> {
    ops: Opaque<bindings::rtnl_link_ops>,
    /// C initialises parts of the table when it is registered, which must not happen while it is.
    registered: Atomic<bool>,
    _p: PhantomData<fn() -> T>,
}

// SAFETY: The parts of the table that change are synchronised by C.
unsafe impl<T: LinkOps> Sync for LinkTable<T> {}

impl<T: LinkOps> LinkTable<T> {
    /// Makes the table of kind `T`.
    #[expect(clippy::new_without_default, reason = "is of use in a static only")]
    pub const fn new() -> Self {
        Self {
            ops: Opaque::new(Self::OPS),
            registered: Atomic::new(false),
            _p: PhantomData,
        }
    }

    fn as_raw(&'static self) -> *mut bindings::rtnl_link_ops {
        self.ops.get()
    }

    const OPS: bindings::rtnl_link_ops = bindings::rtnl_link_ops {
        kind: as_char_ptr_in_const_context(T::KIND),
        priv_size: size_of::<Private<T>>(),
        alloc: Some(Self::alloc),
        setup: Some(Self::setup),
        peer_type: match T::PEER_ATTR {
            Some(key) => key.number(),
            None => 0,
        },
        maxtype: T::Attrs::MAX as c_uint,
        policy: {
            assert!(T::Attrs::POLICY.len() == T::Attrs::MAX + 1);
            T::Attrs::POLICY.as_ptr().cast()
        },
        validate: if T::HAS_VALIDATE {
            Some(Self::validate)
        } else {
            None
        },
        newlink: Some(Self::newlink),
        changelink: if T::HAS_CHANGE_LINK {
            Some(Self::changelink)
        } else {
            None
        },
        dellink: Some(Self::dellink),
        get_link_net: if T::HAS_LINK_NET {
            Some(Self::get_link_net)
        } else {
            None
        },
        get_size: if T::HAS_REPORT_ROOM {
            Some(Self::get_size)
        } else {
            None
        },
        fill_info: if T::HAS_REPORT {
            Some(Self::fill_info)
        } else {
            None
        },
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `name` must be a NUL-terminated string that is shorter than `IFNAMSIZ`.
    unsafe extern "C" fn alloc(
        _tb: *mut *mut bindings::nlattr,
        name: *const c_char,
        name_assign_type: c_uchar,
        tx: c_uint,
        rx: c_uint,
    ) -> *mut bindings::net_device {
        const_assert!(
            size_of::<Private<T>>() <= c_int::MAX as usize,
            "C takes the size for an int"
        );
        const_assert!(
            match T::REAL_QUEUES {
                Some(real) => real.tx > 0 && real.rx > 0,
                None => true,
            },
            "C looks for the queue of a packet until it finds one"
        );

        if tx > T::MAX_QUEUES.tx || rx > T::MAX_QUEUES.rx {
            return EOPNOTSUPP.to_ptr();
        }

        // SAFETY: The caller guarantees that the name is valid; `setup` is as it must be.
        let dev = unsafe {
            bindings::alloc_netdev_mqs(
                size_of::<Private<T>>() as c_int,
                name,
                name_assign_type,
                Some(Self::setup),
                tx,
                rx,
            )
        };

        if let (false, Some(real)) = (dev.is_null(), T::REAL_QUEUES) {
            // SAFETY: The device has just been allocated and set up, and is nobody else's.
            let setup = unsafe { Setup::<T>::from_raw(dev) };

            setup.set_real_queues(Queues {
                tx: real.tx.min(tx),
                rx: real.rx.min(rx),
            });
        }
        dev
    }

    /// # Safety
    ///
    /// Must be called by `alloc_netdev_mqs()`, as `alloc` asks it to.
    unsafe extern "C" fn setup(dev: *mut bindings::net_device) {
        // SAFETY: `alloc` asks for private memory of the right size.
        unsafe { Setup::<T>::init(dev) };
    }

    /// # Safety
    ///
    /// The tables must be null, or as the parser fills them for this kind; `extack` null or valid.
    unsafe extern "C" fn validate(
        tb: *mut *mut bindings::nlattr,
        data: *mut *mut bindings::nlattr,
        extack: *mut bindings::netlink_ext_ack,
    ) -> c_int {
        // SAFETY: The caller guarantees that the table is as it must be.
        let link = unsafe { AttrSet::from_raw(tb) };
        // SAFETY: As above.
        let data = unsafe { AttrSet::from_raw(data) };
        // SAFETY: The caller guarantees that it is null or valid.
        let extack = unsafe { ExtAck::from_raw(extack) };

        from_result(|| T::validate(link, data, extack).map(|()| 0))
    }

    /// # Safety
    ///
    /// `dev` must be a device that was made by `alloc`, for the table that it refers to, is not
    /// registered, and is freed by the caller on failure; `params` must be valid and `extack` null
    /// or valid, with the RTNL held.
    unsafe extern "C" fn newlink(
        raw: *mut bindings::net_device,
        params: *mut bindings::rtnl_newlink_params,
        extack: *mut bindings::netlink_ext_ack,
    ) -> c_int {
        // SAFETY: The caller guarantees that the RTNL is held.
        let rtnl = unsafe { Rtnl::assume_held() };
        // SAFETY: The caller guarantees that the device is as it must be, hence not null.
        let dev = unsafe { NewDevice::from_raw(NonNull::new_unchecked(raw)) };
        let params = NewLinkParams {
            // SAFETY: The caller guarantees that `params` is valid, and its tables are as the
            // parser fills them.
            link: unsafe { AttrSet::from_raw((*params).tb) },
            // SAFETY: As above.
            data: unsafe { AttrSet::from_raw((*params).data) },
            // SAFETY: As above; the request holds a reference to the namespace.
            peer_net: unsafe { Namespace::from_raw(bindings::rtnl_newlink_peer_net(params)) },
            // SAFETY: The caller guarantees that it is null or valid.
            extack: unsafe { ExtAck::from_raw(extack) },
            // SAFETY: The caller guarantees that the device refers to its table.
            table: unsafe { NonNull::new_unchecked((*raw).rtnl_link_ops.cast_mut()) },
        };

        match T::new_link(dev, &params, rtnl).and_then(NewLink::keep) {
            Ok(()) => 0,
            Err(error) => {
                // If the driver gives the device up after it has registered it, the device is being
                // unregistered now, and the caller's `free_netdev()` leaves it alone. One that was
                // forgotten rather than dropped is still registered.
                // SAFETY: The caller guarantees that the device is valid.
                unsafe { unregister_if_registered(raw, rtnl) };
                error.to_errno()
            }
        }
    }

    /// # Safety
    ///
    /// `dev` must be a device of this kind; the tables must be null, or as the parser fills them
    /// for this kind; `extack` must be null or valid, and the RTNL must be held.
    unsafe extern "C" fn changelink(
        dev: *mut bindings::net_device,
        _tb: *mut *mut bindings::nlattr,
        data: *mut *mut bindings::nlattr,
        extack: *mut bindings::netlink_ext_ack,
    ) -> c_int {
        // SAFETY: The caller guarantees that the RTNL is held.
        let rtnl = unsafe { Rtnl::assume_held() };
        // SAFETY: The caller guarantees that the device is valid and of this kind.
        let dev = unsafe { Device::from_raw(dev) };
        // SAFETY: The caller guarantees that the table is as it must be.
        let data = unsafe { AttrSet::from_raw(data) };
        // SAFETY: The caller guarantees that it is null or valid.
        let extack = unsafe { ExtAck::from_raw(extack) };

        from_result(|| T::change_link(dev, data, extack, rtnl).map(|()| 0))
    }

    /// # Safety
    ///
    /// `dev` must be a device of this kind that is on no list to be unregistered but `head`, which
    /// the caller unregisters under the RTNL; that must be held.
    unsafe extern "C" fn dellink(dev: *mut bindings::net_device, head: *mut bindings::list_head) {
        // SAFETY: The caller guarantees that the RTNL is held.
        let rtnl = unsafe { Rtnl::assume_held() };
        // SAFETY: The caller guarantees that the device is valid and of this kind.
        let dev = unsafe { Device::from_raw(dev) };
        // SAFETY: The caller guarantees that the list is valid and will be seen to, and that no
        // other one has the device.
        let mut kill = unsafe {
            KillList::move_to_end(head, dev, rtnl);
            KillList::from_raw(head)
        };

        T::delete_link(dev, &mut kill, rtnl);
        // C frees the namespace, or the driver, on the assumption that the device has gone.
        kill.add(dev, rtnl);
    }

    /// # Safety
    ///
    /// `dev` must be a device of this kind, with the RTNL held.
    unsafe extern "C" fn get_link_net(dev: *const bindings::net_device) -> *mut bindings::net {
        // SAFETY: The caller guarantees that the RTNL is held.
        let rtnl = unsafe { Rtnl::assume_held() };
        // SAFETY: The caller guarantees that the device is valid and of this kind.
        let dev = unsafe { Device::from_raw(dev.cast_mut()) };

        T::link_net(dev, rtnl).as_raw()
    }

    /// # Safety
    ///
    /// None beyond the types.
    unsafe extern "C" fn get_size(_dev: *const bindings::net_device) -> usize {
        T::report_room()
    }

    /// # Safety
    ///
    /// `dev` must be a device of this kind, `skb` a message that only the caller uses, with the
    /// RTNL held.
    unsafe extern "C" fn fill_info(
        skb: *mut bindings::sk_buff,
        dev: *const bindings::net_device,
    ) -> c_int {
        // SAFETY: The caller guarantees that the RTNL is held.
        let rtnl = unsafe { Rtnl::assume_held() };
        // SAFETY: The caller guarantees that the device is valid and of this kind.
        let dev = unsafe { Device::from_raw(dev.cast_mut()) };
        // SAFETY: The caller guarantees that the message is valid, hence not null.
        let mut msg = unsafe { MsgWriter::from_raw(NonNull::new_unchecked(skb)) };

        from_result(|| T::report(dev, &mut msg, rtnl).map(|()| 0))
    }
}

/// A kind of links that users can create, for as long as this lives.
///
/// Dropping it deletes all links of the kind, for which it takes the RTNL.
///
/// # Examples
///
/// ```
/// # use kernel::net::{
/// #     device::{Device, Driver, LockClasses, NewDevice, NewLink, Ops, Setup},
/// #     link_ops::{LinkOps, LinkTable, NewLinkParams, Registration},
/// #     rtnl::Rtnl,
/// #     skbuff::{SkBuff, TxContext, XmitResult},
/// # };
/// # use kernel::nl_attributes;
/// struct Sink;
///
/// static TABLE: LinkTable<Sink> = LinkTable::new();
///
/// nl_attributes! {
///     /// There is nothing to configure.
///     struct NoAttrs(max = 0) {}
/// }
///
/// #[vtable]
/// impl LinkOps for Sink {
///     type Attrs = NoAttrs;
///
///     const KIND: &'static CStr = c"rust_sink";
///
///     fn table() -> &'static LinkTable<Self> {
///         &TABLE
///     }
///
///     fn new_link<'a>(
///         dev: NewDevice<'a, Self>,
///         _params: &NewLinkParams<'_, Self>,
///         rtnl: &'a Rtnl,
///     ) -> Result<NewLink<'a, Self>> {
///         dev.register(rtnl)
///     }
/// }
///
/// // `impl Driver for Sink` is left out here, see `Ops`.
/// # static LOCKS: LockClasses<Sink> = LockClasses::new();
/// # static OPS: Ops<Sink> = Ops::new(&LOCKS);
/// # #[vtable]
/// # impl Driver for Sink {
/// #     type Data = ();
/// #     type Hook = ();
/// #     const NAME: &'static CStr = c"sink";
/// #     fn ops() -> &'static Ops<Self> {
/// #         &OPS
/// #     }
/// #     fn data() -> impl PinInit<()> {
/// #         pin_init::init_zeroed()
/// #     }
/// #     fn setup(_dev: &Setup<Self>) {}
/// #     fn start_xmit(_dev: &Device<Self>, skb: SkBuff, _context: &TxContext) -> XmitResult {
/// #         skb.consume();
/// #         XmitResult::Sent
/// #     }
/// # }
/// let links = Registration::<Sink>::new()?;
///
/// // `ip link add type rust_sink` works now. There cannot be two such kinds.
/// assert!(Registration::<Sink>::new().is_err());
///
/// drop(links);
/// assert!(Registration::<Sink>::new().is_ok());
/// # Ok::<(), Error>(())
/// ```
///
/// # Invariants
///
/// The table is registered, by this object.
pub struct Registration<T: LinkOps>(&'static LinkTable<T>);

impl<T: LinkOps> Registration<T> {
    /// Registers the kind. Takes the RTNL.
    ///
    /// Returns [`EEXIST`] if there is such a kind already.
    pub fn new() -> Result<Self> {
        let table = T::table();

        if table.registered.xchg(true, Acquire) {
            return Err(EEXIST);
        }

        // SAFETY: The table lives in a static, is not registered, and no module is unloaded before
        // what it has registered is dropped.
        to_result(unsafe { bindings::rtnl_link_register(table.as_raw()) })
            .inspect_err(|_| table.registered.store(false, Release))?;

        // INVARIANT: The table has just been registered.
        Ok(Self(table))
    }
}

impl<T: LinkOps> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the table is registered.
        unsafe { bindings::rtnl_link_unregister(self.0.as_raw()) };

        self.0.registered.store(false, Release);
    }
}
