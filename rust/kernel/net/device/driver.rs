// SPDX-License-Identifier: GPL-2.0

//! What a driver of network devices implements.
//!
//! C header: [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h)

use super::{
    programs::Slot,
    setup::PcpuStats,
    Device,
    Ops,
    Setup, //
};
use crate::{
    bindings,
    error::{
        to_result,
        VTABLE_DEFAULT_ERROR, //
    },
    net::{
        ext_ack::ExtAck,
        queue::{
            AddedQueue,
            Locked, //
        },
        rtnl::Rtnl,
        skbuff::{
            SkBuff,
            TxContext,
            XmitResult, //
        },
    },
    prelude::*, //
};
use core::marker::PhantomData;

/// A driver of network devices.
///
/// The implementing type stands for the driver; what belongs to one device is [`Driver::Data`].
///
/// The operations, apart from [`Driver::start_xmit`], may sleep unless they say otherwise. If the
/// driver has [`Driver::create_queue`], those that open, stop and configure a device are called
/// with its instance lock held.
///
/// C: `struct net_device_ops`.
#[vtable]
pub trait Driver: Sized + 'static {
    /// The private data of one device.
    ///
    /// It is shared with all CPUs once the device is registered, and must not need to be dropped.
    type Data: Sync;

    /// Where programs are attached to a device: [`Hook`](crate::bpf::mprog::Hook)`<Device<Self>>`
    /// for a driver that runs programs, otherwise `()`.
    type Hook: Slot;

    /// The name of the driver, as `ethtool -i` shows it.
    const NAME: &'static CStr;

    /// The counters that the stack keeps for each device.
    const STATS: PcpuStats = PcpuStats::None;

    /// Whether a device needs no filter for the addresses that it receives: it takes what it gets.
    const RECEIVES_ALL: bool = false;

    /// Whether a device hands packets to another one of this host, with offloads as they are.
    const PASSTHRU_FEATURES: bool = false;

    /// Returns the driver's operations: a static that the driver defines.
    ///
    /// Devices are told by its address to belong to this driver.
    fn ops() -> &'static Ops<Self>;

    /// Initialises the private data.
    fn data() -> impl PinInit<Self::Data>;

    /// Gives a device the properties that all devices of the driver have in common.
    ///
    /// It has those of an Ethernet device already (`ether_setup()`).
    fn setup(dev: &Setup<Self>);

    /// Transmits a packet.
    ///
    /// Called with bottom halves disabled and under RCU; must not sleep. Netpoll, which would call
    /// it otherwise, is refused.
    fn start_xmit(dev: &Device<Self>, skb: SkBuff, context: &TxContext) -> XmitResult;

    /// Called when the interface is set up.
    fn open(_dev: &Device<Self>, _rtnl: &Rtnl) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called when the interface is set down.
    fn stop(_dev: &Device<Self>, _rtnl: &Rtnl) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Reports statistics. May be called under RCU; must not sleep.
    fn get_stats(_dev: &Device<Self>, _stats: &mut LinkStats<'_>) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the index of the interface that this one is linked to, 0 if it is not.
    ///
    /// May be called under RCU; must not sleep.
    fn iflink(_dev: &Device<Self>) -> i32 {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called when a device on top of this one wants headroom in the packets that it is given, in
    /// bytes, or takes the wish back: then it is what the kernel reserves by default. Must not
    /// sleep.
    fn set_rx_headroom(_dev: &Device<Self>, _headroom: u32) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called when a user changes the hardware address. Without this, it cannot be changed.
    fn set_mac_address(_change: MacChange<'_, Self>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Makes one more receive queue, for which a queue of a physical device is then leased. The
    /// devices of a driver that has this are virtual.
    ///
    /// Called with the instance locks of both devices held, and without the RTNL. When the physical
    /// device goes, it waits for its leases to end: the driver deletes its lessees when it is told
    /// of that by a [`Notifier`](crate::net::notifier::Notifier).
    fn create_queue<'a>(_dev: &'a Locked<'_, Self>, _extack: ExtAck<'_>) -> Result<AddedQueue<'a>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Tells whether XDP sockets may be put on queues that the device has leased, where the
    /// physical device serves them, without copying; fails if not.
    ///
    /// A driver that has this has [`Driver::create_queue`] too.
    fn accept_xsk(_dev: &Locked<'_, Self>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// A change of the hardware address, which a driver can apply or refuse.
pub struct MacChange<'a, T: Driver> {
    pub(super) dev: &'a Device<T>,
    pub(super) address: *mut c_void,
}

impl<'a, T: Driver> MacChange<'a, T> {
    /// Returns the device whose address is to be changed.
    #[inline]
    pub fn device(&self) -> &'a Device<T> {
        self.dev
    }

    /// Checks the address, and sets it. C: `eth_mac_addr()`.
    pub fn apply(self) -> Result {
        // SAFETY: Only `ndo_set_mac_address` makes such objects, of what it was called with.
        to_result(unsafe { bindings::eth_mac_addr(self.dev.as_raw(), self.address) })
    }
}

/// Statistics of a device, being reported.
///
/// # Invariants
///
/// The pointer is valid for writes during `'a`, and used by nobody else. It need not be aligned:
/// the statistics may lie in a netlink message.
pub struct LinkStats<'a>(
    pub(super) *mut bindings::rtnl_link_stats64,
    pub(super) PhantomData<&'a mut bindings::rtnl_link_stats64>,
);

impl LinkStats<'_> {
    /// Adds up what [`Device::count_tx`] and [`Device::count_rx`] have counted on all CPUs.
    pub fn add_traffic<T: Driver>(&mut self, dev: &Device<T>) {
        const_assert!(matches!(T::STATS, PcpuStats::Traffic));

        // SAFETY: A device whose driver asks for these counters has them once it is registered.
        let stats = unsafe { (*dev.as_raw()).__bindgen_anon_2.tstats };

        // SAFETY: As above. By the type invariants, `self` is valid for writes; C copes with what
        // alignment the statistics have in a message.
        unsafe { bindings::dev_fetch_sw_netstats(self.0, stats) };
    }

    /// Takes over the number of packets that the device, not the stack, has dropped on transmit.
    ///
    /// The stack adds what [`Device::count_tx_dropped`] has counted by itself.
    pub fn set_tx_dropped<T: Driver>(&mut self, dev: &Device<T>) {
        // SAFETY: The device is valid; the counter is atomic.
        let dropped = unsafe { bindings::dev_stats_read_tx_dropped(dev.as_raw()) };

        // SAFETY: By the type invariants, `self` is valid for writes.
        unsafe { (&raw mut (*self.0).tx_dropped).write_unaligned(dropped) };
    }
}
