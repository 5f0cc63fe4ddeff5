// SPDX-License-Identifier: GPL-2.0

//! The operations of a network device, as C calls them.
//!
//! C headers: [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h),
//! [`include/linux/ethtool.h`](srctree/include/linux/ethtool.h)

use super::{
    programs::Slot,
    setup::private,
    Device,
    Driver,
    LinkStats,
    MacChange, //
};
use crate::{
    bindings,
    error::from_result,
    net::{
        ext_ack::ExtAck,
        queue::{
            end_leases,
            Locked, //
        },
        rtnl::Rtnl,
        skbuff::{
            SkBuff,
            TxContext, //
        },
        xsk::{
            self,
            Command, //
        },
    },
    prelude::*,
    sync::rcu,
    types::Opaque, //
};
use core::{
    marker::PhantomData,
    mem::size_of, //
};

/// The operations of a driver, for a static of the driver.
///
/// # Examples
///
/// ```
/// use kernel::net::{
///     device::{Device, Driver, LockClasses, Ops, Setup},
///     skbuff::{SkBuff, TxContext, XmitResult},
/// };
///
/// /// Devices that swallow what they are given.
/// struct Sink;
///
/// static SINK_LOCKS: LockClasses<Sink> = LockClasses::new();
/// static SINK_OPS: Ops<Sink> = Ops::new(&SINK_LOCKS);
///
/// #[vtable]
/// impl Driver for Sink {
///     type Data = ();
///     type Hook = ();
///
///     const NAME: &'static CStr = c"sink";
///
///     fn ops() -> &'static Ops<Self> {
///         &SINK_OPS
///     }
///
///     fn data() -> impl PinInit<()> {
///         pin_init::init_zeroed()
///     }
///
///     fn setup(_dev: &Setup<Self>) {}
///
///     fn start_xmit(_dev: &Device<Self>, skb: SkBuff, _context: &TxContext) -> XmitResult {
///         skb.consume();
///         XmitResult::Sent
///     }
/// }
/// ```
#[repr(C)]
pub struct Ops<T: Driver> {
    netdev: bindings::net_device_ops,
    ethtool: bindings::ethtool_ops,
    queues: bindings::netdev_queue_mgmt_ops,
    locks: &'static LockClasses<T>,
}

// SAFETY: The tables are constant.
unsafe impl<T: Driver> Sync for Ops<T> {}

/// The lock classes of the devices of a driver, for a static of the driver.
///
/// Devices can be stacked, and then the locks of one are taken under those of the other; with
/// classes of their own for each driver, lockdep does not take that for a recursion.
///
/// They are apart from [`Ops`], which as a constant lies in memory that cannot be written to. It
/// differs from that of all other drivers by referring to them, as constants that are alike may be
/// one in memory.
pub struct LockClasses<T: Driver> {
    tx_busylock: Opaque<bindings::lock_class_key>,
    xmit_lock: Opaque<bindings::lock_class_key>,
    addr_list_lock: Opaque<bindings::lock_class_key>,
    instance_lock: Opaque<bindings::lock_class_key>,
    /// Without lockdep, the keys are empty, and would need no place of their own.
    _place: u8,
    _p: PhantomData<fn() -> T>,
}

// SAFETY: The keys belong to lockdep, which synchronises itself.
unsafe impl<T: Driver> Sync for LockClasses<T> {}

impl<T: Driver> LockClasses<T> {
    /// Makes lock classes.
    #[expect(clippy::new_without_default, reason = "is of use in a static only")]
    pub const fn new() -> Self {
        Self {
            tx_busylock: Opaque::zeroed(),
            xmit_lock: Opaque::zeroed(),
            addr_list_lock: Opaque::zeroed(),
            instance_lock: Opaque::zeroed(),
            _place: 0,
            _p: PhantomData,
        }
    }
}

impl<T: Driver> Ops<T> {
    /// Makes the operations of driver `T`, whose devices have these lock classes.
    pub const fn new(locks: &'static LockClasses<T>) -> Self {
        Self {
            netdev: Self::NETDEV,
            ethtool: Self::ETHTOOL,
            queues: Self::QUEUES,
            locks,
        }
    }

    /// Lets other parts of the stack ask a device for its peer.
    ///
    /// They call `entry`, which [`peer_entry!`](crate::net::device::peer_entry) makes.
    pub const fn with_peer_entry(mut self, entry: PeerEntry<T>) -> Self {
        self.netdev.ndo_get_peer_dev = Some(entry.0);
        self
    }

    #[inline(always)]
    pub(super) fn netdev(&'static self) -> &'static bindings::net_device_ops {
        &self.netdev
    }

    #[inline(always)]
    pub(super) fn ethtool(&'static self) -> &'static bindings::ethtool_ops {
        &self.ethtool
    }

    /// Returns the operations on queues, if the driver has any.
    pub(super) fn queues(&'static self) -> Option<&'static bindings::netdev_queue_mgmt_ops> {
        T::HAS_CREATE_QUEUE.then_some(&self.queues)
    }

    const QUEUES: bindings::netdev_queue_mgmt_ops = bindings::netdev_queue_mgmt_ops {
        ndo_queue_create: if T::HAS_CREATE_QUEUE {
            Some(Self::queue_create)
        } else {
            None
        },
        ..pin_init::zeroed()
    };

    const ETHTOOL: bindings::ethtool_ops = bindings::ethtool_ops {
        get_drvinfo: Some(Self::get_drvinfo),
        ..pin_init::zeroed()
    };

    const NETDEV: bindings::net_device_ops = bindings::net_device_ops {
        ndo_init: Some(Self::init),
        ndo_uninit: Some(Self::uninit),
        ndo_open: if T::HAS_OPEN { Some(Self::open) } else { None },
        ndo_stop: if T::HAS_STOP { Some(Self::stop) } else { None },
        ndo_start_xmit: Some(Self::start_xmit),
        ndo_features_check: if T::PASSTHRU_FEATURES {
            Some(bindings::passthru_features_check)
        } else {
            None
        },
        ndo_set_rx_mode_async: if T::RECEIVES_ALL {
            Some(Self::set_rx_mode)
        } else {
            None
        },
        ndo_set_mac_address: if T::HAS_SET_MAC_ADDRESS {
            Some(Self::set_mac_address)
        } else {
            None
        },
        ndo_get_stats64: if T::HAS_GET_STATS {
            Some(Self::get_stats)
        } else {
            None
        },
        ndo_get_iflink: if T::HAS_IFLINK {
            Some(Self::get_iflink)
        } else {
            None
        },
        ndo_set_rx_headroom: if T::HAS_SET_RX_HEADROOM {
            Some(Self::set_rx_headroom)
        } else {
            None
        },
        ndo_bpf: if T::HAS_ACCEPT_XSK {
            Some(Self::bpf)
        } else {
            None
        },
        ndo_xsk_wakeup: if T::HAS_ACCEPT_XSK {
            Some(Self::xsk_wakeup)
        } else {
            None
        },
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `dev` must be a device of driver `T` that is being registered.
    unsafe extern "C" fn init(dev: *mut bindings::net_device) -> c_int {
        let locks = T::ops().locks;

        // SAFETY: The caller guarantees that the device is valid and its queues are allocated. The
        // keys live in a static.
        unsafe {
            bindings::netdev_lockdep_set_keys(
                dev,
                locks.tx_busylock.get(),
                locks.xmit_lock.get(),
                locks.addr_list_lock.get(),
                locks.instance_lock.get(),
            )
        };
        0
    }

    /// # Safety
    ///
    /// `dev` must be a device of driver `T` that is being unregistered, or whose registration has
    /// failed after [`Self::init`], with the RTNL held.
    unsafe extern "C" fn uninit(dev: *mut bindings::net_device) {
        // SAFETY: The caller guarantees that the device is valid, of this driver, and has come as
        // far as `init()`.
        let dev = unsafe { Device::<T>::from_raw(dev) };
        // SAFETY: The caller guarantees that the RTNL is held.
        let rtnl = unsafe { Rtnl::assume_held() };

        dev.part(rtnl);
        private(dev).hook.close(rtnl);
        if T::HAS_CREATE_QUEUE {
            end_leases(dev, rtnl);
        }
    }

    /// # Safety
    ///
    /// `dev` must be a device of driver `T`, with the RTNL held.
    unsafe extern "C" fn open(dev: *mut bindings::net_device) -> c_int {
        // SAFETY: The caller guarantees that the device is valid and of this driver.
        let dev = unsafe { Device::<T>::from_raw(dev) };
        // SAFETY: The caller guarantees that the RTNL is held.
        let rtnl = unsafe { Rtnl::assume_held() };

        from_result(|| T::open(dev, rtnl).map(|()| 0))
    }

    /// # Safety
    ///
    /// `dev` must be a device of driver `T`, with the RTNL held.
    unsafe extern "C" fn stop(dev: *mut bindings::net_device) -> c_int {
        // SAFETY: The caller guarantees that the device is valid and of this driver.
        let dev = unsafe { Device::<T>::from_raw(dev) };
        // SAFETY: The caller guarantees that the RTNL is held.
        let rtnl = unsafe { Rtnl::assume_held() };

        T::stop(dev, rtnl);
        0
    }

    /// # Safety
    ///
    /// `dev` must be a device of driver `T`, `skb` a packet whose ownership the caller gives up
    /// unless it gets `NETDEV_TX_BUSY`. Bottom halves must be disabled.
    unsafe extern "C" fn start_xmit(
        skb: *mut bindings::sk_buff,
        dev: *mut bindings::net_device,
    ) -> bindings::netdev_tx_t {
        // SAFETY: The caller guarantees that the device is valid and of this driver.
        let dev = unsafe { Device::<T>::from_raw(dev) };
        // SAFETY: The caller gives up the packet. What is being sent is at no `tc` ingress hook:
        // `__dev_queue_xmit()` and `generic_xdp_tx()` see to that.
        let skb = unsafe { SkBuff::from_raw(skb) };
        // SAFETY: The caller guarantees that bottom halves are disabled.
        let context = unsafe { TxContext::assume() };

        T::start_xmit(dev, skb, context).into_raw()
    }

    /// # Safety
    ///
    /// None beyond the types: there is nothing to filter.
    unsafe extern "C" fn set_rx_mode(
        _dev: *mut bindings::net_device,
        _unicast: *mut bindings::netdev_hw_addr_list,
        _multicast: *mut bindings::netdev_hw_addr_list,
    ) -> c_int {
        0
    }

    /// # Safety
    ///
    /// `dev` must be a device of driver `T`, `address` what `eth_mac_addr()` expects, and the locks
    /// that it needs must be held.
    unsafe extern "C" fn set_mac_address(
        dev: *mut bindings::net_device,
        address: *mut c_void,
    ) -> c_int {
        // SAFETY: The caller guarantees that the device is valid and of this driver.
        let dev = unsafe { Device::<T>::from_raw(dev) };

        from_result(|| T::set_mac_address(MacChange { dev, address }).map(|()| 0))
    }

    /// # Safety
    ///
    /// `dev` must be a device of driver `T`, `stats` must be valid for writes.
    unsafe extern "C" fn get_stats(
        dev: *mut bindings::net_device,
        stats: *mut bindings::rtnl_link_stats64,
    ) {
        // SAFETY: The caller guarantees that the device is valid and of this driver.
        let dev = unsafe { Device::<T>::from_raw(dev) };

        // INVARIANT: The caller guarantees that `stats` is valid for writes.
        T::get_stats(dev, &mut LinkStats(stats, PhantomData));
    }

    /// # Safety
    ///
    /// `dev` must be a device of driver `T`.
    unsafe extern "C" fn get_iflink(dev: *const bindings::net_device) -> c_int {
        // SAFETY: The caller guarantees that the device is valid and of this driver.
        T::iflink(unsafe { Device::<T>::from_raw(dev.cast_mut()) })
    }

    /// # Safety
    ///
    /// `dev` must be a device of driver `T`.
    unsafe extern "C" fn set_rx_headroom(dev: *mut bindings::net_device, bytes: c_int) {
        // SAFETY: The caller guarantees that the device is valid and of this driver.
        let dev = unsafe { Device::<T>::from_raw(dev) };
        // SAFETY: It returns a constant, `NET_SKB_PAD`.
        let default = || u32::from(unsafe { bindings::net_skb_pad() });

        T::set_rx_headroom(dev, u32::try_from(bytes).unwrap_or_else(|_| default()));
    }

    /// # Safety
    ///
    /// `dev` must be a device of driver `T` whose instance lock is held, `extack` null or valid.
    unsafe extern "C" fn queue_create(
        dev: *mut bindings::net_device,
        extack: *mut bindings::netlink_ext_ack,
    ) -> c_int {
        // SAFETY: The caller guarantees that the device is valid, of this driver, and locked; the
        // drivers of virtual devices alone have this operation.
        let dev = unsafe { Locked::assume(Device::<T>::from_raw(dev)) };
        // SAFETY: The caller guarantees that `extack` is null or valid.
        let extack = unsafe { ExtAck::from_raw(extack) };

        from_result(|| T::create_queue(&dev, extack).map(|queue| queue.index() as c_int))
    }

    /// # Safety
    ///
    /// `dev` must be a device of driver `T` whose instance lock is held, `command` valid.
    unsafe extern "C" fn bpf(
        dev: *mut bindings::net_device,
        command: *mut bindings::netdev_bpf,
    ) -> c_int {
        // C takes the instance locks of devices with operations on queues only.
        const_assert!(T::HAS_CREATE_QUEUE);

        // SAFETY: The caller guarantees that the device is valid, of this driver, and locked; the
        // drivers of virtual devices alone have this operation.
        let dev = unsafe { Locked::assume(Device::<T>::from_raw(dev)) };
        // SAFETY: The caller guarantees that the command is valid.
        let command = unsafe { Command::from_raw(command) };

        from_result(|| {
            match command {
                Command::SetupPool(pool) => {
                    // What was put in place is taken away again, whatever the driver thinks of it.
                    if pool.installs() {
                        T::accept_xsk(&dev)?;
                    }
                    let queue = dev.rx_queue(pool.queue()).ok_or(EINVAL)?;

                    pool.forward(&queue.leased().ok_or(EOPNOTSUPP)?)?;
                }
                Command::SetupProg => return Err(EOPNOTSUPP),
                Command::Other => return Err(EINVAL),
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `dev` must be a device of driver `T`.
    unsafe extern "C" fn xsk_wakeup(
        dev: *mut bindings::net_device,
        queue: u32,
        flags: u32,
    ) -> c_int {
        // SAFETY: The caller guarantees that the device is valid and of this driver.
        let dev = unsafe { Device::<T>::from_raw(dev) };
        let guard = rcu::read_lock();

        from_result(|| {
            let queue = dev.rx_queue(queue, &guard).ok_or(EINVAL)?;
            let leased = queue.leased().ok_or(EOPNOTSUPP)?;

            xsk::wake(leased, flags).map(|()| 0)
        })
    }

    /// # Safety
    ///
    /// `info` must be valid for writes.
    unsafe extern "C" fn get_drvinfo(
        _dev: *mut bindings::net_device,
        info: *mut bindings::ethtool_drvinfo,
    ) {
        const_assert!(T::NAME.to_bytes_with_nul().len() <= size_of::<[u8; 32]>());

        // SAFETY: The caller guarantees that `info` is valid; the name fits, as asserted.
        unsafe {
            core::ptr::copy_nonoverlapping(
                T::NAME.as_char_ptr(),
                (&raw mut (*info).driver).cast(),
                T::NAME.to_bytes_with_nul().len(),
            )
        };
    }

    /// Returns a device's peer, or null.
    ///
    /// For [`peer_entry!`](crate::net::device::peer_entry).
    ///
    /// # Safety
    ///
    /// `dev` must be a device of driver `T`, and the caller must be in an RCU critical section, or
    /// have disabled bottom halves, for as long as it uses the result.
    #[doc(hidden)]
    #[inline(always)]
    pub unsafe fn peer_of(dev: *mut bindings::net_device) -> *mut bindings::net_device {
        // SAFETY: The caller guarantees that the device is valid and of this driver.
        let dev = unsafe { Device::<T>::from_raw(dev) };

        // SAFETY: The caller guarantees that no grace period ends while it uses the result.
        unsafe { dev.peer_assumed() }.map_or(core::ptr::null_mut(), |peer| peer.as_raw())
    }
}

/// The function by which other parts of the stack ask a device of driver `T` for its peer.
pub struct PeerEntry<T>(
    unsafe extern "C" fn(*mut bindings::net_device) -> *mut bindings::net_device,
    PhantomData<T>,
);

impl<T: Driver> PeerEntry<T> {
    /// Wraps the function.
    ///
    /// # Safety
    ///
    /// The function must do what [`Ops::peer_of`] does.
    #[doc(hidden)]
    pub const unsafe fn new(
        function: unsafe extern "C" fn(*mut bindings::net_device) -> *mut bindings::net_device,
    ) -> Self {
        Self(function, PhantomData)
    }
}

/// Makes the function of a driver that returns a device's peer, under a name that C knows.
///
/// Kernels that avoid indirect calls (`CONFIG_MITIGATION_RETPOLINE`) compare the operation with
/// functions that they know by name, and call these directly; so the operation must be the very
/// function that C declares. On other kernels nothing is exported.
#[doc(hidden)]
#[macro_export]
macro_rules! __net_device_peer_entry {
    ($name:ident, $driver:ty) => {{
        /// # Safety
        ///
        /// As for `kernel::net::device::Ops::peer_of`.
        #[cfg_attr(CONFIG_MITIGATION_RETPOLINE, $crate::prelude::export)]
        unsafe extern "C" fn $name(
            dev: *mut $crate::bindings::net_device,
        ) -> *mut $crate::bindings::net_device {
            // SAFETY: The caller guarantees what `peer_of()` asks for.
            unsafe { $crate::net::device::Ops::<$driver>::peer_of(dev) }
        }

        // SAFETY: The function is as `PeerEntry` wants it.
        unsafe { $crate::net::device::PeerEntry::<$driver>::new($name) }
    }};
}

#[doc(inline)]
pub use __net_device_peer_entry as peer_entry;
