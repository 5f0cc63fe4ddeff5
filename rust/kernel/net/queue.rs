// SPDX-License-Identifier: GPL-2.0

//! Receive queues, and leasing them.
//!
//! A *physical* device, one that has a parent in the device model, can lend a receive queue to a
//! *virtual* one. The virtual device gets a queue of its own for each: the two queues refer to each
//! other, and who uses the one, to receive with zero copy for instance, is served by the other.
//!
//! All of that is protected by the instance locks of both devices, and that of the virtual one is
//! taken first. That order is in the types: a [`Locked`] virtual device gives its queues
//! (`RxQueue`), a queue gives the one that it has leased (`Leased`), which can be locked; there is
//! no way back. Drivers do none of that: when they are asked for a queue, both devices are locked.
//!
//! # Examples
//!
//! ```
//! use kernel::net::{
//!     device::Driver,
//!     ext_ack::ExtAck,
//!     queue::{AddedQueue, Locked},
//! };
//!
//! /// What a driver whose devices may lease any number of queues does when one is leased.
//! fn create_queue<'a, T: Driver>(
//!     dev: &'a Locked<'_, T>,
//!     extack: ExtAck<'_>,
//! ) -> Result<AddedQueue<'a>> {
//!     if dev.is_full() {
//!         extack.set_msg(c"All queues of the device are in use");
//!     }
//!     dev.add_rx_queue()
//! }
//! ```
//!
//! C headers: [`include/net/netdev_rx_queue.h`](srctree/include/net/netdev_rx_queue.h),
//! [`include/net/netdev_queues.h`](srctree/include/net/netdev_queues.h)

use crate::{
    bindings,
    error::to_result,
    net::{
        device::{
            Device,
            Driver,
            NetDevice, //
        },
        rtnl::Rtnl, //
    },
    num::casts::u32_as_usize,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        rcu, //
    },
    types::NotThreadSafe, //
};
use core::{
    marker::PhantomData,
    ops::Deref,
    ptr::NonNull, //
};

/// A virtual device whose instance lock is held.
///
/// # Invariants
///
/// The device has no parent, and the current task holds its instance lock for as long as a
/// reference to the value exists.
pub struct Locked<'a, T: Driver>(&'a Device<T>, NotThreadSafe);

impl<'a, T: Driver> Locked<'a, T> {
    /// Wraps a device for a callback that is called with the instance lock held.
    ///
    /// # Safety
    ///
    /// The device must have no parent, and its instance lock must be held for the whole of `'a`.
    #[inline]
    pub(crate) unsafe fn assume(dev: &'a Device<T>) -> Self {
        // INVARIANT: The caller guarantees it.
        Self(dev, NotThreadSafe)
    }

    /// Returns one of the receive queues that are in use.
    pub(super) fn rx_queue(&self, index: u32) -> Option<RxQueue<'_>> {
        // SAFETY: The device is virtual, and locked for as long as the queue is borrowed.
        unsafe { RxQueue::get(self.0, index) }
    }

    /// Takes one more receive queue into use.
    ///
    /// Fails with [`EINVAL`] if all are in use, and with [`ENOMEM`].
    pub fn add_rx_queue(&self) -> Result<AddedQueue<'_>> {
        let count = self.0.real_rx_queues();

        // SAFETY: The device is valid and locked.
        to_result(unsafe { bindings::netif_set_real_num_rx_queues(self.0.as_raw(), count + 1) })?;

        // INVARIANT: The queue was not in use before.
        Ok(AddedQueue(count, PhantomData))
    }

    /// Tells whether all receive queues that the device was created with are in use.
    #[inline]
    pub fn is_full(&self) -> bool {
        // SAFETY: The device is valid; the number never changes.
        self.0.real_rx_queues() >= unsafe { (*self.0.as_raw()).num_rx_queues }
    }
}

impl<T: Driver> Deref for Locked<'_, T> {
    type Target = Device<T>;

    #[inline]
    fn deref(&self) -> &Device<T> {
        self.0
    }
}

/// A receive queue that a virtual device has just taken into use.
///
/// # Invariants
///
/// The queue has leased none.
pub struct AddedQueue<'a>(u32, PhantomData<&'a NetDevice>);

impl AddedQueue<'_> {
    /// Returns the index of the queue.
    #[inline]
    pub fn index(&self) -> u32 {
        self.0
    }
}

/// Returns a queue of a device.
///
/// # Safety
///
/// `index` must be less than the number of receive queues that the device was created with.
#[inline]
unsafe fn queue_ptr(dev: &NetDevice, index: u32) -> NonNull<bindings::netdev_rx_queue> {
    // SAFETY: The array is there for as long as the device, and the caller guarantees that the
    // queue is part of it.
    unsafe { NonNull::new_unchecked((*dev.as_raw())._rx.add(u32_as_usize(index))) }
}

/// A receive queue of a virtual device.
///
/// # Invariants
///
/// The queue is valid, of a device without a parent, and the queue that it has leased, if any,
/// stays valid during `'a`.
#[derive(Clone, Copy)]
pub(super) struct RxQueue<'a>(
    NonNull<bindings::netdev_rx_queue>,
    PhantomData<&'a NetDevice>,
);

impl<'a> RxQueue<'a> {
    /// Returns a queue that is in use.
    ///
    /// # Safety
    ///
    /// The device must have no parent, and the caller must keep its leases from ending, or be in an
    /// RCU critical section, for the whole of `'a`.
    unsafe fn get(dev: &'a NetDevice, index: u32) -> Option<Self> {
        if index >= dev.real_rx_queues() {
            return None;
        }

        // INVARIANT: The caller guarantees it: `end_leases()` keeps the physical device for a grace
        // period after its leases have ended.
        // SAFETY: No more queues are in use than there are.
        Some(Self(unsafe { queue_ptr(dev, index) }, PhantomData))
    }

    /// Returns the physical queue that this one has leased.
    #[inline]
    pub(super) fn leased(&self) -> Option<Leased<'a>> {
        // SAFETY: By the type invariants, the queue is valid.
        let lease = unsafe { &raw mut (*self.0.as_ptr()).lease };
        // SAFETY: The field is aligned and valid, and written in one piece.
        let lease = unsafe { Atomic::from_ptr(lease) }.load(Relaxed);

        // INVARIANT: By the type invariants, the queue stays valid during `'a`. What the queue of a
        // virtual device has leased is a queue of a physical one.
        NonNull::new(lease).map(|queue| Leased(queue, PhantomData))
    }
}

/// A receive queue of a physical device that has been leased to a virtual one.
///
/// # Invariants
///
/// The queue is valid during `'a`, and of a device with a parent.
#[derive(Clone, Copy)]
pub(super) struct Leased<'a>(
    NonNull<bindings::netdev_rx_queue>,
    PhantomData<&'a NetDevice>,
);

impl<'a> Leased<'a> {
    /// Returns the device whose queue this is.
    #[inline]
    pub(super) fn device(&self) -> &'a NetDevice {
        // SAFETY: By the type invariants, the queue is valid, and so is the device that it is part
        // of.
        unsafe { NetDevice::from_raw((*self.0.as_ptr()).dev) }
    }

    /// Returns the index of the queue on its device.
    #[inline]
    pub(super) fn index(&self) -> u32 {
        let dev = self.device().as_raw();

        // SAFETY: By the type invariants, the queue is part of its device's array.
        unsafe { self.0.as_ptr().offset_from((*dev)._rx) as u32 }
    }

    /// Takes the instance lock of the physical device. May sleep.
    pub(super) fn lock(&self) -> PhysicalGuard<'a> {
        let dev = self.device();

        // SAFETY: The device is valid. The lock of the virtual device, which may be held, is taken
        // before that of a physical one.
        unsafe { bindings::netdev_lock(dev.as_raw()) };

        // INVARIANT: The lock was just taken.
        PhysicalGuard(dev, NotThreadSafe)
    }
}

/// The instance lock of a physical device, held until this guard is dropped.
///
/// # Invariants
///
/// The current task holds the lock.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub(super) struct PhysicalGuard<'a>(&'a NetDevice, NotThreadSafe);

impl Drop for PhysicalGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, this task holds the lock.
        unsafe { bindings::netdev_unlock(self.0.as_raw()) };
    }
}

impl<T: Driver> Device<T> {
    /// Returns one of the receive queues that are in use, for as long as we are in the RCU critical
    /// section.
    ///
    /// [`None`] if there is no such queue, or if the device is not a virtual one.
    ///
    /// Not for drivers, who could lock the physical device where they must not sleep.
    pub(super) fn rx_queue<'g>(
        &'g self,
        index: u32,
        _guard: &'g rcu::Guard,
    ) -> Option<RxQueue<'g>> {
        if self.is_physical() {
            return None;
        }
        // SAFETY: The device is virtual, and the guard is of an RCU critical section.
        unsafe { RxQueue::get(self, index) }
    }
}

impl NetDevice {
    /// Returns how many receive queues are in use.
    #[inline(always)]
    pub(super) fn real_rx_queues(&self) -> u32 {
        // SAFETY: The device is valid.
        let count = unsafe { &raw mut (*self.as_raw()).real_num_rx_queues };

        // SAFETY: The field is aligned and valid for as long as the device, and written in one
        // piece.
        unsafe { Atomic::from_ptr(count) }.load(Relaxed)
    }

    /// Tells whether the device has a parent in the device model, as hardware does.
    #[inline]
    pub fn is_physical(&self) -> bool {
        // SAFETY: The device is valid; its parent is set before it is registered.
        !unsafe { (*self.as_raw()).dev.parent }.is_null()
    }
}

/// Takes from a leased queue the buffers that an XDP socket has put there, if any. May sleep.
///
/// A socket that is closed leaves them to a worker that waits for the RTNL. It would not find the
/// queue any more once the lease has ended, and the physical device would go on using memory that
/// is then freed.
#[cfg(CONFIG_XDP_SOCKETS)]
fn take_pool(leased: Leased<'_>, _rtnl: &Rtnl) {
    // SAFETY: By the type invariants, the queue is valid; pools come and go under the RTNL.
    let pool = unsafe { (*leased.0.as_ptr()).pool };

    if !pool.is_null() {
        // SAFETY: A pool is freed after it was taken from its queue. That of a leased queue is of
        // the virtual device, which is not locked.
        unsafe { bindings::xp_clear_dev(pool) };
    }
}

#[cfg(not(CONFIG_XDP_SOCKETS))]
fn take_pool(_leased: Leased<'_>, _rtnl: &Rtnl) {}

/// A physical device that stays as long as an RCU critical section may know of a lease which has
/// ended.
///
/// # Invariants
///
/// The object holds a reference to the device.
struct FormerLessor<'a>(&'a NetDevice);

impl<'a> FormerLessor<'a> {
    fn new(dev: &'a NetDevice) -> Self {
        // SAFETY: The device is valid.
        unsafe { bindings::dev_hold(dev.as_raw()) };

        // INVARIANT: The reference was just taken.
        Self(dev)
    }
}

impl Drop for FormerLessor<'_> {
    fn drop(&mut self) {
        // SAFETY: We may sleep: leases end under the RTNL.
        unsafe { bindings::synchronize_net() };
        // SAFETY: By the type invariants, the reference is ours to give up.
        unsafe { bindings::dev_put(self.0.as_raw()) };
    }
}

/// Ends all leases of a virtual device that is going away. May sleep.
pub(crate) fn end_leases(dev: &NetDevice, rtnl: &Rtnl) {
    if dev.is_physical() {
        return;
    }

    for index in 0..dev.real_rx_queues() {
        // SAFETY: The device is virtual. As it is going away, no lease is added, and we are the one
        // who ends them.
        if let Some(leased) = unsafe { RxQueue::get(dev, index) }.and_then(|queue| queue.leased()) {
            take_pool(leased, rtnl);
        }
    }

    // All leases are of one device. It outlives the guards below, whose leases end.
    let mut lessor = None::<FormerLessor<'_>>;

    // SAFETY: The device is valid, and no lock of another device is held.
    unsafe { bindings::netdev_lock(dev.as_raw()) };

    for index in 0..dev.real_rx_queues() {
        // SAFETY: The device is virtual and locked.
        let Some(queue) = (unsafe { RxQueue::get(dev, index) }) else {
            break;
        };
        let Some(leased) = queue.leased() else {
            continue;
        };

        if lessor
            .as_ref()
            .is_none_or(|known| !core::ptr::eq(known.0, leased.device()))
        {
            lessor = Some(FormerLessor::new(leased.device()));
        }
        let _physical = leased.lock();

        // SAFETY: Both queues are valid, one has leased the other, and both devices are locked.
        unsafe { bindings::netdev_rx_queue_unlease(queue.0.as_ptr(), leased.0.as_ptr()) };
    }

    // SAFETY: The lock was taken above.
    unsafe { bindings::netdev_unlock(dev.as_raw()) };
}

/// Calls `f` for each queue that a physical device has lent, with the device that it was lent to.
///
/// `f` is called with no lock held but the RTNL. None is lent meanwhile if the device is being
/// unregistered; otherwise it may be missed. May sleep.
pub fn for_each_lessee(dev: &NetDevice, rtnl: &Rtnl, mut f: impl FnMut(&NetDevice)) {
    if !dev.is_physical() {
        return;
    }

    for index in 0..dev.real_rx_queues() {
        // SAFETY: No more queues are in use than there are.
        if let Some(lessee) = unsafe { lessee(dev, index, rtnl) } {
            f(lessee);
        }
    }
}

/// Returns the device that has leased a queue of a physical one.
///
/// # Safety
///
/// `index` must be less than the number of receive queues that the device was created with.
unsafe fn lessee<'r>(dev: &NetDevice, index: u32, _rtnl: &'r Rtnl) -> Option<&'r NetDevice> {
    // SAFETY: The device is valid.
    unsafe { bindings::netdev_lock_ops(dev.as_raw()) };

    // SAFETY: The caller guarantees that there is such a queue; the device is locked.
    let lease = unsafe { (*queue_ptr(dev, index).as_ptr()).lease };

    // SAFETY: The lease cannot end while the device is locked. A virtual device ends its leases
    // before it goes, and is not freed before the RTNL is released.
    let lessee = (!lease.is_null()).then(|| unsafe { NetDevice::from_raw((*lease).dev) });

    // SAFETY: The lock was taken above.
    unsafe { bindings::netdev_unlock_ops(dev.as_raw()) };
    lessee
}
