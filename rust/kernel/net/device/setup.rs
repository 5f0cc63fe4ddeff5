// SPDX-License-Identifier: GPL-2.0

//! Network devices on their way to being registered.
//!
//! C headers: [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h),
//! [`include/net/rtnetlink.h`](srctree/include/net/rtnetlink.h)

use super::{
    Device,
    Driver,
    Features,
    Flags,
    NetDevice,
    Peer,
    PrivFlags,
    Slot,
    XdpFeatures, //
};
use crate::{
    bindings,
    error::to_result,
    net::rtnl::Rtnl,
    num::casts::{
        u32_as_usize,
        u32_into_u8, //
    },
    page::PAGE_SIZE,
    prelude::*,
    types::Opaque, //
};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::Deref,
    ptr::{
        self,
        NonNull, //
    },
};

/// What the private memory of a device holds.
#[pin_data]
#[repr(C)]
pub(crate) struct Private<T: Driver> {
    pub(super) peer: Peer<T>,
    #[pin]
    pub(super) data: T::Data,
    #[pin]
    pub(super) hook: T::Hook,
}

/// Returns where the private memory of a device lies.
///
/// The counterpart of `netdev_priv()`.
#[inline(always)]
fn private_ptr<T: Driver>(dev: *mut bindings::net_device) -> *mut Private<T> {
    // The C side aligns the private memory to a cache line within an allocation that is aligned to
    // this at least.
    const_assert!(align_of::<Private<T>>() <= bindings::ARCH_KMALLOC_MINALIGN);

    // Wrapping, since a function that is not `unsafe` cannot promise that `dev` is valid.
    dev.wrapping_byte_add(core::mem::offset_of!(bindings::net_device, priv_))
        .cast()
}

/// Returns what the private memory of a device holds.
#[inline(always)]
pub(super) fn private<T: Driver>(dev: &Device<T>) -> &Private<T> {
    // SAFETY: By the invariants of `Device` the private memory is initialised, and shared from the
    // time that the device is registered.
    unsafe { &*private_ptr::<T>(dev.as_raw()) }
}

/// Tells whether a device is registered, as one on a [`KillList`](super::KillList) still is.
#[inline]
pub(super) fn is_registered(dev: &NetDevice, _rtnl: &Rtnl) -> bool {
    // SAFETY: The device is valid.
    unsafe { reg_state(dev.as_raw()) == bindings::netdev_reg_state_NETREG_REGISTERED }
}

/// Tells whether a device is being unregistered, for good: not moved to another namespace.
#[inline]
pub(crate) fn is_unregistering(dev: &NetDevice, _rtnl: &Rtnl) -> bool {
    // SAFETY: The device is valid.
    unsafe { reg_state(dev.as_raw()) == bindings::netdev_reg_state_NETREG_UNREGISTERING }
}

/// Returns what stage of its life a device is in, which changes under the RTNL only until it is
/// unregistered.
///
/// # Safety
///
/// `dev` must be valid.
#[inline]
unsafe fn reg_state(dev: *mut bindings::net_device) -> u32 {
    // SAFETY: The caller guarantees the validity; readers expect the field to change.
    u32::from(unsafe { (&raw const (*dev).reg_state).read_volatile() })
}

/// Tells whether a device is registered and nobody is about to change that.
pub(super) fn can_unregister(dev: &NetDevice, rtnl: &Rtnl) -> bool {
    // SAFETY: The device is valid, and the RTNL protects the list that it may be on.
    is_registered(dev, rtnl) && !unsafe { bindings::unregister_netdevice_queued(dev.as_raw()) }
}

/// Unregisters a device that has been registered, if it has.
///
/// # Safety
///
/// `dev` must be valid.
pub(crate) unsafe fn unregister_if_registered(dev: *mut bindings::net_device, rtnl: &Rtnl) {
    // SAFETY: The caller guarantees that the device is valid.
    if unsafe { reg_state(dev) } == bindings::netdev_reg_state_NETREG_REGISTERED {
        // SAFETY: The device is registered, and not freed before the RTNL is released.
        unregister(unsafe { NetDevice::from_raw(dev) }, rtnl);
    }
}

/// Unregisters a device, unless that is done or about to be. Its memory is freed when the RTNL is
/// released.
fn unregister(dev: &NetDevice, rtnl: &Rtnl) {
    if can_unregister(dev, rtnl) {
        // SAFETY: The device is registered, on no list, and the RTNL is held.
        unsafe { bindings::unregister_netdevice_queue(dev.as_raw(), ptr::null_mut()) };
    }
}

/// The counters that a device keeps for each CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PcpuStats {
    /// None.
    None = bindings::netdev_stat_type_NETDEV_PCPU_STAT_NONE,
    /// Packets and bytes, received and sent.
    Traffic = bindings::netdev_stat_type_NETDEV_PCPU_STAT_TSTATS,
}

/// Numbers of queues.
#[derive(Clone, Copy)]
pub struct Queues {
    /// Transmit queues.
    pub tx: u32,
    /// Receive queues.
    pub rx: u32,
}

/// The name of an interface that is to be registered.
///
/// # Examples
///
/// ```
/// use kernel::net::device::Name;
///
/// // The kernel puts the first number that is free in place of `%d`.
/// const TEMPLATE: Name = Name::template(c"eth%d");
/// ```
#[derive(Clone, Copy)]
pub struct Name {
    /// NUL-terminated.
    bytes: [u8; Self::SIZE],
    assigned: u8,
}

impl Name {
    /// The size of a name with the terminating NUL, in bytes.
    pub const SIZE: usize = u32_as_usize(bindings::IFNAMSIZ);

    /// A name that the kernel completes. As a constant, it fails the build if it is too long.
    pub const fn template(template: &CStr) -> Self {
        let from = template.to_bytes();
        let mut bytes = [0; Self::SIZE];
        let mut i = 0;

        assert!(from.len() < Self::SIZE, "an interface name must be shorter");

        while i < from.len() {
            bytes[i] = from[i];
            i += 1;
        }

        Self {
            bytes,
            assigned: u32_into_u8::<{ bindings::NET_NAME_ENUM }>(),
        }
    }

    /// A name that the user has chosen; it is cut off where it is too long.
    pub fn chosen(name: &[u8]) -> Self {
        let mut bytes = [0; Self::SIZE];

        for (to, from) in bytes[..Self::SIZE - 1].iter_mut().zip(name) {
            *to = *from;
        }

        Self {
            bytes,
            assigned: u32_into_u8::<{ bindings::NET_NAME_USER }>(),
        }
    }

    #[inline]
    pub(crate) fn as_ptr(&self) -> *const c_char {
        self.bytes.as_ptr().cast()
    }

    #[inline]
    pub(crate) fn assigned(&self) -> u8 {
        self.assigned
    }
}

/// A device that has been allocated and can be given its properties.
///
/// # Invariants
///
/// The device is valid, has not been registered yet, and nobody else uses it.
#[repr(transparent)]
pub struct Setup<T: Driver>(Opaque<bindings::net_device>, PhantomData<T>);

impl<T: Driver> Setup<T> {
    /// Brings freshly allocated memory into the state that all devices of the driver start from.
    ///
    /// # Safety
    ///
    /// `dev` must be a zeroed device, with memory for a `Private<T>`, that `alloc_netdev_mqs()` is
    /// about to set up.
    pub(crate) unsafe fn init(dev: *mut bindings::net_device) {
        const_assert!(
            !core::mem::needs_drop::<Private<T>>(),
            "a device that was never registered is freed without notice to its driver"
        );

        let init = pin_init!(Private {
            peer: Peer::none(),
            data <- T::data(),
            hook <- T::Hook::init(),
        });

        // SAFETY: The caller guarantees that the memory is there, and that nobody uses it yet. It
        // does not move. There is no error that could be returned.
        let Ok(()) = unsafe { init.__init(private_ptr::<T>(dev)) };

        // SAFETY: The caller guarantees that the device is being set up.
        unsafe { bindings::ether_setup(dev) };

        // SAFETY: The caller guarantees that the device is ours to write to.
        unsafe {
            (*dev).netdev_ops = T::ops().netdev();
            (*dev).ethtool_ops = T::ops().ethtool();
            (*dev).set_pcpu_stat_type(T::STATS as u32);
            (*dev).needs_free_netdev = true;
            (*dev).queue_mgmt_ops = T::ops().queues().map_or(ptr::null(), ptr::from_ref);
        }

        // SAFETY: The device is valid, not registered, and ours.
        let dev = unsafe { Self::from_raw(dev) };

        // A driver owns the packets that it is given, where `ether_setup()` allows them to have
        // others who use them; and it transmits with bottom halves disabled, which netpoll does not
        // see to.
        dev.set_priv_flags(
            dev.priv_flags() & !bindings::netdev_priv_flags_IFF_TX_SKB_SHARING
                | bindings::netdev_priv_flags_IFF_DISABLE_NETPOLL,
        );
        T::setup(dev);
    }

    /// Borrows a device that is being set up from its C pointer.
    ///
    /// # Safety
    ///
    /// `dev` must be a device of driver `T` that is valid, that has not been registered, and that
    /// nobody else uses, for the whole of `'a`.
    #[inline]
    pub(crate) unsafe fn from_raw<'a>(dev: *mut bindings::net_device) -> &'a Self {
        // INVARIANT: The caller guarantees it.
        // SAFETY: The caller guarantees the validity; `Self` is transparent over the C type.
        unsafe { &*dev.cast() }
    }

    /// Returns the C pointer.
    #[inline]
    fn as_raw(&self) -> *mut bindings::net_device {
        self.0.get()
    }

    /// Sets one field.
    #[inline]
    fn set<V>(&self, field: impl FnOnce(*mut bindings::net_device) -> *mut V, value: V) {
        // SAFETY: By the type invariants the device is ours to write to.
        unsafe { field(self.as_raw()).write(value) };
    }

    /// Sets the largest MTU, in bytes.
    #[inline]
    pub fn set_max_mtu(&self, bytes: u32) {
        // SAFETY: The pointer is valid, it is only offset.
        self.set(|dev| unsafe { &raw mut (*dev).max_mtu }, bytes);
    }

    /// Sets the headroom that packets for the device should have, in bytes.
    #[inline]
    pub fn set_needed_headroom(&self, bytes: u16) {
        // SAFETY: The pointer is valid, it is only offset.
        self.set(|dev| unsafe { &raw mut (*dev).needed_headroom }, bytes);
    }

    /// Sets the tailroom that packets for the device should have, in bytes.
    #[inline]
    pub fn set_needed_tailroom(&self, bytes: u16) {
        // SAFETY: The pointer is valid, it is only offset.
        self.set(|dev| unsafe { &raw mut (*dev).needed_tailroom }, bytes);
    }

    /// Adds flags of the interface.
    #[inline]
    pub fn add_flags(&self, flags: Flags) {
        // SAFETY: By the type invariants the device is ours to write to.
        unsafe { (*self.as_raw()).flags |= u32::from(flags) };
    }

    /// Adds flags between the driver and the stack.
    #[inline]
    pub fn add_priv_flags(&self, flags: PrivFlags) {
        self.set_priv_flags(self.priv_flags() | u32::from(flags));
    }

    #[inline]
    fn priv_flags(&self) -> u32 {
        // SAFETY: By the type invariants the device is valid.
        unsafe {
            (*self.as_raw())
                .__bindgen_anon_1
                .__bindgen_anon_1
                .priv_flags() as u32
        }
    }

    #[inline]
    fn set_priv_flags(&self, flags: u32) {
        // SAFETY: By the type invariants the device is ours to write to.
        unsafe {
            (*self.as_raw())
                .__bindgen_anon_1
                .__bindgen_anon_1
                .set_priv_flags(u32_as_usize(flags))
        };
    }

    /// Lets the device transmit without the lock of its queue: the driver needs none.
    #[inline]
    pub fn set_lockless_tx(&self) {
        // SAFETY: By the type invariants the device is ours to write to.
        unsafe {
            (*self.as_raw())
                .__bindgen_anon_1
                .__bindgen_anon_1
                .set_lltx(1)
        };
    }

    /// Lets packets pass that refer to memory which the host cannot read: the driver does not look
    /// at it, and does no DMA.
    #[inline]
    pub fn set_netmem_tx_no_dma(&self) {
        // SAFETY: By the type invariants the device is ours to write to.
        unsafe {
            (*self.as_raw())
                .__bindgen_anon_1
                .__bindgen_anon_1
                .set_netmem_tx(u32_as_usize(bindings::netmem_tx_mode_NETMEM_TX_NO_DMA))
        };
    }

    /// Sets the offloads: those that are on at first in addition to what is on by default, and
    /// those that users may turn on and off.
    #[inline]
    pub fn set_features(&self, active: Features, changeable: Features) {
        // SAFETY: By the type invariants the device is ours to write to.
        unsafe {
            (*self.as_raw()).features |= u64::from(active);
            (*self.as_raw()).hw_features = changeable.into();
        }
    }

    /// Sets the offloads that packets in a tunnel have.
    #[inline]
    pub fn set_encap_features(&self, features: Features) {
        // SAFETY: The pointer is valid, it is only offset.
        self.set(
            |dev| unsafe { &raw mut (*dev).hw_enc_features },
            features.into(),
        );
    }

    /// Sets the offloads that packets with MPLS labels have.
    #[inline]
    pub fn set_mpls_features(&self, features: Features) {
        // SAFETY: The pointer is valid, it is only offset.
        self.set(
            |dev| unsafe { &raw mut (*dev).mpls_features },
            features.into(),
        );
    }

    /// Sets the offloads that a VLAN device on top of this one has: those of this one, without
    /// some.
    #[inline]
    pub fn inherit_vlan_features(&self, without: Features) {
        // SAFETY: By the type invariants the device is ours to write to.
        unsafe { (*self.as_raw()).vlan_features = (*self.as_raw()).features & !u64::from(without) };
    }

    /// Sets what XDP can do with the device. For drivers with [`Driver::accept_xsk`].
    #[inline]
    pub fn set_xdp_features(&self, features: XdpFeatures) {
        const_assert!(
            T::HAS_ACCEPT_XSK,
            "C asks a device with such features without looking whether it can be asked"
        );

        // SAFETY: The pointer is valid, it is only offset.
        self.set(
            |dev| unsafe { &raw mut (*dev).xdp_features },
            features.into(),
        );
    }

    /// Sets the size of the largest packet that the device takes for segmentation, in bytes; a
    /// page at least, since C takes off what headers need without looking.
    #[inline]
    pub fn set_tso_max_size(&self, bytes: u32) {
        let bytes = bytes.max(PAGE_SIZE as u32);

        // SAFETY: By the type invariants the device is ours to write to.
        unsafe { bindings::netif_set_tso_max_size(self.as_raw(), bytes) };
    }

    /// Takes over the segmentation limits of another device.
    #[inline]
    pub fn inherit_tso_max<U: Driver>(&self, from: &Setup<U>) {
        // SAFETY: By the type invariants this device is ours to write to, the other one valid.
        unsafe { bindings::netif_inherit_tso_max(self.as_raw(), from.as_raw()) };
    }

    /// Gives the device a random hardware address, and marks it as random.
    #[inline]
    pub fn set_random_address(&self) {
        // SAFETY: By the type invariants the device is ours to write to.
        unsafe { bindings::eth_hw_addr_random(self.as_raw()) };
    }

    /// Sets the name.
    #[inline]
    pub fn set_name(&self, name: &Name) {
        // SAFETY: The pointer is valid, it is only offset.
        self.set(|dev| unsafe { (&raw mut (*dev).name).cast() }, name.bytes);
    }

    /// Asks for this index; 0, which is the state at first, for any that is free.
    #[inline]
    pub fn set_ifindex(&self, ifindex: i32) {
        // SAFETY: The pointer is valid, it is only offset.
        self.set(|dev| unsafe { &raw mut (*dev).ifindex }, ifindex);
    }

    /// Returns the index that was asked for, 0 if any will do.
    #[inline]
    pub fn ifindex(&self) -> i32 {
        // SAFETY: By the type invariants the device is valid.
        unsafe { (*self.as_raw()).ifindex }
    }

    /// Sets the number of queues in use, out of those that were allocated.
    #[inline]
    pub(crate) fn set_real_queues(&self, real: Queues) {
        // SAFETY: The pointer is valid, it is only offset.
        self.set(|dev| unsafe { &raw mut (*dev).real_num_tx_queues }, real.tx);
        // SAFETY: The pointer is valid, it is only offset.
        self.set(|dev| unsafe { &raw mut (*dev).real_num_rx_queues }, real.rx);
    }
}

/// A device that somebody else allocated, who frees it if it does not come to be registered.
///
/// # Invariants
///
/// Refers to a [`Setup`] that nobody else uses, and that stays valid for the whole of `'a`, during
/// which the RTNL is held.
pub struct NewDevice<'a, T: Driver>(NonNull<Setup<T>>, PhantomData<&'a Rtnl>);

impl<'a, T: Driver> NewDevice<'a, T> {
    /// Wraps the device that a callback of C is given to register.
    ///
    /// # Safety
    ///
    /// `dev` must be a device that [`Setup::init`] has been called for, that has not been
    /// registered, and that nobody else uses during `'a`; the RTNL must be held.
    #[inline]
    pub(crate) unsafe fn from_raw(dev: NonNull<bindings::net_device>) -> Self {
        // INVARIANT: The caller guarantees it.
        Self(dev.cast(), PhantomData)
    }

    /// Returns the private data.
    #[inline]
    pub fn data(&mut self) -> Pin<&mut T::Data> {
        // SAFETY: By the type invariants the data is initialised, and nobody else uses it; it stays
        // where it is.
        unsafe { Pin::new_unchecked(&mut (*private_ptr::<T>(self.as_raw())).data) }
    }

    /// Registers the device: from now on everybody sees it.
    pub fn register(self, _rtnl: &'a Rtnl) -> Result<NewLink<'a, T>> {
        // SAFETY: By the type invariants the device can be registered.
        to_result(unsafe { bindings::register_netdevice(self.as_raw()) })?;

        // INVARIANT: The device has just been registered.
        Ok(NewLink(Registered(self.0.cast(), PhantomData)))
    }
}

impl<T: Driver> Deref for NewDevice<'_, T> {
    type Target = Setup<T>;

    #[inline]
    fn deref(&self) -> &Setup<T> {
        // SAFETY: By the type invariants it is valid; only this handle gives access to it.
        unsafe { self.0.as_ref() }
    }
}

/// A device that a driver has allocated on its own.
///
/// Dropping it frees the device.
pub struct UnregisteredDevice<'a, T: Driver>(NewDevice<'a, T>);

impl<'a, T: Driver> UnregisteredDevice<'a, T> {
    /// Takes over a device that was allocated for us.
    ///
    /// # Safety
    ///
    /// As for [`NewDevice::from_raw`], and the device must be ours to free.
    #[inline]
    pub(crate) unsafe fn from_raw(dev: NonNull<bindings::net_device>) -> Self {
        // SAFETY: The caller guarantees it.
        Self(unsafe { NewDevice::from_raw(dev) })
    }

    /// Returns the private data.
    #[inline]
    pub fn data(&mut self) -> Pin<&mut T::Data> {
        self.0.data()
    }

    /// Registers the device: from now on everybody sees it. Frees it on failure.
    pub fn register(self, _rtnl: &'a Rtnl) -> Result<Registered<'a, T>> {
        // SAFETY: By the type invariants the device can be registered. On failure it goes back to
        // being an unregistered one, which is dropped.
        to_result(unsafe { bindings::register_netdevice(self.as_raw()) })?;

        // INVARIANT: The device has just been registered.
        Ok(Registered(ManuallyDrop::new(self).0 .0.cast(), PhantomData))
    }
}

impl<T: Driver> Deref for UnregisteredDevice<'_, T> {
    type Target = Setup<T>;

    #[inline]
    fn deref(&self) -> &Setup<T> {
        &self.0
    }
}

impl<T: Driver> Drop for UnregisteredDevice<'_, T> {
    fn drop(&mut self) {
        // SAFETY: The device is ours to free, and not registered.
        unsafe { bindings::free_netdev(self.as_raw()) };
    }
}

/// A device that has been registered, but may yet be given up.
///
/// Dropping it unregisters the device, whose memory is freed when the RTNL is released.
///
/// # Invariants
///
/// Refers to a device that has been registered during `'a`, for the whole of which the RTNL is
/// held.
#[must_use = "the device is unregistered if it is not kept"]
pub struct Registered<'a, T: Driver>(NonNull<Device<T>>, PhantomData<&'a Rtnl>);

impl<'a, T: Driver> Registered<'a, T> {
    /// Fails with [`ENODEV`] if somebody has unregistered the device meanwhile, or is about to.
    fn check_present(&self) -> Result {
        // SAFETY: By the type invariants the RTNL is held.
        let rtnl = unsafe { Rtnl::assume_held() };

        if can_unregister(self, rtnl) {
            Ok(())
        } else {
            Err(ENODEV)
        }
    }

    /// Keeps the device.
    #[inline]
    pub fn keep(self) -> &'a Device<T> {
        // SAFETY: By the type invariants the device was registered under the RTNL, which is held
        // for the whole of `'a`; its memory is not freed before.
        unsafe { ManuallyDrop::new(self).0.as_ref() }
    }

    /// Tells the world about the device, as rtnetlink does after it has created one.
    ///
    /// Needed after [`UnregisteredDevice::create`]; what rtnetlink asked a driver to create, it
    /// announces itself. Fails with [`ENODEV`] if the device has gone again. C:
    /// `rtnl_configure_link()`.
    pub fn announce(&self) -> Result {
        self.check_present()?;

        // SAFETY: The device is registered, and the RTNL is held. There is no request whose flags
        // are to be applied.
        to_result(unsafe {
            bindings::rtnl_configure_link(self.as_raw(), core::ptr::null(), 0, core::ptr::null())
        })
    }
}

impl<T: Driver> Deref for Registered<'_, T> {
    type Target = Device<T>;

    #[inline]
    fn deref(&self) -> &Device<T> {
        // SAFETY: By the type invariants the device is valid.
        unsafe { self.0.as_ref() }
    }
}

impl<T: Driver> Drop for Registered<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the RTNL is held.
        let rtnl = unsafe { Rtnl::assume_held() };

        unregister(self, rtnl);
    }
}

/// What a driver returns that was asked to create a device: it has been registered.
///
/// Dropping it unregisters the device; its creator learns of that from the error that the driver
/// then returns.
pub struct NewLink<'a, T: Driver>(Registered<'a, T>);

impl<T: Driver> NewLink<'_, T> {
    /// Leaves the device to its creator, unless it has gone again: it fails with [`ENODEV`] then.
    pub(crate) fn keep(self) -> Result {
        self.0.check_present()?;
        let _ = self.0.keep();
        Ok(())
    }
}

impl<T: Driver> Deref for NewLink<'_, T> {
    type Target = Device<T>;

    #[inline]
    fn deref(&self) -> &Device<T> {
        &self.0
    }
}
