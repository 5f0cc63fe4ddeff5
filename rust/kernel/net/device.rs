// SPDX-License-Identifier: GPL-2.0

//! Network devices.
//!
//! # A device's life
//!
//! A driver implements [`Driver`], and for a device that is made by `ip link add`,
//! [`LinkOps`](super::link_ops::LinkOps). Each stage of a device's life has a type of its own, that
//! offers what can be done in that stage, and is turned into the next one:
//!
//! - [`Setup`]: the memory has been allocated and holds the driver's private data; the driver sets
//!   what it wants its devices to be like.
//! - [`NewDevice`]: rtnetlink has applied the user's request; the driver adds to that, and
//!   registers the device. For a second device that a driver creates on its own,
//!   [`UnregisteredDevice`], which frees the device if it is dropped.
//! - [`Registered`]: the driver may still change its mind, which is what dropping it means.
//! - [`Device`]: the device as everybody sees it, until it goes.
//!
//! [`NetDevice`] is a device whose driver is not known.
//!
//! C headers: [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h),
//! [`include/linux/etherdevice.h`](srctree/include/linux/etherdevice.h)

use crate::{
    bindings,
    net::{
        namespace::Namespace,
        rtnl::Rtnl,
        skbuff::TxContext, //
    },
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        rcu, //
    },
    types::Opaque, //
};
use core::{
    marker::PhantomData,
    ops::Deref,
    pin::pin,
    ptr, //
};

mod driver;
mod flags;
mod forward;
mod ops;
mod peer;
mod programs;
mod setup;

pub use driver::{
    Driver,
    LinkStats,
    MacChange, //
};
pub use flags::{
    Feature,
    Features,
    Flag,
    Flags,
    PrivFlag,
    PrivFlags,
    XdpFeature,
    XdpFeatures, //
};
pub use forward::Forward;
pub use ops::{
    peer_entry,
    LockClasses,
    Ops,
    PeerEntry, //
};
use peer::Peer;
#[cfg(CONFIG_BPF_SYSCALL)]
pub use programs::RunsPrograms;
pub use programs::Slot;
pub(crate) use setup::{
    is_unregistering,
    unregister_if_registered,
    Private, //
};
pub use setup::{
    Name,
    NewDevice,
    NewLink,
    PcpuStats,
    Queues,
    Registered,
    Setup,
    UnregisteredDevice, //
};

/// The largest MTU that an Ethernet device can have, in bytes.
pub const ETH_MAX_MTU: u32 = bindings::ETH_MAX_MTU;

/// The largest packet that segmentation offload can build, in bytes.
pub const GSO_MAX_SIZE: u32 = bindings::GSO_MAX_SIZE;

/// A network device of whatever driver, C's `struct net_device`.
///
/// # Invariants
///
/// A reference to it exists only from the time that the device is being registered until its memory
/// is freed; that is, at least until the RTNL, if it is held, is released, or until the RCU
/// critical section, if we are in one, ends.
#[repr(transparent)]
pub struct NetDevice(Opaque<bindings::net_device>);

// SAFETY: What is reachable through a shared reference is constant, atomic or synchronised by C.
unsafe impl Sync for NetDevice {}

impl NetDevice {
    /// Borrows a device from its C pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a device that has come as far as `ndo_init` in its registration, and
    /// whose memory stays valid for the whole of `'a`.
    #[inline(always)]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::net_device) -> &'a Self {
        // INVARIANT: The caller guarantees it.
        // SAFETY: The caller guarantees the validity; `Self` is transparent over the C type.
        unsafe { &*ptr.cast() }
    }

    /// Returns the C pointer.
    #[inline(always)]
    pub fn as_raw(&self) -> *mut bindings::net_device {
        self.0.get()
    }

    /// Finds the device with this index in a namespace. C: `__dev_get_by_index()`.
    #[inline]
    pub fn by_index<'r>(net: &Namespace, ifindex: i32, _rtnl: &'r Rtnl) -> Option<&'r Self> {
        // SAFETY: The namespace is valid, and the RTNL is held.
        let dev = unsafe { bindings::__dev_get_by_index(net.as_raw(), ifindex) };

        // SAFETY: The device is null or registered, and a device that is unregistered is not freed
        // before the RTNL is released.
        (!dev.is_null()).then(|| unsafe { Self::from_raw(dev) })
    }

    /// Returns the device as one of driver `T`, if it is one.
    #[inline]
    pub fn downcast<T: Driver>(&self) -> Option<&Device<T>> {
        // SAFETY: By the type invariants the device is valid; its operations are set once.
        let ops = unsafe { (*self.as_raw()).netdev_ops };

        if ptr::eq(ops, T::ops().netdev()) {
            // INVARIANT: The operations are those of `T`, which its `Setup` alone puts in place.
            // Those of another driver are not in the same place, since they differ: they refer to
            // lock classes of another type.
            // SAFETY: `Device` is transparent over `NetDevice`.
            Some(unsafe { &*ptr::from_ref(self).cast() })
        } else {
            None
        }
    }

    /// Returns the index of the interface; it changes only while the device is moved to another
    /// network namespace.
    #[inline]
    pub fn ifindex(&self) -> i32 {
        // SAFETY: By the type invariants the device is valid.
        let ifindex = unsafe { &raw mut (*self.as_raw()).ifindex };

        // SAFETY: The field is aligned and valid for as long as the device, and written atomically.
        unsafe { Atomic::from_ptr(ifindex) }.load(Relaxed)
    }

    /// Returns the flags of the interface.
    #[inline(always)]
    fn flags(&self) -> u32 {
        // SAFETY: By the type invariants the device is valid.
        let flags = unsafe { &raw mut (*self.as_raw()).flags };

        // SAFETY: The field is aligned and valid for as long as the device.
        unsafe { Atomic::from_ptr(flags) }.load(Relaxed)
    }

    /// Tells whether the interface has been set up (`ip link set up`).
    #[inline(always)]
    pub fn is_up(&self) -> bool {
        self.flags() & bindings::net_device_flags_IFF_UP != 0
    }

    /// Returns the network namespace that the device is in.
    ///
    /// The device may leave it at any time; the namespace itself stays for as long as we are in the
    /// RCU critical section.
    #[inline(always)]
    pub fn net<'g>(&self, _guard: &'g rcu::Guard) -> &'g Namespace {
        // SAFETY: By the type invariants the device is valid, and it is always in a namespace.
        let net = unsafe { bindings::dev_net(self.as_raw()) };

        // SAFETY: A namespace is freed a grace period after its last device has left it.
        unsafe { Namespace::from_raw(net) }
    }

    /// Returns the network namespace that the device is in, and stays in while the RTNL is held.
    #[inline]
    pub fn net_rtnl<'r>(&self, _rtnl: &'r Rtnl) -> &'r Namespace {
        // SAFETY: By the type invariants the device is valid, and it is always in a namespace.
        let net = unsafe { bindings::dev_net(self.as_raw()) };

        // SAFETY: A device changes namespaces under the RTNL only, and its namespace outlives that.
        unsafe { Namespace::from_raw(net) }
    }

    /// Returns the headroom that packets for this device should have, in bytes.
    #[inline]
    pub fn needed_headroom(&self) -> u16 {
        // SAFETY: By the type invariants the device is valid.
        unsafe { (&raw const (*self.as_raw()).needed_headroom).read_volatile() }
    }

    /// Returns the tailroom that packets for this device should have, in bytes.
    #[inline]
    pub fn needed_tailroom(&self) -> u16 {
        // SAFETY: By the type invariants the device is valid.
        unsafe { (&raw const (*self.as_raw()).needed_tailroom).read_volatile() }
    }
}

/// A device of driver `T`.
///
/// # Invariants
///
/// Those of [`NetDevice`]; its operations are `T`'s, and its private memory holds a `Private<T>`.
#[repr(transparent)]
pub struct Device<T: Driver>(NetDevice, PhantomData<fn() -> T>);

impl<T: Driver> Device<T> {
    /// Borrows a device from its C pointer.
    ///
    /// # Safety
    ///
    /// As for [`NetDevice::from_raw`], and the device must be one of driver `T`.
    #[inline(always)]
    pub(crate) unsafe fn from_raw<'a>(ptr: *mut bindings::net_device) -> &'a Self {
        // INVARIANT: The caller guarantees it.
        // SAFETY: The caller guarantees the validity; `Self` is transparent over the C type.
        unsafe { &*ptr.cast() }
    }

    /// Returns the driver's private data of this device.
    #[inline(always)]
    pub fn data(&self) -> &T::Data {
        &setup::private(self).data
    }

    /// Returns what the programs of this device are attached to.
    #[inline(always)]
    pub fn hook(&self) -> &T::Hook {
        &setup::private(self).hook
    }

    /// Tells the stack that there is a carrier: packets can be sent.
    #[inline]
    pub fn carrier_on(&self) {
        // SAFETY: By the type invariants the device is valid.
        unsafe { bindings::netif_carrier_on(self.as_raw()) };
    }

    /// Tells the stack that there is no carrier.
    #[inline]
    pub fn carrier_off(&self) {
        // SAFETY: By the type invariants the device is valid.
        unsafe { bindings::netif_carrier_off(self.as_raw()) };
    }

    /// Sets the headroom that packets for this device should have, in bytes.
    ///
    /// Readers need no lock; those that see the former value copy the packet where they must.
    #[inline]
    pub fn set_needed_headroom(&self, bytes: u16) {
        // SAFETY: By the type invariants the device is valid; readers expect the field to change.
        unsafe { (&raw mut (*self.as_raw()).needed_headroom).write_volatile(bytes) };
    }

    /// Takes interface flags away, as a user could with `ip link set`. May sleep.
    ///
    /// Must not be called with the instance lock of the device held: it takes that itself.
    pub fn clear_flags(&self, flags: Flags, _rtnl: &Rtnl) {
        // SAFETY: By the type invariants the device is valid.
        let flags = unsafe { bindings::netif_get_flags(self.as_raw()) } & !u32::from(flags);

        // Only setting an interface up can fail.
        // SAFETY: By the type invariants the device is valid; the RTNL is held.
        let _ = unsafe { bindings::dev_change_flags(self.as_raw(), flags, ptr::null_mut()) };
    }

    /// Counts a packet that was not sent.
    #[inline(always)]
    pub fn count_tx_dropped(&self) {
        // SAFETY: By the type invariants the device is valid; the counters are per CPU.
        unsafe { bindings::dev_core_stats_tx_dropped_inc(self.as_raw()) };
    }

    /// Counts packets that this device has sent.
    #[inline(always)]
    pub fn count_tx(&self, packets: u32, bytes: u32, _context: &TxContext) {
        const_assert!(matches!(T::STATS, PcpuStats::Traffic));

        // SAFETY: A device whose driver asks for these counters has them once it is registered.
        // Bottom halves are disabled, as `_context` proves: nobody else writes to this CPU's.
        unsafe { bindings::dev_sw_netstats_tx_add(self.as_raw(), packets, bytes) };
    }

    /// Counts a packet that this device has received.
    #[inline(always)]
    pub fn count_rx(&self, bytes: u32, _context: &TxContext) {
        const_assert!(matches!(T::STATS, PcpuStats::Traffic));

        // SAFETY: As for `count_tx()`.
        unsafe { bindings::dev_sw_netstats_rx_add(self.as_raw(), bytes) };
    }
}

impl<T: Driver> Deref for Device<T> {
    type Target = NetDevice;

    #[inline(always)]
    fn deref(&self) -> &NetDevice {
        &self.0
    }
}

/// Devices that are to be unregistered together, which costs one grace period for all of them.
///
/// # Invariants
///
/// The list is valid and used by nobody else during `'a`, and whoever made it unregisters what is
/// on it before the RTNL is released.
pub struct KillList<'a>(&'a Opaque<bindings::list_head>);

impl KillList<'_> {
    /// Wraps a list that the caller of a driver's callback will unregister.
    ///
    /// # Safety
    ///
    /// `list` must be an initialised list that is used by nobody else during the lifetime of the
    /// result, and the devices on it must be unregistered before the RTNL is released.
    #[inline]
    pub unsafe fn from_raw(list: *mut bindings::list_head) -> Self {
        // INVARIANT: The caller guarantees it.
        // SAFETY: The caller guarantees the validity; `Opaque` is transparent.
        Self(unsafe { &*list.cast() })
    }

    /// Calls `f` with a list, and unregisters what it has put there. May sleep.
    ///
    /// Not for drivers: some of their operations are called while a list of devices is walked, from
    /// which none may go meanwhile.
    pub(crate) fn unregister<R>(rtnl: &Rtnl, f: impl FnOnce(&mut KillList<'_>, &Rtnl) -> R) -> R {
        let list = pin!(Opaque::<bindings::list_head>::zeroed());
        let list = list.into_ref();

        // SAFETY: The list is pinned, and ours.
        unsafe { bindings::INIT_LIST_HEAD(list.get()) };

        // INVARIANT: The list is initialised; what is on it is unregistered below.
        let result = f(&mut KillList(list.get_ref()), rtnl);

        // SAFETY: The list holds devices that are registered, and the RTNL is held.
        unsafe { bindings::unregister_netdevice_many(list.get()) };
        result
    }

    /// Adds a device of the driver.
    ///
    /// Does nothing to a device that is on such a list already, or beyond.
    pub fn add<T: Driver>(&mut self, dev: &Device<T>, rtnl: &Rtnl) {
        if setup::can_unregister(dev, rtnl) {
            // SAFETY: The device is registered and on no list, and by the type invariants ours is
            // valid and will be seen to.
            unsafe { bindings::unregister_netdevice_queue(dev.as_raw(), self.0.get()) };
        }
    }

    /// Moves a device that is on a list already to its end: it is the latest that was asked for.
    ///
    /// # Safety
    ///
    /// `list` must be valid, and the device on no other list.
    pub(super) unsafe fn move_to_end(
        list: *mut bindings::list_head,
        dev: &NetDevice,
        _rtnl: &Rtnl,
    ) {
        // SAFETY: The device is valid, and the RTNL protects the list that it may be on.
        if unsafe { bindings::unregister_netdevice_queued(dev.as_raw()) } {
            // SAFETY: The caller guarantees that the list, on which the device is, is valid.
            unsafe { bindings::unregister_netdevice_queue(dev.as_raw(), list) };
        }
    }
}
